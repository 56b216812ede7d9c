"""Refused datagrams, counted and reported at a bounded rate: a flood must cost neither log nor memory."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.membership.heartbeat import Reject, RejectReason
from holdfast.model.ids import NetworkName

_MAX_KINDS = 256
_MAX_REPORTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectTally:
    """How often one address was refused for one reason on one network.

    text   in the words of the newest refusal; a condition shows it with the source.
    """

    network: NetworkName
    source: str
    reason: RejectReason
    text: str
    count: int
    first_at_ms: int
    last_at_ms: int


class Rejects:
    """Counts refusals per network, source address and reason; says which are worth a line in the log.

    Times are the caller's monotonic milliseconds. At most 256 combinations are kept; the longest quiet one goes first.
    Each is reported at most once per `report_every_ms`, and at most 20 of all: source addresses can be invented.
    """

    def __init__(self, *, report_every_ms: int = 60_000) -> None:
        self._report_every_ms = report_every_ms
        self._tallies: dict[tuple[NetworkName, str, RejectReason], RejectTally] = {}
        self._reported: set[tuple[NetworkName, str, RejectReason]] = set()
        self._period_began_ms = 0

    def note(self, *, network: NetworkName, source: str, reject: Reject, now_ms: int) -> RejectTally | None:
        """Count one refusal; the tally when it is due for a report, else None."""
        key = (network, source, reject.reason)
        before = self._tallies.pop(key, None)
        if before is None and len(self._tallies) >= _MAX_KINDS:
            del self._tallies[next(iter(self._tallies))]
        tally = RejectTally(
            network=network,
            source=source,
            reason=reject.reason,
            text=reject.text,
            count=1 if before is None else before.count + 1,
            first_at_ms=now_ms if before is None else before.first_at_ms,
            last_at_ms=now_ms,
        )
        self._tallies[key] = tally
        return tally if self._is_due(key, now_ms) else None

    def _is_due(self, key: tuple[NetworkName, str, RejectReason], now_ms: int) -> bool:
        if now_ms - self._period_began_ms >= self._report_every_ms:
            self._period_began_ms = now_ms
            self._reported.clear()
        if key in self._reported or len(self._reported) >= _MAX_REPORTS:
            return False
        self._reported.add(key)
        return True

    def standing(self, *, since_ms: int) -> tuple[RejectTally, ...]:
        """The tallies that grew at or after this time: what a condition should show now."""
        return tuple(tally for tally in self._tallies.values() if tally.last_at_ms >= since_ms)
