"""What the slots of a heartbeat disk tell of the nodes: one node's own looks at them, one after the other.

Rule of the file: evidence is drawn from good looks only, and by the observer's own clock. A node that cannot read its
own stamp back in time concludes nothing from anybody's silence; a stamp is a sign of life only if it is newer than at
the observer's last look. Source: DESIGN section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast.decide.detection import StorageEvidence
from holdfast.model.ids import Incarnation, NodeName

GOOD_WITHIN_MS: Final = 500
"""A look that took longer shows a path that is not good now."""
FRESH_MS: Final = 1000
"""What the last good look told counts for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a node writes to its slot. `sequence` grows with each."""

    node: NodeName
    incarnation: Incarnation
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at all slots of a disk, which followed a stamp of the observer itself.

    began_ms     before the own stamp was sent.
    asked_ms     before the slots were read.
    ended_ms     when they had been read.
    own          the stamp that was written before.
    stamps       what could be read, at most one per slot; slots that are torn, empty or foreign say nothing.
    """

    began_ms: int
    asked_ms: int
    ended_ms: int
    own: Stamp
    stamps: tuple[Stamp, ...]

    @property
    def is_good(self) -> bool:
        """Whether the observer's own path is good: its stamp came back, and in time."""
        return self.own in self.stamps and self.ended_ms - self.began_ms <= GOOD_WITHIN_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The newest stamp of an incarnation. `grew_at_ms`: when it was seen to be newer; None: it never was."""

    sequence: int
    grew_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What an observer knows by one disk.

    good_since_ms   since when every look was good; None: the last one was not.
    bad_since_ms    since when none was; None: the last one was good.
    asked_ms        when the last good look asked.
    """

    traces: Mapping[Incarnation, Trace] = field(default_factory=dict)
    good_since_ms: int | None = None
    bad_since_ms: int | None = None
    asked_ms: int = 0


def after_look(sight: Sight, look: Look | None, now_ms: int) -> Sight:
    """Return what is known after one more look; None: it failed.

    An incarnation whose slot could not be read this time is unknown again: it has to be seen alive once more.
    """
    if look is None or not look.is_good:
        bad_since_ms = now_ms if sight.bad_since_ms is None else sight.bad_since_ms
        return replace(sight, good_since_ms=None, bad_since_ms=bad_since_ms)
    return Sight(
        traces={stamp.incarnation: _traced(stamp, sight, look) for stamp in look.stamps},
        good_since_ms=look.ended_ms if sight.good_since_ms is None else sight.good_since_ms,
        asked_ms=look.asked_ms,
    )


def _traced(stamp: Stamp, sight: Sight, look: Look) -> Trace:
    before = sight.traces.get(stamp.incarnation)
    if before is None:
        return Trace(sequence=stamp.sequence)
    if stamp.sequence <= before.sequence:
        return before
    return Trace(sequence=stamp.sequence, grew_at_ms=look.ended_ms)


def silent_ms(sight: Sight, incarnation: Incarnation, now_ms: int) -> int | None:
    """For how long an incarnation that was seen alive has certainly not stamped this disk; None: that is not known.

    It counts from the end of the look that showed its last stamp to the beginning of the last good one, and never over
    a look that was not good.
    """
    trace = sight.traces.get(incarnation)
    if sight.good_since_ms is None or now_ms - sight.asked_ms > FRESH_MS:
        return None
    if trace is None or trace.grew_at_ms is None:
        return None
    return max(0, sight.asked_ms - max(trace.grew_at_ms, sight.good_since_ms))


def storage_evidence(sights: Iterable[Sight], incarnation: Incarnation, now_ms: int) -> StorageEvidence | None:
    """What all heartbeat disks that the observer reads well tell of a peer: it is silent if it is so on all of them."""
    known = [silence for sight in sights if (silence := silent_ms(sight, incarnation, now_ms)) is not None]
    return StorageEvidence(silent_ms=min(known)) if known else None
