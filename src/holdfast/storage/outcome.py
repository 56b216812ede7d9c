"""How a request to a logical unit ended: done, conflict, failed or unknown, and what the target said on the way.

Rule of the file: unknown is a case of its own. The target may have carried the request out, or may do so later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from holdfast.storage.scsi.sense import Sense, SenseKey

T = TypeVar("T")


class AttentionKind(StrEnum):
    """What a unit attention says about reservations."""

    POWER_ON_OR_RESET = "power-on-or-reset"
    """The target was switched on, reset or sees this nexus anew: it may have lost its reservations."""
    RESERVATIONS_PREEMPTED = "reservations-preempted"
    """All registrations were cleared."""
    RESERVATIONS_RELEASED = "reservations-released"
    """The reservation is gone or of another type; this nexus is still registered."""
    REGISTRATIONS_PREEMPTED = "registrations-preempted"
    """This nexus was registered and is not any more."""
    OTHER = "other"


_KINDS = {
    0x2A03: AttentionKind.RESERVATIONS_PREEMPTED,
    0x2A04: AttentionKind.RESERVATIONS_RELEASED,
    0x2A05: AttentionKind.REGISTRATIONS_PREEMPTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """A unit attention: the target told this nexus, once, that something happened. The command was repeated."""

    sense: Sense

    @property
    def kind(self) -> AttentionKind:
        """What it says about reservations."""
        if self.sense.code >> 8 == 0x29:
            return AttentionKind.POWER_ON_OR_RESET
        return _KINDS.get(self.sense.code, AttentionKind.OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[T]):
    """The target carried it out and said so."""

    value: T
    attentions: tuple[Attention, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Refused because of a reservation or a key, and not carried out."""

    attentions: tuple[Attention, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Certainly not carried out. `sense` is what the target said, if it said more than a status."""

    words: str
    sense: Sense | None = None
    attentions: tuple[Attention, ...] = ()

    @property
    def is_unsupported(self) -> bool:
        """Whether the target does not know the request at all, so that another way should be tried."""
        return (
            self.sense is not None
            and self.sense.key is SenseKey.ILLEGAL_REQUEST
            and self.sense.code in (0x2000, 0x2400)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Sent, and no answer that settles it. Read back before anything is built on it. Source: SAFE-2."""

    words: str
    attentions: tuple[Attention, ...] = ()


Outcome: TypeAlias = Done[T] | Conflict | Failed | Unknown
