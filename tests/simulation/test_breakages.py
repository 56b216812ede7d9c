"""The simulator's own test: what is broken on purpose is caught, and by the safety checker, within so many seeds."""

from __future__ import annotations

import pytest

from holdfast.sim.breakage import BreakageKind
from holdfast.sim.checkers import runs_once
from holdfast.sim.run import Order, run
from holdfast.sim.schedule import Profile
from holdfast.sim.truth import Truth

WITHIN_SEEDS = 30
CAUGHT = (
    BreakageKind.GUARD_SPARES,
    BreakageKind.FENCE_LIES,
    BreakageKind.RELEASE_IN_HOPE,
    BreakageKind.PROOF_SKIPPED,
)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", CAUGHT)
def test_a_breakage_is_caught_by_the_checker_for_safe_1(kind: BreakageKind) -> None:
    orders = (
        Order(seed=seed, profile=(Profile.ROUGH, Profile.BRUTAL)[seed % 2], minutes=2, broken=kind)
        for seed in range(1, WITHIN_SEEDS + 1)
    )
    assert any(failure.startswith("SAFE-1") for order in orders for failure in run(order).failures)


class Hand:
    """A truth written by hand."""

    def __init__(self) -> None:
        self.at = 0.0
        self.truth = Truth(lambda: self.at)

    def began(self, at: float, node: str) -> None:
        self.at = at
        self.truth.guest_began(node, "00000000-0000-4000-8000-000000000001")

    def ended(self, at: float, node: str) -> None:
        self.at = at
        self.truth.guest_ended(node, "00000000-0000-4000-8000-000000000001", "killed")


def test_one_node_after_the_other_is_fine() -> None:
    hand = Hand()
    hand.began(1.0, "node1")
    hand.ended(2.0, "node1")
    hand.began(2.0, "node2")
    assert list(runs_once(hand.truth)) == []


@pytest.mark.parametrize("ends", [True, False])
def test_an_overlap_is_seen_however_short(ends: bool) -> None:
    hand = Hand()
    hand.began(1.0, "node1")
    hand.began(2.0, "node2")
    if ends:
        hand.ended(2.001, "node1")
    assert len(list(runs_once(hand.truth))) == 1
