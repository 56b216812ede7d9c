"""Until when this node may own things without hearing more: what the guard's deadline is moved by.

Rule of the file: a node is entitled for as long as no majority of voters could have agreed that it is lost. A voter
that acknowledged a heartbeat had heard this node when the heartbeat was sent, and none that refused it acknowledges it
again. Source: DESIGN section 4 (self-protection), docs/safety.md (SAFE-1, SAFE-6).
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.model.ids import NodeName


def acknowledgements_needed(voters: int) -> int:
    """How many voters must acknowledge a node so that those who do not are no majority."""
    return voters - voters // 2


def entitled_until(
    *,
    me: NodeName,
    voters: frozenset[NodeName],
    acknowledged_at: Mapping[NodeName, float],
    now: float,
    deadline_s: float,
) -> float:
    """Return the time up to which this node is entitled by its peers alone.

    acknowledged_at   per peer, the time at which this node *sent* the newest heartbeat that the peer says it heard.
    Times are seconds of one monotonic clock. Without enough acknowledgements the result lies in the past.
    """
    newest = sorted((acknowledged_at.get(voter, float("-inf")) for voter in voters - {me}), reverse=True)
    if me in voters:
        newest.insert(0, now)
    needed = acknowledgements_needed(len(voters))
    if not voters or needed > len(newest):
        return float("-inf")
    return min(newest[needed - 1], now) + deadline_s
