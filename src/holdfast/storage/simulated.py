"""A SCSI target in memory, with levers for everything that goes wrong with a real one.

Rule of the file: nothing is random, and time is the running loop's. What happens to each command is asked of `fate`,
which whoever makes faults provides. What a command does at the target does not depend on whether anybody still waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Final

from holdfast.storage.errors import LunUnreachable
from holdfast.storage.scsi.command import Command, OperationCode
from holdfast.storage.scsi.reservations import OutAction
from holdfast.storage.scsi.status import Status
from holdfast.storage.simulated_disk import NEXUS_LOST, POWER_ON, PendingCommand, SimulatedDisk
from holdfast.storage.transport import Answer, Lost, Reply, Unsent

RESET: Final = Command(cdb=b"\xff")
"""Stands for a LOGICAL UNIT RESET, which is no command, wherever a fate is asked for."""
_QUEUED: Final = (OperationCode.READ_16, OperationCode.WRITE_16, OperationCode.SYNCHRONIZE_CACHE_16)
"""Commands that take a while at the target and can be aborted meanwhile; the others take effect as they arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A command about to be sent. `is_reset` when it is a LOGICAL UNIT RESET."""

    initiator: str
    disk: str
    command: Command

    @property
    def is_reset(self) -> bool:
        """Whether it is a LOGICAL UNIT RESET and no command."""
        return self.command is RESET

    @property
    def is_write(self) -> bool:
        """Whether it is a WRITE."""
        return self.command.operation == OperationCode.WRITE_16

    @property
    def is_about_reservations(self) -> bool:
        """Whether it changes who may write, or tries to."""
        return self.command.operation == OperationCode.PERSISTENT_RESERVE_OUT

    @property
    def is_preempt(self) -> bool:
        """Whether it takes somebody's registration away."""
        preempts = (OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT)
        return self.is_about_reservations and self.command.cdb[1] & 0x1F in preempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What happens to one command. A time of None means never.

    request_ms       until it arrives and is judged; None: it is lost on the way.
    execution_ms     from then until it has its effect, for reads, writes and flushes; None: it hangs until dropped.
    reply_ms         from its effect until the initiator has the answer; None: the answer is lost.
    blocks_written   a write is torn after so many blocks and then never answered.
    answer           given instead of anything else on arrival: busy, task set full, an error of the medium.
    is_instant       it is judged, has its effect and is answered as it is sent, unless another command is on its way to
                     the disk or in it: then it is as the rest says.
    """

    request_ms: float | None = 0.1
    execution_ms: float | None = 0.2
    reply_ms: float | None = 0.1
    blocks_written: int | None = None
    answer: Answer | None = None
    is_instant: bool = False


ORDINARY: Final = Fate()
INSTANT: Final = Fate(is_instant=True)


@dataclass(slots=True, eq=False)
class _Flight:
    """One command between its initiator and the disk."""

    number: int
    command: Command
    fate: Fate


class SimulatedTarget:
    """Disks behind one port. `fate` is asked about every command; the default lets everything go well."""

    def __init__(
        self, disks: Iterable[SimulatedDisk], *, fate: Callable[[Exchange], Fate] = lambda _: ORDINARY
    ) -> None:
        self.disks = {disk.name: disk for disk in disks}
        self.fate = fate
        self.is_up = True
        self.is_hung = False
        """Whether it answers nobody; what is sent meanwhile is lost. Sessions stay."""
        self._sessions: list[SimulatedPath] = []
        self._logins = 0

    def connect(self, initiator: str, disk: str) -> SimulatedPath:
        """Open a session to one disk. One that this initiator still had ends, if the disk does so; see `DiskTraits`.

        What it had not finished is dropped then. Source: RFC 7143 clause 6.3.5.

        Raises LunUnreachable.
        """
        if not self.is_up or disk not in self.disks:
            raise LunUnreachable(f"The simulated target has no disk {disk}, or is down.")
        unit = self.disks[disk]
        self._logins += 1
        nexus = initiator if unit.traits.reinstates_sessions else f"{initiator},i,0x{self._logins:012x}"
        for session in [item for item in self._sessions if (item.nexus, item.disk) == (nexus, unit)]:
            session.drop()
            unit.abort((nexus,))
        unit.attend(nexus, NEXUS_LOST if nexus in unit.attentions else POWER_ON)
        path = SimulatedPath(self, initiator, nexus, unit)
        self._sessions.append(path)
        return path

    def stop(self) -> None:
        """Lose power: sessions end, unfinished commands never happen, replies under way are lost."""
        self.is_up = False
        for session in list(self._sessions):
            session.drop()
        for disk in self.disks.values():
            disk.lose_power()

    def start(self) -> None:
        """Come back, with or without reservations; see `DiskTraits` and APTPL."""
        self.is_up = True

    def forget(self, path: SimulatedPath) -> None:
        """Take a session off the list."""
        if path in self._sessions:
            self._sessions.remove(path)


class SimulatedPath:
    """A `Transport`: one nexus to one simulated disk."""

    def __init__(self, target: SimulatedTarget, initiator: str, nexus: str, disk: SimulatedDisk) -> None:
        self.initiator = initiator
        self.nexus = nexus
        self.disk = disk
        self.is_open = True
        self._arrives = True
        self._target = target
        self._waiting: dict[int, Callable[[Reply], None]] = {}
        self._coming: list[_Flight] = []
        self._sent = 0

    @property
    def path(self) -> str:
        """See `Transport`."""
        return f"simulated {self.disk.name}"

    @property
    def idle_disk(self) -> SimulatedDisk | None:
        """The disk, if it answers, no command is on its way to it or in it, and it has nothing to tell this nexus."""
        is_idle = self._arrives and self.disk.is_idle and not self._target.is_hung
        return self.disk if is_idle and not self.disk.attentions.get(self.nexus) else None

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        if not self.is_open:
            return Unsent(words="the session is closed")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        self.send(command, partial(_settle, reply))
        timer = loop.call_later(timeout_ms / 1000, _settle, reply, Lost(words=f"none within {timeout_ms} ms"))
        try:
            return await reply
        finally:
            timer.cancel()

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self.execute(RESET, timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`. What was sent before still arrives, as it may with a real one."""
        self._end()

    def send(self, command: Command, tell: Callable[[Reply], None]) -> None:
        """Send a command. `tell` is called with what came back: before this returns, later, or never.

        What happens from here on belongs to the target and not to the context of the caller, which may be a simulated
        process that is frozen or killed.
        """
        fate = self._target.fate(Exchange(initiator=self.initiator, disk=self.disk.name, command=command))
        if fate.is_instant and self._arrives and self.disk.is_idle and not self._target.is_hung:
            tell(self.disk.admit(self.nexus, command) or self.disk.execute(self.nexus, command))
            return
        self._sent += 1
        self._waiting[self._sent] = tell
        if fate.request_ms is not None:
            self.disk.coming += 1
            flight = _Flight(number=self._sent, command=command, fate=fate)
            self._coming.append(flight)
            asyncio.get_running_loop().call_later(fate.request_ms / 1000, self._arrive, flight, context=Context())

    def recall(self, command: Command) -> None:
        """Let a command that is on its way have no effect: an abort, sent after it, arrives after it."""
        self._coming = [flight for flight in self._coming if flight.command is not command]

    def drop(self) -> None:
        """The target ends the session: nothing of it arrives any more. Commands that arrived go on."""
        self._arrives = False
        self._target.forget(self)
        self._end()

    def _end(self) -> None:
        self.is_open = False
        waiting, self._waiting = self._waiting, {}
        for tell in waiting.values():
            tell(Lost(words="the session ended"))

    def _arrive(self, flight: _Flight) -> None:
        self.disk.coming -= 1
        if flight not in self._coming:
            return
        self._coming.remove(flight)
        if not self._arrives or self._target.is_hung:
            return
        if flight.fate.answer is not None:
            self._answer(flight, flight.fate.answer)
            return
        if flight.command is RESET:
            self.disk.reset(self.nexus)
            self._answer(flight, Answer(status=Status.GOOD))
            return
        refusal = self.disk.admit(self.nexus, flight.command)
        if refusal is not None:
            self._answer(flight, refusal)
        elif flight.command.operation in _QUEUED:
            self._queue(flight)
        else:
            self._answer(flight, self.disk.execute(self.nexus, flight.command))

    def _queue(self, flight: _Flight) -> None:
        timer: asyncio.TimerHandle | None = None

        def drop() -> None:
            if timer is not None:
                timer.cancel()

        pending = PendingCommand(nexus=self.nexus, command=flight.command, drop=drop)
        self.disk.pending.append(pending)
        if flight.fate.execution_ms is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(flight.fate.execution_ms / 1000, self._execute, flight, pending)

    def _execute(self, flight: _Flight, pending: PendingCommand) -> None:
        self.disk.pending.remove(pending)
        answer = self.disk.execute(self.nexus, flight.command, blocks_written=flight.fate.blocks_written)
        if flight.fate.blocks_written is None:
            self._answer(flight, answer)

    def _answer(self, flight: _Flight, answer: Answer) -> None:
        if flight.fate.reply_ms is not None:
            asyncio.get_running_loop().call_later(flight.fate.reply_ms / 1000, self._deliver, flight, answer)

    def _deliver(self, flight: _Flight, answer: Answer) -> None:
        tell = self._waiting.pop(flight.number, None)
        if tell is not None:
            tell(answer)


def _settle(reply: asyncio.Future[Reply], answer: Reply) -> None:
    if not reply.done():
        reply.set_result(answer)
