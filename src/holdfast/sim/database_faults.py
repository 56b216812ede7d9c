"""What goes wrong with the cluster database and the way to it.

Rule of the file: see `fault_targets`; one function per kind.
"""

from __future__ import annotations

from typing import Final

from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.fault_targets import Begin, End, machine_of, nothing
from holdfast.sim.machine import Machine
from holdfast.sim.world import World


def _database_down(world: World, _: Fault) -> End:
    return _database_cut_for(world, list(world.machines.values()))


def _database_cut(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    machine.store.silence_s = fault.amount * 3.0
    return _database_cut_for(world, [machine])


def _database_cut_for(world: World, machines: list[Machine]) -> End:
    names = [machine.name for machine in machines]
    for name in names:
        world.overlaps.begin(("database", name))
        world.cut_off.add(name)
    world.settle()

    def heal() -> None:
        world.cut_off -= {name for name in names if world.overlaps.end(("database", name))}
        world.settle()

    return heal


def _database_slow(world: World, fault: Fault) -> End:
    store = machine_of(world, fault.target).store
    store.faults.delay_s = 0.001 + fault.amount * 0.4

    def heal() -> None:
        store.faults.delay_s = 0.001

    return heal


def _watch_slow(world: World, fault: Fault) -> End:
    store = machine_of(world, fault.target).store
    store.watch_delay_s = fault.amount * 2.0

    def heal() -> None:
        store.watch_delay_s = 0.0

    return heal


def _replies_lost(world: World, fault: Fault) -> End:
    faults = machine_of(world, fault.target).store.faults
    faults.lost_replies = 1 + fault.other % 3

    def heal() -> None:
        faults.lost_replies = 0

    return heal


def _requests_lost(world: World, fault: Fault) -> End:
    faults = machine_of(world, fault.target).store.faults
    faults.lost_requests = 1 + fault.other % 3

    def heal() -> None:
        faults.lost_requests = 0

    return heal


def _writes_late(world: World, fault: Fault) -> End:
    store = machine_of(world, fault.target).store
    store.late_writes, store.late_s = 1 + fault.other % 3, fault.amount * 8.0

    def heal() -> None:
        store.late_writes = 0

    return heal


def _compaction(world: World, _: Fault) -> End:
    world.database.compact(world.database.revision)
    return nothing


def _leader_change(world: World, _: Fault) -> End:
    world.depose()
    world.settle()
    return nothing


DATABASE_FAULTS: Final[dict[FaultKind, Begin]] = {
    FaultKind.DATABASE_DOWN: _database_down,
    FaultKind.DATABASE_CUT: _database_cut,
    FaultKind.DATABASE_SLOW: _database_slow,
    FaultKind.WATCH_SLOW: _watch_slow,
    FaultKind.REPLIES_LOST: _replies_lost,
    FaultKind.REQUESTS_LOST: _requests_lost,
    FaultKind.WRITES_LATE: _writes_late,
    FaultKind.COMPACTION: _compaction,
    FaultKind.LEADER_CHANGE: _leader_change,
}
