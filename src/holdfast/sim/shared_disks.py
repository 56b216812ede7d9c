"""Shared disks with reservations: one simulated target, the nexus of each machine to it, and guests that write there.

Rule of the file: a guest signs each block with its run, twenty times a second, and asks nobody whether it may: only the
target keeps it off. What holdfastd asks of the target goes the same way as what the guests write. Source: SAFE-1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Final

from holdfast.model.disks import DiskSpec
from holdfast.model.ids import DiskName
from holdfast.model.roles import RoleSpec
from holdfast.sim.loop import VirtualLoop
from holdfast.sim.truth import GuestRun
from holdfast.storage.errors import LunUnreachable
from holdfast.storage.port import Lun
from holdfast.storage.scsi.command import Command, write
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import SimulatedPath, SimulatedTarget
from holdfast.storage.simulated_disk import DiskTraits, SimulatedDisk, WriteEffect
from holdfast.storage.transport import Reply

WRITE_INTERVAL_S: Final = 0.05
BLOCK_BYTES: Final = 512
NUMBER_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A block of a run that reached the medium."""

    at: float
    disk: DiskName
    block: int
    run: GuestRun


class Port:
    """The way of one machine to one disk: it outlives every holdfastd, and is another one after each start."""

    def __init__(self, path: Callable[[], SimulatedPath]) -> None:
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
    """All of them, behind one target. `landed` is what reached them, in its order."""

    def __init__(
        self,
        loop: VirtualLoop,
        disks: Iterable[DiskSpec],
        roles: Iterable[RoleSpec],
        *,
        executes: Callable[[str], bool],
        traits: DiskTraits | None = None,
    ) -> None:
        self.landed: list[Landing] = []
        self.roles = {role.uuid: role for role in roles if role.disks}
        self._specs = {disk.name: disk for disk in disks}
        self._loop = loop
        self._executes = executes
        self._blocks = {uuid: block for block, uuid in enumerate(self.roles)}
        self._runs: dict[int, GuestRun] = {}
        self._writing: dict[int, GuestRun] = {}
        self._held: dict[int, GuestRun] = {}
        """Runs with a block in the queue of their machine, which stands still: sent at the thaw, guest or no guest."""
        self._under_way: dict[tuple[int, DiskName], asyncio.Future[Reply]] = {}
        self._paths: dict[tuple[str, DiskName], SimulatedPath] = {}
        self.target = SimulatedTarget(
            SimulatedDisk(number, block_bytes=BLOCK_BYTES, traits=traits, observe=partial(self._observe, name))
            for number, name in enumerate(self._specs, start=1)
        )

    def plug(self, node: str) -> None:
        """A machine starts: its sessions are new, and the nexus is the one it was."""
        self._held = {number: run for number, run in self._held.items() if run.node != node}
        for name, spec in self._specs.items():
            self._paths[node, name] = self.target.connect(node, spec.designator)

    def open_lun(self, node: str, spec: DiskSpec) -> Lun:
        """The way that a machine's holdfastd has to a disk. Raises: LunUnreachable."""
        if (node, spec.name) not in self._paths:
            raise LunUnreachable(f"{node} has no way to disk {spec.name}")
        return ScsiLun(Port(lambda: self._paths[node, spec.name]))

    def start(self) -> None:
        """Let the guests write from now on."""
        if self.roles:
            self._loop.call_later(WRITE_INTERVAL_S, self._tick, context=Context())

    def began(self, run: GuestRun) -> None:
        """A guest begins and writes at once."""
        if run.uuid in self.roles:
            self._runs[run.number] = self._writing[run.number] = run
            self._write(run)

    def ended(self, run: GuestRun) -> None:
        """A guest is gone; what it sent goes on."""
        self._writing.pop(run.number, None)

    def flush(self) -> None:
        """Send what waited in machines that execute again, before anything else that they send."""
        for number, run in tuple(self._held.items()):
            if self._executes(run.node):
                del self._held[number]
                self._write(run)

    def _tick(self) -> None:
        for run in tuple(self._writing.values()):
            if self._executes(run.node):
                self._write(run)
            else:
                self._held[run.number] = run
        self._loop.call_later(WRITE_INTERVAL_S, self._tick, context=Context())

    def _write(self, run: GuestRun) -> None:
        data = run.number.to_bytes(NUMBER_BYTES).ljust(BLOCK_BYTES, b"\0")
        command = write(block=self._blocks[run.uuid], data=data, block_bytes=BLOCK_BYTES, is_forced=True)
        for name in self.roles[run.uuid].disks:
            sent = self._under_way.get((run.number, name))
            if sent is None or sent.done():
                self._under_way[run.number, name] = self._paths[run.node, name].submit(command)

    def _observe(self, disk: DiskName, effect: WriteEffect) -> None:
        run = self._runs[int.from_bytes(effect.data[:NUMBER_BYTES])]
        self.landed.append(Landing(at=self._loop.world_time(), disk=disk, block=effect.block, run=run))


def designator_of(number: int) -> str:
    """How the simulated target calls its disk with this number, from 1."""
    return SimulatedDisk(number).name
