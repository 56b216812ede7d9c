"""What a node hears: silence, acknowledgements by the time of sending, refusals, and what others report."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.membership.heartbeat import Heard, Heartbeat
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName
from holdfast.node.hearing import FORGET_MS, NEVER_MS, SENT_KEPT, Hearing

ME, B, C = (NodeName(name) for name in "abc")
X, Y = NetworkName("x"), NetworkName("y")
MINE, B1, C1 = (Incarnation(f"{name}-1") for name in "abc")
FRESH_MS = 800


def beat(node: NodeName, sequence: int = 1, **changes: Any) -> Heartbeat:
    given: dict[str, Any] = {"incarnation": Incarnation(f"{node}-1"), "quorate": True, **changes}
    return Heartbeat(cluster_id=ClusterId("id"), node=node, sequence=sequence, sent_at_ms=0, wall_clock_ms=0, **given)


def heard(node: NodeName, sequence: int = 1, age_ms: int = 0, incarnation: Incarnation | None = None) -> Heard:
    started = incarnation or Incarnation(f"{node}-1")
    return Heard(node=node, incarnation=started, network=X, sequence=sequence, age_ms=age_ms)


@pytest.fixture
def hearing() -> Hearing:
    return Hearing(ME, (X, Y))


def test_silence_counts_per_network_from_the_last_heartbeat_or_from_when_it_was_looked_for(hearing: Hearing) -> None:
    hearing.expect([(B, B1)], 1000)
    hearing.received(beat(B), X, 1500)
    assert hearing.silent_ms(B, B1, 2000) == {X: 500, Y: 1000}


def test_of_a_node_that_nobody_looked_for_nothing_is_known(hearing: Hearing) -> None:
    assert hearing.silent_ms(B, B1, 10**9) == {}


def test_another_incarnation_is_another_peer(hearing: Hearing) -> None:
    hearing.expect([(B, Incarnation("b-2"))], 1000)
    hearing.received(beat(B), X, 1500)
    assert hearing.silent_ms(B, Incarnation("b-2"), 2000) == {X: 1000, Y: 1000}


def test_a_network_whose_own_end_is_down_says_nothing(hearing: Hearing) -> None:
    hearing.expect([(B, B1)], 0)
    hearing.deaf = frozenset({X})
    assert hearing.silent_ms(B, B1, 9000) == {Y: 9000}
    hearing.deaf = frozenset({X, Y})
    assert hearing.silent_ms(B, B1, 9000) == {}


def test_patience_with_a_peer_begins_when_it_was_last_heard_on_any_network(hearing: Hearing) -> None:
    """On Y it has been silent for long; it was heard on X a moment ago, and then this node's own cable went."""
    hearing.expect([(B, B1)], 0)
    hearing.received(beat(B, 1), Y, 1000)
    hearing.received(beat(B, 50), X, 12_000)
    hearing.deaf = frozenset({X})
    assert min(hearing.silent_ms(B, B1, 12_044).values()) == 44
    assert min(hearing.silent_ms(B, B1, 17_000).values()) == 5000
    hearing.received(beat(B, 51), Y, 17_000)
    assert hearing.silent_ms(B, B1, 17_100) == {Y: 100}


def test_safe_1_an_acknowledgement_is_worth_the_time_at_which_its_heartbeat_was_sent(hearing: Hearing) -> None:
    hearing.sent(7, 1000)
    hearing.sent(8, 1200)
    hearing.received(beat(B, heard=(heard(ME, 7),)), X, 5000)
    assert hearing.acknowledged_at_ms(MINE) == {B: 1000}
    hearing.received(beat(B, 2, heard=(heard(ME, 7), heard(ME, 8))), X, 5001)
    assert hearing.acknowledged_at_ms(MINE) == {B: 1200}


@pytest.mark.parametrize(
    "acknowledgement",
    [
        heard(ME, 99),
        heard(ME, 7, incarnation=Incarnation("a-2")),
        heard(C, 7),
    ],
    ids=["never-sent", "other-incarnation", "other-node"],
)
def test_safe_1_nothing_else_is_an_acknowledgement(hearing: Hearing, acknowledgement: Heard) -> None:
    hearing.sent(7, 1000)
    hearing.received(beat(B, heard=(acknowledgement,)), X, 1001)
    assert hearing.acknowledged_at_ms(MINE) == {}


def test_safe_2_who_refuses_does_not_acknowledge_even_if_it_says_both(hearing: Hearing) -> None:
    hearing.sent(7, 1000)
    hearing.received(beat(B, heard=(heard(ME, 7),), refused=(MINE,)), X, 1001)
    assert hearing.acknowledged_at_ms(MINE) == {}
    assert hearing.refusing(MINE) == {B}
    assert hearing.refusing(C1) == frozenset()


def test_a_heartbeat_that_was_overtaken_replaces_nothing(hearing: Hearing) -> None:
    hearing.received(beat(B, 5, refused=(C1,)), X, 1000)
    hearing.received(beat(B, 4), Y, 1001)
    assert hearing.refusing(C1) == {B}
    assert hearing.silent_ms(B, B1, 1001) == {X: 1, Y: 0}


def test_a_daemon_that_never_forgets_what_it_sent_would_grow_for_ever(hearing: Hearing) -> None:
    for sequence in range(SENT_KEPT + 1):
        hearing.sent(sequence, sequence)
    hearing.received(beat(B, heard=(heard(ME, 0),)), X, 1000)
    assert hearing.acknowledged_at_ms(MINE) == {}
    hearing.received(beat(B, 2, heard=(heard(ME, 1),)), X, 1000)
    assert hearing.acknowledged_at_ms(MINE) == {B: 1}


@pytest.mark.parametrize(
    ("message", "now_ms", "reported"),
    [
        (beat(B, heard=(heard(C, age_ms=100),)), 1300, {B: 400}),
        (beat(B, heard=(heard(C, age_ms=100), heard(C, 2, age_ms=20))), 1000, {B: 20}),
        (beat(B), 1000, {B: NEVER_MS}),
        (beat(B, quorate=False), 1000, {}),
        (beat(B, quorate=False, heard=(heard(C, age_ms=100),)), 1000, {B: 100}),
        (beat(B, heard=(heard(C, incarnation=Incarnation("c-2")),)), 1000, {B: NEVER_MS}),
        (beat(B, heard=(heard(C, age_ms=100),)), 1000 + FRESH_MS, {}),
    ],
    ids=["ages", "newest", "never", "not-sure", "not-sure-but-hears", "other-incarnation", "reporter-silent"],
)
def test_what_third_nodes_report(
    hearing: Hearing, message: Heartbeat, now_ms: int, reported: dict[NodeName, int]
) -> None:
    hearing.received(message, X, 1000)
    assert hearing.reported_ms((C, C1), {B: B1, C: C1}, now_ms, FRESH_MS) == reported


def test_a_node_does_not_report_about_itself(hearing: Hearing) -> None:
    hearing.received(beat(C, heard=(heard(C),)), X, 1000)
    assert hearing.reported_ms((C, C1), {C: C1}, 1000, FRESH_MS) == {}


def test_what_is_acknowledged_leaves_out_refused_incarnations(hearing: Hearing) -> None:
    hearing.received(beat(B, 3), X, 1000)
    hearing.received(beat(B, 3), Y, 1010)
    hearing.received(beat(C, 9), X, 1005)
    told = {(item.node, item.network, item.sequence, item.age_ms) for item in hearing.heard(1020, ())}
    assert told == {(B, X, 3, 20), (B, Y, 3, 10), (C, X, 9, 15)}
    assert {item.node for item in hearing.heard(1020, (B1,))} == {C}


def test_peers_that_are_gone_are_forgotten_after_a_while(hearing: Hearing) -> None:
    hearing.received(beat(B), X, 0)
    hearing.expect([], FORGET_MS)
    assert hearing.last(B, B1) is not None
    hearing.expect([], FORGET_MS + 1)
    assert hearing.last(B, B1) is None


def test_heard_is_whoever_sent_a_heartbeat_within_the_limit_whatever_it_was_looked_for(hearing: Hearing) -> None:
    hearing.expect([(B, B1), (C, C1)], 0)
    hearing.received(beat(B), Y, 1000)
    assert hearing.heard_within(FRESH_MS, 1000 + FRESH_MS - 1) == {B}
    assert hearing.heard_within(FRESH_MS, 1000 + FRESH_MS) == frozenset()


def test_a_peer_is_listened_for_where_it_has_an_address_only(hearing: Hearing) -> None:
    hearing.expect([(B, B1), (C, C1)], 0)
    hearing.follow((X, Y), {B: frozenset({X}), C: frozenset({X, Y})}, 0)
    assert hearing.silent_ms(B, B1, 900) == {X: 900}
    assert hearing.silent_ms(C, C1, 900) == {X: 900, Y: 900}


def test_on_a_new_network_silence_counts_from_when_both_have_it(hearing: Hearing) -> None:
    hearing.expect([(B, B1)], 0)
    hearing.follow((X,), {B: frozenset({X})}, 0)
    hearing.received(beat(B, 5), X, 60_000)
    hearing.follow((X, Y), {B: frozenset({X})}, 60_000)
    assert hearing.silent_ms(B, B1, 60_100) == {X: 100}
    hearing.follow((X, Y), {B: frozenset({X, Y})}, 60_050)
    assert hearing.silent_ms(B, B1, 60_100) == {X: 100, Y: 50}


def test_a_network_that_comes_back_begins_anew(hearing: Hearing) -> None:
    hearing.expect([(B, B1)], 0)
    both = {B: frozenset({X, Y})}
    hearing.follow((X, Y), both, 0)
    hearing.received(beat(B, 5), Y, 100)
    hearing.follow((X,), both, 200)
    assert [one.network for one in hearing.heard(300, ())] == []
    hearing.follow((X, Y), both, 50_000)
    assert hearing.silent_ms(B, B1, 50_100)[Y] == 100


def test_what_was_heard_on_a_network_that_is_gone_still_counts_as_a_sign_of_life() -> None:
    hearing = Hearing(ME, (X, Y))
    hearing.follow((X, Y), {B: frozenset({X})}, 0)
    hearing.expect([(B, B1)], 100)
    assert hearing.unheard_ms(B, B1, 300) == 200
    hearing.received(beat(B), X, 1000)
    hearing.follow((Y,), {B: frozenset({X})}, 1100)
    assert hearing.silent_ms(B, B1, 1500) == {}
    assert hearing.unheard_ms(B, B1, 1500) == 500
