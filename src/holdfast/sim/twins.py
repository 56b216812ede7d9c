"""The simulated sides of the ports, put where the real ones are: outside of holdfastd's process.

Rule of the file: what a twin schedules must outlive the daemon that asked for it, as libvirtd's work, a lease, a packet
on its way or an order to a fence device does. So every twin acts `outside`. Nothing here decides what goes wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any, Final, TypeVar

from holdfast.fencing.guard.logic import Event, Reply, Victim
from holdfast.fencing.port import FenceDevice, FenceOutcome, PowerReading
from holdfast.fencing.simulated_guard import SimulatedGuard, SimulatedWatchdog
from holdfast.hypervisor.port import GuestEventKind, GuestState
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.hypervisor.simulated_guest import Neighbourhood, Running
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat import Heartbeat, Reject
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.port import EventHandler, LinkChanged, TransportEvent
from holdfast.membership.simulated_transport import SimulatedNetworks, SimulatedTransport, Weather
from holdfast.model.ids import ClusterId, Incarnation, NetworkName
from holdfast.sim.loop import Process, VirtualLoop, outside
from holdfast.sim.truth import Truth

T = TypeVar("T")
EPOCH_MS: Final = 1_800_000_000_000
STOPPED: Final = "stopped"


def memory_uri(node: str) -> str:
    """Where a machine takes in the memory of guests."""
    return f"sim://{node}"


class MachineHypervisor(SimulatedHypervisor):
    """libvirtd of one start of one machine. It tells the truth about every guest that executes."""

    def __init__(self, node: str, truth: Truth, neighbourhood: Neighbourhood) -> None:
        super().__init__(start_ms=50, answer_ms=2, neighbourhood=neighbourhood, uri=memory_uri(node))
        self._node = node
        self._truth = truth
        self._destroyed: set[str] = set()
        self.ending = STOPPED
        """Why a guest that ends now ends; whoever kills one without libvirt says so here first."""

    def victims(self) -> frozenset[Victim]:
        """Every process of a guest, as the guard sees them."""
        return frozenset(
            Victim(pid=item.process.pid, start_time=item.process.start_ticks, uuid=uuid)
            for uuid, item in self._running.items()
        )

    def kill(self, victim: Victim) -> None:
        """SIGKILL by the guard."""
        if victim in self.victims():
            self._end_because("killed by the guard", lambda: self.crash(victim.uuid))

    def crash_guest(self, uuid: str) -> None:
        """QEMU crashes, if it runs."""
        self._end_because("crashed", lambda: self.crash(uuid))

    def lose_power(self) -> None:
        """Everything is gone, and nothing that was asked will happen."""
        self.freeze()
        for uuid, item in sorted(self._running.items()):
            self._truth.guest_ended(self._node, uuid, "power lost")
            self._memory_ended(item, "power lost")
        self._running.clear()

    def _end_because(self, why: str, act: Callable[[], None]) -> None:
        self.ending = why
        act()
        self.ending = STOPPED

    async def destroy(self, uuid: str) -> None:
        """See `Hypervisor`."""
        self._destroyed.add(uuid)
        try:
            await super().destroy(uuid)
        finally:
            self._destroyed.discard(uuid)

    def _change(self, uuid: str, state: GuestState, kind: GuestEventKind) -> None:
        before = self._running[uuid].guest.state
        super()._change(uuid, state, kind)
        after = self._running[uuid]
        if before is not GuestState.RUNNING and state is GuestState.RUNNING:
            self._truth.guest_executes(
                self._node, uuid, after.memory, after.guest.memory_id, is_whole=not after.is_incoming
            )
        elif state is not GuestState.RUNNING:
            self._truth.guest_suspended(self._node, uuid)

    def _remove(self, uuid: str, kind: GuestEventKind) -> None:
        before = self._running.get(uuid)
        super()._remove(uuid, kind)
        if before is not None and uuid not in self._running:
            why = self.ending
            if why == STOPPED and kind is GuestEventKind.CRASHED and uuid not in self._destroyed:
                why = "crashed"
            self._truth.guest_ended(self._node, uuid, why)
            self._memory_ended(before, why)

    def _memory_ended(self, item: Running, by: str) -> None:
        was_executing = item.guest.state is GuestState.RUNNING
        self._truth.memory_ended(self._node, item.guest.uuid, item.memory, by, was_executing=was_executing)

    def _submit(self, act: Callable[[], None], delay_ms: int | None = None) -> asyncio.Future[None]:
        return outside(super()._submit, act, delay_ms)


class MachineGuard(SimulatedGuard):
    """The guard as a process of its own: its timers outlive holdfastd's, and its clock is its machine's."""

    def __init__(
        self,
        process: Process,
        *,
        alive: Callable[[], frozenset[Victim]],
        kill: Callable[[Victim], None],
        watchdog: SimulatedWatchdog | None,
    ) -> None:
        super().__init__(alive=alive, kill=kill, watchdog=watchdog)
        self._process = process

    def start(self) -> None:
        """See `SimulatedGuard`."""
        self._process.inside(super().start)

    def thaw(self) -> None:
        """See `SimulatedGuard`."""
        self._process.inside(super().thaw)

    def _ask(self, event: Event) -> Reply:
        return self._process.inside(super()._ask, event)


class MachineWatchdog(SimulatedWatchdog):
    """Hardware: it counts down whatever becomes of the processes."""

    def pet(self) -> None:
        """See `SimulatedWatchdog`."""
        outside(super().pet)


class Air(SimulatedNetworks):
    """The networks. A packet arrives although its sender died meanwhile. Times of the network are no node's."""

    def __init__(self, weather: Weather) -> None:
        super().__init__(weather)
        self._context = Context()

    def _now(self) -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop.world_time()

    def _call_at(self, when: float, act: Callable[[float], None], due: float) -> None:
        asyncio.get_running_loop().call_at(when, act, due, context=self._context)

    def reaches(self, source: str, target: str, networks: tuple[NetworkName, ...]) -> bool:
        """Whether any network carries packets both ways, as a TCP connection needs it."""
        return any(self._passes(name, source, target) and self._passes(name, target, source) for name in networks)


class SocketTransport(SimulatedTransport):
    """The sockets of a process: what arrives waits there until the process executes."""

    def __init__(self, networks: Air, endpoints: dict[NetworkName, Endpoint], process: Process) -> None:
        super().__init__(networks, endpoints)
        self._process = process

    async def open(self, handler: EventHandler) -> None:
        """See `HeartbeatTransport.open`."""

        def arrive(event: TransportEvent) -> None:
            if isinstance(event, LinkChanged):  # told from anywhere, also from inside of the process
                self._process.call(handler, event)
            else:
                self._process.enter(handler, event)

        await super().open(arrive)


class FenceAgent:
    """A fence device as holdfastd reaches it: by a program of its own, which finishes what it was told."""

    def __init__(self, device: FenceDevice) -> None:
        self._device = device

    async def status(self) -> PowerReading:
        """See `FenceDevice`."""
        return await _finished(self._device.status)

    async def off(self) -> FenceOutcome:
        """See `FenceDevice`."""
        return await _finished(self._device.off)

    async def on(self) -> FenceOutcome:
        """See `FenceDevice`."""
        return await _finished(self._device.on)

    async def reboot(self) -> FenceOutcome:
        """See `FenceDevice`."""
        return await _finished(self._device.reboot)

    async def monitor(self) -> FenceOutcome:
        """See `FenceDevice`."""
        return await _finished(self._device.monitor)


class IncarnationOfBoot:
    """Where a machine keeps its incarnation: in memory that is lost with the power."""

    def __init__(self, make: Callable[[], Incarnation]) -> None:
        self._make = make
        self._current = make()

    def load_or_create(self) -> Incarnation:
        """See `Incarnations`."""
        return self._current

    def replace(self) -> Incarnation:
        """See `Incarnations`."""
        self._current = self._make()
        return self._current


class DriftingClock:
    """The clocks of a machine. The wall clock is off by `offset_ms`, which may change at any time."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def monotonic_ms(self) -> int:
        """See `Clock`."""
        return int(asyncio.get_running_loop().time() * 1000)

    def wall_ms(self) -> int:
        """See `Clock`."""
        return EPOCH_MS + self.monotonic_ms() + self.offset_ms


async def _finished(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Have it done outside of this process and wait for it; who stops waiting does not stop it."""
    task: asyncio.Task[T] = outside(asyncio.get_running_loop().create_task, act())
    await asyncio.wait([task])
    return task.result()


class PlainCodec(HeartbeatCodec):
    """Heartbeats on a wire that nobody else writes to: a datagram only names the heartbeat that it stands for.

    Sealing and packing take two fifths of a run's time; they have tests of their own. `heard` is told which heartbeat
    a daemon took in: from which network, whose, and its number.
    """

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        networks: Iterable[NetworkName],
        wire: dict[bytes, Heartbeat],
        heard: Callable[[NetworkName, Incarnation, int], None],
    ) -> None:
        super().__init__(cluster_id=cluster_id, cluster_key=bytes(32), networks=networks)
        self._wire = wire
        self._heard = heard

    def encode(self, heartbeat: Heartbeat, network: NetworkName) -> bytes:
        """See `HeartbeatCodec`."""
        datagram = len(self._wire).to_bytes(8)
        self._wire[datagram] = heartbeat
        return datagram

    def decode(self, datagram: bytes, network: NetworkName) -> Heartbeat | Reject:
        """See `HeartbeatCodec`."""
        heartbeat = self._wire[datagram]
        self._heard(network, heartbeat.incarnation, heartbeat.sequence)
        return heartbeat
