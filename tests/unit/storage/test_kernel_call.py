"""Calls that may never return: a deadline each, and an end to how many may hang."""

from __future__ import annotations

import asyncio
import threading

import pytest

from holdfast.storage.errors import LunUnreachable
from holdfast.storage.kernel_call import STUCK_MAX, KernelCalls


async def test_values_and_errors_come_through() -> None:
    calls = KernelCalls("disk")
    assert await calls.run(lambda: 7, timeout_ms=2000) == 7

    def fail() -> None:
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError):
        await calls.run(fail, timeout_ms=2000)


async def test_a_call_that_hangs_is_left_alone_and_counted() -> None:
    calls, door = KernelCalls("disk"), threading.Event()
    try:
        for _ in range(STUCK_MAX):
            with pytest.raises(TimeoutError):
                await calls.run(door.wait, timeout_ms=10)
        with pytest.raises(LunUnreachable, match="hang in the kernel"):
            await calls.run(lambda: 7, timeout_ms=2000)
    finally:
        door.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await calls.run(lambda: 7, timeout_ms=2000) == 7
                break
            except LunUnreachable:
                await asyncio.sleep(0.01)
