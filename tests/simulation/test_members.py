"""Members of the simulated database refuse what etcd refuses, and the checkers tell what must not be."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from holdfast.model.errors import Conflict
from holdfast.model.ids import NodeName
from holdfast.sim.loop import VirtualLoop
from holdfast.sim.member_checkers import members_keep_the_rules
from holdfast.sim.members import Election, Entry, Members
from holdfast.sim.truth import Truth
from holdfast.store.errors import MemberChangeRefused, MemberNotFound, StoreUnavailable
from holdfast.store.port import MemberId

A, B, C, D = (NodeName(name) for name in "abcd")
LONG_S = 6.0


class Hand:
    """Four machines, of which some have members that run; what is cut or down is said by hand."""

    def __init__(self, *voters: NodeName) -> None:
        self.at = 0.0
        self.truth = Truth(lambda: self.at)
        self.down: set[NodeName] = set()
        self.cut: set[frozenset[NodeName]] = set()
        self.runs: dict[NodeName, MemberId] = {}
        self.members = Members(
            loop=VirtualLoop(),  # type: ignore[abstract]  # as in the world
            truth=self.truth,
            reaches=lambda one, other: frozenset((one, other)) not in self.cut,
            holder_of=lambda node: None if node in self.down else self.runs.get(node),
            nodes=lambda: ((node, node not in self.down) for node in (A, B, C, D)),
            homes={url(node): node for node in (A, B, C, D)},
            random=Random(1),
        )
        for number, node in enumerate(voters, 1):
            self.members.found(node, (url(node),), number)
            self.runs[node] = MemberId(number)
        self.members.elect(voters[0])
        self.pass_time(LONG_S)

    def pass_time(self, time_s: float) -> None:
        """Everything stays as it is so long, after all have noticed it."""
        self.members.together()
        self.at += time_s

    def learner(self, node: NodeName) -> MemberId:
        """A member that is added, starts, and catches up."""
        member = self.members.add((url(node),), by=A).id
        begun = self.members.begins(node, (url(node),))
        assert begun == member
        self.runs[node] = member
        self.pass_time(1.0)
        return member

    def told(self) -> str:
        """What the checkers say."""
        return "\n".join(members_keep_the_rules(self.members, ()))


def url(node: NodeName) -> str:
    """Where the member of a node listens."""
    return f"https://{node}:1"


def test_a_learner_votes_once_it_has_caught_up() -> None:
    hand = Hand(A)
    member = hand.members.add((url(B),), by=A).id
    with pytest.raises(MemberChangeRefused, match="in sync with leader"):
        hand.members.promote(member, by=A)
    hand.runs[B] = hand.members.begins(B, (url(B),)) or MemberId(0)
    hand.pass_time(1.0)
    hand.members.promote(member, by=A)
    assert [one.node for one in hand.members.voters()] == [A, B]


def test_there_is_one_learner_at_most_and_one_member_per_address() -> None:
    hand = Hand(A)
    hand.learner(B)
    with pytest.raises(MemberChangeRefused, match="too many learner"):
        hand.members.add((url(C),), by=A)
    with pytest.raises(Conflict):
        hand.members.add((url(B),), by=A)


def test_nobody_is_added_before_all_voters_have_been_connected_for_five_seconds() -> None:
    hand = Hand(A, B, C)
    hand.down.add(C)
    hand.pass_time(LONG_S)
    with pytest.raises(MemberChangeRefused, match="unhealthy"):
        hand.members.add((url(D),), by=A)
    hand.down.clear()
    hand.pass_time(4.0)
    with pytest.raises(MemberChangeRefused, match="unhealthy"):
        hand.members.add((url(D),), by=A)
    hand.pass_time(2.0)
    hand.members.add((url(D),), by=A)


def test_a_connected_voter_goes_only_when_enough_others_are_connected_and_a_dead_one_always() -> None:
    hand = Hand(A, B, C, D)
    hand.down |= {C, D}
    hand.pass_time(LONG_S)
    with pytest.raises(MemberChangeRefused, match="unhealthy"):
        hand.members.remove(MemberId(2), by=A)
    hand.members.remove(MemberId(3), by=A)
    with pytest.raises(MemberNotFound):
        hand.members.remove(MemberId(3), by=A)


def test_an_id_never_comes_again() -> None:
    hand = Hand(A)
    first = hand.learner(B)
    hand.members.remove(first, by=A)
    assert hand.learner(B) > first


def test_who_is_cut_from_the_leader_uses_the_database_through_another_member() -> None:
    hand = Hand(A, B, C)
    hand.cut.add(frozenset((A, B)))
    hand.pass_time(1.0)
    assert hand.members.leader == A
    assert hand.members.together() == {A, B, C, D}
    hand.cut.add(frozenset((B, C)))
    hand.cut.add(frozenset((B, D)))
    assert hand.members.together() == {A, C, D}


def test_whoever_missed_what_was_committed_leads_nobody_who_has_it() -> None:
    hand = Hand(A, B, C)
    hand.down.add(C)
    hand.members.store()
    hand.down = {A}
    assert hand.members.candidates() == [B]


def test_the_lead_goes_only_to_a_voter_that_runs() -> None:
    hand = Hand(A, B, C)
    hand.members.move_leader(MemberId(2))
    assert hand.members.leader == B
    hand.down.add(C)
    with pytest.raises(StoreUnavailable):
        hand.members.move_leader(MemberId(3))


def runs_without_its_data(hand: Hand) -> None:
    hand.members.begins(B, (url(B),))


def runs_on_an_older_copy(hand: Hand) -> None:
    hand.members.set_back(hand.runs[B], 0)
    hand.members.starts(hand.runs[B])


def leads_without_what_was_committed(hand: Hand) -> None:
    hand.members.elections.append(Election(at=1.0, node=C, stored=1, committed=2))


def committed_by_one_of_three(hand: Hand) -> None:
    hand.members.log.append(entry({1, 2, 3}, {1}))


def majorities_that_do_not_meet(hand: Hand) -> None:
    hand.members.log += [entry({1, 2, 3}, {1, 2}), entry({3, 4, 5}, {4, 5})]


def changed_by_nobody_in_particular(hand: Hand) -> None:
    hand.members.add((url(D),), by=B)


def entry(voters: set[int], stored: set[int]) -> Entry:
    """Commits from then on."""
    return Entry(at=1.0, voters=frozenset(map(MemberId, voters)), stored=frozenset(map(MemberId, stored)))


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (runs_without_its_data, "SAFE-4"),
        (runs_on_an_older_copy, "SAFE-4"),
        (leads_without_what_was_committed, "SAFE-4"),
        (committed_by_one_of_three, "SAFE-4"),
        (majorities_that_do_not_meet, "SAFE-4"),
        (changed_by_nobody_in_particular, "VOTES"),
    ],
)
def test_safe_4_what_is_wrong_with_members_is_told(wrong: Callable[[Hand], None], rule: str) -> None:
    hand = Hand(A, B, C)
    assert hand.told() == ""
    wrong(hand)
    assert rule in hand.told()
