"""How long a node's way to a disk takes, smoothed, and from when on it counts as slow.

Rule of the file: pure. One slow answer is no slow way, and a way that hovers at a limit is not judged anew each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WEIGHT: Final = 1 / 8
"""Of the newest answer: at two looks a second what is four seconds old still counts for a third."""
SLOW_MS: Final = 250.0
"""A disk that answers a few bytes no sooner is overloaded, or its path loses packets."""
QUICK_MS: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A smoothed latency. `is_slow`: it reached SLOW_MS and has not been below QUICK_MS since."""

    mean_ms: float
    is_slow: bool


def smoothed(before: Latency | None, sample_ms: float) -> Latency:
    """Return the latency with one more answer taken in. `before` None: there was none yet."""
    mean_ms = sample_ms if before is None else before.mean_ms + WEIGHT * (sample_ms - before.mean_ms)
    was_slow = before is not None and before.is_slow
    return Latency(mean_ms=mean_ms, is_slow=mean_ms >= (QUICK_MS if was_slow else SLOW_MS))
