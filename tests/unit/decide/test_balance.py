"""Balancing nodes, case by case. What holds for every cluster: `tests/property/decide/test_balance.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.decide.made_up import (
    GIB,
    NOW_MS,
    Part,
    cluster,
    coordinated_by,
    frozen,
    known,
    owned,
    put,
    record,
    role,
    session,
    up,
    with_settings,
)

from holdfast.decide.balance import Balance, balance, begin_balance
from holdfast.decide.coordination import Plan, plan
from holdfast.model.ids import NodeName
from holdfast.model.nodes import MemoryTarget, Return
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Failback, FailbackPolicy, Label, Phase
from holdfast.model.settings import Settings

AUTOMATIC = Settings(balance_automatically=True)
RESTED_MS = NOW_MS + 3_600_000


def balanced(*parts: Part, threshold: int = 20) -> Balance:
    return balance(cluster(*parts), NOW_MS, threshold)


def goes(decided: Balance) -> dict[str, str]:
    return {one.spec.name: shift.target for shift in decided.shifts for one in shift.unit}


def many(owner: str, count: int, **changes: Any) -> list[Part]:
    return [role(f"{owner}{number}", owner=owner, **changes) for number in range(count)]


def test_the_fewest_guests_move_and_no_more_than_bring_the_nodes_within_the_threshold() -> None:
    decided = balanced(up("a"), up("b"), *many("a", 6), threshold=25)
    assert goes(decided) == {"a0": "b", "a1": "b"}
    assert (decided.before, decided.after) == ({"a": 7500, "b": 0}, {"a": 5000, "b": 2500})
    assert (decided.is_within(25), decided.is_within(24)) == (True, False)
    assert goes(balanced(up("a"), up("b"), *many("a", 6), threshold=24)) == {"a0": "b", "a1": "b", "a2": "b"}


def test_one_large_guest_is_moved_rather_than_two_small_ones() -> None:
    decided = balanced(up("a"), up("b"), role("big", owner="a", memory_bytes=3 * GIB), *many("a", 4))
    assert goes(decided) == {"big": "b"}


def test_vcpus_count_where_they_are_what_fills_a_node() -> None:
    crowd = many("a", 3, vcpus=4, memory_bytes=0)
    assert len(balanced(up("a"), up("b"), *crowd).shifts) == 1


def test_what_is_within_the_threshold_stays() -> None:
    assert balanced(up("a"), up("b"), *many("a", 1)).shifts == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"possible_owners": (NodeName("a"),)},
        {"preferred_owners": (NodeName("a"),)},
        {"anti_affinity": (Label(name="apart", is_hard=True),)},
        {"anti_affinity": (Label(name="apart"),)},
    ],
)
def test_no_rule_and_no_wish_is_given_up_for_balance(changes: dict[str, Any]) -> None:
    there = role("other", owner="b", memory_bytes=0, anti_affinity=(Label(name="apart"),))
    assert balanced(up("a"), up("b"), there, role("web", owner="a", memory_bytes=6 * GIB, **changes)).shifts == ()


def test_a_role_never_leaves_its_site_for_balance() -> None:
    sites = known("a", site="east"), up("a"), known("b", site="west"), up("b")
    assert balanced(*sites, *many("a", 6)).shifts == ()
    assert goes(balanced(*sites, known("c", site="east"), up("c"), *many("a", 6))) == {"a0": "c", "a1": "c", "a2": "c"}


def test_bound_roles_move_together_and_count_as_many_guests() -> None:
    tied = (Label(name="pair", is_hard=True),)
    pair = role("x", owner="a", affinity=tied), role("y", owner="a", affinity=tied)
    decided = balanced(up("a"), up("b"), *pair, role("z", owner="a", memory_bytes=2 * GIB))
    assert goes(decided) == {"z": "b"}
    stuck = role("z", owner="a", memory_bytes=2 * GIB, possible_owners=(NodeName("a"),))
    assert goes(balanced(up("a"), up("b"), *pair, stuck)) == {"x": "b", "y": "b"}


def test_a_paused_node_neither_gives_nor_takes() -> None:
    assert balanced(known("a", is_paused=True), up("a"), up("b"), *many("a", 6)).shifts == ()
    assert balanced(up("a"), known("b", is_paused=True), up("b"), *many("a", 6)).shifts == ()


def test_a_role_on_the_move_counts_where_it_goes_and_is_left_alone() -> None:
    there = record(replace(owned("a0", "a"), target=NodeName("b"), source=NodeName("a")))
    decided = balanced(up("a"), up("b"), *many("a", 4), there)
    assert decided.before == {"a": 3750, "b": 1250}
    assert goes(decided) == {"a1": "b"}


def test_what_begins_now_says_why_and_is_no_more_than_may_be_under_way() -> None:
    home = Return.NOW
    drained = record(replace(owned("a0", "a"), drained_from=NodeName("b")))
    parts = (up("a"), known("b", returns=home), up("b"), *many("a", 8, memory_bytes=GIB), drained)
    begun = begin_balance(cluster(*parts), NOW_MS, 20, 2)
    assert [(move.after.role, move.target, move.after.drained_from) for move in begun] == [
        ("a0", "b", None),
        ("a1", "b", None),
    ]
    (reason, *_) = begun[0].after.reasons
    assert reason.code is ReasonCode.BALANCED
    assert str(reason) == "b is 0 % full and a 100 %, so it helps to balance them"


def test_balancing_keeps_to_the_limits_per_node_and_network() -> None:
    takes = MemoryTarget(uri="sim://x")
    parts = (up("a", takes_memory=takes), up("b", takes_memory=takes), *many("a", 8, memory_bytes=GIB))
    for settings, expected in ((Settings(), 4), (Settings(moves_per_network=1), 1), (Settings(moves_per_node=2), 2)):
        assert len(begin_balance(cluster(with_settings(settings), *parts), NOW_MS, 20, 4)) == expected


def planned(*parts: Part, now_ms: int = RESTED_MS) -> Plan:
    return plan(cluster(with_settings(AUTOMATIC), coordinated_by("a"), up("a"), up("b"), *parts), now_ms)


def test_the_cluster_balances_itself_only_when_it_is_told_to() -> None:
    assert {change.role for change in planned(*many("a", 6)).changes} == {"a0", "a1", "a2"}
    assert plan(cluster(coordinated_by("a"), up("a"), up("b"), *many("a", 6)), RESTED_MS).changes == ()


def test_the_cluster_balances_itself_only_after_a_rest() -> None:
    early = planned(*many("a", 6), now_ms=NOW_MS + 59_000)
    assert (early.changes, early.look_again_ms) == ((), 1000)
    assert planned(*many("a", 6), now_ms=NOW_MS + 60_000).changes


@pytest.mark.parametrize(
    "part",
    [
        frozen(),
        record(replace(owned("b0", "b"), target=NodeName("a"), source=NodeName("b"))),
        record(owned("b0", "b", Phase.STARTING)),
        put("sessions", "b", session("b", started_at_ms=RESTED_MS - 1000)),
        put("nodes", "c", replace(cluster(known("c")).nodes[NodeName("c")].value, is_draining=True, is_paused=True)),
    ],
)
def test_a_cluster_that_is_not_at_rest_does_not_balance_itself(part: Part) -> None:
    small = role("b0", owner="b", memory_bytes=0)
    assert {change.role for change in planned(*many("a", 6), small).changes} == {"a0", "a1", "a2"}
    assert [change for change in planned(*many("a", 6), small, part).changes if change.role != "b0"] == []


def test_failback_and_balance_do_not_undo_each_other() -> None:
    at_once = Failback(policy=FailbackPolicy.AT_ONCE)
    fond = many("a", 6, preferred_owners=(NodeName("a"),), failback=at_once)
    assert planned(*fond).changes == ()
