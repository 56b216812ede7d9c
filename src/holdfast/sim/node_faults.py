"""What goes wrong with machines: their power, their processes, their guests, fence devices, clocks and storage.

Rule of the file: see `fault_targets`; one function per kind.
"""

from __future__ import annotations

from contextvars import Context
from typing import Final

from holdfast.fencing.simulated import DeviceFault
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.fault_targets import Begin, End, machine_of, nothing
from holdfast.sim.machine import RESTART_S, Machine
from holdfast.sim.target_faults import cut_paths
from holdfast.sim.world import World


def _power_cut(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    machine.power_off("plug pulled")
    return machine.power_on


def _freeze(world: World, fault: Fault) -> End:
    return frozen(world, machine_of(world, fault.target))


def frozen(world: World, machine: Machine) -> End:
    """Freeze a machine; returns what thaws it."""
    world.overlaps.begin(("freeze", machine.name))
    machine.freeze()

    def thaw() -> None:
        if world.overlaps.end(("freeze", machine.name)):
            machine.thaw()

    return thaw


def _daemon_crash(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    machine.kill_daemon()
    return machine.start_daemon


def _daemon_freeze(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    frozen = machine.daemon
    if frozen is None:
        return nothing
    frozen.freeze()

    def thaw() -> None:
        if machine.daemon is frozen and machine.executes:
            frozen.thaw()

    return thaw


def _daemon_upgrade(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    machine.stop_daemon()

    def start() -> None:
        machine.kill_daemon()
        machine.start_daemon()

    return start


def _guard_crash(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    machine.is_guard_wanted = False
    machine.settle()

    def start() -> None:
        machine.is_guard_wanted = True
        machine.settle()

    return start


def _guard_restart(world: World, fault: Fault) -> End:
    """The guard is killed and started again at once, as its service does."""
    machine = machine_of(world, fault.target)
    end = _guard_crash(world, fault)
    if machine.executes:
        world.loop.call_later(RESTART_S, end, context=Context())
    return end


def _libvirt_hangs(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    world.overlaps.begin(("libvirt", machine.name))
    machine.is_libvirt_hung = True
    machine.settle()

    def heal() -> None:
        if world.overlaps.end(("libvirt", machine.name)):
            machine.is_libvirt_hung = False
            machine.settle()

    return heal


def _libvirt_restart(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    if not machine.executes:
        return nothing
    hypervisor = machine.hypervisor
    world.overlaps.begin(("libvirt-down", hypervisor))
    hypervisor.stop_daemon()
    machine.is_libvirt_down = True

    def start() -> None:
        if not world.overlaps.end(("libvirt-down", hypervisor)):
            return
        hypervisor.start_daemon()
        if machine.hypervisor is hypervisor:
            machine.is_libvirt_down = False

    return start


def _start_refused(world: World, fault: Fault) -> End:
    machine_of(world, fault.target).hypervisor.refuse_next_start("no memory")
    return nothing


def _guest_crash(world: World, fault: Fault) -> End:
    runs = world.truth.living()
    if runs:
        run = runs[fault.target % len(runs)]
        machine = next(m for m in world.machines.values() if m.name == run.node)
        if machine.executes:
            machine.hypervisor.crash_guest(run.uuid)
    return nothing


def _guest_stuck(world: World, fault: Fault) -> End:
    hypervisor = machine_of(world, fault.target).hypervisor
    uuids = {role.uuid for role in world.roles()}
    hypervisor.stuck |= uuids

    def heal() -> None:
        hypervisor.stuck -= uuids

    return heal


def _fence(how: DeviceFault) -> Begin:
    def begin(world: World, fault: Fault) -> End:
        device = machine_of(world, fault.target).device
        device.fault = how

        def heal() -> None:
            device.fault = DeviceFault.NONE

        return heal

    return begin


def _clock_jump(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    machine.clock.offset_ms += round((fault.amount - 0.5) * 2 * 7_200_000)

    def heal() -> None:
        machine.clock.offset_ms = 0

    return heal


def _shutdown(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    machine.shut_down()
    return machine.power_on


def _reboot(world: World, fault: Fault) -> End:
    machine_of(world, fault.target).reboot()
    return nothing


def _mass_power_cut(world: World, fault: Fault) -> End:
    """A fuse blows: all machines or about half of them lose their power, and get it back one by one."""
    hit = [
        machine
        for index, machine in enumerate(world.machines.values())
        if fault.amount < 0.3 or fault.other >> index % 8 & 1
    ]
    for machine in hit:
        machine.power_off("plug pulled")

    def back() -> None:
        for number, machine in enumerate(hit):
            world.loop.call_later(number * fault.amount * 4.0, machine.power_on, context=Context())

    return back


def _lost_again_and_again(world: World, fault: Fault) -> End:
    """A machine that dies three times, as soon as it is up again: what quarantine is for."""
    machine = machine_of(world, fault.target)
    is_over = False

    def pull() -> None:
        if not is_over:
            machine.power_off("plug pulled")

    def stop() -> None:
        nonlocal is_over
        is_over = True
        machine.power_on()

    for number in range(3):
        at_s = number * (8.0 + fault.amount * 8.0)
        world.loop.call_later(at_s, pull, context=Context())
        world.loop.call_later(at_s + 4.0, machine.power_on, context=Context())
    return stop


def _storage_cut(world: World, fault: Fault) -> End:
    return _storage_cut_for(world, [machine_of(world, fault.target)])


def _storage_down(world: World, fault: Fault) -> End:
    return _storage_cut_for(world, list(world.machines.values()))


def _storage_cut_for(world: World, machines: list[Machine]) -> End:
    """Shared disks are reached by the same network, so they are cut off too."""
    names = [machine.name for machine in machines]
    ends = [cut_paths(world, world.shared_disks.paths(name)) for name in names]
    for name in names:
        world.overlaps.begin(("storage", name))
        world.storage.cut_off(name)

    def heal() -> None:
        for name, end in zip(names, ends, strict=True):
            if world.overlaps.end(("storage", name)):
                world.storage.reconnect(name)
            end()

    return heal


NODE_FAULTS: Final[dict[FaultKind, Begin]] = {
    FaultKind.POWER_CUT: _power_cut,
    FaultKind.MASS_POWER_CUT: _mass_power_cut,
    FaultKind.LOST_AGAIN: _lost_again_and_again,
    FaultKind.SHUTDOWN: _shutdown,
    FaultKind.REBOOT: _reboot,
    FaultKind.FREEZE: _freeze,
    FaultKind.DAEMON_CRASH: _daemon_crash,
    FaultKind.DAEMON_FREEZE: _daemon_freeze,
    FaultKind.DAEMON_UPGRADE: _daemon_upgrade,
    FaultKind.GUARD_CRASH: _guard_crash,
    FaultKind.GUARD_RESTART: _guard_restart,
    FaultKind.LIBVIRT_HANGS: _libvirt_hangs,
    FaultKind.LIBVIRT_RESTART: _libvirt_restart,
    FaultKind.START_REFUSED: _start_refused,
    FaultKind.GUEST_CRASH: _guest_crash,
    FaultKind.GUEST_STUCK: _guest_stuck,
    FaultKind.STORAGE_CUT: _storage_cut,
    FaultKind.STORAGE_DOWN: _storage_down,
    FaultKind.FENCE_FAILS: _fence(DeviceFault.FAIL),
    FaultKind.FENCE_HANGS: _fence(DeviceFault.HANG),
    FaultKind.FENCE_UNCLEAR: _fence(DeviceFault.UNKNOWN),
    FaultKind.CLOCK_JUMP: _clock_jump,
}
