"""How long a guest stood still, measured by the guest itself, and a connection to it that lasts.

Rule of the file: a guest that stands still cannot know it, as its clock stands still too; so it asks for the time every
few ms, and the longest time between two answers is its pause. A thread answers, so a busy event loop adds nothing.
Source: holdfast/lab/guest/agent.pl.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from holdfast.lab.errors import LabBroken
from holdfast.lab.guests import Guest
from holdfast.lab.namespaces import open_socket

CLOCK_PORT, TALK_PORT = 8, 9
_POLL_S = 0.1
_ANSWER_S = 60.0


@asynccontextmanager
async def giving_time(guest: Guest) -> AsyncGenerator[None, None]:
    """Have the guest measure its pauses; what it finds is in its answers (`longest_gap_ms`).

    Begins once the guest has heard the time: from then on no pause is missed.

    Raises: LabBroken when it does not.
    """
    heard, over = threading.Event(), threading.Event()
    with open_socket(guest.layout.switch_namespace, socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(_POLL_S)
        answering = (link, heard, over)
        thread = threading.Thread(target=_answer, args=answering, name=f"time-for-{guest.name}", daemon=True)
        thread.start()
        try:
            await _begin(guest, link, heard)
            yield
        finally:
            over.set()
            thread.join()


async def _begin(guest: Guest, link: socket.socket, heard: threading.Event) -> None:
    start = f"start {time.monotonic_ns()}".encode()
    try:
        async with asyncio.timeout(_ANSWER_S):
            while not heard.is_set():
                link.sendto(start, (guest.address, CLOCK_PORT))
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise LabBroken(f"guest {guest.name} does not measure its pauses") from error


def _answer(link: socket.socket, heard: threading.Event, over: threading.Event) -> None:
    while not over.is_set():
        try:
            tick, asker = link.recvfrom(64)
            link.sendto(str(time.monotonic_ns() // 1000).encode(), asker)
        except OSError:
            continue  # nobody asks, or the guest is on its way to another node
        if not tick.endswith(b" 0"):
            heard.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A TCP connection to a guest, kept open; the guest counts in its memory what it answered over any."""

    link: socket.socket

    async def say(self, *, timeout_s: float = _ANSWER_S) -> tuple[str, int]:
        """Return the guest's boot id and its count after this question. Raises: LabBroken when it broke off."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                await loop.sock_sendall(self.link, b"?\n")
                line = await loop.sock_recv(self.link, 512)
        except (TimeoutError, OSError) as error:
            raise LabBroken(f"the connection to the guest broke: {error!r}") from error
        words = dict(word.split("=", 1) for word in line.decode().split() if "=" in word)
        if "answered" not in words:
            raise LabBroken("the guest closed the connection")
        return words["boot"], int(words["answered"])


@asynccontextmanager
async def talking(guest: Guest) -> AsyncGenerator[Talk, None]:
    """Open a connection to a guest that answers."""
    with open_socket(guest.layout.switch_namespace, socket.AF_INET, socket.SOCK_STREAM) as link:
        async with asyncio.timeout(_ANSWER_S):
            await asyncio.get_running_loop().sock_connect(link, (guest.address, TALK_PORT))
        yield Talk(link=link)
