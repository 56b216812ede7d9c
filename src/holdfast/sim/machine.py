"""A machine of the simulated world: its power, its processes, and what survives of it when one of them ends.

Rule of the file: it does what it is told, at once. When and why is decided by faults and fence devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import UUID

from holdfast.fencing.port import FenceDevice
from holdfast.fencing.simulated import SimulatedFenceDevice
from holdfast.hypervisor.simulated_guest import Neighbourhood
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat import Heartbeat
from holdfast.model.ids import Incarnation, NetworkName, NodeName
from holdfast.model.nodes import FenceSpec, NodeSpec
from holdfast.node.life import Life
from holdfast.node.voters import peer_urls
from holdfast.sim.breakage import Breakage
from holdfast.sim.daemons import Daemon, host, witness
from holdfast.sim.database import NodeStore
from holdfast.sim.loop import Process, VirtualLoop, outside
from holdfast.sim.machine_member import MachineMember
from holdfast.sim.members import Members
from holdfast.sim.shared_disks import SharedDisks
from holdfast.sim.truth import Truth
from holdfast.sim.twins import (
    Air,
    DriftingClock,
    FenceAgent,
    IncarnationOfBoot,
    MachineGuard,
    MachineHypervisor,
    MachineWatchdog,
)
from holdfast.store.port import MemberId

BOOT_S: Final = 2.0
RESTART_S: Final = 0.2
GUESTS_END_S: Final = 2.0
SHUTDOWN_S: Final = 4.0
"""From the order to shut down until the guests end, and until the power is off."""


@dataclass(kw_only=True)
class Surroundings:
    """What all machines share. `changed` is called whenever a machine begins or ceases to execute."""

    loop: VirtualLoop
    truth: Truth
    air: Air
    peers: Mapping[NodeName, NodeSpec]
    random: Random
    breakage: Breakage
    are_guests_deaf: bool
    clocks: Random
    clock_error: float
    shared_disks: SharedDisks
    neighbourhood: Neighbourhood
    keeps_memory: bool
    members: Members | None = None
    """Who votes in the database; None: always the same."""
    changed: Callable[[], None] = lambda: None
    machines: dict[NodeName, Machine] = field(default_factory=dict)
    wire: dict[bytes, Heartbeat] = field(default_factory=dict)

    def device_of(self, spec: FenceSpec) -> FenceDevice:
        """The device that a node's record describes."""
        return FenceAgent(self.machines[NodeName(spec.options["plug"])].device)


class Machine:
    """One node. `is_on`, `is_frozen` and `guest_faults` are for whoever makes faults; the rest is for the world."""

    guard: MachineGuard
    hypervisor: MachineHypervisor

    def __init__(
        self,
        spec: NodeSpec,
        store: NodeStore,
        around: Surroundings,
        *,
        watchdog_s: float | None,
        clock_drift: float | None = None,
    ) -> None:
        """`watchdog_s` None: it has no watchdog. `clock_drift` None: it is drawn."""
        self.name = spec.name
        self.spec = spec
        self.store = store
        self.clock = DriftingClock()
        self.device = SimulatedFenceDevice(cut=self._lose_power, restore=self._boot)
        self.processes: list[Process] = []
        self.daemon: Process | None = None
        self.is_frozen = False
        self.is_guard_wanted = True
        self.is_libvirt_hung = self.is_libvirt_down = False
        self.cables_out: set[NetworkName] = set()
        """Networks whose cable stays out, whatever becomes of the power."""
        self._around = around
        self._watchdog_s = watchdog_s
        drawn = around.clocks.uniform(-1.0, 1.0) * around.clock_error
        self._clock_rate = 1.0 + (drawn if clock_drift is None else clock_drift)
        self._boots = 0
        self._running: Daemon | None = None
        self._peers = around.peers
        self.is_out = False
        """Whether it knows of no cluster: it was taken out of the one it was in."""
        self.member = self._member()
        self._boot()

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self.device.is_on

    @property
    def life(self) -> Life | None:
        """What its holdfastd lives; None while none runs."""
        return self._running.life if self.daemon is not None and self._running is not None else None

    @property
    def incarnation(self) -> Incarnation:
        """What this start of it is called."""
        return self.incarnations.load_or_create()

    @property
    def executes(self) -> bool:
        """Whether its kernel runs processes."""
        return self.is_on and not self.is_frozen

    def power_off(self, why: str) -> None:
        """Pull the plug."""
        if self.is_on:
            self._around.truth.note("world", f"{self.name}: {why}", code="power-cut", subject=self.name)
            self.device.is_on = False
            self._lose_power()

    def power_on(self) -> None:
        """Put the plug back."""
        if not self.is_on:
            self.device.is_on = True
            self._boot()

    def freeze(self) -> None:
        """Nothing executes any more; the watchdog counts on."""
        if self.executes:
            self.is_frozen = True
            self._around.truth.note("world", f"{self.name}: frozen", code="frozen", subject=self.name)
            self._hold()
            if self.daemon is not None:
                self.daemon.freeze()
            self._around.changed()

    def thaw(self) -> None:
        """Everything goes on where it was: what guests were about to write is sent first, and a kill waits for it."""
        if self.is_frozen:
            self.is_frozen = False
            self._around.truth.note("world", f"{self.name}: thawed", code="thawed", subject=self.name)
            self._around.shared_disks.flush()
            self.settle()
            if self.daemon is not None:
                self.daemon.thaw()
            self._around.changed()

    def settle(self) -> None:
        """Let libvirtd and the guard run, or not, as their flags say."""
        if not self.executes:
            return
        if not self.is_libvirt_hung:
            self.hypervisor.thaw()
        else:
            self.hypervisor.freeze()
        if not self.is_guard_wanted:
            self._is_guard_dead = True
            self.guard.crash()
        elif self._is_guard_dead:
            self._is_guard_dead = False
            self.guard.start()
        else:
            self.guard.thaw()

    def hold_guest(self, uuid: str, *, is_held: bool, has_helper: bool = False) -> None:
        """Have a guest wait for what it wrote, or no longer: in the kernel, where no kill ends it, or in a helper."""
        waiting = self.hypervisor.undrained if has_helper else self.hypervisor.stuck
        if is_held:
            waiting.add(uuid)
        else:
            waiting.discard(uuid)

    def shut_down(self) -> None:
        """Shut the machine down in an orderly way: holdfastd, then the guests, then the power."""
        if self.executes:
            self._is_going_down = True
            self._around.truth.note("world", f"{self.name}: shuts down", code="shutdown", subject=self.name)
            self.stop_daemon()
            boot = self._boots
            self._around.loop.call_later(GUESTS_END_S, self._end_guests, boot, context=Context())
            self._around.loop.call_later(SHUTDOWN_S, self._shut_down, boot, context=Context())

    def reboot(self) -> None:
        """Shut it down and switch it on again."""
        if self.executes:
            self.shut_down()
            self._around.loop.call_later(SHUTDOWN_S + BOOT_S, self.power_on, context=Context())

    def _end_guests(self, boot: int) -> None:
        if boot == self._boots and self.executes and self._is_going_down:
            for victim in sorted(self.hypervisor.victims()):
                self.hypervisor.crash_guest(victim.uuid)

    def _shut_down(self, boot: int) -> None:
        if boot == self._boots and self._is_going_down:
            self.power_off("is shut down")

    def heal(self) -> None:
        """Power on, everything running. A shutdown that is under way is called off."""
        if self._is_going_down:
            self._is_going_down = False
            self.kill_daemon()
        self.thaw()
        self.power_on()
        self.is_guard_wanted, self.is_libvirt_hung = True, False
        self.settle()
        self.start_daemon()

    def kill_daemon(self) -> None:
        """SIGKILL to holdfastd. Its sockets close; nothing else notices."""
        if self.daemon is not None:
            self.daemon.freeze()
            self.daemon = None
            if self.member is not None:
                self.member.daemon_ends()
                self._remember_peers()
            for network, endpoint in self.endpoints().items():
                self._around.air.leave(network, endpoint)

    def stop_daemon(self) -> None:
        """Have holdfastd end in an orderly way, as for an upgrade."""
        if self.daemon is not None and self.daemon.runs and self._running is not None:
            self.daemon.spawn(self._stop(self._running.life, self.daemon))

    def start_daemon(self) -> None:
        """Start holdfastd, or on a witness its program, if it does not run and could."""
        if self.daemon is not None or not self.executes or self.is_out:
            return
        self.daemon = process = Process(f"holdfastd on {self.name}", self._around.loop, rate=self._clock_rate)
        self.processes.append(process)
        if self.member is not None:
            self.member.daemon_starts(process)
        make = witness if self.spec.is_witness else host
        self._running = make(self, self._around, process, self._peers)
        living = process.spawn(self._running.work)
        living.add_done_callback(lambda done: self._daemon_ended(process, done), context=Context())

    def join_cluster(self, peers: Mapping[NodeName, NodeSpec]) -> None:
        """Be a machine of the cluster again, which has these nodes on record, this one among them."""
        if self.is_out and self.member is not None:
            self.is_out, self._peers = False, peers
            self.member.join_cluster()
            self.start_daemon()

    def _leave_cluster(self) -> None:
        """Forget the cluster that took it out."""
        assert self.member is not None
        self._around.truth.note("world", f"{self.name}: is out of the cluster", code="left", subject=self.name)
        self.is_out = True
        self.kill_daemon()
        self.incarnations.replace()
        self.member.leave_cluster()

    def _member(self) -> MachineMember | None:
        around = self._around
        if around.members is None:
            return None
        return MachineMember(
            self.name,
            peer_urls(self.spec),
            around.members,
            loop=around.loop,
            executes=lambda: self.executes,
            holds=None if self.spec.seat is None else MemberId(self.spec.seat),
        )

    def _remember_peers(self) -> None:
        """Who else there is, as holdfastd keeps it on its disk."""
        snapshot = self._running.mirror.snapshot if self._running is not None else None
        if snapshot is not None and self.name in snapshot.nodes:
            self._peers = {name: node.value for name, node in sorted(snapshot.nodes.items())}

    def endpoints(self) -> dict[NetworkName, Endpoint]:
        """Where its daemon takes in heartbeats."""
        port = self.spec.heartbeat_port
        return {name: Endpoint(address=address, port=port) for name, address in self.spec.addresses.items()}

    async def _stop(self, life: Life | None, process: Process) -> None:
        if life is not None:
            await life.announce_stop()
        if self.daemon is process:
            outside(self.kill_daemon)

    def _daemon_ended(self, process: Process, done: asyncio.Task[None]) -> None:
        """It lives until killed; init restarts one that ended by itself, and that is a bug."""
        if self.daemon is not process:
            return
        if self.member is not None and not done.cancelled() and done.exception() is None:
            self._leave_cluster()
            return
        error = None if done.cancelled() else done.exception()
        self._around.truth.accident(f"holdfastd on {self.name} ended by itself: {_innermost(error)!r}")
        self.kill_daemon()
        self._around.loop.call_later(RESTART_S, self.start_daemon)

    def _boot(self) -> None:
        self._boots += 1
        boot, around = self._boots, self._around
        around.truth.note("world", f"{self.name}: power on", code="power-on", subject=self.name)
        self.is_frozen = self.is_libvirt_hung = self.is_libvirt_down = False
        self.is_guard_wanted, self._is_guard_dead, self._is_going_down = True, False, False
        self.incarnations = IncarnationOfBoot(
            lambda: Incarnation(str(UUID(int=around.random.getrandbits(128), version=4)))
        )
        self.hypervisor = around.breakage.hypervisor(self.name, around.truth, around.neighbourhood)
        self.hypervisor.heeds_power_button = not around.are_guests_deaf
        self._watchdog = (
            None
            if self._watchdog_s is None
            else MachineWatchdog(timeout_s=self._watchdog_s, reset=around.breakage.reset(lambda: self._reset(boot)))
        )
        self.guard = MachineGuard(
            Process(f"guard on {self.name}", around.loop, rate=self._clock_rate),
            alive=self.hypervisor.victims,
            kill=around.breakage.kill(self.hypervisor.kill),
            watchdog=self._watchdog,
        )
        for network, address in self.spec.addresses.items():
            if network not in self.cables_out:
                around.air.plug(network, address)
        around.shared_disks.plug(self.name)
        around.loop.call_later(BOOT_S, self._start_processes, boot, context=Context())
        around.changed()

    def _start_processes(self, boot: int) -> None:
        if boot != self._boots or not self.is_on:
            return
        if self.is_frozen:
            self._around.loop.call_later(BOOT_S, self._start_processes, boot)
        else:
            self.guard.start()
            self.settle()
            self.start_daemon()

    def _reset(self, boot: int) -> None:
        """The watchdog fires: the machine starts anew."""
        if boot == self._boots and self.is_on:
            self.power_off("reset by its watchdog")
            self._around.loop.call_later(BOOT_S, self.power_on, context=Context())

    def _lose_power(self) -> None:
        self._around.truth.note("world", f"{self.name}: power off", code="power-off", subject=self.name)
        self.kill_daemon()
        self.hypervisor.lose_power()
        if self.member is not None:
            self.member.lose_power()
        self._around.shared_disks.unplug(self.name)
        self.guard.crash()
        if self._watchdog is not None:
            self._watchdog.disarm()
        for network, address in self.spec.addresses.items():
            self._around.air.unplug(network, address)
        self._around.changed()

    def _hold(self) -> None:
        self.hypervisor.freeze()
        self.guard.crash()


def _innermost(error: BaseException | None) -> BaseException | None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
