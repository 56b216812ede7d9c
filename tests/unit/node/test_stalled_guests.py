"""A guest that an I/O error stopped goes on by itself when its storage is back, if this node may still run it."""

from __future__ import annotations

import asyncio

from tests.unit.node.one_machine import UUID, Machine, machine
from tests.unit.node.test_disks import disk, key_of, running, state, until
from tests.unit.node.test_executor import online
from tests.unit.node.virtual_time import virtual

from holdfast.hypervisor.port import GuestState
from holdfast.model.disks import DiskState
from holdfast.model.events import Event, EventCode
from holdfast.store.records import EVENTS, decode


async def guest_state(a: Machine) -> GuestState | None:
    """What the hypervisor says of the guest."""
    return next((guest.state for guest in await a.hypervisor.guests() if guest.uuid == UUID), None)


def codes(a: Machine) -> list[EventCode]:
    items = a.database.database.listing(EVENTS).items
    return [decode(Event, item.key, item.value).code for item in items]


async def resumed_after(a: Machine, time_s: float = 100) -> float:
    """Seconds until the guest executes."""
    began = asyncio.get_running_loop().time()
    while await guest_state(a) is not GuestState.RUNNING:
        await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - began < time_s
    return asyncio.get_running_loop().time() - began


@virtual
async def test_a_guest_on_a_shared_disk_goes_on_when_the_disk_is_ready_and_not_before() -> None:
    async with machine() as a:
        await running(a)
        a.target.stop()
        a.hypervisor.pause_on_io_error(UUID)
        await until(lambda: state(a) is DiskState.UNREACHABLE)
        await asyncio.sleep(30)
        assert await guest_state(a) is GuestState.PAUSED_IO_ERROR
        a.target.start()
        assert a.executor is not None
        assert [one.code for one in a.executor.stalled.conditions(a.name)] == ["guest-stalled"]
        process = await a.hypervisor.process_of(UUID)
        a.paths.clear()
        await until(lambda: state(a) is DiskState.READY)
        assert await resumed_after(a) <= 1.5
        assert await a.hypervisor.process_of(UUID) == process
        await asyncio.sleep(2)
        assert a.executor.stalled.conditions(a.name) == ()
        assert codes(a).count(EventCode.ROLE_RESUMED) == 1


@virtual
async def test_a_guest_on_a_shared_directory_is_let_go_on_again_and_again_ever_less_often() -> None:
    async with machine() as a:
        await online(a)
        waits = []
        for _ in range(4):
            a.hypervisor.pause_on_io_error(UUID)
            waits.append(await resumed_after(a))
        assert [0 <= wait_s - due_s <= 0.6 for wait_s, due_s in zip(waits, (1, 2, 4, 8), strict=True)] == [True] * 4


@virtual
async def test_a_guest_that_a_person_paused_stays_paused() -> None:
    async with machine() as a:
        await online(a)
        await a.hypervisor.suspend(UUID)
        await asyncio.sleep(150)
        assert await guest_state(a) is GuestState.PAUSED


@virtual
async def test_safe_1_a_stalled_guest_does_not_go_on_without_the_guards_yes() -> None:
    async with machine() as a:
        await online(a)
        a.guard.crash()
        a.hypervisor.pause_on_io_error(UUID)
        await asyncio.sleep(20)
        assert await guest_state(a) is GuestState.PAUSED_IO_ERROR
        a.guard.start()
        await a.entitle()
        assert await resumed_after(a) < 10


@virtual
async def test_safe_1_a_stalled_guest_of_an_expelled_node_does_not_go_on() -> None:
    async with machine() as a:
        await running(a)
        a.hypervisor.pause_on_io_error(UUID)
        held = disk(a).reservations
        for nexus in [nexus for nexus, key in held.registered.items() if key == key_of()]:
            del held.registered[nexus]
        seen = []
        for _ in range(100):
            seen.append(await guest_state(a))
            await asyncio.sleep(0.01)
        assert GuestState.RUNNING not in seen[: seen.index(None) if None in seen else None]
