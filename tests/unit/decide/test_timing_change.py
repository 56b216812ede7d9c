"""A change of the times: who may still use the old ones, when it is over, and when it must not begin."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.decide.made_up import cluster, known, lost, owned, proven, put, record, role_spec, session, up

from holdfast.decide.timing_change import check_timing_change, settled_timings, users_of_old, with_timings
from holdfast.decide.timing_sums import arithmetic
from holdfast.model.errors import Refused
from holdfast.model.ids import ClusterId, NodeName, Revision
from holdfast.model.settings import Timings
from holdfast.model.snapshot import ClusterRecord, Snapshot, Versioned

SLOW = Timings(heartbeat_interval_ms=500, suspect_after_ms=1500, guard_deadline_ms=6000, patience_ms=6500)
A, B = NodeName("a"), NodeName("b")


def changing(*parts: object, before: Timings = SLOW, after: Timings | None = None) -> Snapshot:
    """A cluster whose times are on their way from `before` to the defaults; it is change number 1."""
    record = ClusterRecord(id=ClusterId("id"), name="test", created_at_ms=0)
    record = replace(record, settings=replace(record.settings, timings=before))
    record = with_timings(record, after or Timings())
    seen = cluster(*parts)  # type: ignore[arg-type]
    return replace(seen, cluster=Versioned(value=record, revision=Revision(9), created=Revision(9)))


def test_a_node_that_learns_of_it_uses_times_that_fit_to_both() -> None:
    used = changing().timings
    assert (used.heartbeat_interval_ms, used.guard_deadline_ms) == (200, 4000)
    assert (used.suspect_after_ms, used.patience_ms) == (1500, 6500)


def test_it_is_over_when_every_node_says_that_it_knows_and_has_lowered_its_promise() -> None:
    knows = up("a", timings_generation=1)
    assert set(users_of_old(changing(knows, up("b")))) == {B}
    assert set(users_of_old(changing(knows, up("b", number=2, timings_generation=0)))) == {B}
    farther = put("sessions", B, session("b", guard_deadline_ms=6000))
    snapshot = changing(knows, up("b", timings_generation=1), farther)
    assert "6000 ms ahead" in users_of_old(snapshot)[B]
    assert settled_timings(snapshot) is None
    over = settled_timings(changing(knows, up("b", timings_generation=1)))
    assert over is not None
    assert (over.timings_before, over.settings.timings) == (None, Timings())


def test_the_report_of_an_earlier_start_says_nothing() -> None:
    snapshot = changing(up("b", timings_generation=1), put("sessions", B, session("b", number=2)))
    assert set(users_of_old(snapshot)) == {B}


def test_who_lost_its_session_and_may_run_roles_counts_until_it_is_proven_dead() -> None:
    """It is cut off from the database, beats at the old interval and lives by being heard."""
    alone = (
        up("a", timings_generation=1),
        known("b"),
        put("specs", "web", role_spec("web")),
        record(owned("web", "b")),
    )
    assert set(users_of_old(changing(*alone))) == {B}
    assert set(users_of_old(changing(*alone, lost("b"), proven("b")))) == set()


def test_another_change_waits_and_the_way_back_is_open() -> None:
    snapshot = changing(up("a", timings_generation=1), up("b"))
    with pytest.raises(Refused, match="b: it has not said") as refused:
        check_timing_change(snapshot, replace(Timings(), patience_ms=5500))
    assert "cluster show" in refused.value.hint
    check_timing_change(snapshot, SLOW)


def test_nothing_changes_while_a_node_is_judged() -> None:
    calm = settled(up("a"), up("b"))
    check_timing_change(calm, replace(Timings(), patience_ms=5500))
    with pytest.raises(Refused, match="b: silent"):
        check_timing_change(calm, replace(Timings(), patience_ms=5500), suspects=(B,))
    with pytest.raises(Refused, match="b: silent, or lost without proof"):
        check_timing_change(settled(up("a"), lost("b")), replace(Timings(), patience_ms=5500))
    check_timing_change(settled(up("a"), lost("b"), proven("b")), replace(Timings(), patience_ms=5500))


def test_the_shorter_deadline_beside_the_longer_interval_is_refused_with_the_numbers() -> None:
    """Both get shorter: a node that knows would wait 1 s for peers that still beat every 500 ms."""
    after = Timings(heartbeat_interval_ms=100, suspect_after_ms=300, guard_deadline_ms=1000)
    with pytest.raises(Refused) as refused:
        check_timing_change(settled(up("a"), timings=SLOW), after)
    assert (
        "4 x the longer heartbeat_interval_ms 500 = 2000 <= the shorter guard_deadline_ms 1000" in refused.value.message
    )
    assert "two steps" in refused.value.hint
    first = replace(SLOW, heartbeat_interval_ms=100, suspect_after_ms=300)
    check_timing_change(settled(up("a"), timings=SLOW), first)
    check_timing_change(settled(up("a"), timings=first), after)


def test_a_longer_patience_needs_sessions_that_last_as_long() -> None:
    after = Timings(patience_ms=20_000, session_ttl_s=30)
    short = settled(put("sessions", A, session("a", ttl_s=10)))
    with pytest.raises(Refused, match="22000 <= the shortest lease of a session now, 10 s") as refused:
        check_timing_change(short, after)
    assert "session_ttl_s 22 alone" in refused.value.hint
    check_timing_change(settled(put("sessions", A, session("a", ttl_s=30))), after)


def test_what_the_times_add_up_to_is_said_with_the_longest_watchdog() -> None:
    sums = {one.name: one.text for one in arithmetic(Timings(), {A: 10_000, B: None})}
    assert sums["isolated node"].endswith("= 4500 <= patience_ms 5000: ok, 500 ms to spare")
    assert sums["suspicion"] == (
        "suspect_after_ms 800 / heartbeat_interval_ms 200 = 4: a node that misses 4 heartbeats is suspect"
    )
    proof = "guard_deadline_ms 4000 + guard_kill_ms 500 + watchdog of a 10000 + proof_margin_ms 1000 = 15500 ms"
    assert sums["watchdog proof, after the refusal"] == proof
    assert sums["start elsewhere: hardware watchdog"] == "patience_ms 5000 + 15500 = 20500 ms"
    without = {one.name: one.text for one in arithmetic(Timings(), {A: None})}
    assert "5500 ms + its time-out; no node has a watchdog now" in without["watchdog proof, after the refusal"]


def settled(*parts: object, timings: Timings | None = None) -> Snapshot:
    """A cluster in which everybody uses these times, or the defaults."""
    snapshot = changing(*parts, after=timings or Timings())
    assert snapshot.cluster is not None
    over = replace(snapshot.cluster.value, timings_before=None)
    return replace(snapshot, cluster=replace(snapshot.cluster, value=over))
