"""The simulator's own test: what is broken on purpose is caught by the checker of its rule within so many seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.sim.breakages import MUTATIONS, breakage_of
from holdfast.sim.checkers import runs_once
from holdfast.sim.mutation import BreakageKind
from holdfast.sim.mutations import catch, table
from holdfast.sim.truth import Truth

QUICK = [kind for kind, mutation in MUTATIONS.items() if mutation.trial.is_quick]
PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"


@pytest.mark.parametrize("kind", QUICK)
def test_a_breakage_is_caught_by_the_checker_of_its_rule(kind: BreakageKind) -> None:
    assert catch(kind, jobs=1).caught is not None


@pytest.mark.parametrize("kind", list(MUTATIONS))
def test_what_a_breakage_replaces_is_there(kind: BreakageKind) -> None:
    with breakage_of(kind).applied():
        pass


def test_the_page_has_the_list_as_it_is() -> None:
    assert table() in PAGE.read_text()


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
