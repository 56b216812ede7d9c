"""How the times of a cluster are changed while it runs: cautious times first, the new ones once nobody uses the old.

Rule of the file: a node that learns of a change uses times that fit to nodes that have not; when every node that is up
or may run a role says that it does, the coordinator drops the old ones. Source: docs/safety.md (changing the times).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from holdfast.decide.fencing import lost_without_proof
from holdfast.decide.heartbeat_keys import owners_at_large
from holdfast.model.errors import Refused
from holdfast.model.ids import NodeName
from holdfast.model.settings import Timings
from holdfast.model.snapshot import ClusterRecord, Snapshot
from holdfast.model.timing_rules import ACKNOWLEDGED_HEARTBEATS, SESSION_MARGIN_MS, Inequality


def with_timings(record: ClusterRecord, timings: Timings) -> ClusterRecord:
    """Return the record once the times are changed: the old ones stay known until nobody uses them."""
    return replace(
        record,
        settings=replace(record.settings, timings=timings),
        timings_before=record.settings.timings,
        timings_generation=record.timings_generation + 1,
    )


def settled_timings(snapshot: Snapshot) -> ClusterRecord | None:
    """Return the record without the old times; None when there are none or somebody may still use them."""
    cluster = snapshot.cluster
    if cluster is None or cluster.value.timings_before is None or users_of_old(snapshot):
        return None
    return replace(cluster.value, timings_before=None)


def users_of_old(snapshot: Snapshot) -> Mapping[NodeName, str]:
    """Return the nodes that may still use the times of before, each with how that is known; empty: nobody."""
    if snapshot.cluster is None or snapshot.cluster.value.timings_before is None:
        return {}
    heard = {*snapshot.sessions, *owners_at_large(snapshot)}
    found = ((name, _why_old(name, snapshot, snapshot.cluster.value)) for name in sorted(heard))
    return {name: why for name, why in found if why is not None}


def _why_old(node: NodeName, snapshot: Snapshot, cluster: ClusterRecord) -> str | None:
    report, session = snapshot.reports.get(node), snapshot.sessions.get(node)
    if session is None:
        return "it is not up, and may still run roles"
    if (
        report is None
        or report.value.incarnation != session.value.incarnation
        or report.value.timings_generation < cluster.timings_generation
    ):
        return "it has not said that it knows the new ones"
    promised_ms, wanted_ms = session.value.guard_deadline_ms, cluster.settings.timings.guard_deadline_ms
    if promised_ms > wanted_ms:
        return f"its guard may still hold a deadline {promised_ms} ms ahead, not {wanted_ms} ms"
    return None


def check_timing_change(snapshot: Snapshot, after: Timings, *, suspects: Collection[NodeName] = ()) -> None:
    """Refuse a change of the times that must not begin now, or not in one step.

    suspects   nodes that the answering node does not hear.

    Raises: Refused.
    """
    if snapshot.cluster is None:
        return
    before = snapshot.cluster.value.settings.timings
    if snapshot.cluster.value.timings_before not in (None, after):
        waiting = "; ".join(f"{name}: {why}" for name, why in users_of_old(snapshot).items()) or "it is almost done"
        raise Refused(
            f"the change of the times before this one is not in use everywhere yet ({waiting})",
            hint="wait until it is (holdfast cluster show), or go back to the times of before",
        )
    if troubled := sorted({*suspects, *lost_without_proof(snapshot)}):
        raise Refused(
            f"{', '.join(troubled)}: silent, or lost without proof; what is judged by these times now is not to change",
            hint="try again when holdfast status shows every node as up, fenced or down",
        )
    if wrong := [one for one in crossing(before, after, snapshot) if one.spare_ms < 0]:
        raise Refused(
            "; ".join(f"while some nodes use the old times and some the new ones, {one}; {one.why}" for one in wrong),
            hint="change it in two steps: " + ", and ".join(one.remedy for one in wrong),
        )


def crossing(before: Timings, after: Timings, snapshot: Snapshot) -> Iterator[Inequality]:
    """What has to hold between nodes that use the old and the new times, and cautious times alone do not see to.

    That is the shorter deadline beside the longer interval, and the leases that sessions have now.
    """
    if before == after:
        return
    interval_ms = max(before.heartbeat_interval_ms, after.heartbeat_interval_ms)
    deadline_ms = min(before.guard_deadline_ms, after.guard_deadline_ms)
    less_ms = ACKNOWLEDGED_HEARTBEATS * interval_ms
    yield Inequality(
        name="acknowledgements under way",
        less_ms=less_ms,
        more_ms=deadline_ms,
        words=f"{ACKNOWLEDGED_HEARTBEATS} x the longer heartbeat_interval_ms {interval_ms} = {less_ms} "
        f"<= the shorter guard_deadline_ms {deadline_ms}",
        why="a healthy node would hear of itself too late, and end its guests as soon as the database is away",
        remedy="shorten heartbeat_interval_ms first where both get shorter, lengthen guard_deadline_ms first otherwise",
    )
    if after.patience_ms <= before.patience_ms or not snapshot.sessions:
        return
    shortest_s = min(session.value.ttl_s for session in snapshot.sessions.values())
    less_ms = after.patience_ms + SESSION_MARGIN_MS
    yield Inequality(
        name="sessions under way",
        less_ms=less_ms,
        more_ms=shortest_s * 1000,
        words=f"patience_ms {after.patience_ms} + {SESSION_MARGIN_MS} = {less_ms} "
        f"<= the shortest lease of a session now, {shortest_s} s = {shortest_s * 1000} ms",
        why="a session would end before the verdict and take its promises along",
        remedy=f"first holdfast cluster set timings.session_ttl_s {-(-less_ms // 1000)} alone, "
        "which the nodes follow within seconds",
    )
