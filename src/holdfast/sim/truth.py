"""What really happened: seen by hypervisors, power supplies and the world itself, never told by the code under test.

Rule of the file: bookkeeping only. The checkers read it; nothing of the cluster does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256


@dataclass(slots=True, kw_only=True)
class GuestRun:
    """One life of a guest's process on one node, in virtual seconds. `ended` None: it exists still.

    A guest on a frozen node exists: thawed, it would write at once.
    """

    uuid: str
    node: str
    began: float
    ended: float | None = None
    ended_by: str = ""


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
    """The runs of all guests, the time line, and what no process may do: end by an error of its own.

    names   of guests by their uuid.
    """

    now: Callable[[], float]
    runs: list[GuestRun] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    accidents: list[Entry] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

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

    def guest_began(self, node: str, uuid: str) -> None:
        """A guest's process exists from now on."""
        self.runs.append(GuestRun(uuid=uuid, node=node, began=self.now()))
        name = self.name_of(uuid)
        self.note("guest", f"{name} runs on {node}", code="guest-began", subject=name)

    def guest_ended(self, node: str, uuid: str, by: str) -> None:
        """It exists no more. A guest that did not exist is no news."""
        for run in reversed(self.runs):
            if run.ended is None and (run.node, run.uuid) == (node, uuid):
                run.ended, run.ended_by = self.now(), by
                name = self.name_of(uuid)
                self.note("guest", f"{name} is gone from {node}: {by}", code="guest-ended", subject=name)
                return

    def living(self) -> tuple[GuestRun, ...]:
        """The runs that have not ended."""
        return tuple(run for run in self.runs if run.ended is None)

    def digest(self) -> str:
        """One line that differs when anything did."""
        return sha256("\n".join(map(str, self.entries)).encode()).hexdigest()
