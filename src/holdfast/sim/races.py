"""Arbitration on a simulated disk, raced by the hundred thousand: who preempts, who is preempted, and late writers.

Rule of the file: one number is one interleaving. Nodes protect, look and expel by the real `storage.arbitration`, and
write as guests do, also long after they were expelled. At every command boundary chance says what happens next: whose
command arrives, which write that was let in lands, who gets its answer, who gives up waiting, who dies. Only the order
of one nexus is kept. Judged from the medium and from who is registered. Source: SAFE-1, docs/safety.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from holdfast.sim.chance import chance
from holdfast.sim.loop import VirtualLoop
from holdfast.storage.arbitration import PROTECTION, Expelled, Protected, expel, protect
from holdfast.storage.scsi.command import Command, OperationCode, write
from holdfast.storage.scsi.status import Status
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import RESET
from holdfast.storage.simulated_disk import POWER_ON, DiskTraits, PendingCommand, SimulatedDisk, WriteEffect
from holdfast.storage.transport import Answer, Lost, Reply

BLOCK_BYTES: Final = 512
WRITES: Final = 4
"""Of each node, at any moments."""
STEPS_MAX: Final = 400
ATTEMPTS: Final = 3
"""Of a node that expels another, before somebody else would see to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an interleaving ended. `expelled`: how many keys were; `steps`: how often chance decided."""

    number: int
    failures: tuple[str, ...]
    expelled: int
    steps: int


@dataclass(eq=False, slots=True)
class _Sent:
    """A command on its way. `reply` None: no answer yet."""

    key: int
    command: Command
    reply: Reply | None = None

    def __await__(self) -> Generator[_Sent, None, Reply]:
        yield self
        assert self.reply is not None
        return self.reply


@dataclass(slots=True)
class _Node:
    """A node. `work` is what its holdfastd does, `waits_for` the answer that it needs to go on.

    may_write   it was registered and confirmed before any verdict, so a guest of it may exist.
    """

    key: int
    may_write: bool = False
    writes: int = WRITES
    wire: deque[_Sent] = field(default_factory=deque)
    work: Coroutine[_Sent, None, None] | None = None
    waits_for: _Sent | None = None


class _Way:
    """A node's `Transport`."""

    path = "a raced disk"

    def __init__(self, node: _Node) -> None:
        self._node = node

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`. Chance says when somebody has waited long enough."""
        sent = _Sent(self._node.key, command)
        self._node.wire.append(sent)
        return await sent

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self.execute(RESET, timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`."""


class Race:
    """One interleaving. Nodes are numbered from 1, and so are their keys; the first ones are registered."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.failures: list[str] = []
        self.expelled: set[int] = set()
        self.steps = 0
        self._random = random = chance(number, "race")
        traits = DiskTraits(can_abort=random.random() < 0.6)
        self._disk = SimulatedDisk(1, block_bytes=BLOCK_BYTES, traits=traits, observe=self._landed)
        self._held: dict[PendingCommand, _Sent] = {}
        self._lost: set[int] = set()
        """Keys of nodes with a verdict."""
        self._nodes = {key: _Node(key) for key in range(1, random.choice((2, 3, 3)) + 1)}
        self._set_up(random)

    def run(self) -> Ending:
        """Let chance decide until nothing is left to do; then a survivor sees to it that the lost are gone."""
        while self.steps < STEPS_MAX and (acts := self._acts()):
            self.steps += 1
            acts[int(self._random.random() * len(acts))]()
            self._somebody_is_registered()
        for node in self._nodes.values():
            if node.work is not None:
                node.work.close()
        return Ending(number=self.number, failures=tuple(self.failures), expelled=len(self.expelled), steps=self.steps)

    def _set_up(self, random: Random) -> None:
        """Most nodes are registered and write; one is lost, others expel it, or each other; the last one may join."""
        nodes, held = list(self._nodes.values()), self._disk.reservations
        joins = len(nodes) > 2 and random.random() < 0.3
        members = nodes[:-1] if joins else nodes
        for node in members:
            held.registered[_name(node.key)] = node.key
            node.may_write = True
        held.type, held.holder, held.survives_power_loss = PROTECTION, _name(random.choice(members).key), True
        victim, hunters = members[0], members[1:]
        for node in hunters:
            node.work = self._hunt(node, victim)
        if random.random() < 0.3:
            victim.work = self._hunt(victim, hunters[0])
        if joins:
            nodes[-1].work = self._join(nodes[-1])

    async def _hunt(self, node: _Node, victim: _Node) -> None:
        """The verdict on a node is there: expel it, as a coordinator does."""
        self._lost.add(victim.key)
        lun = ScsiLun(_Way(node))
        for _ in range(ATTEMPTS):
            if isinstance(await expel(lun, node.key, victim=victim.key), Expelled):
                self.expelled.add(victim.key)
                return

    async def _join(self, node: _Node) -> None:
        """A node becomes ready, and begins to write unless it was declared lost meanwhile."""
        outcome = await protect(ScsiLun(_Way(node)), node.key)
        node.may_write = isinstance(outcome, Protected) and node.key not in self._lost

    def _acts(self) -> list[Callable[[], object]]:
        """Everything that could happen next; what is rare stands there with a small chance."""
        acts: list[Callable[[], object]] = [partial(self._land, pending) for pending in self._held]
        for node in self._nodes.values():
            if node.wire:
                acts += [partial(self._arrive, node)] * 2
            if node.may_write and node.writes:
                acts.append(partial(self._write, node))
            if node.work is not None:
                acts += self._acts_of(node)
        if acts and self._random.random() < 0.01:
            acts.append(self._restart)
        return acts

    def _acts_of(self, node: _Node) -> list[Callable[[], object]]:
        """What its holdfastd could do: go on, give up waiting, die."""
        if node.waits_for is None or node.waits_for.reply is not None:
            return [partial(self._go_on, node)] * 2
        chance_now = self._random.random()
        if chance_now < 0.03:
            return [partial(self._give_up, node)]
        return [partial(self._die, node)] if chance_now < 0.035 else []

    def _go_on(self, node: _Node) -> None:
        assert node.work is not None
        try:
            node.waits_for = node.work.send(None)
        except StopIteration:
            node.work = node.waits_for = None

    def _give_up(self, node: _Node) -> None:
        assert node.waits_for is not None
        node.waits_for.reply = Lost(words="chance had it so")

    def _die(self, node: _Node) -> None:
        """What it sent goes on; another node does it all again."""
        assert node.work is not None
        node.work.close()
        node.work = node.waits_for = None

    def _restart(self) -> None:
        """The target restarts and keeps its registrations: what it had not finished is gone, also on the wires."""
        self._disk.lose_power()
        for node in self._nodes.values():
            for sent in node.wire:
                sent.reply = sent.reply or Lost(words="the target restarted")
            node.wire.clear()
            self._disk.attend(_name(node.key), POWER_ON)

    def _write(self, node: _Node) -> None:
        node.writes -= 1
        data = bytes([node.key]).ljust(BLOCK_BYTES, b"\0")
        node.wire.append(_Sent(node.key, write(block=0, data=data, block_bytes=BLOCK_BYTES, is_forced=True)))

    def _arrive(self, node: _Node) -> None:
        """The target takes in the next command of a nexus, and carries out at once what is no write."""
        sent, nexus = node.wire.popleft(), _name(node.key)
        if sent.command is RESET:
            self._disk.reset(nexus)
            answer: Answer | None = Answer(status=Status.GOOD)
        else:
            answer = self._disk.admit(nexus, sent.command)
        if answer is None and sent.command.operation == OperationCode.WRITE_16:
            pending = PendingCommand(nexus=nexus, command=sent.command, drop=lambda: None)
            pending.drop = partial(self._drop, pending)
            self._disk.pending.append(pending)
            self._held[pending] = sent
            return
        reply = self._disk.execute(nexus, sent.command) if answer is None else answer
        if sent.reply is None and self._random.random() > 0.03:
            sent.reply = reply

    def _drop(self, pending: PendingCommand) -> None:
        del self._held[pending]

    def _land(self, pending: PendingCommand) -> None:
        self._held.pop(pending)
        self._disk.pending.remove(pending)
        self._disk.execute(pending.nexus, pending.command)

    def _landed(self, effect: WriteEffect) -> None:
        if effect.data[0] in self.expelled:
            self.failures.append(f"SAFE-1: a write of {_name(effect.data[0])} landed after it was seen as expelled")

    def _somebody_is_registered(self) -> None:
        held = self._disk.reservations
        if not held.registered or held.type is None:
            self.failures.append("SAFE-2: nobody is registered any more, or nothing is reserved")


def _name(key: int) -> str:
    return f"node{key}"


def races(first: int, count: int) -> Iterator[Ending]:
    """Run so many interleavings, one after the other, from this number on."""
    return (run_race(number) for number in range(first, first + count))


def run_race(number: int) -> Ending:
    """Run one interleaving. The same number is the same one, step by step."""
    loop = VirtualLoop()  # type: ignore[abstract]  # as in `world`; it only tells the time, which stands still
    return loop.run_until_complete(_run(number))


async def _run(number: int) -> Ending:
    return Race(number).run()
