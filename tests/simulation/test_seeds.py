"""Two hundred bad days in every run of the tests; `holdfast sim run` has as many as one likes."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.sim.campaign import run_all
from holdfast.sim.run import Order
from holdfast.sim.schedule import Profile

SEEDS = 200
SIZES = (3, 3, 3, 3, 3, 2, 2, 4, 5, 7)


def orders() -> Iterator[Order]:
    """Every profile and every size, the large ones rarely: a node more costs as much as it does in a real cluster."""
    profiles = list(Profile)
    for seed in range(1, SEEDS + 1):
        nodes = SIZES[seed % len(SIZES)]
        yield Order(seed=seed, nodes=nodes, profile=profiles[seed // 2 % len(profiles)], minutes=0.4)


def test_no_rule_is_broken_within_200_seeds() -> None:
    failed = {result.order.replay(): result.failures for result in run_all(orders()) if result.failures}
    assert failed == {}


def test_a_cluster_of_twenty_nodes_keeps_the_rules() -> None:
    (result,) = run_all([Order(seed=20, nodes=20, profile=Profile.ROUGH, minutes=0.2)], jobs=1)
    assert result.failures == ()
