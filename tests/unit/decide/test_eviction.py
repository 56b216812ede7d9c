"""When a node may leave for good, and what is said when it may not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.decide.made_up import Part, cluster, known, lost, owned, proven, put, record, role, role_spec, up

from holdfast.decide.eviction import against_eviction, against_leaving, without_owner
from holdfast.model.ids import NodeName
from holdfast.model.nodes import ProofKind
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Phase

A, B = NodeName("a"), NodeName("b")
PAUSED = known("b", is_paused=True), up("b")


def against(*parts: Part) -> list[ReasonCode]:
    return [reason.code for reason in against_eviction(cluster(up("a"), *parts), B)]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (PAUSED, []),
        ((known("b"),), []),
        ((lost("b"), proven("b")), []),
        ((known("b", is_witness=True), up("b")), []),
        ((known("b", is_witness=True), lost("b")), []),
        ((up("b"),), [ReasonCode.NOT_DRAINED]),
        ((lost("b"),), [ReasonCode.NO_PROOF]),
        ((lost("b"), proven("b", kind=ProofKind.STORAGE_RESERVATION)), [ReasonCode.NO_PROOF]),
        ((*PAUSED, role("web", owner="b")), [ReasonCode.STILL_WITH]),
        ((lost("b"), proven("b"), role("web", owner="b", phase=Phase.STARTING)), [ReasonCode.STILL_WITH]),
        ((*PAUSED, role("web", possible_owners=(B,))), [ReasonCode.ONLY_POSSIBLE_OWNER]),
        ((*PAUSED, role("web", possible_owners=(A, B))), []),
    ],
)
def test_a_node_leaves_only_when_nothing_can_be_on_it(parts: tuple[Part, ...], expected: list[ReasonCode]) -> None:
    assert against(*parts) == expected


@pytest.mark.parametrize(("target", "source"), [(B, A), (A, B)])
def test_a_role_on_its_way_from_or_to_it_keeps_it(target: NodeName, source: NodeName) -> None:
    moving = record(replace(owned("web", "a"), target=target, source=source))
    assert against(*PAUSED, put("specs", "web", role_spec("web")), moving) == [ReasonCode.STILL_WITH]


def test_the_last_node_stays() -> None:
    snapshot = cluster(known("b", is_paused=True), up("b"))
    assert [reason.code for reason in against_eviction(snapshot, B)] == [ReasonCode.LAST_NODE]


def test_a_host_that_is_leaving_itself_is_nobody_to_leave_the_cluster_to() -> None:
    """Else both would be gone, and the witness alone would vote."""
    snapshot = cluster(up("b"), known("a", is_paused=True, is_leaving=True), up("a"), known("w", is_witness=True))
    assert ReasonCode.LAST_NODE in [reason.code for reason in against_leaving(snapshot, B)]


def test_a_witness_is_nobody_to_leave_the_cluster_to_and_may_go_itself() -> None:
    snapshot = cluster(up("b"), known("w", is_witness=True), up("w"))
    assert [reason.code for reason in against_leaving(snapshot, B)] == [ReasonCode.LAST_NODE]
    assert against_leaving(snapshot, NodeName("w")) == ()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((up("b"),), []),
        ((known("b"),), [ReasonCode.CANNOT_LEAVE_DOWN]),
        ((up("b"), role("web", owner="b")), [ReasonCode.STILL_WITH]),
        ((up("b"), role("web", possible_owners=(B,))), [ReasonCode.ONLY_POSSIBLE_OWNER]),
        ((up("b"), known("c")), []),
        ((up("b"), known("c"), known("d"), known("e")), [ReasonCode.VOTES_TOO_FEW]),
        ((up("b"), known("c"), known("d"), known("e"), known("b", is_voter=False)), []),
    ],
)
def test_a_node_leaves_in_good_order_when_it_is_empty_and_the_others_can_decide(
    parts: tuple[Part, ...], expected: list[ReasonCode]
) -> None:
    snapshot = cluster(up("a"), *parts)
    assert [reason.code for reason in against_leaving(snapshot, B)] == expected


def test_the_refusal_for_lack_of_votes_says_the_arithmetic() -> None:
    (reason,) = against_leaving(cluster(up("b"), known("a")), B)
    assert str(reason) == (
        "without the vote of b there are 1 votes, 1 are needed to decide and 0 are up (missing: a); start these first"
    )


def test_roles_forget_the_node() -> None:
    spec = role_spec("web", preferred_owners=(B, A), possible_owners=(A, B))
    assert without_owner(spec, B) == role_spec("web", preferred_owners=(A,), possible_owners=(A,))
