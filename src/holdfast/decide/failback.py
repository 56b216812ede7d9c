"""When a role may return to a node that it prefers: policy, window, and how long that node has been up.

Rule of the file: pure functions of `now_ms`, wall-clock time in UTC, and each says when to look again.
"""

from __future__ import annotations

from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.roles import Failback, FailbackPolicy
from holdfast.model.snapshot import Snapshot

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


def opens_in_ms(failback: Failback, now_ms: int) -> int | None:
    """Return in how many ms the policy lets a role return: 0 now, None never."""
    if failback.policy is FailbackPolicy.NEVER:
        return None
    if failback.policy is FailbackPolicy.AT_ONCE:
        return 0
    of_day_ms = now_ms % DAY_MS
    since_opening_ms = (of_day_ms - failback.from_hour * HOUR_MS) % DAY_MS
    length_ms = (failback.until_hour - failback.from_hour) * HOUR_MS % DAY_MS
    return 0 if since_opening_ms < length_ms else DAY_MS - since_opening_ms


def settles_in_ms(snapshot: Snapshot, node: NodeName, now_ms: int) -> int | None:
    """Return in how many ms a node has been up long enough to be returned to: 0 now, None while it is not up."""
    session = snapshot.sessions.get(node)
    if session is None:
        return None
    return max(0, session.value.started_at_ms + snapshot.settings.failback_settle_s * 1000 - now_ms)
