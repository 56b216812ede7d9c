"""Virtual time: it jumps, it is ordered, and processes can be frozen, thawed and killed between any two steps."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.sim.loop import NothingScheduled, Process, TimeStandsStill, VirtualLoop, outside


def make() -> VirtualLoop:
    return VirtualLoop()  # type: ignore[abstract]  # as in the world


async def tick(seen: list[float]) -> None:
    while True:
        await asyncio.sleep(1)
        seen.append(asyncio.get_running_loop().time())


def test_a_year_passes_at_once() -> None:
    loop = make()
    loop.run_until_complete(asyncio.sleep(365 * 86_400))
    assert loop.time() == 365 * 86_400


def test_timers_of_one_instant_keep_their_order() -> None:
    loop, seen = make(), list[int]()
    for number in range(100):
        loop.call_at(1.0, seen.append, number)
    loop.run_until(1.0)
    assert seen == list(range(100))


def test_a_frozen_process_goes_on_late_and_misses_nothing() -> None:
    loop, seen = make(), list[float]()
    process = Process("holdfastd", loop)
    process.spawn(tick(seen))
    loop.run_until(1.5)
    process.freeze()
    loop.run_until(9.0)
    assert seen == [1.0]
    process.thaw()
    loop.run_until(10.5)
    assert seen == [1.0, 9.0, 10.0]
    loop.bury(process)


def test_what_enters_a_process_happens_at_once_or_at_its_thaw() -> None:
    loop, seen = make(), list[str]()
    process = Process("holdfastd", loop)
    process.enter(seen.append, "at once")
    assert seen == ["at once"]
    process.freeze()
    process.enter(seen.append, "late")
    loop.run_until(1.0)
    assert seen == ["at once"]
    process.thaw()
    loop.run_until(1.0)
    assert seen == ["at once", "late"]


def test_what_was_scheduled_outside_outlives_the_process() -> None:
    loop, seen = make(), list[str]()
    process = Process("holdfastd", loop)

    def schedule() -> None:
        loop.call_later(1.0, seen.append, "inside")
        outside(loop.call_later, 1.0, seen.append, "outside")

    process.call(schedule)
    loop.run_until(0.5)
    process.freeze()
    loop.run_until(2.0)
    assert seen == ["outside"]


def test_waiting_for_ever_is_an_error() -> None:
    loop = make()
    never = loop.create_task(asyncio.Event().wait())
    with pytest.raises(NothingScheduled):
        loop.run_until_complete(never)
    loop.bury()


def test_a_process_that_spins_is_an_error() -> None:
    loop = make()

    def spin() -> None:
        loop.call_at(loop.time(), spin)

    spin()
    with pytest.raises(TimeStandsStill):
        loop.run_until(1.0)


def test_a_callback_that_fails_is_remembered_and_ends_nothing_else() -> None:
    loop, seen = make(), list[str]()
    loop.call_soon([].pop)
    loop.call_soon(seen.append, "after it")
    loop.run_until(1.0)
    assert seen == ["after it"]
    assert loop.errors == ["exception in callback list.pop: IndexError('pop from empty list')"]


def test_a_cancelled_timer_neither_runs_nor_moves_time() -> None:
    loop, seen = make(), list[str]()
    loop.call_at(2.0, seen.append, "cancelled").cancel()
    loop.call_at(1.0, seen.append, "due")
    task = loop.create_task(asyncio.Event().wait())
    with pytest.raises(NothingScheduled, match=r"at 1\.000 s"):
        loop.run_until_complete(task)
    assert seen == ["due"]
    loop.bury()
