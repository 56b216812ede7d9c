"""Pauses are measured to their end: an answer of the guest counts once it has heard the time of the question."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from holdfast.lab.pauses import TimeGiver


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The sockets of who gives the time and of the guest."""
    with socket.socket(type=socket.SOCK_DGRAM) as link, socket.socket(type=socket.SOCK_DGRAM) as guest:
        for one in (link, guest):
            one.bind(("127.0.0.1", 0))
        guest.connect(link.getsockname())
        guest.settimeout(10)
        yield link, guest


async def test_what_a_guest_measured_counts_once_it_has_heard_the_time_of_now(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    link, guest = ends
    giver = TimeGiver(link)

    def tick(heard: bytes) -> bytes:
        guest.send(b"tick 1 " + heard)
        return guest.recv(64)

    try:
        before = tick(b"0")
        waiting = asyncio.create_task(giver.caught_up())
        await asyncio.sleep(0.01)
        now = tick(before)
        assert now > before
        await asyncio.sleep(0.2)
        assert giver.is_heard
        assert not waiting.done(), "what it heard last is older than the question"
        tick(now)
        await asyncio.wait_for(waiting, 10)
    finally:
        giver.end()
