"""Where a role can go, where it goes best, and why not elsewhere. Source: DESIGN section 10."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.decide.made_up import (
    GIB,
    NOW_MS,
    Part,
    cluster,
    known,
    lost,
    new_role,
    owned,
    put,
    role,
    role_spec,
    session,
    up,
    with_settings,
)

from holdfast.decide.layout import Free, Layout, quarantined
from holdfast.decide.placement import Candidacy, Choice, candidacy, choose, refusals
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Capacity
from holdfast.model.reasons import ReasonCode
from holdfast.model.settings import Settings
from holdfast.model.snapshot import Snapshot

A, B, C = (NodeName(name) for name in "abc")
HOUR_MS = 3_600_000


def search(snapshot: Snapshot, *, avoid: tuple[str, ...] = (), ownership: Any = None, **changes: Any) -> Candidacy:
    return candidacy(
        role_spec("web", **changes),
        ownership or owned("web", None),
        Layout(snapshot, NOW_MS),
        avoid=tuple(NodeName(node) for node in avoid),
    )


def place(snapshot: Snapshot, **changes: Any) -> Choice:
    return choose(search(snapshot, **changes))


def why_not(snapshot: Snapshot, node: str, **changes: Any) -> list[ReasonCode]:
    return [reason.code for reason in refusals(search(snapshot, **changes), NodeName(node))]


def free_on(snapshot: Snapshot, node: NodeName) -> Free:
    return Layout(snapshot, NOW_MS).free[node]


def test_a_good_node_is_not_refused() -> None:
    assert why_not(cluster(up("a")), "a") == []


@pytest.mark.parametrize(
    ("part", "changes", "code"),
    [
        (up("a"), {"possible_owners": ("b",)}, ReasonCode.NOT_POSSIBLE_OWNER),
        (up("a", not_ready="libvirt is silent"), {}, ReasonCode.NODE_NOT_READY),
        (up("a", memory_bytes=GIB - 1), {}, ReasonCode.MEMORY_SHORT),
        (up("a", vcpus=1), {"vcpus": 5}, ReasonCode.VCPUS_SHORT),
        (known("a"), {}, ReasonCode.NODE_ABSENT),
        (lost("a"), {}, ReasonCode.NODE_ABSENT),
    ],
)
def test_each_filter_alone_refuses(part: Part, changes: dict[str, Any], code: ReasonCode) -> None:
    assert why_not(cluster(part), "a", **changes) == [code]


def test_a_paused_node_is_refused() -> None:
    snapshot = cluster(known("a", is_paused=True), up("a"))
    assert why_not(snapshot, "a") == [ReasonCode.NODE_PAUSED]


def test_a_node_whose_daemon_announced_its_stop_is_refused() -> None:
    snapshot = cluster(up("a"), put("sessions", A, session("a", stopping=True)))
    assert why_not(snapshot, "a") == [ReasonCode.NODE_NOT_READY]


def test_a_report_of_an_earlier_incarnation_does_not_count() -> None:
    snapshot = cluster(up("a", 1), put("sessions", A, session("a", 2)))
    assert why_not(snapshot, "a") == [ReasonCode.NODE_ABSENT]


def test_a_node_where_it_failed_is_refused_until_a_person_asks_again() -> None:
    failed = owned("web", None, failed_on=(A,), generation=1)
    assert why_not(cluster(up("a")), "a", ownership=failed) == [ReasonCode.START_FAILED_HERE]
    assert why_not(cluster(up("a")), "a", ownership=failed, generation=2) == []


def test_every_reason_is_told_not_only_the_first() -> None:
    snapshot = cluster(known("a", is_paused=True), up("a", memory_bytes=1, vcpus=0, not_ready="no guard"))
    assert why_not(snapshot, "a", possible_owners=("b",)) == [
        ReasonCode.NOT_POSSIBLE_OWNER,
        ReasonCode.NODE_PAUSED,
        ReasonCode.NODE_NOT_READY,
        ReasonCode.MEMORY_SHORT,
        ReasonCode.VCPUS_SHORT,
    ]


def test_every_role_counts_on_its_owner_in_any_phase() -> None:
    snapshot = cluster(up("a", memory_bytes=4 * GIB, vcpus=1), role("one", owner="a"), role("two", owner="a"))
    left = free_on(snapshot, A)
    assert (left.memory_bytes, left.vcpus, left.roles) == (2 * GIB, 4 - 2, 2)


def test_what_a_person_set_as_capacity_outweighs_what_the_hypervisor_reports() -> None:
    snapshot = cluster(known("a", capacity=Capacity(memory_bytes=GIB, vcpus=1)), up("a", memory_bytes=99 * GIB))
    assert free_on(snapshot, A).memory_bytes == GIB


def test_overcommit_multiplies_cpus_and_never_memory() -> None:
    snapshot = cluster(with_settings(Settings(vcpu_overcommit=3)), up("a", memory_bytes=GIB, vcpus=2))
    left = free_on(snapshot, A)
    assert (left.memory_bytes, left.vcpus) == (GIB, 6)


def test_a_roomy_node_without_vcpus_is_passed_over() -> None:
    assert place(cluster(up("a", memory_bytes=99 * GIB, vcpus=0), up("b"), up("c"))).node == B


def test_a_role_fits_exactly() -> None:
    assert place(cluster(up("a", memory_bytes=GIB, vcpus=1)), vcpus=4).node == A


@pytest.mark.parametrize(
    ("preferred", "expected"),
    [(("b", "a"), "b"), (("a", "b"), "a"), (("gone", "c"), "c"), ((), "c")],
)
def test_preferred_owners_in_order_then_the_most_free_memory(preferred: tuple[str, ...], expected: str) -> None:
    snapshot = cluster(up("a"), up("b"), up("c", memory_bytes=9 * GIB))
    assert place(snapshot, preferred_owners=preferred).node == expected


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_ties_go_to_the_first_name_whatever_order_nodes_came_in(order: str) -> None:
    assert place(cluster(*(up(name) for name in order))).node == A


def test_with_equal_memory_the_node_with_fewer_roles_is_taken() -> None:
    snapshot = cluster(up("a"), up("b"), role("nothing", owner="a", memory_bytes=0, vcpus=0))
    assert place(snapshot).node == B


def test_an_avoided_node_is_taken_only_when_no_other_can() -> None:
    assert place(cluster(up("a", memory_bytes=99 * GIB), up("b")), avoid=("a",)).node == B
    assert place(cluster(up("a")), avoid=("a",)).node == A


@pytest.mark.parametrize(
    ("parts", "preferred", "code"),
    [
        ((up("a"), up("b")), ("a",), ReasonCode.PREFERRED_OWNER),
        ((up("a"), up("b")), (), ReasonCode.MOST_FREE),
        ((up("a"), known("b")), (), ReasonCode.ONLY_CANDIDATE),
        ((known("a"),), (), ReasonCode.NO_CANDIDATE),
    ],
)
def test_the_choice_says_why(parts: tuple[Part, ...], preferred: tuple[str, ...], code: ReasonCode) -> None:
    assert [reason.code for reason in place(cluster(*parts), preferred_owners=preferred).reasons] == [code]


def test_nowhere_says_why_not_per_node() -> None:
    choice = place(cluster(up("a", memory_bytes=1), known("b"), new_role("web")))
    assert choice.node is None
    assert {node: [reason.code for reason in why] for node, why in choice.refused.items()} == {
        A: [ReasonCode.MEMORY_SHORT],
        B: [ReasonCode.NODE_ABSENT],
    }


@pytest.mark.parametrize(
    ("losses", "age_ms", "found"),
    [
        (2, 0, None),
        (3, 0, 3),
        (4, 0, 4),
        (3, 2 * HOUR_MS, 3),
        (3, 2 * HOUR_MS + 1, None),
    ],
)
def test_a_node_that_flaps_is_quarantined(losses: int, age_ms: int, found: int | None) -> None:
    at_ms = NOW_MS - age_ms
    snapshot = cluster(lost("a", at_ms=at_ms, losses=(at_ms,) * losses), up("a", 2))
    assert quarantined(snapshot, A, NOW_MS) == found
    assert why_not(snapshot, "a") == ([] if found is None else [ReasonCode.NODE_QUARANTINED])


def test_losses_before_the_period_do_not_count() -> None:
    old = NOW_MS - HOUR_MS
    snapshot = cluster(lost("a", losses=(old - 1, old, NOW_MS)), up("a", 2))
    assert quarantined(snapshot, A, NOW_MS) is None
