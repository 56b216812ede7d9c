"""What a slow way to a disk is, and that roles are placed and moved around it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.property.decide.clusters import NODES, snapshots
from tests.property.decide.test_moves import ownership_of
from tests.unit.decide.made_up import NOW_MS, cluster, role, up

from holdfast.decide.coordination import plan
from holdfast.decide.latency import QUICK_MS, SLOW_MS, Latency, smoothed
from holdfast.decide.layout import Layout
from holdfast.decide.placement import best, candidacy, refusals, score
from holdfast.model.disks import DiskHealth, DiskState
from holdfast.model.ids import DiskName, NodeName, RoleName
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Failback, FailbackPolicy
from holdfast.model.snapshot import Snapshot

A, B, ONE, TWO, WEB = NodeName("a"), NodeName("b"), DiskName("one"), DiskName("two"), RoleName("web")
QUICK = {ONE: DiskHealth(state=DiskState.READY, latency_ms=2)}
SLOW = {ONE: DiskHealth(state=DiskState.READY, latency_ms=900, is_slow=True)}
LARGE = 64 * 2**30


def after(*samples_ms: float) -> Latency:
    latency = None
    for sample_ms in samples_ms:
        latency = smoothed(latency, sample_ms)
    assert latency is not None
    return latency


def test_one_slow_answer_is_no_slow_way_and_many_are() -> None:
    assert not after(*[2] * 20, 1000).is_slow
    assert after(*[2] * 20, *[1000] * 4).is_slow


def test_it_is_quick_again_only_well_below_the_limit() -> None:
    slow = after(*[1000] * 30)
    between = smoothed(slow, 1000)
    for _ in range(60):
        between = smoothed(between, (QUICK_MS + SLOW_MS) / 2)
    assert between.is_slow
    assert not after(*[(QUICK_MS + SLOW_MS) / 2] * 60).is_slow
    for _ in range(30):
        between = smoothed(between, 2)
    assert not between.is_slow


@given(st.lists(st.floats(0, 1e5), min_size=1))
def test_the_smoothed_latency_lies_within_what_was_measured(samples_ms: list[float]) -> None:
    latency = after(*samples_ms)
    assert min(samples_ms) - 1e-6 <= latency.mean_ms <= max(samples_ms) + 1e-6
    assert not latency.is_slow or max(samples_ms) >= SLOW_MS


def test_a_role_goes_to_a_quick_node_rather_than_to_a_preferred_or_roomy_one() -> None:
    snapshot = cluster(
        up("a", disks=SLOW, memory_bytes=LARGE), up("b", disks=QUICK), role("web", disks=(ONE,), preferred_owners=(A,))
    )
    unpreferred = cluster(up("a", disks=SLOW, memory_bytes=LARGE), up("b", disks=QUICK), role("web", disks=(ONE,)))
    assert [change.after.owner for change in plan(unpreferred, NOW_MS).changes] == [B]
    (change,) = plan(snapshot, NOW_MS).changes
    assert change.after.owner == B
    assert (ReasonCode.DISK_SLOW, A) in [(why.code, why.subject) for why in change.after.reasons]


def test_where_all_are_slow_it_goes_to_the_best_of_them_and_says_so() -> None:
    snapshot = cluster(up("a", disks=SLOW, memory_bytes=LARGE), up("b", disks=SLOW), role("web", disks=(ONE,)))
    (change,) = plan(snapshot, NOW_MS).changes
    assert change.after.owner == A
    assert (ReasonCode.DISK_SLOW, A) in [(why.code, why.subject) for why in change.after.reasons]


def test_a_slow_disk_of_others_changes_nothing() -> None:
    snapshot = cluster(up("a", disks=QUICK | {TWO: SLOW[ONE]}), up("b", disks=QUICK), role("web", disks=(ONE,)))
    (change,) = plan(snapshot, NOW_MS).changes
    assert change.after.owner == A
    assert ReasonCode.DISK_SLOW not in [why.code for why in change.after.reasons]


def test_nothing_fails_back_to_a_node_whose_way_is_slow() -> None:
    for disks, moves in ((QUICK, 1), (SLOW, 0)):
        snapshot = cluster(
            up("a", disks=disks),
            up("b", disks=QUICK),
            role(
                "web",
                owner="b",
                disks=(ONE,),
                preferred_owners=(A,),
                failback=Failback(policy=FailbackPolicy.AT_ONCE),
            ),
        )
        assert len(plan(snapshot, NOW_MS + 10**9).changes) == moves


@given(snapshots(), st.sets(st.sampled_from(NODES)), st.sets(st.sampled_from(NODES), max_size=2))
def test_the_quick_search_finds_what_looking_at_every_node_finds_where_some_are_slow(
    snapshot: Snapshot, slow: set[NodeName], avoid: set[NodeName]
) -> None:
    reports = {
        node: replace(report, value=replace(report.value, disks=SLOW if node in slow else QUICK))
        for node, report in snapshot.reports.items()
    }
    specs = {name: replace(spec, value=replace(spec.value, disks=(ONE,))) for name, spec in snapshot.specs.items()}
    snapshot = replace(snapshot, reports=reports, specs=specs)
    layout = Layout(snapshot, NOW_MS)
    for name, spec in snapshot.specs.items():
        ownership = ownership_of(snapshot, name)
        layout.lift(spec.value, ownership)
        search = candidacy(spec.value, ownership, layout, avoid=avoid)
        able = [node for node in snapshot.nodes if not refusals(search, node)]
        assert best(search) == min(able, key=lambda node: score(search, node), default=None)
        layout.put_back(spec.value, ownership)
