"""Standing warnings while a change of the times is under way.

Rule of the file: pure; who holds it up is said with how that is known.
"""

from __future__ import annotations

from holdfast.decide.timing_change import users_of_old
from holdfast.model.nodes import Condition
from holdfast.model.snapshot import Snapshot


def changing(snapshot: Snapshot) -> tuple[Condition, ...]:
    """Return a warning per node that may still use the times of before the last change."""
    return tuple(
        Condition(
            code="times-before",
            subject=name,
            text=f"{name} may still use the times of before the last change: {why}; until then all use cautious ones",
        )
        for name, why in users_of_old(snapshot).items()
    )
