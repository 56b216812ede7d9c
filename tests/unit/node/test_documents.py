"""What status says of sites, moves, drains and a frozen cluster. `tests/unit/cli` tests the pages made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.decide.made_up import (
    NOW_MS,
    Part,
    cluster,
    frozen,
    known,
    lost,
    new_role,
    owned,
    proven,
    put,
    record,
    role,
    session,
    up,
)

from holdfast.model.ids import NodeName
from holdfast.model.roles import Failback, FailbackPolicy, Label, Phase, Wanted
from holdfast.model.status import ClusterStatus, RoleState, RoleStatus
from holdfast.node.documents import View, cluster_status, quorum_status

A, B = NodeName("a"), NodeName("b")
WINDOW = Failback(policy=FailbackPolicy.WINDOW, from_hour=22, until_hour=5)


def status(*parts: Part) -> ClusterStatus:
    view = View(me=A, standing={}, heard_on={}, database_answers=True, now_ms=NOW_MS)
    return cluster_status(cluster(*parts), view)


def web(*parts: Part) -> RoleStatus:
    (found,) = [found for found in status(*parts).roles if found.name == "web"]
    return found


def codes(shown: ClusterStatus) -> set[str]:
    return {condition.code for condition in shown.conditions} - {"cannot-be-fenced", "version-skew"}


def test_a_frozen_cluster_says_so_with_who_and_why() -> None:
    shown = status(up("a"), frozen())
    assert shown.is_frozen
    (condition,) = [found for found in shown.conditions if found.code == "cluster-frozen"]
    assert condition.text.startswith("Ada froze the cluster (switches)")
    assert not status(up("a")).is_frozen
    assert codes(status(up("a"))) == set()


@pytest.mark.parametrize(
    ("voters", "database_answers", "expected"),
    [("", False, RoleState.UNKNOWN), ("b", False, RoleState.ONLINE), ("", True, RoleState.ONLINE)],
)
def test_safe_5_the_last_of_three_voters_does_not_say_that_its_guests_run(
    voters: str, expected: RoleState, *, database_answers: bool
) -> None:
    """It stops them: a majority could be elsewhere. With half of the voters it would not, nor while they decide."""
    nodes = (up("a"), known("b"), known("c"), *map(up, voters))
    snapshot = cluster(*nodes, role("web", owner="a", phase=Phase.ONLINE))
    view = View(me=A, standing={}, heard_on={}, database_answers=database_answers, now_ms=NOW_MS)
    (found,) = cluster_status(snapshot, view).roles
    assert found.state is expected
    assert ("1 of 3 voters are up" in " ".join(found.reasons)) is (expected is RoleState.UNKNOWN)


def test_a_drained_node_says_what_is_left_and_what_stays_and_why() -> None:
    drained = (known("a", is_paused=True, is_draining=True, site="east"), up("a"))
    (empty,) = [found for found in status(*drained).conditions if found.code == "node-draining"]
    assert empty.text == "a is drained: nothing is left on it"
    ending = role("web", owner="a", phase=Phase.STOPPING, wanted=Wanted.OFFLINE)
    (ends,) = [found for found in status(*drained, ending).conditions if found.code == "node-draining"]
    assert ends.text == "a is being drained: 1 left"
    shown = status(*drained, role("web", owner="a"))
    (stays,) = [found for found in shown.conditions if found.code == "node-draining"]
    assert stays.text.startswith("a is being drained: 1 left; web stays: no node can take web")
    assert (shown.nodes[0].is_draining, shown.nodes[0].site) == (True, "east")


def test_a_role_shows_where_it_goes_and_how_it_is_placed() -> None:
    labels = (Label(name="web", is_hard=True), Label(name="db"))
    spec = new_role("web", anti_affinity=labels, affinity=labels[1:], failback=WINDOW, preferred_site="east")
    moving = record(replace(owned("web", "a"), target=B, source=A))
    shown = web(up("a"), up("b"), spec, moving)
    assert (shown.target, shown.preferred_site, shown.failback) == ("b", "east", "22-5")
    assert (shown.anti_affinity, shown.affinity) == (("web:hard", "db"), ("db",))


@pytest.mark.parametrize(
    ("parts", "state"),
    [
        ((frozen(), role("web")), RoleState.BLOCKED),
        ((frozen(), lost("b"), proven("b"), role("web", owner="b")), RoleState.BLOCKED),
        ((lost("b"), proven("b"), role("web", owner="b")), RoleState.STARTING),
        ((new_role("web"), record(replace(owned("web", None), target=B, source=A))), RoleState.STARTING),
        ((known("b"), put("sessions", A, session("a", started_at_ms=NOW_MS - 1)), role("web")), RoleState.STARTING),
        ((role("web", possible_owners=("b",)),), RoleState.BLOCKED),
    ],
)
def test_blocked_is_only_what_something_has_to_happen_for(parts: tuple[Part, ...], state: RoleState) -> None:
    assert web(up("a"), *parts).state is state


def test_the_room_of_a_role_on_its_way_is_not_missing_for_itself() -> None:
    moving = record(replace(owned("web", None), target=A, source=B))
    assert web(up("a", memory_bytes=2**30), new_role("web"), moving).state is RoleState.STARTING


def test_what_fails_together_is_shown_and_warned_of_and_counts_who_is_up() -> None:
    """The warning is about all voters; what may fail now is about those that are up."""
    nodes = (known(name, fault_domains=("power:A",) if name in "ab" else ()) for name in "abcde")
    snapshot = cluster(*nodes, *map(up, "abcd"))
    view = View(me=A, standing={}, heard_on={}, database_answers=True, now_ms=NOW_MS)
    assert cluster_status(snapshot, view).nodes[0].fault_domains == ("power:A",)
    assert quorum_status(snapshot, view).fault_domains == {"power:A": ("a", "b")}
    assert "fault-domain-takes-majority" not in codes(cluster_status(snapshot, view))
    three = cluster(*(known(name, fault_domains=("power:A",) if name in "ab" else ()) for name in "abc"), up("a"))
    assert "fault-domain-takes-majority" in codes(cluster_status(three, view))
    assert quorum_status(three, view).fault_domains == {}, "there is no majority to take"
