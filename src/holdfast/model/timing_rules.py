"""The inequalities between the times of a cluster, each with its numbers: the only place where they are written down.

Rule of the file: what refuses a combination, what explains it and what shows how much there is to spare is one value.
Source: docs/safety.md (the time budget), docs/configuration.md (the arithmetic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.model.settings import Timings

SESSION_MARGIN_MS: Final = 2000
MISSED_HEARTBEATS: Final = 3
ACKNOWLEDGED_HEARTBEATS: Final = 4
"""An acknowledgement is up to two intervals old; one may be lost, and the deadline is moved four times before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inequality:
    """One relation between times with its numbers: `less` has to stay at or below `more`, both in ms.

    name      what it is about, in a word or two.
    words     both sides as they are made up, with every number in them.
    why       what happened if it did not hold.
    remedy    which values would keep it.
    """

    name: str
    less_ms: int
    more_ms: int
    words: str
    why: str
    remedy: str

    @property
    def spare_ms(self) -> int:
        """How much may still be added to the smaller side; negative: so much is missing."""
        return self.more_ms - self.less_ms

    def __str__(self) -> str:
        left = f"ok, {self.spare_ms} ms to spare" if self.spare_ms >= 0 else f"NOT SAFE, {-self.spare_ms} ms too much"
        return f"{self.words}: {left}"


def inequalities(timings: Timings) -> tuple[Inequality, ...]:
    """Return every relation that the times have to keep, kept or not."""
    return (_suspicion(timings), _acknowledgement(timings), _isolation(timings), _session(timings))


def broken(timings: Timings) -> tuple[Inequality, ...]:
    """Return those that do not hold."""
    return tuple(one for one in inequalities(timings) if one.spare_ms < 0)


def _suspicion(timings: Timings) -> Inequality:
    interval_ms, more_ms = timings.heartbeat_interval_ms, timings.suspect_after_ms
    less_ms = MISSED_HEARTBEATS * interval_ms
    return Inequality(
        name="missed heartbeats",
        less_ms=less_ms,
        more_ms=more_ms,
        words=f"{MISSED_HEARTBEATS} x heartbeat_interval_ms {interval_ms} = {less_ms} <= suspect_after_ms {more_ms}",
        why="one lost datagram would make a node suspect",
        remedy=f"set suspect_after_ms to {less_ms} or more, or shorten heartbeat_interval_ms",
    )


def _acknowledgement(timings: Timings) -> Inequality:
    interval_ms, more_ms = timings.heartbeat_interval_ms, timings.guard_deadline_ms
    less_ms = ACKNOWLEDGED_HEARTBEATS * interval_ms
    left = f"{ACKNOWLEDGED_HEARTBEATS} x heartbeat_interval_ms {interval_ms} = {less_ms}"
    return Inequality(
        name="acknowledgements",
        less_ms=less_ms,
        more_ms=more_ms,
        words=f"{left} <= guard_deadline_ms {more_ms}",
        why="a healthy node would hear of itself too late, and end its guests as soon as the database is away",
        remedy=f"set guard_deadline_ms to {less_ms} or more, or shorten heartbeat_interval_ms",
    )


def _isolation(timings: Timings) -> Inequality:
    less_ms, more_ms = timings.guard_deadline_ms + timings.guard_kill_ms, timings.patience_ms
    left = f"guard_deadline_ms {timings.guard_deadline_ms} + guard_kill_ms {timings.guard_kill_ms} = {less_ms}"
    return Inequality(
        name="isolated node",
        less_ms=less_ms,
        more_ms=more_ms,
        words=f"{left} <= patience_ms {more_ms}",
        why="an isolated node would stop its guests later than the others lose patience",
        remedy=f"set patience_ms to {less_ms} or more",
    )


def _session(timings: Timings) -> Inequality:
    less_ms, ttl_s = timings.patience_ms + SESSION_MARGIN_MS, timings.session_ttl_s
    left = f"patience_ms {timings.patience_ms} + {SESSION_MARGIN_MS} = {less_ms}"
    return Inequality(
        name="session",
        less_ms=less_ms,
        more_ms=ttl_s * 1000,
        words=f"{left} <= session_ttl_s {ttl_s} = {ttl_s * 1000} ms",
        why="a session would end before the verdict and take its promises along",
        remedy=f"set session_ttl_s to {-(-less_ms // 1000)} or more",
    )
