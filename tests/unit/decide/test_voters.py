"""Who votes, and in which order votes come and go: never a step that costs a majority that was there."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.decide.made_up import NOW_MS, Part, cluster, incarnation, known, put, session, with_settings

from holdfast.decide.eviction import against_leaving
from holdfast.decide.voters import (
    LEARN_MS,
    SETTLE_MS,
    SeatedMember,
    VoterAct,
    VoterStep,
    check_restart,
    choose_voters,
    next_voter_step,
)
from holdfast.model.errors import Refused
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Capacity, NodeReport, Seat, SeatState
from holdfast.model.reasons import ReasonCode
from holdfast.model.settings import Settings
from holdfast.model.snapshot import Snapshot

AWAY_MS = Settings().voter_replace_after_s * 1000


def voter(name: str, id_: int | None = None, *, is_learner: bool = False) -> SeatedMember:
    return SeatedMember(id=id_ or ord(name[0]), node=NodeName(name), is_learner=is_learner)


def voters(names: str) -> tuple[SeatedMember, ...]:
    return tuple(voter(name) for name in names)


def up(name: str, **changes: Any) -> Part:
    """A node with a session."""
    return lambda snapshot: put("sessions", name, session(name))(known(name, **changes)(snapshot))


def nodes(names: str) -> tuple[Part, ...]:
    return tuple(up(name, is_voter=False) for name in names)


def seat_of(name: str, state: SeatState) -> Part:
    report = NodeReport(
        node=NodeName(name),
        incarnation=incarnation(name),
        capacity=Capacity(memory_bytes=0, vcpus=0),
        hears={},
        seat=Seat(member=ord(name[0]), state=state),
    )
    return put("reports", name, report)


def step(
    snapshot: Snapshot, members: tuple[SeatedMember, ...], away: str = "", *, learning_ms: int = 0
) -> tuple[VoterAct, str | None, ReasonCode] | None:
    found = next_voter_step(
        snapshot, members, absent_ms={NodeName(name): AWAY_MS for name in away}, learning_ms=learning_ms
    )
    return None if found is None else (found.act, found.node, found.reasons[0].code)


@pytest.mark.parametrize(("count", "voting"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (16, 5)])
def test_an_odd_number_of_nodes_votes(count: int, voting: int) -> None:
    snapshot = cluster(*nodes("abcdefghijklmnop"[:count]))
    assert len(choose_voters(snapshot, voters("a"), absent_ms={})) == voting


def test_votes_are_spread_over_sites_and_the_witness_is_one() -> None:
    sites = {"a": "east", "b": "east", "c": "east", "d": "west", "e": "west"}
    parts = [up(name, is_voter=False, site=site) for name, site in sites.items()]
    snapshot = cluster(*parts, up("w", is_voter=False, is_witness=True))
    chosen = choose_voters(snapshot, voters("abc"), absent_ms={})
    assert sorted(chosen) == ["a", "b", "d", "e", "w"]


def test_a_witness_is_never_the_only_voter_while_a_host_could_be() -> None:
    snapshot = cluster(up("a", is_voter=False), up("w", is_voter=False, is_witness=True))
    assert choose_voters(snapshot, voters("w"), absent_ms={}) == ("a",)


def test_two_hosts_need_a_third_machine_to_become_three_voters() -> None:
    assert step(cluster(*nodes("ab")), voters("a")) is None
    assert step(cluster(*nodes("abw")), voters("a")) == (VoterAct.ADD, "b", ReasonCode.VOTES_TO_SPREAD)


def test_the_second_of_three_waits_as_a_learner_until_the_third_would_be_admitted_at_once() -> None:
    snapshot = cluster(*nodes("abc"), seat_of("b", SeatState.RUNNING))
    learning = (voter("a"), voter("b", is_learner=True))
    assert step(snapshot, learning, learning_ms=SETTLE_MS - 1) == (VoterAct.WAIT, "b", ReasonCode.VOTES_TO_SPREAD)
    assert step(snapshot, learning, learning_ms=SETTLE_MS) == (VoterAct.PROMOTE, "b", ReasonCode.VOTES_TO_SPREAD)
    third = cluster(*nodes("abc"), seat_of("c", SeatState.RUNNING))
    found = step(third, (*voters("ab"), voter("c", is_learner=True)))
    assert found == (VoterAct.PROMOTE, "c", ReasonCode.VOTES_TO_SPREAD)


def test_safe_4_a_learner_gets_no_vote_before_its_node_has_noted_that_it_began() -> None:
    snapshot = cluster(*nodes("abc"), seat_of("c", SeatState.BEGINNING))
    learning = (*voters("ab"), voter("c", is_learner=True))
    assert step(snapshot, learning) == (VoterAct.WAIT, "c", ReasonCode.VOTES_TO_SPREAD)
    assert step(snapshot, learning, learning_ms=LEARN_MS) == (VoterAct.REMOVE, "c", ReasonCode.VOTER_SLOW)


def test_who_leaves_keeps_its_vote_until_another_one_votes() -> None:
    parts = (*nodes("abd"), up("c", is_voter=False, is_leaving=True))
    assert step(cluster(*parts), voters("abc")) == (VoterAct.ADD, "d", ReasonCode.VOTES_TO_SPREAD)
    assert step(cluster(*parts), voters("abcd")) == (VoterAct.REMOVE, "c", ReasonCode.VOTER_LEAVES)


def test_the_vote_of_the_only_voter_goes_to_the_other_node_first() -> None:
    parts = (up("b", is_voter=False), up("a", is_voter=False, is_leaving=True), seat_of("b", SeatState.RUNNING))
    assert step(cluster(*parts), voters("a")) == (VoterAct.ADD, "b", ReasonCode.VOTES_TO_SPREAD)
    learning = (voter("a"), voter("b", is_learner=True))
    assert step(cluster(*parts), learning) == (VoterAct.PROMOTE, "b", ReasonCode.VOTES_TO_SPREAD)
    assert step(cluster(*parts), voters("ab")) == (VoterAct.REMOVE, "a", ReasonCode.VOTER_LEAVES)


def test_of_a_voter_that_leaves_and_one_that_is_down_the_dead_one_goes_first() -> None:
    parts = (up("b", is_voter=False), known("c", joined_at_ms=-1), up("a", is_voter=False, is_leaving=True))
    first = cluster(*parts)
    assert step(first, voters("abc")) == (VoterAct.REMOVE, "c", ReasonCode.VOTER_AWAY)


def test_who_leaves_keeps_its_vote_while_the_others_could_not_decide_without_it() -> None:
    parts = (up("a", is_voter=False, is_leaving=True), known("b", is_voter=False))
    assert step(cluster(*parts), voters("a")) is None
    assert step(cluster(*parts), voters("ab")) is None


def test_of_voters_that_are_too_many_one_whose_member_is_down_goes_first() -> None:
    one = with_settings(Settings(voters_at_most=1))
    down = cluster(*nodes("abc"), seat_of("c", SeatState.DOWN), one)
    assert step(down, voters("abc")) == (VoterAct.REMOVE, "c", ReasonCode.VOTER_AWAY)
    whole = cluster(*nodes("abc"), seat_of("c", SeatState.RUNNING), one)
    assert step(whole, voters("abc")) == (VoterAct.REMOVE, "b", ReasonCode.VOTER_SURPLUS)


def test_safe_4_of_two_that_cannot_vote_the_one_without_its_data_goes_first_and_the_other_only_then() -> None:
    one = with_settings(Settings(voters_at_most=1))
    both = cluster(up("a"), known("b"), up("c"), seat_of("c", SeatState.LOST), one)
    assert step(both, voters("abc")) == (VoterAct.REMOVE, "c", ReasonCode.VOTER_DATA_LOST)
    assert step(both, voters("ab")) == (VoterAct.REMOVE, "b", ReasonCode.VOTER_AWAY)
    two_down = cluster(up("a"), known("b"), known("c"), one)
    assert step(two_down, voters("abc")) is None


def test_safe_4_nobodys_vote_is_taken_back_in_reliance_on_a_voter_that_is_not_heard() -> None:
    snapshot = cluster(up("a"), up("b"), up("c", is_leaving=True))
    assert next_voter_step(snapshot, voters("abc"), absent_ms={}, learning_ms=0) is not None
    silent = (NodeName("b"),)
    assert next_voter_step(snapshot, voters("abc"), absent_ms={}, learning_ms=0, silent=silent) is None


def test_a_voter_whose_member_is_down_for_long_is_replaced_like_one_that_is_down() -> None:
    down = cluster(*nodes("abcd"), seat_of("b", SeatState.DOWN))
    assert step(down, voters("abc")) is None
    assert step(down, voters("abc"), away="b") == (VoterAct.REMOVE, "b", ReasonCode.VOTER_AWAY)
    assert step(cluster(*nodes("abc"), seat_of("b", SeatState.DOWN)), voters("abc"), away="b") is None


def test_a_voter_that_is_down_for_long_is_replaced_and_only_if_another_can_vote() -> None:
    spare = cluster(*nodes("abd"), known("c"))
    assert step(spare, voters("abc")) is None
    assert step(spare, voters("abc"), away="c") == (VoterAct.REMOVE, "c", ReasonCode.VOTER_AWAY)
    assert step(cluster(*nodes("ab"), known("c")), voters("abc"), away="c") is None


RUNNING = tuple(seat_of(name, SeatState.RUNNING) for name in "abc")


@pytest.mark.parametrize(
    ("members", "changed", "silent", "counted"),
    [
        (voters("a"), (), "", "of 1 votes 1 are needed to decide, and without the member on a 0 are there (nobody)"),
        (voters("ab"), (), "", "of 2 votes 2 are needed to decide, and without the member on a 1 are there (b)"),
        ((*voters("ab"), voter("c", is_learner=True)), (), "", "of 2 votes 2 are needed"),
        (voters("abc"), (), "c", "of 3 votes 2 are needed to decide, and without the member on a 1 are there (b)"),
        (voters("abc"), (seat_of("c", SeatState.DOWN),), "", "1 are there (b)"),
    ],
)
def test_no_member_starts_again_while_the_others_could_not_decide(
    members: tuple[SeatedMember, ...], changed: tuple[Part, ...], silent: str, counted: str
) -> None:
    snapshot = cluster(*nodes("abc"), *RUNNING, *changed)
    with pytest.raises(Refused) as refused:
        check_restart(snapshot, members, NodeName("a"), frozenset(map(NodeName, silent)))
    assert counted in refused.value.message


def test_a_member_starts_again_while_a_majority_decides_without_it() -> None:
    check_restart(cluster(*nodes("abc"), *RUNNING), voters("abc"), NodeName("a"), frozenset())


def test_a_member_of_no_node_and_one_without_its_data_go_first() -> None:
    orphan = SeatedMember(id=9, node=None, is_learner=False)
    assert step(cluster(*nodes("abd")), (*voters("ab"), orphan)) == (VoterAct.REMOVE, None, ReasonCode.VOTER_UNKNOWN)
    lost = cluster(*nodes("abcd"), seat_of("c", SeatState.LOST))
    assert step(lost, voters("abc")) == (VoterAct.REMOVE, "c", ReasonCode.VOTER_DATA_LOST)


class SimulatedEtcd:
    """The members, with etcd's own conditions for changing them. `alive`: whose machine is up."""

    def __init__(self, first: str) -> None:
        self.members = {1: voter(first, 1)}
        self.last = 1

    def apply(self, change: VoterStep, alive: set[NodeName]) -> bool:
        """Whether it was admitted."""
        votes = [one for one in self.members.values() if not one.is_learner]
        living = [one for one in votes if one.node in alive]
        if len(living) * 2 <= len(votes):
            return False
        match change.act:
            case VoterAct.ADD:
                if len(living) < len(votes) or any(one.is_learner for one in self.members.values()):
                    return False
                self.last += 1
                self.members[self.last] = SeatedMember(id=self.last, node=change.node, is_learner=True)
            case VoterAct.PROMOTE:
                assert change.member is not None
                self.members[change.member] = replace(self.members[change.member], is_learner=False)
            case VoterAct.REMOVE:
                assert change.member is not None
                gone = self.members[change.member]
                if not gone.is_learner and gone in living and len(living) - 1 < 1 + (len(votes) - 2) // 2:
                    return False
                del self.members[change.member]
            case VoterAct.WAIT:
                return False
        return True


def _seen(
    names: list[str],
    alive: set[NodeName],
    etcd: SimulatedEtcd,
    sites: dict[str, str | None],
    leaving: Set[NodeName] = frozenset(),
) -> Snapshot:
    parts: list[Part] = [with_settings(Settings())]
    seats = {member.node: member.id for member in etcd.members.values()}
    for name in names:
        make = up if NodeName(name) in alive else known
        votes = any(one.node == name and not one.is_learner for one in etcd.members.values())
        is_leaving = NodeName(name) in leaving
        parts.append(make(name, is_voter=votes, is_leaving=is_leaving, site=sites[name], joined_at_ms=NOW_MS))
        if NodeName(name) in alive and NodeName(name) in seats:
            report = NodeReport(
                node=NodeName(name),
                incarnation=incarnation(name),
                capacity=Capacity(memory_bytes=0, vcpus=0),
                hears={},
                seat=Seat(member=seats[NodeName(name)], state=SeatState.RUNNING),
            )
            parts.append(put("reports", name, report))
    return cluster(*parts)


class History:
    """Machines that come, go, die and return, and the votes that follow them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.names = ["a"]
        self.alive = {NodeName("a")}
        self.sites: dict[str, str | None] = dict.fromkeys("abcdefgh")
        self.etcd = SimulatedEtcd("a")
        self.leaving: set[NodeName] = set()

    @property
    def votes(self) -> list[SeatedMember]:
        return [one for one in self.etcd.members.values() if not one.is_learner]

    def happen(self) -> None:
        """Let one thing happen that leaves a majority alive."""
        match self.random.choice(["join", "join", "die", "return", "evict", "leave", "site"]):
            case "join" if len(self.names) < 8:
                self.names.append(next(one for one in "abcdefgh" if one not in self.names))
                self.alive.add(NodeName(self.names[-1]))
            case "die":
                dying = NodeName(self.random.choice(self.names))
                left = [one for one in self.votes if one.node in self.alive and one.node != dying]
                if len(left) * 2 > len(self.votes):
                    self.alive.discard(dying)
            case "return":
                self.alive.update(NodeName(name) for name in self.names)
            case "leave":
                leaving = NodeName(self.random.choice(self.names))
                snapshot = _seen(self.names, self.alive, self.etcd, self.sites)
                if not against_leaving(snapshot, leaving):
                    self.leaving.add(leaving)
            case "evict":
                if dead := [name for name in self.names if NodeName(name) not in self.alive]:
                    self.names.remove(self.random.choice(dead))
            case "site":
                self.sites[self.random.choice(self.names)] = self.random.choice(["east", "west"])

    def go(self) -> None:
        """Who leaves and is up has lost its vote by now, so that its machine can be switched off."""
        seated = {one.node for one in self.etcd.members.values()}
        assert not self.leaving & self.alive & seated
        gone = self.leaving - seated
        self.leaving -= gone
        self.alive -= gone
        self.names = [name for name in self.names if NodeName(name) not in gone]

    def settle(self) -> None:
        """Change votes until nothing more is wanted or admitted."""
        for _ in range(40):
            snapshot = _seen(self.names, self.alive, self.etcd, self.sites, self.leaving)
            away = {NodeName(name): AWAY_MS for name in self.names if NodeName(name) not in self.alive}
            members = tuple(
                one if one.node in self.names else replace(one, node=None) for one in self.etcd.members.values()
            )
            change = next_voter_step(snapshot, members, absent_ms=away, learning_ms=SETTLE_MS)
            if change is None or not self.etcd.apply(change, self.alive & {NodeName(name) for name in self.names}):
                self.go()
                return
            assert sum(one.node in self.alive for one in self.votes) * 2 > len(self.votes)
        raise AssertionError("votes do not settle")


@given(seed=st.integers(0, 2**32))
def test_safe_4_votes_settle_on_an_odd_number_and_no_step_costs_a_majority(seed: int) -> None:
    history = History(seed)
    for _ in range(12):
        history.happen()
        history.settle()
        if len(history.alive & {NodeName(name) for name in history.names}) == len(history.names):
            assert len(history.votes) == min(5, len(history.names) - 1 + len(history.names) % 2)
