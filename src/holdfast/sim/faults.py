"""What each kind of fault does: one row per kind, with how it begins and how it ends.

Rule of the file: a function begins a fault and returns what ends it. Every fault ends after its time, or at the healing
if that comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from holdfast.fencing.simulated import DeviceFault
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.machine import Machine
from holdfast.sim.world import Sky, World

Begin = Callable[[World, Fault], Callable[[], None]]
"""Begins a fault and returns what ends it."""


def machine_of(world: World, number: int) -> Machine:
    """The machine that a number picks."""
    machines = list(world.machines.values())
    return machines[number % len(machines)]


def nothing() -> None:
    """The end of a fault that leaves nothing to undo."""


def _power_cut(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    machine.power_off("plug pulled")
    return machine.power_on


def _freeze(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    machine.freeze()
    return machine.thaw


def _daemon_crash(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    machine.kill_daemon()
    return machine.start_daemon


def _daemon_freeze(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    frozen = machine.daemon
    if frozen is None:
        return nothing
    frozen.freeze()

    def thaw() -> None:
        if machine.daemon is frozen and machine.executes:
            frozen.thaw()

    return thaw


def _daemon_upgrade(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    machine.stop_daemon()

    def start() -> None:
        machine.kill_daemon()
        machine.start_daemon()

    return start


def _guard_crash(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    machine.is_guard_wanted = False
    machine.settle()

    def start() -> None:
        machine.is_guard_wanted = True
        machine.settle()

    return start


def _pairs_cut(world: World, pairs: list[tuple[Machine, Machine]], networks: int) -> Callable[[], None]:
    """Cut every network (`networks` 0) or one, in the direction of each pair."""
    cut = [
        (network, address, target.spec.addresses[network])
        for source, target in pairs
        for index, (network, address) in enumerate(source.spec.addresses.items())
        if networks == 0 or index == networks - 1
    ]
    for way in cut:
        world.air.cut(*way)
    world.settle()

    def heal() -> None:
        for way in cut:
            world.air.heal(*way)
        world.settle()

    return heal


def _partition(world: World, fault: Fault) -> Callable[[], None]:
    """`target` as bits says who is on which side; `other` which network, mostly all."""
    sides = [(machine, fault.target >> index & 1) for index, machine in enumerate(world.machines.values())]
    pairs = [(one, other) for one, here in sides for other, there in sides if here != there]
    return _pairs_cut(world, pairs, _which_networks(world, fault))


def _cut_one_way(world: World, fault: Fault) -> Callable[[], None]:
    pair = (machine_of(world, fault.target), machine_of(world, fault.target + 1 + fault.other % (world.make.nodes - 1)))
    return _pairs_cut(world, [pair], _which_networks(world, fault))


def _cable_out(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    networks = list(machine.spec.addresses.items())
    chosen = networks if fault.amount < 0.5 else [networks[fault.other % len(networks)]]
    for network, address in chosen:
        world.air.unplug(network, address)
    world.settle()

    def plug() -> None:
        if machine.is_on:
            for network, address in chosen:
                world.air.plug(network, address)
            world.settle()

    return plug


def _which_networks(world: World, fault: Fault) -> int:
    return 0 if fault.amount < 0.7 else 1 + fault.other % len(world.make.networks)


def _bad_weather(world: World, fault: Fault) -> Callable[[], None]:
    world.sky = Sky(loss=fault.amount * 0.6, twice=fault.amount * 0.3, delay_ms=1 + fault.other % 400)

    def clear() -> None:
        world.sky = Sky()

    return clear


def _database_down(world: World, _: Fault) -> Callable[[], None]:
    return _database_cut_for(world, list(world.machines.values()))


def _database_cut(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    machine.store.silence_s = fault.amount * 3.0
    return _database_cut_for(world, [machine])


def _database_cut_for(world: World, machines: list[Machine]) -> Callable[[], None]:
    names = {machine.name for machine in machines} - world.cut_off
    world.cut_off |= names
    world.settle()

    def heal() -> None:
        world.cut_off -= names
        world.settle()

    return heal


def _database_slow(world: World, fault: Fault) -> Callable[[], None]:
    store = machine_of(world, fault.target).store
    store.faults.delay_s = 0.001 + fault.amount * 0.4

    def heal() -> None:
        store.faults.delay_s = 0.001

    return heal


def _watch_slow(world: World, fault: Fault) -> Callable[[], None]:
    store = machine_of(world, fault.target).store
    store.watch_delay_s = fault.amount * 2.0

    def heal() -> None:
        store.watch_delay_s = 0.0

    return heal


def _replies_lost(world: World, fault: Fault) -> Callable[[], None]:
    faults = machine_of(world, fault.target).store.faults
    faults.lost_replies = 1 + fault.other % 3

    def heal() -> None:
        faults.lost_replies = 0

    return heal


def _requests_lost(world: World, fault: Fault) -> Callable[[], None]:
    faults = machine_of(world, fault.target).store.faults
    faults.lost_requests = 1 + fault.other % 3

    def heal() -> None:
        faults.lost_requests = 0

    return heal


def _writes_late(world: World, fault: Fault) -> Callable[[], None]:
    store = machine_of(world, fault.target).store
    store.late_writes, store.late_s = 1 + fault.other % 3, fault.amount * 8.0

    def heal() -> None:
        store.late_writes = 0

    return heal


def _compaction(world: World, _: Fault) -> Callable[[], None]:
    world.database.compact(world.database.revision)
    return nothing


def _leader_change(world: World, _: Fault) -> Callable[[], None]:
    world.depose()
    world.settle()
    return nothing


def _libvirt_hangs(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    machine.is_libvirt_hung = True
    machine.settle()

    def heal() -> None:
        machine.is_libvirt_hung = False
        machine.settle()

    return heal


def _libvirt_restart(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    if not machine.executes:
        return nothing
    hypervisor = machine.hypervisor
    hypervisor.stop_daemon()
    return hypervisor.start_daemon


def _start_refused(world: World, fault: Fault) -> Callable[[], None]:
    machine_of(world, fault.target).hypervisor.refuse_next_start("no memory")
    return nothing


def _guest_crash(world: World, fault: Fault) -> Callable[[], None]:
    runs = world.truth.living()
    if runs:
        run = runs[fault.target % len(runs)]
        machine = next(m for m in world.machines.values() if m.name == run.node)
        if machine.executes:
            machine.hypervisor.crash_guest(run.uuid)
    return nothing


def _guest_stuck(world: World, fault: Fault) -> Callable[[], None]:
    hypervisor = machine_of(world, fault.target).hypervisor
    uuids = {role.uuid for role in world.roles()}
    hypervisor.stuck |= uuids

    def heal() -> None:
        hypervisor.stuck.clear()

    return heal


def _fence(how: DeviceFault) -> Begin:
    def begin(world: World, fault: Fault) -> Callable[[], None]:
        device = machine_of(world, fault.target).device
        device.fault = how

        def heal() -> None:
            device.fault = DeviceFault.NONE

        return heal

    return begin


def _clock_jump(world: World, fault: Fault) -> Callable[[], None]:
    machine = machine_of(world, fault.target)
    machine.clock.offset_ms += round((fault.amount - 0.5) * 2 * 7_200_000)

    def heal() -> None:
        machine.clock.offset_ms = 0

    return heal


def _role_restarted(world: World, fault: Fault) -> Callable[[], None]:
    """A person stops a role, and starts it again when the fault ends."""
    roles = world.roles()
    role = roles[fault.target % len(roles)]
    world.stop_role(role.name)
    return lambda: world.start_role(role.name)


FAULTS: Final[dict[FaultKind, Begin]] = {
    FaultKind.POWER_CUT: _power_cut,
    FaultKind.FREEZE: _freeze,
    FaultKind.DAEMON_CRASH: _daemon_crash,
    FaultKind.DAEMON_FREEZE: _daemon_freeze,
    FaultKind.DAEMON_UPGRADE: _daemon_upgrade,
    FaultKind.GUARD_CRASH: _guard_crash,
    FaultKind.PARTITION: _partition,
    FaultKind.CUT_ONE_WAY: _cut_one_way,
    FaultKind.CABLE_OUT: _cable_out,
    FaultKind.BAD_WEATHER: _bad_weather,
    FaultKind.DATABASE_DOWN: _database_down,
    FaultKind.DATABASE_CUT: _database_cut,
    FaultKind.DATABASE_SLOW: _database_slow,
    FaultKind.WATCH_SLOW: _watch_slow,
    FaultKind.REPLIES_LOST: _replies_lost,
    FaultKind.REQUESTS_LOST: _requests_lost,
    FaultKind.WRITES_LATE: _writes_late,
    FaultKind.COMPACTION: _compaction,
    FaultKind.LEADER_CHANGE: _leader_change,
    FaultKind.LIBVIRT_HANGS: _libvirt_hangs,
    FaultKind.LIBVIRT_RESTART: _libvirt_restart,
    FaultKind.START_REFUSED: _start_refused,
    FaultKind.GUEST_CRASH: _guest_crash,
    FaultKind.GUEST_STUCK: _guest_stuck,
    FaultKind.FENCE_FAILS: _fence(DeviceFault.FAIL),
    FaultKind.FENCE_HANGS: _fence(DeviceFault.HANG),
    FaultKind.FENCE_UNCLEAR: _fence(DeviceFault.UNKNOWN),
    FaultKind.CLOCK_JUMP: _clock_jump,
    FaultKind.ROLE_RESTARTED: _role_restarted,
}
