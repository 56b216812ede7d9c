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
from holdfast.lab.guests import Guest, GuestAnswer
from holdfast.lab.namespaces import open_socket

CLOCK_PORT, TALK_PORT = 8, 9
_POLL_S = 0.1
_TICK_S = 0.005
_ANSWER_S = 60.0


class TimeGiver:
    """Answers a guest that asks for the time over `link`, in a thread, and knows which answers it has heard."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._link.settimeout(_POLL_S)
        self._heard_us = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._answer, name="time-for-a-guest", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Answer no more."""
        self._is_over = True
        self._thread.join()

    @property
    def is_heard(self) -> bool:
        """Whether the guest has heard the time at all."""
        return self._heard_us > 0

    async def caught_up(self) -> None:
        """Return when the guest has heard the time of now: every pause that is over now is measured then."""
        now_us = _now_us()
        while self._heard_us < now_us:  # noqa: ASYNC110 - a thread hears it
            await asyncio.sleep(_TICK_S)

    def _answer(self) -> None:
        while not self._is_over:
            try:
                tick, asker = self._link.recvfrom(64)
                self._link.sendto(str(_now_us()).encode(), asker)
            except OSError:
                continue  # nobody asks, or the guest is on its way to another node
            self._heard_us = max(self._heard_us, int(tick.split()[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """A guest that measures its pauses."""

    guest: Guest
    giver: TimeGiver

    async def wait_answer(self) -> GuestAnswer:
        """Return the guest's answer, with every pause in it that is over. Raises: LabBroken when it gives none."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self.giver.caught_up()
        except TimeoutError as error:
            raise LabBroken(f"guest {self.guest.name} asks for the time no more") from error
        return await self.guest.wait_answer()


@asynccontextmanager
async def giving_time(guest: Guest) -> AsyncGenerator[Pauses, None]:
    """Have the guest measure its pauses. Begins once it has heard the time: from then on no pause is missed.

    Raises: LabBroken when it does not.
    """
    with open_socket(guest.layout.switch_namespace, socket.AF_INET, socket.SOCK_DGRAM) as link:
        giver = TimeGiver(link)
        try:
            await _begin(guest, link, giver)
            yield Pauses(guest=guest, giver=giver)
        finally:
            giver.end()


async def _begin(guest: Guest, link: socket.socket, giver: TimeGiver) -> None:
    start = f"start {time.monotonic_ns()}".encode()
    try:
        async with asyncio.timeout(_ANSWER_S):
            while not giver.is_heard:
                link.sendto(start, (guest.address, CLOCK_PORT))
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise LabBroken(f"guest {guest.name} does not measure its pauses") from error


def _now_us() -> int:
    return time.monotonic_ns() // 1000


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
