"""How many acknowledgements entitle a node, and until when. The definition itself is tested in `tests/property`."""

from __future__ import annotations

import pytest

from holdfast.decide.entitlement import acknowledgements_needed, entitled_until
from holdfast.model.ids import NodeName

A, B, C, D, E = (NodeName(name) for name in "abcde")
NEVER = float("-inf")


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)])
def test_so_many_must_acknowledge_that_the_rest_is_no_majority(voters: int, needed: int) -> None:
    assert acknowledgements_needed(voters) == needed


@pytest.mark.parametrize(
    ("me", "voters", "acknowledged_at", "until"),
    [
        (A, {A}, {}, 104),
        (A, {A, B}, {}, 104),
        (C, {A, B}, {}, NEVER),
        (C, {A, B}, {B: 99.0}, 103),
        (A, {A, B, C}, {}, NEVER),
        (A, {A, B, C}, {B: 97.0, C: 99.5}, 103.5),
        (A, {A, B, C}, {D: 99.0}, NEVER),
        (D, {A, B, C}, {A: 99.0}, NEVER),
        (D, {A, B, C}, {A: 99.0, B: 96.0}, 100),
        (A, {A, B, C, D}, {C: 99.0}, 103),
        (A, {A, B, C, D, E}, {B: 99.0, C: 98.0, D: 97.0}, 102),
        (A, set(), {B: 99.0}, NEVER),
    ],
)
def test_the_last_acknowledgement_that_is_needed_counts(
    me: NodeName, voters: set[NodeName], acknowledged_at: dict[NodeName, float], until: float
) -> None:
    found = entitled_until(me=me, voters=frozenset(voters), acknowledged_at=acknowledged_at, now=100.0, deadline_s=4.0)
    assert found == until


def test_an_acknowledgement_from_the_future_counts_as_now() -> None:
    found = entitled_until(me=A, voters=frozenset({A, B, C}), acknowledged_at={B: 500.0}, now=100.0, deadline_s=4.0)
    assert found == 104.0
