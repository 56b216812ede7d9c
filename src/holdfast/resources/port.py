"""A resource agent as the executor sees it.

Rule of the file: every outcome is done, failed or unknown, as a value. Unknown is a case of its own: the resource may
be online. Source: DESIGN section 7, SAFE-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class OutcomeKind(StrEnum):
    """How an act on a resource ended."""

    DONE = "done"
    FAILED = "failed"
    """Certainly not done: the resource is as it was before."""
    UNKNOWN = "unknown"
    """It may have been done, or may still be done later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an act ended, with words for people."""

    kind: OutcomeKind
    detail: str = ""
    hint: str = ""
    can_retry: bool = False
    """Whether the same act may succeed soon without anybody's help; meant for FAILED."""


class HealthKind(StrEnum):
    """What a check found."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """It could not be checked, or it is neither: the detail says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What a check found, with words for people."""

    kind: HealthKind
    detail: str = ""


class ResourceAgent(Protocol):
    """One resource of one role on this node. No method raises for what the outside world does."""

    async def validate(self) -> Outcome:
        """Check, changing nothing, whether this node could bring it online now."""

    async def online(self) -> Outcome:
        """Bring it online; online already is done."""

    async def offline(self) -> Outcome:
        """Take it offline gently, then by force. Done means certainly offline."""

    async def terminate(self) -> Outcome:
        """Take it offline by force at once. Done means certainly offline; it never ends as failed."""

    async def looks_alive(self) -> Health:
        """Check cheaply; called every few seconds."""

    async def is_alive(self) -> Health:
        """Check thoroughly; called about once a minute."""
