"""What no combination of silence, reports and power readings may lead to."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from holdfast.decide.detection import PeerView, PowerEvidence, Standing, StorageEvidence, assess
from holdfast.model.ids import Incarnation, NetworkName, NodeName
from holdfast.model.settings import Timings

NODES = [NodeName(name) for name in "abcde"]
ME, PEER = NODES[0], NODES[1]
AGES = st.sampled_from([0, 200, 799, 800, 1_599, 1_600, 4_999, 5_000, 34_999, 35_000, 10**9])
TIMINGS = Timings()
VIEWS = st.builds(
    PeerView,
    node=st.just(PEER),
    incarnation=st.just(Incarnation("b-1")),
    silent_ms=st.dictionaries(st.sampled_from([NetworkName("x"), NetworkName("y")]), AGES),
    reported_ms=st.dictionaries(st.sampled_from(NODES[2:]), AGES),
    power=st.none() | st.builds(PowerEvidence, is_off=st.none() | st.booleans()),
    stopping=st.booleans(),
    storage=st.none() | st.builds(StorageEvidence, silent_ms=AGES),
    answered_ms=st.none() | AGES,
    unheard_ms=AGES,
)
VOTERS = st.frozensets(st.sampled_from(NODES))
LONG_MS = 10**9


@given(VIEWS, VOTERS, AGES)
def test_safe_2_lost_means_power_off_or_a_majority_that_waited_the_whole_patience(
    view: PeerView, voters: frozenset[NodeName], together_ms: int
) -> None:
    judged = assess(view, me=ME, voters=voters, timings=TIMINGS, together_ms=together_ms)
    off = view.power is not None and view.power.is_off is True
    assert judged.proven_off is (judged.standing is Standing.LOST and off)
    if judged.standing is not Standing.LOST:
        return
    assert view.silent_ms or off, "silence where nothing could be heard"
    own = {ME: min(view.silent_ms.values())} if view.silent_ms else {}
    ages = {**own, **view.reported_ms}
    assert min(ages.values()) >= TIMINGS.suspect_after_ms, "nobody who is heard hears it"
    if not off:
        patience_ms = TIMINGS.patience_ms + (TIMINGS.restart_grace_ms if view.stopping else 0)
        if view.storage is not None and view.storage.silent_ms >= TIMINGS.lost_after_both_ms and not view.stopping:
            patience_ms = TIMINGS.lost_after_both_ms
        patient = {node for node, age_ms in ages.items() if age_ms >= patience_ms} & voters
        assert len(patient) > len(voters) / 2
        assert min(ages[ME], together_ms) >= patience_ms


@given(VIEWS, VOTERS)
def test_more_recent_signs_of_life_never_make_it_worse(view: PeerView, voters: frozenset[NodeName]) -> None:
    order = list(Standing)
    worse = assess(view, me=ME, voters=voters, timings=TIMINGS, together_ms=LONG_MS).standing
    for network in view.silent_ms:
        fresher = replace(view, silent_ms={**view.silent_ms, network: 0})
        better = assess(fresher, me=ME, voters=voters, timings=TIMINGS, together_ms=LONG_MS).standing
        assert order.index(better) <= max(order.index(worse), order.index(Standing.BADLY_CONNECTED))
