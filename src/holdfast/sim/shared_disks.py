"""Shared disks with reservations: one simulated target, the nexus of each machine to it, and guests that write there.

Rule of the file: a guest signs each block with its run, twenty times a second, or four times while all is quiet, and
asks nobody whether it may: only the target keeps it off. What holdfastd asks of the target goes the same way as what
the guests write. A guest whose record cannot be sent hangs in the kernel, and no kill ends it, unless a helper has its
records: those go out when the path is back, guest or no guest. Source: SAFE-1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from holdfast.model.disks import DiskSpec, reservation_key
from holdfast.model.ids import ClusterId, DiskName, Incarnation
from holdfast.model.roles import RoleSpec
from holdfast.sim.loop import VirtualLoop
from holdfast.sim.nexus import Multipath, Nexus, is_registration
from holdfast.sim.quiet_lun import QuietLun
from holdfast.sim.target_weather import TargetWeather
from holdfast.sim.truth import GuestRun
from holdfast.storage.errors import LunUnreachable
from holdfast.storage.port import Lun
from holdfast.storage.scsi.command import Command, write
from holdfast.storage.scsi.reservations import decode_reserve_out
from holdfast.storage.scsi.status import Status
from holdfast.storage.simulated import Exchange, SimulatedTarget
from holdfast.storage.simulated_disk import DiskTraits, SimulatedDisk, WriteEffect
from holdfast.storage.transport import Answer, Reply, Transport
from holdfast.storage.ways import WayKind, parse_way

CLUSTER_ID: Final = ClusterId("5eed0000-0000-4000-8000-000000000000")
WRITE_INTERVAL_S: Final = 0.05
QUIET_TICKS: Final = 5
"""Of so many writes in a row one takes place where nothing goes on."""
LIVELY_S: Final = 5.0
"""So long after a guest began or ended, and after anything unusual at the target, something goes on."""
WRITE_TIMEOUT_S: Final = 2.0
"""After so long without an answer a record is dropped at the target and written again."""
BLOCK_BYTES: Final = 512
RECORD_BLOCKS: Final = 2
"""Of a record, so that it can be torn."""
NUMBER_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A block of a run that reached the medium."""

    at: float
    disk: DiskName
    block: int
    run: GuestRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The target refused a guest's record because of the reservation."""

    at: float
    disk: DiskName
    run: GuestRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A machine asked to be registered anew with a disk while this guest there wrote to it."""

    at: float
    disk: DiskName
    run: GuestRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """A disk lost its registrations with its target's power. `keys` are those that it had."""

    at: float
    disk: DiskName
    keys: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    """What a guest writes again and again, and its ways to its disks. `has_helper`: see `settle` of a disk's watch."""

    run: GuestRun
    command: Command
    ways: dict[DiskName, Multipath]
    has_helper: bool


class Port:
    """The way of one machine to one disk: it outlives every holdfastd, and is another one after each start."""

    def __init__(self, path: Callable[[], Transport]) -> None:
        self._path = path

    @property
    def path(self) -> str:
        """See `Transport`."""
        return self._path().path

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self._path().execute(command, timeout_ms=timeout_ms)

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self._path().reset_logical_unit(timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`. The machine keeps its way."""


class SharedDisks:
    """All of them, behind one target.

    landed      what reached the medium, in its order.
    refused, entered   see there.
    registrations      when each key was sent to each disk that did not have it.
    weather     how commands fare.
    forgotten   every time that a disk lost its registrations: whoever was expelled before can write then.
    hold        has a guest on a node wait for what it wrote, or no longer; whether in a helper comes last.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        disks: Iterable[DiskSpec],
        roles: Iterable[RoleSpec],
        *,
        executes: Callable[[str], bool],
        hold: Callable[[str, str, bool, bool], None] = lambda *_: None,
        random: Random,
        traits: DiskTraits | None = None,
        paths: int = 1,
    ) -> None:
        self.landed: list[Landing] = []
        self.refused: list[Refusal] = []
        self.entered: list[Entry] = []
        self.registrations: dict[tuple[DiskName, int], list[float]] = {}
        self.roles = {role.uuid: role for role in roles if role.disks}
        self.forgotten: list[Forgetting] = []
        self.weather = TargetWeather(random, loop.world_time)
        self.weather.watchers.append(self._sent)
        self._specs = {disk.name: disk for disk in disks}
        self._names = {disk.designator: disk.name for disk in self._specs.values()}
        self._loop = loop
        self._executes = executes
        self._hold = hold
        self.path_count = paths
        self._blocks: dict[str, int] = {}
        self._writers: dict[int, _Writer] = {}
        self._ticks = 0
        self._lively_since = 0.0
        self._writing: dict[int, GuestRun] = {}
        self._queued: dict[int, GuestRun] = {}
        """Runs with a record in the queue of their machine, which stands still: sent at the thaw, guest or no guest."""
        self._hanging: dict[int, GuestRun] = {}
        self._under_way: dict[tuple[int, DiskName], tuple[float, asyncio.Future[Reply]]] = {}
        self._ways: dict[tuple[str, DiskName], Multipath] = {}
        self.target = SimulatedTarget(
            (
                SimulatedDisk(number, block_bytes=BLOCK_BYTES, traits=traits, observe=partial(self._observe, name))
                for number, name in enumerate(self._specs, start=1)
            ),
            fate=self.weather.fate,
        )

    def add_role(self, role: RoleSpec) -> None:
        """A role comes that may write to shared disks."""
        if role.disks:
            self.roles[role.uuid] = role

    def plug(self, node: str) -> None:
        """A machine starts: its sessions are new, and each nexus is the one it was."""
        self._queued = {number: run for number, run in self._queued.items() if run.node != node}
        for name, spec in self._specs.items():
            if (node, name) not in self._ways:
                self._ways[node, name] = self._way(node, spec)
            for path in self._ways[node, name].paths:
                path.begin_anew()

    def unplug(self, node: str) -> None:
        """A machine loses its power: the target notices, and drops what it had not finished for it."""
        for unit in self.target.disks.values():
            unit.abort(tuple(nexus for nexus in unit.attentions if self.node_of(nexus) == node))

    def open_lun(self, node: str, spec: DiskSpec) -> Lun:
        """The way that a machine's holdfastd has to a disk. Raises: LunUnreachable."""
        if (node, spec.name) not in self._ways:
            raise LunUnreachable(f"{node} has no way to disk {spec.name}")
        return QuietLun(self._ways[node, spec.name], self.weather)

    def paths(self, node: str) -> tuple[Nexus, ...]:
        """Every path of a machine to any disk."""
        return tuple(path for (name, _), way in self._ways.items() if name == node for path in way.paths)

    def node_of(self, initiator: str) -> str:
        """The machine whose path this is."""
        return initiator.partition(" ")[0]

    def is_expelled(self, run: GuestRun) -> bool:
        """Whether a protected disk that a guest writes to has no registration of its node's incarnation any more."""
        key = reservation_key(CLUSTER_ID, Incarnation(run.incarnation))
        held = [self.target.disks[self._specs[name].designator].reservations for name in self.roles[run.uuid].disks]
        return any(one.reservation is not None and key not in one.registered.values() for one in held)

    def is_reached(self, node: str) -> bool:
        """Whether a machine's requests are answered as usual."""
        is_up = self.target.is_up and not self.target.is_hung and self.weather.is_fair
        return is_up and all(path.is_through for path in self.paths(node))

    def switch_off(self, *, forgets: bool) -> None:
        """The target loses its power, and what it cannot keep."""
        for name, spec in self._specs.items():
            held = self.target.disks[spec.designator].reservations
            held.survives_power_loss = held.survives_power_loss and not forgets
            if held.reservation is not None and not held.survives_power_loss:
                keys = frozenset(held.registered.values())
                self.forgotten.append(Forgetting(at=self._loop.world_time(), disk=name, keys=keys))
        self.target.stop()

    def switch_on(self) -> None:
        """The target is back, and machines log in again."""
        self.target.start()
        self.flush()

    def start(self) -> None:
        """Let the guests write from now on."""
        if self._specs:
            self._loop.call_later(WRITE_INTERVAL_S, self._tick, context=Context())

    def began(self, run: GuestRun) -> None:
        """A guest begins and writes at once."""
        if run.uuid in self.roles:
            self._enliven()
            self._writing[run.number] = run
            self._writers[run.number] = self._writer(run)
            self._write(run)

    def ended(self, run: GuestRun) -> None:
        """A guest is gone; what it sent goes on."""
        if self._writing.pop(run.number, None) is not None:
            self._enliven()
        self._hang(run, hangs=False)

    def flush(self) -> None:
        """Send what waited in machines that execute, before anything else that they send."""
        self._enliven()
        for (node, _), way in self._ways.items():
            if self._executes(node):
                for path in way.paths:
                    path.flush()
        for number, run in tuple(self._queued.items()):
            if self._executes(run.node):
                del self._queued[number]
                self._write(run)

    def _way(self, node: str, spec: DiskSpec) -> Multipath:
        several = self.path_count > 1
        names = [node, *(f"{node} {number}" for number in range(2, self.path_count + 1))]
        return Multipath(tuple(Nexus(self.target, name, spec.designator, gives_up=several) for name in names))

    def _tick(self) -> None:
        self._ticks += 1
        is_quiet = not self._is_lively() and self._ticks % QUIET_TICKS != 0
        for run in () if is_quiet else tuple(self._writing.values()):
            if run.is_suspended and run.number not in self._hanging:
                continue
            if self._executes(run.node):
                self._write(run)
            else:
                self._queued[run.number] = run
        self._loop.call_later(WRITE_INTERVAL_S, self._tick, context=Context())

    def _enliven(self) -> None:
        self._lively_since = self._loop.world_time()

    def _is_lively(self) -> bool:
        return self._loop.world_time() - max(self._lively_since, self.weather.unusual_since) < LIVELY_S

    def _writer(self, run: GuestRun) -> _Writer:
        names = self.roles[run.uuid].disks
        first = self._blocks.setdefault(run.uuid, len(self._blocks) * RECORD_BLOCKS)
        block = run.number.to_bytes(NUMBER_BYTES).ljust(BLOCK_BYTES, b"\0")
        return _Writer(
            run=run,
            command=write(block=first, data=block * RECORD_BLOCKS, block_bytes=BLOCK_BYTES, is_forced=True),
            ways={name: self._ways[run.node, name] for name in names},
            has_helper=all(parse_way(self._specs[name].reservations).kind is WayKind.HELPER for name in names),
        )

    def _write(self, run: GuestRun) -> None:
        """Let a guest write, unless it is suspended. What had no answer its kernel sends again, suspended or not."""
        writer = self._writers[run.number]
        command, now = writer.command, self._loop.world_time()
        for name, way in writer.ways.items():
            since, sent = self._under_way.get((run.number, name), (0.0, None))
            if sent is not None and sent.done() and is_conflict(sent.result()):
                self.refused.append(Refusal(at=now, disk=name, run=run))
            is_late = now - since > WRITE_TIMEOUT_S and way.is_through
            is_again = sent is not None and not sent.done()
            if is_again and is_late:
                self._abort(run.node, name, command)
            if is_late if is_again else not run.is_suspended:
                self._under_way[run.number, name] = now, way.submit(command)
        is_easy = self.weather.is_fair and all(way.is_through for way in writer.ways.values())
        if run.number in self._hanging or (run.number in self._writing and not is_easy):
            self._hang(run, hangs=True)
            for name in writer.ways:
                reply = self._under_way[run.number, name][1]
                reply.add_done_callback(lambda _: self._answered(run), context=Context())

    def _abort(self, node: str, disk: DiskName, command: Command) -> None:
        """ABORT TASK: before a kernel writes again what it has no answer to, it has the first attempt dropped.

        On any of its paths, whether that waits, is on its way or has arrived.
        """
        for path in self._ways[node, disk].paths:
            path.recall(command)
        unit = self.target.disks[self._specs[disk].designator]
        for item in tuple(unit.pending):
            if self.node_of(item.nexus) == node and item.command.data_out == command.data_out:
                unit.pending.remove(item)
                item.drop()

    def _answered(self, run: GuestRun) -> None:
        """A process ends when what it has under way is done, and not before."""
        if all(self._under_way[run.number, name][1].done() for name in self.roles[run.uuid].disks):
            self._hang(run, hangs=False)

    def _hang(self, run: GuestRun, *, hangs: bool) -> None:
        if hangs is not (run.number in self._hanging):
            if hangs:
                self._hanging[run.number] = run
            else:
                del self._hanging[run.number]
            self._hold(run.node, run.uuid, hangs, self._writers[run.number].has_helper)

    def _sent(self, exchange: Exchange) -> None:
        """See who enters, and what of it runs already."""
        if not is_registration(exchange.command):
            return
        key = decode_reserve_out(exchange.command).service_key
        node, held = self.node_of(exchange.initiator), self.target.disks[exchange.disk].reservations
        if key and key not in (held.registered[one] for one in held.registered if self.node_of(one) == node):
            disk, at = self._names[exchange.disk], self._loop.world_time()
            self.registrations.setdefault((disk, key), []).append(at)
            users = (run for run in self._writing.values() if run.node == node and disk in self.roles[run.uuid].disks)
            self.entered += [Entry(at=at, disk=disk, run=run) for run in users]

    def _observe(self, disk: DiskName, effect: WriteEffect) -> None:
        if self._specs[disk].is_heartbeat:
            return
        run = self._writers[int.from_bytes(effect.data[:NUMBER_BYTES])].run
        self.landed.append(Landing(at=self._loop.world_time(), disk=disk, block=effect.block, run=run))


def is_conflict(reply: Reply) -> bool:
    """Whether the target refused because of a reservation."""
    return isinstance(reply, Answer) and reply.status == Status.RESERVATION_CONFLICT


def designator_of(number: int) -> str:
    """How the simulated target calls its disk with this number, from 1."""
    return SimulatedDisk(number).name
