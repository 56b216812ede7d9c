"""Which releases of Holdfast may run side by side: those that are at most one apart.

Rule of the file: a release is MAJOR.MINOR; what comes behind that never changes what is written or spoken. Before 1.0
each minor version is a release, and so is the step from the last minor version of a major one to the next major one,
which has to be said here when there is one.
"""

from __future__ import annotations

import re


def releases_apart(one: str, other: str) -> int | None:
    """Return how many releases lie between two versions: 0 the same; None: that cannot be told."""
    first, second = _release(one), _release(other)
    if first is None or second is None or first[0] != second[0]:
        return None
    return abs(first[1] - second[1])


def can_run_together(one: str, other: str) -> bool:
    """Whether nodes of these versions may be in one cluster, as during an upgrade."""
    apart = releases_apart(one, other)
    return one == other or (apart is not None and apart <= 1)


def _release(version: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found is not None else None
