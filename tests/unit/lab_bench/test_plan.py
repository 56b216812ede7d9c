"""The made-up clusters of the plan benchmark are what they are said to be."""

from __future__ import annotations

from holdfast.decide.coordination import plan
from holdfast.lab.bench.plan import NOW_MS, made_up, without


def test_a_cluster_that_is_all_well_has_nothing_to_plan() -> None:
    decided = plan(made_up(8, 64), NOW_MS)
    assert (decided.changes, decided.blocked, decided.look_again_ms) == ((), {}, None)


def test_the_roles_of_lost_nodes_are_placed_or_blocked() -> None:
    lost = without(made_up(8, 64), 2)
    assert len(plan(lost, NOW_MS).changes) == 16
    nowhere = plan(without(made_up(8, 64, memory_bytes=0), 2), NOW_MS)
    assert nowhere.changes == ()
    assert len(nowhere.blocked) == 16
