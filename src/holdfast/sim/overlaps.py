"""Faults that lie on top of each other: what two of them did is over when both are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class Overlaps:
    """How many faults do each thing now."""

    def __init__(self) -> None:
        self._counts: Counter[Hashable] = Counter()

    def begin(self, what: Hashable) -> None:
        """One more does it."""
        self._counts[what] += 1

    def end(self, what: Hashable) -> bool:
        """One less does it; returns whether nobody does any more."""
        self._counts[what] -= 1
        return not self._counts[what]
