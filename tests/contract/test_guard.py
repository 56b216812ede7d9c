"""One suite for every Guard: nothing dies while entitled, all on the list die after, and nothing is forgotten."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.guard_worlds import WATCHDOG_TIMEOUT_S, RealWorld, SimulatedWorld, World

from holdfast.fencing.errors import GuardUnavailable

AHEAD_S = 0.7
"""How far ahead deadlines are set: short enough to wait for, long enough to act before on a busy machine."""


@pytest.fixture(params=[RealWorld, SimulatedWorld])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made: World = request.param(tmp_path)
    try:
        await made.start_guard()
        yield made
    finally:
        made.close()


def ahead(seconds: float = AHEAD_S) -> float:
    return asyncio.get_running_loop().time() + seconds


async def dies(world: World, guest: str, *, within_s: float = 5.0) -> bool:
    """Wait for the guest's death."""
    for _ in range(int(within_s / 0.02)):
        if not world.is_alive(guest):
            return True
        await asyncio.sleep(0.02)
    return False


async def protected_guest(world: World) -> str:
    guest = str(uuid.uuid4())
    await world.guard.protect(guest)
    world.start_guest(guest)
    return guest


async def test_a_guard_without_a_deadline_entitles_to_nothing_and_kills_nothing(world: World) -> None:
    guest = str(uuid.uuid4())
    assert not await world.guard.protect(guest)
    world.start_guest(guest)
    await asyncio.sleep(0.3)
    assert world.is_alive(guest)
    reading = await world.guard.state()
    assert (reading.until, reading.is_entitled, reading.has_expired) == (None, False, False)
    assert reading.guests == {guest}


async def test_an_entitled_guest_may_start_and_lives_until_the_deadline(world: World) -> None:
    until = ahead()
    assert await world.guard.extend(until)
    guest, other = str(uuid.uuid4()), str(uuid.uuid4())
    assert await world.guard.protect(guest)
    world.start_guest(guest)
    world.start_guest(other)
    reading = await world.guard.state()
    assert reading.until == pytest.approx(until, abs=0.01)
    while asyncio.get_running_loop().time() < until - 0.05:
        assert world.is_alive(guest)
        await asyncio.sleep(0.02)
    assert await dies(world, guest)
    assert asyncio.get_running_loop().time() >= until
    assert world.is_alive(other), "a guest that is not on the list was killed"


async def test_a_deadline_that_moves_on_kills_nothing(world: World) -> None:
    assert await world.guard.extend(ahead())
    guest = await protected_guest(world)
    for _ in range(8):
        await asyncio.sleep(0.2)
        assert await world.guard.extend(ahead())
        assert world.is_alive(guest)


async def test_an_earlier_deadline_changes_nothing(world: World) -> None:
    late = ahead(20)
    assert await world.guard.extend(late)
    assert await world.guard.extend(ahead(1))
    assert (await world.guard.state()).until == pytest.approx(late, abs=0.01)


async def test_a_guest_born_after_the_deadline_dies_too(world: World) -> None:
    await world.guard.extend(ahead(0.1))
    guest = await protected_guest(world)
    assert await dies(world, guest)
    await asyncio.sleep(0.3)
    assert not await world.guard.protect(guest)
    world.start_guest(guest)
    assert await dies(world, guest)


async def test_after_all_are_dead_the_node_can_be_entitled_again(world: World) -> None:
    await world.guard.extend(ahead(0.1))
    guest = await protected_guest(world)
    assert await dies(world, guest)
    for _ in range(200):
        if await world.guard.extend(ahead(20)):
            break
        await asyncio.sleep(0.02)
    assert (await world.guard.state()).is_entitled
    world.start_guest(guest)
    await asyncio.sleep(0.3)
    assert world.is_alive(guest)


async def test_a_guest_taken_off_the_list_lives(world: World) -> None:
    await world.guard.extend(ahead(0.2))
    guest = await protected_guest(world)
    assert await world.guard.unprotect(guest)
    await asyncio.sleep(0.6)
    assert world.is_alive(guest)
    assert (await world.guard.state()).guests == frozenset()


async def test_a_killed_and_restarted_guard_continues(world: World) -> None:
    await world.guard.extend(ahead(20))
    guest = await protected_guest(world)
    world.kill_guard()
    await world.start_guard()
    reading = await world.guard.state()
    assert reading.is_entitled
    assert reading.guests == {guest}
    assert world.is_alive(guest)


async def test_a_guard_started_after_the_deadline_kills_at_once(world: World) -> None:
    await world.guard.extend(ahead())
    guest = await protected_guest(world)
    world.kill_guard()
    await asyncio.sleep(AHEAD_S + 0.1)
    assert world.is_alive(guest)
    await world.start_guard()
    assert await dies(world, guest)


async def test_a_frozen_guard_kills_at_once_after_the_thaw(world: World) -> None:
    await world.guard.extend(ahead())
    guest = await protected_guest(world)
    world.freeze_guard()
    await asyncio.sleep(AHEAD_S + 0.3)
    assert world.is_alive(guest)
    world.thaw_guard()
    assert await dies(world, guest)


async def test_the_watchdog_is_petted_while_all_is_well(world: World) -> None:
    await world.guard.extend(ahead(20))
    await protected_guest(world)
    world.pets()
    await asyncio.sleep(WATCHDOG_TIMEOUT_S)
    assert 2 <= world.pets() <= 4


async def test_the_watchdog_is_petted_on_when_all_guests_are_dead(world: World) -> None:
    await world.guard.extend(ahead(0.1))
    assert await dies(world, await protected_guest(world))
    await asyncio.sleep(0.7)
    world.pets()
    await asyncio.sleep(WATCHDOG_TIMEOUT_S)
    assert 2 <= world.pets() <= 4


async def test_a_frozen_guard_does_not_pet(world: World) -> None:
    world.freeze_guard()
    world.pets()
    await asyncio.sleep(WATCHDOG_TIMEOUT_S)
    assert world.pets() == 0


async def test_disarm_needs_an_empty_list_and_ends_the_guard(world: World) -> None:
    guest = str(uuid.uuid4())
    await world.guard.protect(guest)
    assert not await world.guard.disarm()
    assert await world.guard.unprotect(guest)
    assert await world.guard.disarm()
    await asyncio.sleep(0.3)
    with pytest.raises(GuardUnavailable):
        await world.guard.protect(guest)
