"""What a seed may draw: nothing that rightfully ends a guest where SAFE-6 is judged by that no guest ends."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from holdfast.cli.sim_command import sim
from holdfast.sim.fault import HARMLESS_CUTS, FaultKind
from holdfast.sim.schedule import HARMLESS, Profile, draw

WITH_GUESTS = (FaultKind.NODE_DRAINED, FaultKind.ROLE_MOVED, FaultKind.ROLE_RESTARTED)
"""What people do that ends guests, as it should."""


@pytest.mark.parametrize("only", [None, tuple(FaultKind), WITH_GUESTS])
@pytest.mark.parametrize("profile", sorted(HARMLESS))
def test_safe_6_a_profile_that_may_stop_no_guest_draws_nothing_that_does(
    profile: Profile, only: tuple[FaultKind, ...] | None
) -> None:
    assert set(HARMLESS[profile]).isdisjoint(WITH_GUESTS)
    drawn = {
        fault.kind for seed in range(50) for fault in draw(seed, nodes=3, profile=profile, minutes=1, only=only).faults
    }
    cuts = set(HARMLESS_CUTS) if profile is Profile.CALM else set()
    assert drawn - cuts == (set() if only == WITH_GUESTS else set(HARMLESS[profile]))


@pytest.mark.parametrize("kind", ["role-moved", "target-slow", "memory-moved"])
def test_a_profile_that_draws_none_of_the_faults_that_are_asked_for_says_so(kind: str) -> None:
    asked = CliRunner().invoke(sim, ["run", "--profile", "calm", "--faults", kind, "--seeds", "1"])
    assert asked.exit_code == 2
    assert f"the profile calm draws none of {kind}" in asked.output
