"""The time line of a schedule: what was done, what the nodes told, what was committed. Shown when it went wrong.

Rule of the file: all times are of the machine's monotonic clock, and shown relative to the schedule's beginning.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

ENTRIES_MAX: Final = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened."""

    at: float
    who: str
    text: str


class Chronicle:
    """Collects entries; the oldest go when there are too many."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)
        self.began_at = 0.0

    def begin(self, at: float) -> None:
        """A schedule begins; what was before is kept for the moments before it."""
        self.began_at = at

    def note(self, at: float, who: str, text: str) -> None:
        """Add an entry."""
        self._entries.append(Entry(at=at, who=who, text=text))

    def lines(self, *, before_s: float = 1.0) -> list[str]:
        """The time line in order, from a moment before the schedule."""
        shown = sorted((e for e in self._entries if e.at >= self.began_at - before_s), key=lambda entry: entry.at)
        return [f"{entry.at - self.began_at:+8.3f}  {entry.who:<8} {entry.text}" for entry in shown]
