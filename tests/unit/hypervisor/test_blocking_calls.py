"""Calls that block hold up neither the loop nor, for ever, each other."""

import asyncio
import threading

import pytest

from holdfast.hypervisor.blocking_calls import BlockingCalls, CallUnanswered
from holdfast.hypervisor.errors import HypervisorUnavailable


def soon(seconds: float = 0.1) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_the_answer_and_the_error_of_a_call_are_its_callers() -> None:
    calls = BlockingCalls(name="test", limit=1)
    assert await calls.run(lambda: 7, deadline=soon(5)) == 7
    with pytest.raises(ZeroDivisionError):
        await calls.run(lambda: 1 // 0, deadline=soon(5))


async def test_a_call_past_its_deadline_is_unanswered_and_keeps_its_slot() -> None:
    release = threading.Event()
    calls = BlockingCalls(name="test", limit=2)
    for _ in range(2):
        with pytest.raises(CallUnanswered):
            await calls.run(release.wait, deadline=soon())
    ran = threading.Event()
    with pytest.raises(HypervisorUnavailable, match="All 2 test calls"):
        await calls.run(ran.set, deadline=soon())
    release.set()
    assert await calls.run(lambda: 7, deadline=soon(5)) == 7
    assert not ran.is_set(), "a refused call must not be made later"


async def test_a_cancelled_caller_leaves_the_slot_to_the_call() -> None:
    release = threading.Event()
    calls = BlockingCalls(name="test", limit=1)
    caller = asyncio.create_task(calls.run(release.wait, deadline=soon(5)))
    await asyncio.sleep(0.02)
    caller.cancel()
    await asyncio.wait([caller])
    with pytest.raises(HypervisorUnavailable):
        await calls.run(lambda: 7, deadline=soon())
    release.set()
    assert await calls.run(lambda: 7, deadline=soon(5)) == 7


def test_a_call_that_never_returns_outlives_its_loop_quietly() -> None:
    release = threading.Event()
    done = threading.Event()

    def hang() -> None:
        release.wait()
        done.set()

    async def ask() -> None:
        with pytest.raises(CallUnanswered):
            await BlockingCalls(name="test", limit=1).run(hang, deadline=soon(0.02))

    asyncio.run(ask())
    release.set()
    assert done.wait(5)
