"""A node and its shared disks on the simulated target: who registers when, and what becomes of the expelled.

The dangerous moments are made by holding a command back on its way, which is what a frozen node looks like to the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from tests.unit.decide.made_up import incarnation, owned, verdict
from tests.unit.node.one_machine import UUID, Machine, machine
from tests.unit.node.virtual_time import virtual

from holdfast.model.disks import DiskSpec, DiskState, reservation_key
from holdfast.model.ids import ClusterId, DiskName, NodeName
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.roles import MoveMethod, Phase, StorageLoss
from holdfast.node.disk_watch import LOOK_INTERVAL_S
from holdfast.storage.arbitration import PROTECTION, Expelled, Refused, expel, protect
from holdfast.storage.outcome import Done
from holdfast.storage.scsi.command import OperationCode, write
from holdfast.storage.scsi.status import Status
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import ORDINARY, Exchange, Fate, SimulatedTarget
from holdfast.storage.simulated_disk import DiskTraits, SimulatedDisk
from holdfast.storage.transport import Answer
from holdfast.store.port import Delete, Txn
from holdfast.store.records import disk_key, spec_key

A, B = NodeName("a"), NodeName("b")
ONE, TWO = DiskName("one"), DiskName("two")
CLUSTER = ClusterId("id")
OTHER = 0xB0B


def spec(name: DiskName = ONE, number: int = 1, **changes: str) -> DiskSpec:
    return DiskSpec(
        name=name,
        designator=changes.get("designator", SimulatedDisk(number).name),
        size_bytes=1,
        guest_source="/dev/one",
        reservations="sg:/dev/one",
    )


def key_of(number: int = 1) -> int:
    return reservation_key(CLUSTER, incarnation(A, number))


def disk(a: Machine, number: int = 1) -> SimulatedDisk:
    return a.target.disks[SimulatedDisk(number).name]


def keys(a: Machine) -> set[int]:
    return set(disk(a).reservations.registered.values())


def state(a: Machine, name: DiskName = ONE) -> DiskState | None:
    health = a.disks.health.get(name)
    return health.state if health is not None else None


async def until(holds: Callable[[], bool], time_s: float = 20) -> None:
    for _ in range(int(time_s * 100)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it did not become so within {time_s} s")


async def other_node(a: Machine) -> ScsiLun:
    """Another node, registered with the disk."""
    lun = ScsiLun(a.target.connect("other", SimulatedDisk(1).name))
    await protect(lun, OTHER)
    return lun


async def can_write(a: Machine) -> bool:
    """Whether what a guest of this machine writes is let in."""
    size = disk(a).capacity.block_bytes
    command = write(block=0, data=bytes(size), block_bytes=size, is_forced=True)
    path = a.path(SimulatedDisk(1).name)
    for _ in range(4):
        reply = await path.execute(command, timeout_ms=1000)
        assert isinstance(reply, Answer)
        if reply.status != Status.CHECK_CONDITION:
            return reply.status == Status.GOOD
    raise AssertionError("unit attentions without end")


def registers(exchange: Exchange) -> bool:
    command = exchange.command
    return (
        exchange.initiator == A
        and not exchange.is_reset
        and command.operation == OperationCode.PERSISTENT_RESERVE_OUT
        and command.cdb[1] & 0x1F in (0x00, 0x06)
    )


async def up(a: Machine, *, phase: Phase | None = None, number: int = 1) -> None:
    """A machine with one shared disk, whose role uses it; its daemon runs."""
    await a.entitle()
    a.database.put(disk_key(ONE), spec())
    a.database.role(a.web(disks=(ONE,), disk_paths=()), owned("web", "a", phase, number) if phase is not None else None)
    await a.start_daemon(number)


async def running(a: Machine) -> None:
    """A machine whose guest runs from the shared disk."""
    await up(a)
    await until(lambda: state(a) is DiskState.READY)
    a.record(owned("web", "a", Phase.ASSIGNED))
    await a.wait_phase(Phase.ONLINE)


@virtual
async def test_a_node_registers_its_own_key_protects_the_disk_and_is_ready() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)
        assert keys(a) == {key_of()}
        assert disk(a).reservations.type is PROTECTION
        assert a.disks.conditions == ()
        assert a.disks.health[ONE].detail == ""


@virtual
async def test_safe_1_no_guest_starts_from_a_disk_that_is_not_ready() -> None:
    async with machine() as a:
        a.path(SimulatedDisk(1).name)
        a.target.stop()
        await up(a, phase=Phase.ASSIGNED)
        await asyncio.sleep(1)
        assert not await a.runs()
        assert not disk(a).reservations.registered
        await until(lambda: a.ownership().phase is Phase.VACANT)
        assert not await a.runs()
        assert "disk one" in str(a.ownership().reasons[0])


@virtual
async def test_safe_1_ready_only_after_a_write_that_shows_that_no_verdict_came_before_the_registration() -> None:
    async with machine() as a:

        def fate(exchange: Exchange) -> Fate:
            if registers(exchange):
                a.database.lose(verdict(A))
            return ORDINARY

        a.target.fate = fate
        await up(a)
        await asyncio.sleep(5)
        assert state(a) is not DiskState.READY
        assert a.disks.problem((ONE,)) is not None


@virtual
async def test_safe_1_what_was_confirmed_before_the_key_was_missing_confirms_nothing_after() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)

        def fate(exchange: Exchange) -> Fate:
            if registers(exchange):
                a.database.lose(verdict(A))
            return ORDINARY

        a.target.fate = fate
        await expel(await other_node(a), OTHER, victim=key_of())
        await until(lambda: keys(a) == {OTHER, key_of()})
        for _ in range(50):
            assert state(a) is not DiskState.READY
            await asyncio.sleep(0.1)


@virtual
async def test_safe_1_a_node_whose_session_is_gone_does_not_register() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)
        await a.kill_daemon()
        await expel(await other_node(a), OTHER, victim=key_of())
        await a.start_daemon()
        a.database.lose(verdict(A))
        await asyncio.sleep(5)
        assert keys(a) == {OTHER}


@virtual
async def test_safe_1_an_expelled_node_ends_its_guests_within_a_second_and_never_writes_again() -> None:
    async with machine() as a:
        await running(a)
        assert await can_write(a)
        a.database.put(disk_key(TWO), spec(TWO, 2))
        outcome = await expel(await other_node(a), OTHER, victim=key_of())
        assert isinstance(outcome, Expelled)
        a.database.lose(verdict(A))
        assert not await can_write(a)
        await asyncio.sleep(1)
        assert not await a.runs()
        await asyncio.sleep(10)
        assert keys(a) == {OTHER}
        assert not await can_write(a)


@virtual
async def test_safe_1_while_a_guest_is_there_an_expelled_node_does_not_register_again() -> None:
    async with machine() as a:
        await running(a)
        a.hypervisor.stuck.add(UUID)
        await expel(await other_node(a), OTHER, victim=key_of())
        await until(lambda: state(a) is DiskState.EXPELLED)
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert keys(a) == {OTHER}
            assert state(a) is DiskState.EXPELLED
        assert [condition.code for condition in a.disks.conditions] == ["disk-expelled"]
        a.hypervisor.stuck.clear()
        await until(lambda: state(a) is DiskState.READY)
        assert keys(a) == {OTHER, key_of()}


@virtual
async def test_safe_1_while_a_start_is_under_way_a_node_does_not_register() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)
        with a.disks.used_by(UUID, (ONE,)) as problem:
            assert problem is None
            await expel(await other_node(a), OTHER, victim=key_of())
            await asyncio.sleep(5)
            assert keys(a) == {OTHER}
            with a.disks.used_by(UUID, (ONE,)) as second:
                assert second is not None
        await until(lambda: state(a) is DiskState.READY)


@virtual
async def test_safe_1_while_the_hypervisor_is_silent_a_node_does_not_register() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)
        a.hypervisor.freeze()
        await expel(await other_node(a), OTHER, victim=key_of())
        await asyncio.sleep(LOOK_INTERVAL_S + 0.1)
        for _ in range(50):
            assert a.disks.problem((ONE,)) is not None
            await asyncio.sleep(0.1)
        assert keys(a) == {OTHER}
        a.hypervisor.thaw()
        await until(lambda: state(a) is DiskState.READY)


@virtual
async def test_safe_1_a_registration_that_arrives_late_lets_no_guest_write() -> None:
    """The node is frozen between its decision to register and the registration; meanwhile it is lost and expelled."""
    async with machine() as a:
        other = await other_node(a)
        held_s = 8.0

        def fate(exchange: Exchange) -> Fate:
            return Fate(request_ms=held_s * 1000) if registers(exchange) else ORDINARY

        a.target.fate = fate
        await up(a, phase=Phase.ASSIGNED)
        await asyncio.sleep(2)
        a.database.lose(verdict(A))
        assert isinstance(await expel(other, OTHER, victim=key_of()), Expelled)
        await asyncio.sleep(20)
        assert not await a.runs()
        assert state(a) is not DiskState.READY


@virtual
async def test_safe_6_a_restarted_holdfastd_finds_itself_registered_and_its_guest_running() -> None:
    async with machine() as a:
        await running(a)
        await a.kill_daemon()
        await a.start_daemon()
        await until(lambda: state(a) is DiskState.READY)
        assert await a.runs()
        assert await can_write(a)


@virtual
async def test_safe_1_a_restarted_holdfastd_whose_guest_runs_expelled_ends_it_and_registers_only_then() -> None:
    async with machine() as a:
        await running(a)
        await a.kill_daemon()
        await expel(await other_node(a), OTHER, victim=key_of())
        a.hypervisor.stuck.add(UUID)
        await a.start_daemon()
        await asyncio.sleep(5)
        assert keys(a) == {OTHER}
        assert state(a) is DiskState.EXPELLED


@virtual
async def test_a_target_that_forgot_is_shown_and_guests_run_on_until_it_may_be_protected_again() -> None:
    async with machine() as a:
        await running(a)
        disk(a).reservations.registered.clear()
        disk(a).reservations.type = disk(a).reservations.holder = None
        await until(lambda: state(a) is DiskState.LAPSED)
        assert [condition.code for condition in a.disks.conditions] == ["disk-unprotected"]
        await asyncio.sleep(5)
        assert await a.runs()
        assert keys(a) == set()
        refused = await a.disks.expel(spec(), incarnation(B))
        assert isinstance(refused, Refused)
        await a.hypervisor.destroy(UUID)
        await until(lambda: state(a) is DiskState.READY)


@virtual
async def test_a_disk_that_nobody_protects_is_not_reserved_under_a_guest_of_another_node() -> None:
    async with machine() as a:
        await a.entitle()
        a.database.put(disk_key(ONE), spec())
        a.database.role(a.web(disks=(ONE,), disk_paths=()), owned("web", "b", Phase.ONLINE))
        await a.start_daemon()
        await until(lambda: state(a) is DiskState.LAPSED)
        await asyncio.sleep(5)
        assert keys(a) == set()
        a.record(owned("web", None))
        await until(lambda: state(a) is DiskState.READY)


@virtual
async def test_a_reservation_that_vanished_is_put_back() -> None:
    async with machine() as a:
        await running(a)
        disk(a).reservations.type = disk(a).reservations.holder = None
        await until(lambda: disk(a).reservations.type is PROTECTION)
        await until(lambda: state(a) is DiskState.READY)
        assert await a.runs()


@virtual
async def test_safe_2_a_way_that_leads_to_another_disk_is_no_way_and_proves_nothing() -> None:
    async with machine() as a:
        a.paths[SimulatedDisk(1).name] = a.path(SimulatedDisk(2).name)
        await up(a)
        await until(lambda: state(a) is DiskState.UNREACHABLE)
        assert not disk(a, 2).reservations.registered
        assert [condition.code for condition in a.disks.conditions] == ["disk-unreachable"]
        a.database.put(disk_key(TWO), spec(TWO, 2))
        await until(lambda: state(a, TWO) is DiskState.READY)
        assert isinstance(await a.disks.expel(spec(TWO, 2), incarnation(B)), Expelled)
        assert isinstance(await a.disks.expel(spec(), incarnation(B)), Refused)


@virtual
async def test_a_lost_node_is_expelled_from_the_disk_of_the_record_and_from_no_other() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)
        victim = ScsiLun(a.target.connect("victim", SimulatedDisk(1).name))
        await protect(victim, reservation_key(CLUSTER, incarnation(B)))
        assert isinstance(await a.disks.expel(spec(designator="naa.other"), incarnation(B)), Refused)
        assert isinstance(await a.disks.expel(spec(TWO, 2), incarnation(B)), Refused)
        assert isinstance(await a.disks.expel(spec(), incarnation(B)), Expelled)
        assert keys(a) == {key_of()}


@virtual
async def test_a_disk_that_is_removed_is_let_go_of_and_one_that_is_added_is_taken_up() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)
        a.database.put(disk_key(TWO), spec(TWO, 2))
        await until(lambda: state(a, TWO) is DiskState.READY)
        a.database.commit(Txn(then=(Delete(disk_key(TWO)),)))
        await until(lambda: state(a, TWO) is None)
        assert isinstance(await ScsiLun(a.path(SimulatedDisk(1).name)).check(), Done)


@virtual
async def test_a_nexus_made_anew_is_not_taken_for_the_one_whose_key_is_still_listed() -> None:
    """As tgtd does it: after a login the key of the old nexus stays listed, and what the new one writes is refused."""
    async with machine() as a:
        a.target = SimulatedTarget([SimulatedDisk(1, traits=DiskTraits(reinstates_sessions=False))])
        await a.entitle()
        a.database.put(disk_key(ONE), replace(spec(), reservations="helper:/run/one.reservations"))
        a.database.role(a.web(disks=(ONE,), disk_paths=()), owned("web", "a", Phase.ASSIGNED))
        await a.start_daemon()
        await a.wait_phase(Phase.ONLINE)
        before = await a.hypervisor.process_of(UUID)
        a.target.is_hung = True
        await until(lambda: state(a) is DiskState.UNREACHABLE)
        assert await a.hypervisor.process_of(UUID) == before
        a.paths.clear()
        a.target.is_hung = False
        assert keys(a) == {key_of()}, "that of the old nexus"
        await asyncio.sleep(5)
        assert state(a) is DiskState.READY
        assert await can_write(a)
        assert await a.hypervisor.process_of(UUID) not in (None, before)


@virtual
async def test_a_slow_way_is_told_when_it_stays_slow_and_cleared_when_it_is_quick_again() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)
        await asyncio.sleep(2)
        assert not a.disks.health[ONE].is_slow
        a.target.fate = lambda _: Fate(reply_ms=400)
        await until(lambda: a.disks.health[ONE].is_slow, 30)
        assert [one.code for one in a.disks.conditions] == ["disk-slow"]
        assert state(a) is DiskState.READY
        a.target.fate = lambda _: ORDINARY
        await until(lambda: not a.disks.health[ONE].is_slow, 30)
        assert a.disks.conditions == ()


@virtual
async def test_a_disk_that_was_not_reached_for_long_is_lost_until_it_is_reached_again() -> None:
    async with machine() as a:
        await up(a)
        await until(lambda: state(a) is DiskState.READY)
        a.target.stop()
        await until(lambda: state(a) is DiskState.UNREACHABLE)
        await asyncio.sleep(13)
        assert not a.disks.has_lost((ONE,))
        await until(lambda: a.disks.has_lost((ONE,)), time_s=5)
        assert not a.disks.has_lost((TWO,))
        a.target.start()
        del a.paths[SimulatedDisk(1).name]
        await until(lambda: not a.disks.has_lost((ONE,)), time_s=5)


@virtual
async def test_the_plug_of_a_guest_is_pulled_that_leaves_a_node_which_lost_its_disk() -> None:
    """It could take a minute to shut down, and not do it at all: its writes hang."""
    async with machine() as a:
        await running(a)
        specs = a.database.snapshot().specs
        (role,) = specs
        spec = replace(specs[role].value, on_storage_loss=StorageLoss.MOVE, shutdown_timeout_ms=60_000)
        a.database.put(spec_key(role), spec)
        a.hypervisor.heeds_power_button = False
        a.target.stop()
        await until(lambda: a.disks.has_lost((ONE,)), time_s=30)
        assert await a.runs()
        lost = because(ReasonCode.STORAGE_LOST, A, disk=ONE, limit_ms=15_000)
        leaving = replace(a.ownership(), target=B, source=A, method=MoveMethod.RESTART, reasons=(lost,))
        a.record(leaving)
        gone = await a.wait_phase(Phase.VACANT, time_s=3)
        assert gone.lingering == (incarnation(A),)
        assert not await a.runs()
