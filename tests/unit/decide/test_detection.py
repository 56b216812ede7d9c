"""One node's judgement of a peer, case by case. Source: DESIGN section 5."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.decide.detection import (
    Assessment,
    PeerView,
    PowerEvidence,
    Standing,
    StorageEvidence,
    assess,
    is_together,
)
from holdfast.model.ids import Incarnation, NetworkName, NodeName
from holdfast.model.reasons import ReasonCode
from holdfast.model.settings import Timings

TIMINGS = Timings()  # suspect 800 ms, patience 5000 ms, restart grace 30 000 ms
A, B, C, D = (NodeName(name) for name in "abcd")
VOTERS = frozenset({A, B, C})
NEVER = 10**9


def judge(
    silent_ms: int | tuple[int, ...],
    reported_ms: dict[NodeName, int] | None = None,
    *,
    voters: frozenset[NodeName] = VOTERS,
    together_ms: int = NEVER,
    unheard_ms: int = NEVER,
    **changes: Any,
) -> Assessment:
    """What node A concludes of node C."""
    ages = (silent_ms,) if isinstance(silent_ms, int) else silent_ms
    peer = PeerView(
        node=C,
        incarnation=Incarnation("c-1"),
        silent_ms={NetworkName(f"net-{index}"): age for index, age in enumerate(ages)},
        reported_ms={B: min(ages, default=NEVER)} if reported_ms is None else reported_ms,
        unheard_ms=unheard_ms,
        **changes,
    )
    return assess(peer, me=A, voters=voters, timings=TIMINGS, together_ms=together_ms)


def codes(judged: Assessment) -> list[ReasonCode]:
    return [reason.code for reason in judged.reasons]


@pytest.mark.parametrize(
    ("silent_ms", "standing"),
    [
        ((0, 0), Standing.HEARD),
        ((799, 799), Standing.HEARD),
        ((0, 800), Standing.BADLY_CONNECTED),
        ((800, 799), Standing.BADLY_CONNECTED),
        ((NEVER, 10), Standing.BADLY_CONNECTED),
        ((800, 800), Standing.SUSPECT),
        ((4999, 9000), Standing.SUSPECT),
        ((5000, 9000), Standing.LOST),
    ],
)
def test_silence_counts_only_when_it_is_on_every_network(silent_ms: tuple[int, ...], standing: Standing) -> None:
    assert judge(silent_ms).standing is standing


def test_a_node_whose_own_networks_are_all_down_concludes_nothing() -> None:
    assert judge((), {}).standing is Standing.HEARD


@pytest.mark.parametrize(
    ("reported_ms", "unheard_ms", "standing"),
    [
        ({B: 0}, NEVER, Standing.BADLY_CONNECTED),
        ({B: 799, D: NEVER}, NEVER, Standing.BADLY_CONNECTED),
        ({B: NEVER}, 799, Standing.HEARD),
        ({B: 800}, 800, Standing.SUSPECT),
        ({B: NEVER, D: NEVER}, NEVER, Standing.SUSPECT),
    ],
    ids=["heard-by-one", "heard-by-one-of-two", "heard-or-looked-for-lately", "heard-by-nobody", "for-ever"],
)
def test_of_a_peer_that_it_shares_no_network_with_a_node_believes_the_others(
    reported_ms: dict[NodeName, int], unheard_ms: int, standing: Standing
) -> None:
    judged = judge((), reported_ms, unheard_ms=unheard_ms, voters=VOTERS | {D})
    assert judged.standing is standing
    assert bool(judged.reasons) is (standing is not Standing.HEARD)


def test_whom_nobody_heard_and_whose_power_is_off_is_lost_also_to_one_that_could_not_hear_it() -> None:
    assert judge((), {B: NEVER}, power=PowerEvidence(is_off=True)).proven_off


@pytest.mark.parametrize("age_ms", [0, 799])
def test_a_peer_that_a_heard_node_hears_is_never_lost(age_ms: int) -> None:
    off = PowerEvidence(is_off=True)
    judged = judge(NEVER, {B: age_ms, D: NEVER}, power=off)
    assert judged.standing is Standing.BADLY_CONNECTED
    assert codes(judged) == [ReasonCode.STILL_HEARD]
    assert not judged.proven_off


def test_power_off_makes_a_suspect_lost_and_proven_at_once() -> None:
    judged = judge(800, {}, power=PowerEvidence(is_off=True))
    assert (judged.standing, judged.proven_off) == (Standing.LOST, True)
    assert codes(judged) == [ReasonCode.SILENT, ReasonCode.POWER_OFF]


def test_power_off_says_nothing_about_a_node_that_is_heard() -> None:
    judged = judge(799, {}, power=PowerEvidence(is_off=True))
    assert (judged.standing, judged.proven_off) == (Standing.HEARD, False)


@pytest.mark.parametrize(
    ("power", "code"),
    [
        (PowerEvidence(is_off=None, detail="no answer"), ReasonCode.POWER_UNKNOWN),
        (PowerEvidence(is_off=False), ReasonCode.POWER_ON),
    ],
)
def test_unknown_power_and_power_on_get_patience_and_are_no_proof(power: PowerEvidence, code: ReasonCode) -> None:
    suspect = judge(4999, power=power)
    assert (suspect.standing, suspect.proven_off) == (Standing.SUSPECT, False)
    assert code in codes(suspect)
    lost = judge(5000, power=power)
    assert (lost.standing, lost.proven_off) == (Standing.LOST, False)


@pytest.mark.parametrize(
    ("voters", "reported_ms", "standing"),
    [
        ({A}, {}, Standing.LOST),
        ({A, C}, {}, Standing.SUSPECT),
        ({A, B, C}, {}, Standing.SUSPECT),
        ({A, B, C}, {D: 5000}, Standing.SUSPECT),
        ({A, B, C}, {B: 5000}, Standing.LOST),
        ({B, C}, {B: 5000}, Standing.SUSPECT),
        ({A, B, C, D}, {B: 5000}, Standing.SUSPECT),
        ({A, B, C, D}, {B: 5000, D: 5000}, Standing.LOST),
        (set(), {B: 5000}, Standing.SUSPECT),
    ],
)
def test_patience_needs_a_majority_of_voters_that_agree(
    voters: set[NodeName], reported_ms: dict[NodeName, int], standing: Standing
) -> None:
    assert judge(5000, reported_ms, voters=frozenset(voters)).standing is standing


def test_a_voter_that_heard_the_peer_within_the_patience_does_not_agree_yet() -> None:
    """Else a pair whose cable is cut would turn a hiccup of 0.8 s into a verdict, with no patience at all."""
    judged = judge(60_000, {B: 900})
    assert judged.standing is Standing.SUSPECT
    assert ReasonCode.NO_MAJORITY_AGREES in codes(judged)
    assert judge(60_000, {B: 4999}).standing is Standing.SUSPECT
    assert judge(60_000, {B: 5000}).standing is Standing.LOST


def test_an_announced_stop_gets_the_grace_on_top_of_the_patience() -> None:
    assert judge(34_999, stopping=True).standing is Standing.SUSPECT
    assert judge(35_000, stopping=True).standing is Standing.LOST


def test_an_announced_stop_does_not_outweigh_power_off() -> None:
    judged = judge(800, stopping=True, power=PowerEvidence(is_off=True))
    assert (judged.standing, judged.proven_off) == (Standing.LOST, True)


def test_patience_begins_anew_when_a_majority_comes_back() -> None:
    """Whoever heals first must not find those overdue that heal a second later."""
    judged = judge(60_000, together_ms=4999)
    assert judged.standing is Standing.SUSPECT
    assert codes(judged)[-1] is ReasonCode.MAJORITY_IS_NEW
    assert judge(60_000, together_ms=5000).standing is Standing.LOST


def test_power_off_needs_no_majority_that_has_been_together() -> None:
    judged = judge(800, power=PowerEvidence(is_off=True), together_ms=0)
    assert (judged.standing, judged.proven_off) == (Standing.LOST, True)


@pytest.mark.parametrize(
    ("heard", "voters", "together"),
    [
        ({B}, {A, B, C}, True),
        ({D}, {A, B, C}, False),
        (set(), {A, B, C}, False),
        (set(), {A}, True),
        ({B}, {A, B, C, D}, False),
        ({B, C}, {B, C, D}, True),
        (set(), set(), False),
    ],
)
def test_together_is_a_majority_of_voters_with_oneself(
    heard: set[NodeName], voters: set[NodeName], together: bool
) -> None:
    assert is_together(A, heard, frozenset(voters)) is together


def stamped(silent_ms: int) -> StorageEvidence:
    return StorageEvidence(silent_ms=silent_ms)


@pytest.mark.parametrize(
    ("silent_ms", "storage", "standing"),
    [
        (1599, stamped(5000), Standing.SUSPECT),
        (1600, stamped(1599), Standing.SUSPECT),
        (1600, stamped(1600), Standing.LOST),
        (4999, stamped(0), Standing.SUSPECT),
        (4999, None, Standing.SUSPECT),
        (5000, stamped(0), Standing.LOST),
    ],
)
def test_silence_on_networks_and_storage_makes_lost_at_once(
    silent_ms: int, storage: StorageEvidence | None, standing: Standing
) -> None:
    assert judge(silent_ms, storage=storage).standing is standing


def test_silence_on_both_needs_a_majority_that_agrees_and_that_was_together() -> None:
    both: dict[str, Any] = {"storage": stamped(1600)}
    assert judge(1600, {B: 1599}, **both).standing is Standing.SUSPECT
    assert judge(1600, {}, **both).standing is Standing.SUSPECT
    assert judge(1600, together_ms=1599, **both).standing is Standing.SUSPECT
    lost = judge(1600, together_ms=1600, **both)
    assert (lost.standing, lost.proven_off) == (Standing.LOST, False)
    assert codes(lost) == [ReasonCode.SILENT, ReasonCode.SILENT_ON_STORAGE, ReasonCode.PATIENCE_OVER]


def test_a_node_that_is_heard_is_not_suspected_for_its_silence_on_storage() -> None:
    assert judge(0, storage=stamped(60_000)).standing is Standing.HEARD
    assert judge(60_000, {B: 0}, storage=stamped(60_000)).standing is Standing.BADLY_CONNECTED


def test_a_node_that_still_stamps_is_cut_off_and_gets_the_whole_patience() -> None:
    judged = judge(4999, storage=stamped(300))
    assert judged.standing is Standing.SUSPECT
    assert codes(judged) == [ReasonCode.SILENT, ReasonCode.STILL_STAMPS]
    assert codes(judge(1000, storage=stamped(300))) == [ReasonCode.SILENT]


def test_a_holdfastd_that_does_not_run_on_a_machine_that_answers_gets_the_whole_patience() -> None:
    judged = judge(4999, storage=stamped(4999), answered_ms=799)
    assert judged.standing is Standing.SUSPECT
    assert ReasonCode.NOBODY_LISTENS in codes(judged)
    assert judge(4999, storage=stamped(4999), answered_ms=800).standing is Standing.LOST


def test_an_announced_stop_ends_the_stamps_too_and_keeps_its_grace() -> None:
    assert judge(34_999, storage=stamped(34_999), stopping=True).standing is Standing.SUSPECT
