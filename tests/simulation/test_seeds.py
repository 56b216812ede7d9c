"""A few bad days in every run of the tests; `holdfast sim run` has as many as one likes."""

from __future__ import annotations

import pytest

from holdfast.sim.campaign import run_all
from holdfast.sim.run import Order, run
from holdfast.sim.schedule import Profile

SEEDS = 60


@pytest.mark.timeout(180)
def test_no_rule_is_broken_within_60_seeds() -> None:
    profiles = list(Profile)
    orders = [Order(seed=seed, profile=profiles[seed % 3], minutes=0.5) for seed in range(1, SEEDS + 1)]
    failed = {result.order.replay(): result.failures for result in run_all(orders) if result.failures}
    assert failed == {}


@pytest.mark.parametrize("nodes", [2, 4, 5, 7])
def test_clusters_of_other_sizes_keep_the_rules(nodes: int) -> None:
    assert run(Order(seed=nodes, nodes=nodes, profile=Profile.ROUGH, minutes=0.5)).failures == ()
