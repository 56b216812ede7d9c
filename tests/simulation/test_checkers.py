"""The checkers, each on a history written by hand: what is right passes, and each way of being wrong is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.decide.made_up import incarnation, node_spec, owned, proof, session, verdict

from holdfast.model.ids import Epoch, NodeName
from holdfast.model.nodes import FenceOrder, ProofKind
from holdfast.model.roles import Memory, MemoryKind, Phase, Receiver
from holdfast.model.snapshot import Coordinator
from holdfast.sim.database import WorldDatabase
from holdfast.sim.history import Author
from holdfast.sim.record_checkers import commits_keep_the_rules, nobody_is_lost
from holdfast.sim.truth import Truth
from holdfast.store.port import Delete, Operation, Put, Txn
from holdfast.store.records import (
    COORDINATOR,
    encode,
    node_key,
    order_key,
    ownership_key,
    proof_key,
    session_key,
    verdict_key,
)

A, B, C = (NodeName(name) for name in "abc")
UUID = "00000000-0000-4000-8000-000000000001"


class Hand:
    """A cluster of three whose every commit is written by hand; `a` coordinates, and `b` owns web."""

    def __init__(self) -> None:
        self.at = 0.0
        self.truth = Truth(lambda: self.at)
        self.truth.names[UUID] = "web"
        self.database = WorldDatabase(self.truth, lambda _: None)
        self.truth.revision = lambda: self.database.revision
        self.truth.incarnation_of = lambda node: incarnation(NodeName(node))
        for name in (A, B, C):
            self.commit("", Put(node_key(name), encode(node_spec(name))))
            self.commit(name, Put(session_key(name), encode(session(name))))
        self.commit(A, Put(COORDINATOR, encode(Coordinator(node=A, incarnation=incarnation(A)))))
        self.own(A, Phase.ASSIGNED)
        self.own(B, Phase.STARTING)
        self.truth.guest_began(B, UUID)
        self.own(B, Phase.ONLINE)

    def commit(self, by: str, *operations: Operation, hearings: tuple[NodeName, ...] = ()) -> None:
        self.at += 1.0
        heard = {(str(name), str(incarnation(B))): (0.0, self.at) for name in hearings}
        self.database.submit(Txn(then=operations), Author(name=by, asked_at=self.at, hearings=heard))

    def own(self, by: NodeName, phase: Phase, *, owner: NodeName | None = B, epoch: int = 1) -> None:
        last = B if owner is None else None
        self.commit(
            by,
            Put(
                ownership_key(owned("web", None).role), encode(owned("web", owner, phase, epoch=epoch, last_owner=last))
            ),
        )

    def lose(self) -> None:
        self.commit(A, Put(verdict_key(B), encode(verdict(B))), Delete(session_key(B)))

    def end(self) -> None:
        self.at += 1.0
        self.truth.guest_ended(B, UUID, "power lost")

    def told(self) -> list[str]:
        return [line.partition(":")[0] for line in commits_keep_the_rules(self.database.history, self.truth)]


def test_a_failover_by_the_rules_is_fine() -> None:
    hand = Hand()
    hand.end()
    hand.lose()
    hand.commit(A, Put(proof_key(incarnation(B)), encode(proof(B, kind=ProofKind.POWER))))
    hand.own(A, Phase.ASSIGNED, owner=C, epoch=2)
    hand.own(C, Phase.STARTING, owner=C, epoch=2)
    hand.truth.guest_began(C, UUID)
    assert hand.told() == []


def test_a_release_by_the_rules_is_fine() -> None:
    hand = Hand()
    hand.end()
    hand.own(B, Phase.VACANT, owner=None)
    assert hand.told() == []


COPY = Memory(kind=MemoryKind.COPIED, id="m1", disk_generation=0)


def goes_on_with_memory(hand: Hand, owner: NodeName, **changes: Any) -> None:
    """The last owner writes where the role goes on with the memory that the guest has on its node."""
    after = owned("web", owner, Phase.STARTING, last_owner=B, memory=replace(COPY, is_consumed=True), **changes)
    hand.commit(B, Put(ownership_key(after.role), encode(after)))


def test_who_keeps_a_role_it_already_had_before_does_not_release_it() -> None:
    """A suspended guest goes on where it is, under a record with its own memory, after its move was cancelled."""
    hand = Hand()
    goes_on_with_memory(hand, B)
    assert hand.told() == []


def handed_over(hand: Hand) -> None:
    receiver = Receiver(node=C, incarnation=incarnation(C))
    copying = owned("web", B, Phase.MIGRATING, making=COPY, receiving=receiver)
    hand.commit(B, Put(ownership_key(copying.role), encode(copying)))
    goes_on_with_memory(hand, C, epoch=Epoch(2))


def test_a_role_that_is_handed_over_after_its_guest_ended_is_fine() -> None:
    hand = Hand()
    hand.end()
    handed_over(hand)
    assert hand.told() == []


def released_while_it_runs(hand: Hand) -> None:
    hand.own(B, Phase.VACANT, owner=None)


def given_away_without_proof(hand: Hand) -> None:
    hand.own(A, Phase.ASSIGNED, owner=C, epoch=2)


def proven_while_it_runs(hand: Hand) -> None:
    hand.lose()
    hand.commit(A, Put(proof_key(incarnation(B)), encode(proof(B))))


def proven_without_verdict(hand: Hand) -> None:
    hand.end()
    hand.commit(A, Put(proof_key(incarnation(B)), encode(proof(B, kind=ProofKind.PERSON))))


def claimed_after_a_verdict(hand: Hand) -> None:
    hand.lose()
    hand.own(B, Phase.STARTING)


def claimed_by_another(hand: Hand) -> None:
    hand.own(C, Phase.STOPPING)


def epoch_goes_back(hand: Hand) -> None:
    hand.own(B, Phase.ONLINE, epoch=0)


def started_twice_under_one_claim(hand: Hand) -> None:
    hand.own(B, Phase.STARTING)
    hand.truth.guest_began(B, UUID)
    hand.end()
    hand.truth.guest_began(B, UUID)


def started_where_another_owns_it(hand: Hand) -> None:
    hand.truth.guest_began(C, UUID)


def assigned_by_somebody_else(hand: Hand) -> None:
    hand.end()
    hand.own(B, Phase.VACANT, owner=None)
    hand.own(C, Phase.ASSIGNED, owner=C, epoch=2)


def heard_by_a_majority_and_lost(hand: Hand) -> None:
    hand.commit(A, Put(verdict_key(B), encode(verdict(B))), Delete(session_key(B)), hearings=(B, C))


def session_comes_back(hand: Hand) -> None:
    hand.lose()
    hand.commit(B, Put(session_key(B), encode(session(B))))


def committed_without_leader(hand: Hand) -> None:
    hand.database.has_leader = False
    hand.own(B, Phase.ONLINE)


def ordered_off_by_somebody_else(hand: Hand) -> None:
    hand.lose()
    order = FenceOrder(incarnation=incarnation(B), by=C, at_ms=0)
    hand.commit(C, Put(order_key(B), encode(order)))


def ordered_off_in_a_storm(hand: Hand) -> None:
    hand.lose()
    hand.commit(A, Put(verdict_key(C), encode(verdict(C))), Delete(session_key(C)))
    hand.commit(A, Put(order_key(B), encode(FenceOrder(incarnation=incarnation(B), by=A, at_ms=0))))


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (released_while_it_runs, "SAFE-2"),
        (handed_over, "SAFE-2"),
        (given_away_without_proof, "SAFE-2"),
        (proven_while_it_runs, "SAFE-2"),
        (proven_without_verdict, "SAFE-2"),
        (claimed_after_a_verdict, "SAFE-3"),
        (claimed_by_another, "SAFE-3"),
        (epoch_goes_back, "SAFE-3"),
        (started_twice_under_one_claim, "SAFE-3"),
        (started_where_another_owns_it, "SAFE-3"),
        (assigned_by_somebody_else, "SAFE-4"),
        (heard_by_a_majority_and_lost, "SAFE-4"),
        (session_comes_back, "SAFE-4"),
        (committed_without_leader, "SAFE-4"),
        (ordered_off_by_somebody_else, "SAFE-4"),
        (ordered_off_in_a_storm, "SAFE-8"),
    ],
)
def test_what_is_wrong_is_told(wrong: Callable[[Hand], None], rule: str) -> None:
    hand = Hand()
    wrong(hand)
    assert rule in hand.told()


def test_safe_6_a_node_that_is_declared_lost_is_told() -> None:
    hand = Hand()
    assert list(nobody_is_lost(hand.database.history)) == []
    hand.lose()
    assert len(list(nobody_is_lost(hand.database.history))) == 1


def test_a_heartbeat_that_others_have_overtaken_is_not_heard() -> None:
    now = 0.0
    truth = Truth(lambda: now)
    truth.heard("a", "net", "b1", 5)
    now = 1.0
    truth.heard("a", "net", "b1", 4)
    assert truth.hearings["a", "b1"].last == 0.0
    truth.heard("a", "net", "b1", 6)
    assert truth.hearings["a", "b1"].last == 1.0
