"""A change of the times on its way through a cluster: whatever two nodes use meanwhile, the relations hold.

A node is old, then cautious, then new; one that is old and one that is new are never there at once.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.decide.made_up import cluster, put, session

from holdfast.decide.timing_change import crossing, with_timings
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import ClusterId, Revision
from holdfast.model.settings import Timings, cautious
from holdfast.model.snapshot import ClusterRecord, Snapshot, Versioned
from holdfast.model.timing_rules import ACKNOWLEDGED_HEARTBEATS, MISSED_HEARTBEATS


@st.composite
def timings(draw: st.DrawFn) -> Timings:
    interval_ms = draw(st.integers(50, 2000))
    deadline_ms = draw(st.integers(max(1000, ACKNOWLEDGED_HEARTBEATS * interval_ms), 20_000))
    kill_ms = draw(st.integers(500, 5000))
    patience_ms = deadline_ms + kill_ms + draw(st.integers(0, 5000))
    return Timings(
        heartbeat_interval_ms=interval_ms,
        suspect_after_ms=MISSED_HEARTBEATS * interval_ms + draw(st.integers(0, 5000)),
        lost_after_both_ms=draw(st.integers(1200, 9000)),
        patience_ms=patience_ms,
        guard_deadline_ms=deadline_ms,
        guard_kill_ms=kill_ms,
        proof_margin_ms=draw(st.integers(500, 5000)),
        session_ttl_s=max(5, patience_ms // 1000 + 3) + draw(st.integers(0, 20)),
    )


@given(before=timings(), after=timings())
def test_cautious_times_are_valid_whenever_both_are(before: Timings, after: Timings) -> None:
    try:
        assert cautious(before, after) == cautious(after, before)
    except InvalidInput as error:
        raise AssertionError(f"{before} and {after}: {error}") from error


@given(before=timings(), after=timings())
def test_safe_6_between_any_two_nodes_the_relations_hold_all_along_a_change(before: Timings, after: Timings) -> None:
    shown = snapshot(before)
    assume(all(one.spare_ms >= 0 for one in crossing(before, after, shown)))
    between = cautious(before, after)
    kill_ms = min(before.guard_kill_ms, after.guard_kill_ms)  # the guard's own time, which both settings leave it
    for here, there in (*product((before, between), repeat=2), *product((between, after), repeat=2)):
        assert MISSED_HEARTBEATS * there.heartbeat_interval_ms <= here.suspect_after_ms, "a healthy node is suspect"
        assert ACKNOWLEDGED_HEARTBEATS * there.heartbeat_interval_ms <= here.guard_deadline_ms, "it hears too late"
        assert here.guard_deadline_ms + kill_ms <= there.patience_ms, "it is missed while its guests run"


@given(before=timings(), after=timings())
def test_what_is_refused_would_break_a_relation_between_two_nodes(before: Timings, after: Timings) -> None:
    """The refusal is not stricter than it has to be."""
    wrong = [one for one in crossing(before, after, snapshot(before)) if one.spare_ms < 0]
    assume(any(one.name.startswith("acknowledgements") for one in wrong))
    between = cautious(before, after)
    used = [(before, between), (between, before), (between, after), (after, between)]
    assert any(ACKNOWLEDGED_HEARTBEATS * there.heartbeat_interval_ms > here.guard_deadline_ms for here, there in used)


def snapshot(timings: Timings) -> Snapshot:
    """A cluster of two nodes that uses these times, with leases of its sessions that fit any patience."""
    record = with_timings(ClusterRecord(id=ClusterId("id"), name="test", created_at_ms=0), timings)
    settled = replace(record, timings_before=None)
    known = cluster(*(put("sessions", name, session(name, ttl_s=60)) for name in "ab"))
    return replace(known, cluster=Versioned(value=settled, revision=Revision(1), created=Revision(1)))
