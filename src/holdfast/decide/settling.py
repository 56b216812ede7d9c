"""A short wait while nodes are coming up together, so that the first of them does not get everything.

Rule of the file: bounded by `SETTLE_MS` after the newest session; a cluster whose nodes have been up for longer never
waits, so a failover in the usual case is not delayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.snapshot import Snapshot

SETTLE_MS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """For whom placement waits, and how much longer at most."""

    reasons: tuple[Reason, ...]
    remaining_ms: int


def settling(snapshot: Snapshot, now_ms: int) -> Settling | None:
    """Return the wait for nodes that are about to come up, or None when there is none.

    Awaited are nodes that have a session and no report yet, and nodes without a session that were not declared lost.
    """
    newest_ms = max((session.value.started_at_ms for session in snapshot.sessions.values()), default=0)
    remaining_ms = newest_ms + SETTLE_MS - now_ms
    if not 0 < remaining_ms <= SETTLE_MS:
        return None
    awaited = [node for node in sorted(snapshot.nodes) if _is_awaited(snapshot, node)]
    if not awaited:
        return None
    reasons = tuple(because(ReasonCode.SETTLING, node, remaining_ms=remaining_ms) for node in awaited)
    return Settling(reasons=reasons, remaining_ms=remaining_ms)


def _is_awaited(snapshot: Snapshot, node: NodeName) -> bool:
    session = snapshot.sessions.get(node)
    if session is None:
        return node not in snapshot.verdicts
    report = snapshot.reports.get(node)
    return report is None or report.value.incarnation != session.value.incarnation
