"""What really happened: seen by hypervisors, power supplies and the world itself, never told by the code under test.

Rule of the file: bookkeeping only. The checkers read it; nothing of the cluster does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from holdfast.hypervisor.simulated_guest import SimulatedMemory
from holdfast.sim.memories import HolderEnd, Memories, Removal, Stretch

HEARING_GAP_S: Final = 2.0


@dataclass(slots=True, kw_only=True)
class GuestRun:
    """One life of a guest's process on one node, in virtual seconds. `ended` None: it exists still.

    A guest on a frozen node exists: thawed, it would write at once.

    number                           of this run among all runs, which signs what it writes.
    incarnation                      of the node when it began.
    began_revision, ended_revision   of the database then: what was committed before, and what after.
    is_suspended                     it does not execute now, so it sends no writes.
    """

    number: int
    uuid: str
    node: str
    incarnation: str
    began: float
    began_revision: int
    ended: float | None = None
    ended_revision: int | None = None
    ended_by: str = ""
    is_suspended: bool = False

    def existed_at(self, revision: int) -> bool:
        """Whether it existed when this revision was committed."""
        return self.began_revision < revision and (self.ended_revision is None or self.ended_revision >= revision)


@dataclass(slots=True)
class Heard:
    """Since when, without a longer gap, and when last a daemon took in heartbeats of an incarnation."""

    since: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the time line. `source` is "world", "cluster" or "guest"; `code` is one word for what happened."""

    at: float
    source: str
    text: str
    code: str = ""
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.at:9.3f}  {self.source:7}  {self.text}"


@dataclass(slots=True)
class Truth:
    """The runs of all guests, who heard whom, the time line, and what no process may do: end by an error of its own.

    names            of guests by their uuid.
    incarnation_of   the incarnation that a node's machine has now.
    revision         of the database now.
    on_began, on_ended   are told of every life of a guest: its disk is.
    """

    now: Callable[[], float]
    incarnation_of: Callable[[str], str] = lambda _: ""
    revision: Callable[[], int] = lambda: 0
    on_began: Callable[[GuestRun], None] = lambda _: None
    on_ended: Callable[[GuestRun], None] = lambda _: None
    runs: list[GuestRun] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    accidents: list[Entry] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    memories: Memories = field(default_factory=Memories)
    hearings: dict[tuple[str, str], Heard] = field(default_factory=dict)
    """By listener and by the incarnation heard."""
    _newest: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _living: dict[tuple[str, str], GuestRun] = field(default_factory=dict)

    def note(self, source: str, text: str, *, code: str = "", subject: str = "") -> None:
        """Write a line."""
        self.entries.append(Entry(at=self.now(), source=source, text=text, code=code, subject=subject))

    def name_of(self, uuid: str) -> str:
        """The name by which a time line calls a guest."""
        return self.names.get(uuid, uuid)

    def accident(self, text: str) -> None:
        """Write down an end that nobody caused."""
        self.note("world", text)
        self.accidents.append(self.entries[-1])

    def heard(self, listener: str, network: str, incarnation: str, sequence: int) -> None:
        """A daemon took in a heartbeat; one that others have overtaken says nothing of how its sender is now."""
        way, now = (listener, network, incarnation), self.now()
        if sequence <= self._newest.get(way, -1):
            return
        self._newest[way] = sequence
        hearing = self.hearings.get((listener, incarnation))
        if hearing is None or now - hearing.last > HEARING_GAP_S:
            self.hearings[listener, incarnation] = Heard(now, now)
        else:
            hearing.last = now

    def guest_executes(self, node: str, uuid: str, memory: SimulatedMemory, memory_id: str, *, is_whole: bool) -> None:
        """A guest executes from now on: its process begins to, or goes on."""
        run = self._living.get((node, uuid))
        stretch = Stretch(
            at=self.now(),
            uuid=uuid,
            node=node,
            incarnation=self.incarnation_of(node),
            memory=memory,
            memory_id=memory_id,
            is_first=run is None,
            is_whole=is_whole,
            revision=self.revision(),
        )
        self.memories.stretches.append(stretch)
        if run is None:
            self.guest_began(node, uuid)
        else:
            run.is_suspended = False

    def guest_suspended(self, node: str, uuid: str) -> None:
        """It does not execute any more, though its process is there."""
        run = self._living.get((node, uuid))
        if run is not None:
            run.is_suspended = True

    def memory_ended(self, node: str, uuid: str, memory: SimulatedMemory, by: str, *, was_executing: bool) -> None:
        """A process ended that had this memory."""
        self.memories.ends.append(
            HolderEnd(
                at=self.now(),
                uuid=uuid,
                node=node,
                incarnation=self.incarnation_of(node),
                memory=memory,
                by=by,
                was_executing=was_executing,
                revision=self.revision(),
            )
        )

    def memory_given_up(self, uuid: str) -> None:
        """A person asks to discard the saved memory of a guest; it may be done any time from now on, or never."""
        self.memories.given_up.setdefault(uuid, self.now())

    def memory_removed(self, path: str) -> None:
        """A file of saved memory is no more."""
        self.memories.removals.append(Removal(at=self.now(), path=path, revision=self.revision()))

    def guest_began(self, node: str, uuid: str) -> None:
        """A guest's process exists from now on."""
        run = GuestRun(
            number=len(self.runs),
            uuid=uuid,
            node=node,
            incarnation=self.incarnation_of(node),
            began=self.now(),
            began_revision=self.revision(),
        )
        self.runs.append(run)
        self._living[node, uuid] = run
        name = self.name_of(uuid)
        self.note("guest", f"{name} runs on {node}", code="guest-began", subject=name)
        self.on_began(run)

    def guest_ended(self, node: str, uuid: str, by: str) -> None:
        """It exists no more. A guest that did not exist is no news."""
        run = self._living.pop((node, uuid), None)
        if run is not None:
            run.ended, run.ended_revision, run.ended_by = self.now(), self.revision(), by
            name = self.name_of(uuid)
            self.note("guest", f"{name} is gone from {node}: {by}", code="guest-ended", subject=name)
            self.on_ended(run)

    def living(self) -> tuple[GuestRun, ...]:
        """The runs that have not ended."""
        return tuple(self._living.values())

    def digest(self) -> str:
        """One line that differs when anything did."""
        return sha256("\n".join(map(str, self.entries)).encode()).hexdigest()
