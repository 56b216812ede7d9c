"""One machine's way to one shared disk, and what becomes of commands while the way is cut.

Rule of the file: a nexus keeps its order. What cannot be sent waits in the machine and goes first when the way is
mended, however long ago whoever asked gave up: so a request that ended as unknown may still be carried out, late.
What waits is lost with the power only, and a machine that stands still sends nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Final

from holdfast.storage.scsi.command import Command, OperationCode
from holdfast.storage.scsi.reservations import OutAction
from holdfast.storage.scsi.status import Status
from holdfast.storage.simulated import RESET, SimulatedPath, SimulatedTarget
from holdfast.storage.simulated_disk import SimulatedDisk
from holdfast.storage.transport import Answer, Lost, Reply


class Nexus:
    """A `Transport` that outlives every holdfastd. `is_cut`: nothing passes, in either direction.

    gives_up    what nobody waits for any more is taken back before it was sent, as a kernel does that has other paths.
    """

    def __init__(self, target: SimulatedTarget, node: str, designator: str, *, gives_up: bool = False) -> None:
        self.is_cut = False
        self._gives_up = gives_up
        self._target = target
        self._node = node
        self._designator = designator
        self._session: SimulatedPath | None = None
        self._waiting: deque[tuple[Command, asyncio.Future[Reply]]] = deque()
        self._answers: deque[tuple[asyncio.Future[Reply], Reply]] = deque()

    @property
    def path(self) -> str:
        """See `Transport`."""
        return f"simulated {self._designator}"

    @property
    def is_through(self) -> bool:
        """Whether what is sent now reaches the target."""
        return not self.is_cut and self._session is not None and self._session.is_open

    @property
    def idle_disk(self) -> SimulatedDisk | None:
        """The disk, if what is sent now reaches it at once and is alone there; else None."""
        return None if self.is_cut or self._waiting or self._session is None else self._session.idle_disk

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        reply = self.submit(command)
        if reply.done():
            return reply.result()
        lost = Lost(words=f"none within {timeout_ms} ms")
        timer = asyncio.get_running_loop().call_later(timeout_ms / 1000, _settle, reply, lost)
        try:
            return await reply
        finally:
            timer.cancel()

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self.execute(RESET, timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`. The machine keeps its way."""

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        """Send a command, or let it wait. The future stays open when no answer comes."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self.is_through and not self._waiting:
            self._send(command, reply)
        else:
            self._waiting.append((command, reply))
        return reply

    def recall(self, command: Command) -> None:
        """Take a command back that has not arrived, sent or not: nobody waits for its answer any more."""
        self._waiting = deque(item for item in self._waiting if item[0] is not command)
        if self._session is not None:
            self._session.recall(command)

    def begin_anew(self) -> None:
        """The machine starts: its session is new, the nexus is the one it was, and nothing waits."""
        for _, reply in self._waiting:
            _settle(reply, Lost(words="the machine lost its power"))
        self._waiting.clear()
        self._answers.clear()
        self._session = None
        self.flush()

    def log_out(self) -> None:
        """The session is lost. What arrived goes on at the target; nobody is told how it ends."""
        if self._session is not None:
            self._session.drop()

    def flush(self) -> None:
        """Let pass what waits, if the way is whole. Only while the machine executes."""
        if self.is_cut:
            return
        if self._session is None or not self._session.is_open:
            if not self._target.is_up:
                return
            self._session = self._target.connect(self._node, self._designator)
        while self._answers:
            _settle(*self._answers.popleft())
        while self._waiting:
            command, reply = self._waiting.popleft()
            if not (self._gives_up and reply.done()):
                self._send(command, reply)

    def _send(self, command: Command, reply: asyncio.Future[Reply]) -> None:
        assert self._session is not None
        self._session.send(command, partial(self._back, reply))

    def _back(self, reply: asyncio.Future[Reply], answer: Reply) -> None:
        if self.is_cut:
            self._answers.append((reply, answer))
        else:
            _settle(reply, answer)


class Multipath:
    """Several paths as one `Transport`: registrations go over all that are through, everything else over one of them.

    A path that was down then comes back unregistered, and what goes over it is refused. Source: mpathpersist(8).
    """

    def __init__(self, paths: tuple[Nexus, ...]) -> None:
        self.paths = paths
        self._sent = 0

    @property
    def path(self) -> str:
        """See `Transport`."""
        return self.paths[0].path

    @property
    def is_through(self) -> bool:
        """Whether what is sent now reaches the target."""
        return self.paths[0].is_through or any(path.is_through for path in self.paths[1:])

    @property
    def idle_disk(self) -> SimulatedDisk | None:
        """See `Nexus`. Over its first path."""
        return self.paths[0].idle_disk

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`. A registration is done when it is done on every path that is through."""
        if len(self.paths) == 1:
            return await self.paths[0].execute(command, timeout_ms=timeout_ms)
        replies = [await path.execute(command, timeout_ms=timeout_ms) for path in self._chosen(command)]
        return next((reply for reply in replies if not _is_good(reply)), replies[-1])

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self.execute(RESET, timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`. The machine keeps its way."""

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        """Send a command of a guest over one path."""
        return (self.paths if len(self.paths) == 1 else self._chosen(command))[0].submit(command)

    def _chosen(self, command: Command) -> tuple[Nexus, ...]:
        through = tuple(path for path in self.paths if path.is_through) or self.paths[:1]
        if is_registration(command):
            return through
        self._sent += 1
        return (through[self._sent % len(through)],)


_REGISTERS: Final = (OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY)


def is_registration(command: Command) -> bool:
    """Whether it registers, or unregisters, who sends it."""
    return command.operation == OperationCode.PERSISTENT_RESERVE_OUT and command.cdb[1] & 0x1F in _REGISTERS


def _is_good(reply: Reply) -> bool:
    return isinstance(reply, Answer) and reply.status == Status.GOOD


def _settle(reply: asyncio.Future[Reply], answer: Reply) -> None:
    if not reply.done():
        reply.set_result(answer)
