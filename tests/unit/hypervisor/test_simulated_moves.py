"""The simulated hypervisor's memory on its way: what each fault leaves behind."""

import asyncio
from dataclasses import dataclass

import pytest

from holdfast.hypervisor.errors import (
    GuestNotFound,
    GuestOutcomeUnknown,
    GuestRequestFailed,
    GuestStartFailed,
)
from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget, SavedKind, SaveOptions
from holdfast.hypervisor.port import Guest, GuestState
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.hypervisor.simulated_guest import MoveAct, MoveFault, Neighbourhood, SimulatedMemory
from holdfast.hypervisor.timeouts import HypervisorTimeouts

UUID = "5b5f1b8c-0f5e-4a55-9c0e-3f2d7a1e9b11"
XML = f"<domain type='kvm'><name>web</name><uuid>{UUID}</uuid><memory>1024</memory><vcpu>1</vcpu></domain>"
PATH = "/saved/web.m1.state"
SAVE = SaveOptions(timeout_ms=500)
MIGRATE = MigrateOptions(timeout_ms=500)
B = MigrationTarget(uri="b")
QUICK = HypervisorTimeouts(ask_ms=200, start_ms=500, destroy_ms=500, restore_ms=500)


@dataclass
class Pair:
    """Two machines, one guest running on the first."""

    a: SimulatedHypervisor
    b: SimulatedHypervisor
    neighbourhood: Neighbourhood


@pytest.fixture
async def pair() -> Pair:
    neighbourhood = Neighbourhood()
    a, b = (SimulatedHypervisor(timeouts=QUICK, neighbourhood=neighbourhood, uri=uri, start_ms=5) for uri in "ab")
    for host in (a, b):
        host.moves.save_ms, host.moves.copy_ms, host.moves.restore_ms = 30, 60, 5
    await a.prepare(XML)
    await a.resume(UUID)
    return Pair(a, b, neighbourhood)


async def seen(host: SimulatedHypervisor) -> Guest | None:
    found = await host.guests()
    return found[0] if found else None


async def state(host: SimulatedHypervisor) -> GuestState | None:
    guest = await seen(host)
    return None if guest is None else guest.state


async def test_saved_memory_is_restored_paused_on_another_node(pair: Pair) -> None:
    await pair.a.suspend(UUID)
    await pair.a.save(UUID, PATH, "m1", SAVE)
    assert await seen(pair.a) is None
    assert (await pair.b.saved_state(PATH)).is_usable(uuid=UUID, memory_id="m1")
    await pair.b.restore(UUID, PATH, "m1")
    guest = await seen(pair.b)
    assert guest is not None
    assert (guest.state, guest.memory_id) == (GuestState.PAUSED, "m1")
    assert pair.b.memory_of(UUID) == SimulatedMemory(boot=1, age=1)
    await pair.b.resume(UUID)
    assert pair.b.memory_of(UUID) == SimulatedMemory(boot=1, age=2)
    await pair.b.discard_saved(PATH)
    assert (await pair.a.saved_state(PATH)).kind is SavedKind.ABSENT


async def test_a_full_storage_leaves_a_suspended_guest_suspended(pair: Pair) -> None:
    pair.neighbourhood.free_bytes = 10
    await pair.a.suspend(UUID)
    with pytest.raises(GuestRequestFailed, match="space"):
        await pair.a.save(UUID, PATH, "m1", SAVE)
    assert await state(pair.a) is GuestState.PAUSED
    assert (await pair.a.saved_state(PATH)).kind is SavedKind.ABSENT


async def test_a_failed_save_lets_a_running_guest_go_on(pair: Pair) -> None:
    pair.a.moves.fail_next(MoveAct.SAVE, MoveFault.FAILS)
    with pytest.raises(GuestRequestFailed):
        await pair.a.save(UUID, PATH, "m1", SAVE)
    assert await state(pair.a) is GuestState.RUNNING


async def test_a_save_that_hangs_is_cancelled(pair: Pair) -> None:
    pair.a.moves.fail_next(MoveAct.SAVE, MoveFault.HANGS)
    await pair.a.suspend(UUID)
    with pytest.raises(GuestOutcomeUnknown):
        await pair.a.save(UUID, PATH, "m1", SAVE)
    assert await pair.a.progress(UUID) is not None
    with pytest.raises(GuestOutcomeUnknown, match="under way"):
        await pair.a.save(UUID, "/saved/other", "m2", SAVE)
    await pair.a.cancel_move(UUID)
    assert await pair.a.progress(UUID) is None
    assert await state(pair.a) is GuestState.PAUSED


@pytest.mark.parametrize(
    ("fault", "kind"), [(MoveFault.TORN, SavedKind.PARTIAL), (MoveFault.UNANSWERED, SavedKind.COMPLETE)]
)
async def test_an_unknown_save_is_told_by_the_file(pair: Pair, fault: MoveFault, kind: SavedKind) -> None:
    pair.a.moves.fail_next(MoveAct.SAVE, fault)
    await pair.a.suspend(UUID)
    with pytest.raises(GuestOutcomeUnknown):
        await pair.a.save(UUID, PATH, "m1", SAVE)
    assert await seen(pair.a) is None
    assert (await pair.a.saved_state(PATH)).kind is kind
    if kind is SavedKind.PARTIAL:
        with pytest.raises(GuestStartFailed):
            await pair.b.restore(UUID, PATH, "m1")


async def test_a_daemon_killed_while_saving_leaves_a_partial_file_and_the_guest(pair: Pair) -> None:
    await pair.a.suspend(UUID)
    saving = asyncio.create_task(pair.a.save(UUID, PATH, "m1", SAVE))
    await asyncio.sleep(0.02)
    pair.a.stop_daemon()
    with pytest.raises(GuestOutcomeUnknown):
        await saving
    pair.a.start_daemon()
    assert await state(pair.a) is GuestState.PAUSED
    assert (await pair.a.saved_state(PATH)).kind is SavedKind.PARTIAL


async def test_memory_of_another_id_is_not_restored(pair: Pair) -> None:
    await pair.a.save(UUID, PATH, "m1", SAVE)
    with pytest.raises(GuestStartFailed, match="m2"):
        await pair.b.restore(UUID, PATH, "m2")
    assert await seen(pair.b) is None


async def test_a_copy_stays_paused_at_the_target(pair: Pair) -> None:
    await pair.a.migrate(UUID, B, "m1", MIGRATE)
    guest = await seen(pair.b)
    assert guest is not None
    assert (guest.state, guest.memory_id) == (GuestState.PAUSED, "m1")
    assert await seen(pair.a) is None
    assert await pair.a.has_moved_away(UUID, "web")
    assert pair.b.memory_of(UUID) == SimulatedMemory(boot=1, age=1)


@pytest.mark.parametrize("fault", [MoveFault.FAILS, MoveFault.FINISH_REPLY_LOST])
async def test_after_a_failed_copy_the_source_goes_on(pair: Pair, fault: MoveFault) -> None:
    pair.a.moves.fail_next(MoveAct.MIGRATE, fault)
    with pytest.raises(GuestRequestFailed):
        await pair.a.migrate(UUID, B, "m1", MIGRATE)
    assert await state(pair.a) is GuestState.RUNNING
    await asyncio.sleep(0.1)
    left = GuestState.PAUSED if fault is MoveFault.FINISH_REPLY_LOST else None
    assert await state(pair.b) is left
    assert not await pair.a.has_moved_away(UUID, "web")


@pytest.mark.parametrize(
    "fault",
    [MoveFault.NETWORK_DIES_AT_PREPARE, MoveFault.NETWORK_DIES_AT_COPY, MoveFault.NETWORK_DIES_AT_FINISH],
)
async def test_when_the_network_dies_the_copy_is_given_up_in_the_end(pair: Pair, fault: MoveFault) -> None:
    pair.a.moves.keep_alive_ms = 100
    pair.a.moves.fail_next(MoveAct.MIGRATE, fault)
    with pytest.raises(GuestRequestFailed):
        await pair.a.migrate(UUID, B, "m1", MIGRATE)
    assert await state(pair.a) is GuestState.RUNNING
    await asyncio.sleep(0.2)
    assert await seen(pair.b) is None


async def test_when_the_network_dies_at_last_the_copy_counts(pair: Pair) -> None:
    pair.a.moves.fail_next(MoveAct.MIGRATE, MoveFault.NETWORK_DIES_AT_CONFIRM)
    await pair.a.migrate(UUID, B, "m1", MIGRATE)
    assert await seen(pair.a) is None
    assert await state(pair.b) is GuestState.PAUSED


async def test_a_cancelled_copy_leaves_the_source_as_it_was(pair: Pair) -> None:
    pair.a.moves.copy_ms = 5_000
    moving = asyncio.create_task(pair.a.migrate(UUID, B, "m1", MIGRATE))
    await asyncio.sleep(0.04)
    assert await state(pair.b) is GuestState.PAUSED
    progress = await pair.a.progress(UUID)
    assert progress is not None
    assert progress.bytes_remaining > 0
    await pair.a.cancel_move(UUID)
    with pytest.raises(GuestRequestFailed, match="cancelled"):
        await moving
    await asyncio.sleep(0.05)
    assert await state(pair.a) is GuestState.RUNNING
    assert await seen(pair.b) is None


async def test_a_source_daemon_killed_while_copying_goes_on_with_the_original(pair: Pair) -> None:
    moving = asyncio.create_task(pair.a.migrate(UUID, B, "m1", MIGRATE))
    await asyncio.sleep(0.04)
    pair.a.stop_daemon()
    with pytest.raises(GuestOutcomeUnknown):
        await moving
    pair.a.start_daemon()
    await asyncio.sleep(0.1)
    assert await state(pair.a) is GuestState.RUNNING
    assert await seen(pair.b) is None


async def test_a_copy_destroyed_at_the_target_ends_the_move(pair: Pair) -> None:
    moving = asyncio.create_task(pair.a.migrate(UUID, B, "m1", MIGRATE))
    await asyncio.sleep(0.04)
    await pair.b.destroy(UUID)
    with pytest.raises(GuestRequestFailed, match="copy ended"):
        await moving
    assert await state(pair.a) is GuestState.RUNNING


async def test_a_guest_that_is_not_there_cannot_be_moved(pair: Pair) -> None:
    await pair.a.destroy(UUID)
    with pytest.raises(GuestNotFound):
        await pair.a.save(UUID, PATH, "m1", SAVE)
    with pytest.raises(GuestNotFound):
        await pair.a.migrate(UUID, B, "m1", MIGRATE)


async def test_a_host_says_why_it_cannot_take_a_guest_over(pair: Pair) -> None:
    pair.b.moves.cpu = "another"
    source_cpu = await pair.a.cpu()
    assert len(await pair.b.can_run(XML, source_cpu=source_cpu)) == 1
    assert await pair.b.can_run(XML) == ()
