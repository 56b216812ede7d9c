"""Each transaction fails when what it rests on has changed: the opposing change is committed first, then it is tried.

Every test first shows that the transaction succeeds without the opposing change, so that it fails for that reason only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.decide.made_up import NOW_MS, incarnation, node_spec, owned, proof, role_spec, session, verdict
from tests.unit.node.small_database import LEASE_S, SmallDatabase

from holdfast.decide.coordination import Change, plan
from holdfast.decide.moves import Move
from holdfast.model.disks import DiskSpec
from holdfast.model.ids import DiskName, Epoch, NodeName, RoleName
from holdfast.model.nodes import Capacity, FenceOrder, NodeReport, Proof, ProofKind
from holdfast.model.roles import Phase, Wanted
from holdfast.model.snapshot import Coordinator, Snapshot
from holdfast.node.spec_transactions import (
    add_disk,
    add_role,
    remove_disk,
    remove_role,
    set_cluster,
    set_node,
    set_role,
)
from holdfast.node.transactions import (
    Self,
    advance,
    campaign,
    change_owner,
    convict,
    order_moves,
    order_off,
    record_proof,
    record_restarts,
    register_session,
    resign,
    revision_of,
    take_back_move,
    update_session,
)
from holdfast.store.port import Delete, LeaseId, Txn
from holdfast.store.records import (
    CLUSTER,
    COORDINATOR,
    disk_key,
    node_key,
    ownership_key,
    proof_key,
    report_key,
    session_key,
    spec_key,
    verdict_key,
)

A, B, C = (NodeName(name) for name in "abc")
WEB = RoleName("web")
Opposing = Callable[[SmallDatabase], object]


class Cluster(SmallDatabase):
    """Three nodes that are up, coordinated by a; b is the owner of the role web."""

    def __init__(self, phase: Phase = Phase.ONLINE) -> None:
        super().__init__()
        for name in (A, B, C):
            self.node(node_spec(name))
        self.a, self.b, self.c = (self.up(session(name)) for name in (A, B, C))
        self.elect(self.a, incarnation(A))
        self.role(role_spec("web"), owned("web", B, phase))

    def takeover(self, snapshot: Snapshot) -> Txn:
        """The coordinator's transaction that gives web to c, decided on `snapshot`."""
        before = snapshot.ownerships[WEB]
        after = owned("web", C, Phase.ASSIGNED, epoch=Epoch(2), last_owner=B)
        made = Change(role=WEB, before=before, after=after, session=snapshot.sessions[C], proof=incarnation(B))
        return change_owner(made, snapshot=snapshot, events=())


def seen(cluster: SmallDatabase) -> int:
    """The revision of b's session, as b would compare it."""
    return revision_of(cluster.snapshot().sessions.get(B))


def lose_b(cluster: SmallDatabase) -> None:
    cluster.lose(verdict(B))


def take_over(cluster: SmallDatabase) -> None:
    cluster.put(ownership_key(WEB), owned("web", C, Phase.ASSIGNED, epoch=Epoch(2)))


def restart_b(cluster: SmallDatabase) -> None:
    """The session of b ends, and another incarnation of b registers."""
    cluster.end_session(B)
    cluster.up(session(B, 2))


def expire_b(cluster: SmallDatabase) -> None:
    cluster.end_session(B)


def reelect(cluster: SmallDatabase) -> None:
    cluster.put(COORDINATOR, Coordinator(node=C, incarnation=incarnation(C)))


# --- the owner's own steps: SAFE-3 --------------------------------------------------------------------------------


def claim(cluster: Cluster) -> Txn:
    before = cluster.snapshot().ownerships[WEB]
    return advance(replace(before.value, phase=Phase.STARTING), before=before, me=cluster.b, events=())


async def test_safe_3_a_claim_succeeds_while_nothing_changed() -> None:
    cluster = Cluster(Phase.ASSIGNED)
    assert cluster.commit(claim(cluster))
    assert cluster.snapshot().ownerships[WEB].value.phase is Phase.STARTING


@pytest.mark.parametrize("opposing", [take_over, lose_b, restart_b, expire_b], ids=lambda f: str(f.__name__))
async def test_safe_3_a_claim_fails_after(opposing: Opposing) -> None:
    cluster = Cluster(Phase.ASSIGNED)
    late = claim(cluster)
    opposing(cluster)
    assert not cluster.commit(late)
    assert cluster.snapshot().ownerships[WEB].value.phase is Phase.ASSIGNED


async def test_safe_3_a_claim_that_was_committed_already_is_not_committed_twice() -> None:
    cluster = Cluster(Phase.ASSIGNED)
    once = claim(cluster)
    assert cluster.commit(once)
    assert not cluster.commit(once)


async def test_safe_2_a_release_that_comes_late_does_not_touch_the_next_owner() -> None:
    cluster = Cluster()
    before = cluster.snapshot().ownerships[WEB]
    late = advance(owned("web", None, last_owner=B), before=before, me=cluster.b, events=())
    take_over(cluster)
    assert not cluster.commit(late)
    assert cluster.snapshot().ownerships[WEB].value.owner == C


# --- the coordinator's changes: SAFE-2, SAFE-3, SAFE-4 --------------------------------------------------------------


def proven_loss() -> tuple[Cluster, Snapshot]:
    cluster = Cluster()
    lose_b(cluster)
    cluster.put(proof_key(incarnation(B)), proof(B))
    return cluster, cluster.snapshot()


async def test_safe_2_a_takeover_with_a_committed_proof_succeeds() -> None:
    cluster, snapshot = proven_loss()
    assert cluster.commit(cluster.takeover(snapshot))
    assert cluster.snapshot().ownerships[WEB].value.epoch == 2


@pytest.mark.parametrize(
    "opposing",
    [
        lambda cluster: cluster.database.txn(remove(proof_key(incarnation(B)))),
        lambda cluster: cluster.put(ownership_key(WEB), owned("web", A, epoch=Epoch(2))),
        lambda cluster: cluster.put(spec_key(WEB), role_spec("web", wanted=Wanted.OFFLINE)),
        lambda cluster: cluster.database.txn(remove(spec_key(WEB))),
        lambda cluster: cluster.lose(verdict(C)),
        lambda cluster: (cluster.end_session(C), cluster.up(session(C, 2))),
        reelect,
        lambda cluster: cluster.end_session(A),
    ],
    ids=[
        "safe-2-proof-gone",
        "safe-1-owner-changed",
        "role-wanted-offline",
        "role-removed",
        "safe-3-new-owner-lost",
        "safe-3-new-owner-restarted",
        "safe-4-other-coordinator",
        "safe-4-coordinator-expired",
    ],
)
async def test_a_takeover_fails_after(opposing: Opposing) -> None:
    cluster, snapshot = proven_loss()
    late = cluster.takeover(snapshot)
    opposing(cluster)
    before = cluster.database.get(ownership_key(WEB))
    assert not cluster.commit(late)
    assert cluster.database.get(ownership_key(WEB)) == before


def remove(key: str) -> Txn:
    return Txn(then=(Delete(key),))


async def test_safe_2_a_change_that_needs_a_proof_cannot_be_written_without_one_in_the_snapshot() -> None:
    cluster = Cluster()
    lose_b(cluster)
    with pytest.raises(KeyError):
        cluster.takeover(cluster.snapshot())


async def test_safe_1_of_two_coordinators_that_decide_at_once_one_wins() -> None:
    cluster, snapshot = proven_loss()
    first, second = cluster.takeover(snapshot), cluster.takeover(snapshot)
    assert [cluster.commit(first), cluster.commit(second)] == [True, False]


async def test_safe_3_a_role_taken_from_a_node_that_did_not_claim_in_time_fails_once_it_did() -> None:
    cluster = Cluster(Phase.ASSIGNED)
    has = Capacity(memory_bytes=2**33, vcpus=4)
    cluster.put(report_key(C), NodeReport(node=C, incarnation=incarnation(C), capacity=has, hears={}))
    snapshot = cluster.snapshot()
    (change,) = plan(snapshot, NOW_MS + 10_000).changes
    late = change_owner(change, snapshot=snapshot, events=())
    assert cluster.commit(claim(cluster))
    assert not cluster.commit(late)
    assert cluster.snapshot().ownerships[WEB].value.owner == B


async def test_safe_4_no_owner_is_assigned_without_a_coordinator() -> None:
    cluster = Cluster()
    cluster.end_session(A)
    snapshot = cluster.snapshot()
    made = Change(role=WEB, before=snapshot.ownerships[WEB], after=owned("web", C, Phase.ASSIGNED))
    with pytest.raises(ValueError, match="without a coordinator"):
        change_owner(made, snapshot=snapshot, events=())


# --- verdicts and proofs: SAFE-2, SAFE-4 ----------------------------------------------------------------------------


async def test_safe_4_a_verdict_ends_session_report_and_coordination_at_one_revision() -> None:
    cluster = Cluster()
    assert cluster.commit(convict(verdict(A), proof(A), snapshot=cluster.snapshot(), events=()))
    after = cluster.snapshot()
    assert A not in after.sessions
    assert after.coordinator is None
    assert after.is_lost(A, incarnation(A))
    assert after.verdicts[A].revision == after.proofs[incarnation(A)].revision == after.revision


@pytest.mark.parametrize(
    "opposing",
    [
        lambda cluster: cluster.commit(update_session(session(B, touched=1), cluster.b, revision=seen(cluster))),
        restart_b,
        expire_b,
        lose_b,
        lambda cluster: cluster.put(verdict_key(B), verdict(B, 2)),
    ],
    ids=["touched", "restarted", "expired", "lost-already", "judged-by-another"],
)
async def test_safe_4_a_verdict_fails_after_the_suspect_was(opposing: Opposing) -> None:
    cluster = Cluster()
    late = convict(verdict(B), None, snapshot=cluster.snapshot(), events=())
    opposing(cluster)
    before = cluster.database.revision
    assert not cluster.commit(late)
    assert cluster.database.revision == before


async def test_safe_4_a_verdict_on_the_coordinator_fails_when_another_was_elected_meanwhile() -> None:
    cluster = Cluster()
    late = convict(verdict(A), None, snapshot=cluster.snapshot(), events=())
    reelect(cluster)
    assert not cluster.commit(late)


async def test_safe_2_a_proof_needs_the_verdict_it_was_found_for() -> None:
    cluster = Cluster()
    lose_b(cluster)
    found = cluster.snapshot().verdicts[B]
    late = record_proof(proof(B), verdict=found, events=())
    cluster.put(verdict_key(B), verdict(B, 2))
    assert not cluster.commit(late)
    again = record_proof(proof(B), verdict=cluster.snapshot().verdicts[B], events=())
    assert cluster.commit(again)


async def test_safe_2_a_proof_is_recorded_once_and_never_replaced() -> None:
    cluster = Cluster()
    lose_b(cluster)
    found = cluster.snapshot().verdicts[B]
    assert cluster.commit(record_proof(proof(B), verdict=found, events=()))
    assert not cluster.commit(record_proof(proof(B, kind=ProofKind.PERSON), verdict=found, events=()))
    assert cluster.snapshot().proofs[incarnation(B)].value.kind is ProofKind.POWER


ONE, TWO = DiskName("one"), DiskName("two")


def kept_off(*disks: DiskName) -> Proof:
    return replace(proof(B, kind=ProofKind.STORAGE_RESERVATION), disks=disks)


def disk_spec(name: DiskName, designator: str = "naa.1") -> DiskSpec:
    return DiskSpec(name=name, designator=designator, size_bytes=1, guest_source="/dev/x", reservations="sg:/dev/x")


async def test_safe_2_a_proof_by_reservation_is_replaced_by_one_that_says_more_and_by_no_other() -> None:
    cluster = Cluster()
    lose_b(cluster)
    found = cluster.snapshot().verdicts[B]
    assert cluster.commit(record_proof(kept_off(ONE), verdict=found, events=()))
    assert not cluster.commit(record_proof(proof(B), verdict=found, events=()))
    before = cluster.snapshot().proofs[incarnation(B)]
    for less in (kept_off(ONE), kept_off(TWO), kept_off()):
        with pytest.raises(ValueError, match="would take back"):
            record_proof(less, verdict=found, before=before, events=())
    assert cluster.commit(record_proof(kept_off(ONE, TWO), verdict=found, before=before, events=()))
    assert not cluster.commit(record_proof(proof(B), verdict=found, before=before, events=()))
    before = cluster.snapshot().proofs[incarnation(B)]
    assert cluster.commit(record_proof(proof(B), verdict=found, before=before, events=()))
    before = cluster.snapshot().proofs[incarnation(B)]
    with pytest.raises(ValueError, match="would take back"):
        record_proof(kept_off(ONE, TWO), verdict=found, before=before, events=())


@pytest.mark.parametrize(
    ("opposing", "succeeds"),
    [
        (lambda cluster: None, True),
        (lambda cluster: cluster.commit(Txn(then=(Delete(disk_key(ONE)),))), False),
        (lambda cluster: cluster.put(disk_key(ONE), disk_spec(ONE, "naa.2")), False),
        (lambda cluster: cluster.put(disk_key(TWO), disk_spec(TWO)), True),
    ],
    ids=["nothing", "removed", "replaced", "another-added"],
)
async def test_safe_2_a_proof_about_a_disk_fails_when_the_name_is_another_disks_by_then(
    opposing: Opposing, succeeds: bool
) -> None:
    cluster = Cluster()
    lose_b(cluster)
    cluster.put(disk_key(ONE), disk_spec(ONE))
    snapshot = cluster.snapshot()
    txn = record_proof(kept_off(ONE), verdict=snapshot.verdicts[B], disks=(snapshot.disks[ONE],), events=())
    opposing(cluster)
    assert cluster.commit(txn) is succeeds


@pytest.mark.parametrize(
    ("opposing", "succeeds"),
    [
        (lambda cluster: None, True),
        (lambda cluster: cluster.commit(count_role(cluster)), False),
        (lambda cluster: cluster.put(disk_key(ONE), disk_spec(ONE, "naa.2")), False),
    ],
    ids=["nothing", "role-added", "replaced"],
)
async def test_safe_2_a_disk_is_not_removed_when_a_role_was_added_meanwhile(opposing: Opposing, succeeds: bool) -> None:
    cluster = Cluster()
    cluster.put(disk_key(ONE), disk_spec(ONE))
    snapshot = cluster.snapshot()
    assert snapshot.cluster is not None
    counted = replace(snapshot.cluster.value, role_set=7)
    late = remove_disk(snapshot.disks[ONE], cluster=snapshot.cluster, counted=counted, events=())
    opposing(cluster)
    assert cluster.commit(late) is succeeds


def count_role(cluster: SmallDatabase) -> Txn:
    record = cluster.snapshot().cluster
    assert record is not None
    return add_role(role_spec("new"), cluster=record, counted=replace(record.value, role_set=1), events=())


async def test_a_disk_is_added_once_and_not_beside_another_addition() -> None:
    cluster = Cluster()
    record = cluster.snapshot().cluster
    assert record is not None
    counted = replace(record.value, role_set=1)
    first, second = (add_disk(disk_spec(name), cluster=record, counted=counted, events=()) for name in (ONE, TWO))
    assert cluster.commit(first)
    assert not cluster.commit(second)
    assert set(cluster.snapshot().disks) == {ONE}


@pytest.mark.parametrize("changes", [{"disks": (ONE,)}, {"disk_paths": ()}])
async def test_safe_2_what_a_role_writes_to_never_changes(changes: dict[str, Any]) -> None:
    before = Cluster().snapshot().specs[WEB]
    with pytest.raises(ValueError, match="what it writes to"):
        set_role(replace(before.value, **changes), before=before, events=())


async def test_a_node_that_is_back_replaces_what_reservations_proved_of_its_earlier_incarnation() -> None:
    cluster = Cluster()
    cluster.put(proof_key(incarnation(B)), kept_off(ONE))
    snapshot = cluster.snapshot()
    back = proof(B, kind=ProofKind.RESTARTED)
    assert cluster.commit(record_restarts((back,), cluster.a, snapshot))
    assert cluster.snapshot().proofs[incarnation(B)].value.kind is ProofKind.RESTARTED
    assert not cluster.commit(record_restarts((back,), cluster.a, snapshot))


@pytest.mark.parametrize(
    ("opposing", "succeeds"),
    [
        (lambda cluster: None, True),
        (reelect, False),
        (lambda cluster: cluster.end_session(A), False),
        (lambda cluster: cluster.put(proof_key(incarnation(B)), proof(B)), False),
        (lambda cluster: cluster.put(verdict_key(B), verdict(B, 2)), False),
    ],
    ids=["nothing", "other-coordinator", "coordinator-expired", "proven-or-back", "lost-again"],
)
async def test_safe_4_a_node_is_ordered_off_only_by_the_coordinator_and_while_it_is_lost(
    opposing: Opposing, succeeds: bool
) -> None:
    cluster = Cluster()
    lose_b(cluster)
    snapshot = cluster.snapshot()
    order = FenceOrder(incarnation=incarnation(B), by=A, at_ms=NOW_MS)
    late = order_off(B, order, snapshot=snapshot, verdict=snapshot.verdicts[B])
    opposing(cluster)
    assert cluster.commit(late) is succeeds


# --- sessions and elections: SAFE-3, SAFE-4 -------------------------------------------------------------------------


def registration(cluster: SmallDatabase, number: int = 2) -> Txn:
    return register_session(
        session(B, number),
        lease=cluster.database.grant(LEASE_S),
        snapshot=cluster.snapshot(),
        restarted=(proof(B, 1, ProofKind.RESTARTED),),
        events=(),
    )


async def test_safe_3_a_node_that_comes_back_proves_in_the_same_transaction_that_its_earlier_start_is_over() -> None:
    cluster = Cluster()
    lose_b(cluster)
    assert cluster.commit(registration(cluster))
    after = cluster.snapshot()
    assert after.proofs[incarnation(B, 1)].revision == after.sessions[B].revision


@pytest.mark.parametrize(
    "opposing", [lose_b, lambda cluster: cluster.put(session_key(B), session(B, 3)), expire_b],
    ids=["lost", "another-registered", "expired"],
)  # fmt: skip
async def test_safe_3_a_registration_fails_after_the_node_was(opposing: Opposing) -> None:
    cluster = Cluster()
    late = registration(cluster)
    opposing(cluster)
    assert not cluster.commit(late)
    assert incarnation(B, 1) not in cluster.snapshot().proofs


async def test_safe_3_a_node_does_not_come_up_with_times_that_have_changed() -> None:
    cluster = Cluster()
    late = registration(cluster)
    found = cluster.snapshot().cluster
    assert found is not None
    cluster.put(CLUSTER, replace(found.value, timings_generation=1))
    assert not cluster.commit(late)
    assert cluster.commit(registration(cluster))


async def test_safe_3_a_registration_fails_after_a_verdict_on_a_node_that_had_no_session() -> None:
    cluster = Cluster()
    expire_b(cluster)
    late = registration(cluster, 1)
    cluster.put(verdict_key(B), verdict(B, 1))
    assert not cluster.commit(late)


@pytest.mark.parametrize("opposing", [lose_b, restart_b, expire_b], ids=lambda f: str(f.__name__))
async def test_safe_4_writing_the_own_session_shows_that_no_verdict_was_committed_before(opposing: Opposing) -> None:
    cluster = Cluster()
    touch = update_session(session(B, touched=1), cluster.b, revision=seen(cluster))
    assert cluster.commit(touch)
    opposing(cluster)
    assert not cluster.commit(update_session(session(B, touched=2), cluster.b, revision=seen(cluster)))


async def test_safe_4_one_of_two_candidates_is_elected() -> None:
    cluster = Cluster()
    cluster.end_session(A)
    first = campaign(Coordinator(node=B, incarnation=incarnation(B)), cluster.b, events=())
    second = campaign(Coordinator(node=C, incarnation=incarnation(C)), cluster.c, events=())
    assert [cluster.commit(first), cluster.commit(second)] == [True, False]
    assert cluster.coordinator() == Coordinator(node=B, incarnation=incarnation(B))


async def test_safe_4_a_lost_node_is_not_elected() -> None:
    cluster = Cluster()
    cluster.end_session(A)
    late = campaign(Coordinator(node=B, incarnation=incarnation(B)), cluster.b, events=())
    lose_b(cluster)
    assert not cluster.commit(late)


async def test_safe_4_coordination_ends_with_the_session_it_was_won_with() -> None:
    cluster = Cluster()
    cluster.end_session(A)
    assert cluster.coordinator() is None


# --- what a person changes ------------------------------------------------------------------------------------------


async def test_two_additions_of_roles_cannot_cross() -> None:
    cluster = Cluster()
    found = cluster.snapshot().cluster
    assert found is not None
    counted = replace(found.value, role_set=1)
    first = add_role(role_spec("db"), cluster=found, counted=counted, events=())
    second = add_role(role_spec("mail"), cluster=found, counted=counted, events=())
    assert [cluster.commit(first), cluster.commit(second)] == [True, False]


async def test_a_role_is_not_added_twice() -> None:
    cluster = Cluster()
    found = cluster.snapshot().cluster
    assert found is not None
    assert not cluster.commit(add_role(role_spec("web"), cluster=found, counted=found.value, events=()))


@pytest.mark.parametrize(
    ("opposing", "succeeds"),
    [
        (lambda cluster: None, True),
        (take_over, False),
        (lambda cluster: cluster.put(spec_key(WEB), role_spec("web")), False),
    ],
    ids=["nothing", "assigned", "spec-changed"],
)
async def test_safe_5_a_role_is_not_removed_when_it_was_assigned_or_changed_meanwhile(
    opposing: Opposing, succeeds: bool
) -> None:
    cluster = Cluster()
    cluster.put(ownership_key(WEB), owned("web", None))
    snapshot = cluster.snapshot()
    late = remove_role(snapshot.specs[WEB], snapshot.ownerships[WEB], events=())
    opposing(cluster)
    assert cluster.commit(late) is succeeds
    assert (WEB in cluster.snapshot().specs) is not succeeds


async def test_a_change_by_a_person_rests_on_what_the_person_saw() -> None:
    cluster = Cluster()
    snapshot = cluster.snapshot()
    found = snapshot.cluster
    assert found is not None
    changes = [
        (set_role(role_spec("web", vcpus=2), before=snapshot.specs[WEB], events=()), spec_key(WEB), role_spec("web")),
        (set_node(node_spec(B, is_paused=True), before=snapshot.nodes[B], events=()), node_key(B), node_spec(B)),
        (set_cluster(replace(found.value, name="x"), before=found), CLUSTER, found.value),
    ]
    for late, key, record in changes:
        cluster.put(key, record)
        assert not cluster.commit(late), key


# --- planned moves: SAFE-2, SAFE-3, SAFE-4 ------------------------------------------------------------------------


def move_to_c(cluster: Cluster) -> Txn:
    """A person's order that web moves from b to c."""
    snapshot = cluster.snapshot()
    after = replace(snapshot.ownerships[WEB].value, target=C, source=B)
    return order_moves((Move(after=after, target=C),), snapshot=snapshot, events=())


def cancel(cluster: Cluster) -> Txn:
    before = cluster.snapshot().ownerships[WEB]
    return take_back_move(before.value, before=before, events=())


def release(cluster: SmallDatabase) -> None:
    cluster.put(ownership_key(WEB), owned("web", None))


def restart_c(cluster: SmallDatabase) -> None:
    cluster.end_session(C)
    cluster.up(session(C, 2))


def unwant(cluster: SmallDatabase) -> None:
    cluster.put(spec_key(WEB), role_spec("web", wanted=Wanted.OFFLINE))


async def test_safe_2_an_order_to_move_leaves_the_role_with_its_owner() -> None:
    cluster = Cluster()
    assert cluster.commit(move_to_c(cluster))
    record = cluster.snapshot().ownerships[WEB].value
    assert (record.owner, record.phase, record.epoch, record.target) == (B, Phase.ONLINE, 1, C)


@pytest.mark.parametrize("opposing", [release, take_over, restart_c, unwant])
async def test_safe_3_an_order_to_move_fails_after(opposing: Opposing) -> None:
    cluster = Cluster()
    order = move_to_c(cluster)
    opposing(cluster)
    assert not cluster.commit(order)


@pytest.mark.parametrize("opposing", [release, take_over])
async def test_safe_3_taking_a_move_back_fails_after(opposing: Opposing) -> None:
    cluster = Cluster()
    assert cluster.commit(cancel(cluster))
    taken_back = cancel(cluster)
    opposing(cluster)
    assert not cluster.commit(taken_back)


async def test_safe_2_a_release_that_was_decided_before_an_order_to_move_is_not_committed_after_it() -> None:
    cluster = Cluster(Phase.STOPPING)
    before = cluster.snapshot().ownerships[WEB]
    gone = replace(before.value, phase=Phase.VACANT, owner=None, incarnation=None)
    released = advance(gone, before=before, me=cluster.b, events=())
    assert cluster.commit(move_to_c(cluster))
    assert not cluster.commit(released)


async def test_a_node_is_added_once() -> None:
    cluster = Cluster()
    assert cluster.commit(set_node(node_spec("d"), before=None, events=()))
    assert not cluster.commit(set_node(node_spec("d"), before=None, events=()))


async def test_safe_4_resigning_ends_only_the_own_coordination() -> None:
    cluster = Cluster()
    seen_coordinator = cluster.snapshot().coordinator
    assert seen_coordinator is not None
    reelect(cluster)
    assert not cluster.commit(resign(seen_coordinator))
    now = cluster.snapshot().coordinator
    assert now is not None
    assert cluster.commit(resign(now))
    assert cluster.snapshot().coordinator is None


async def test_self_is_proven_by_the_creation_of_the_session_not_by_its_last_write() -> None:
    cluster = Cluster()
    assert cluster.commit(update_session(session(B, touched=5), cluster.b, revision=seen(cluster)))
    assert cluster.commit(Txn(compares=(cluster.b.holds_session,)))
    stale = Self(node=B, created=cluster.b.created - 1, lease=LeaseId(1))
    assert not cluster.commit(Txn(compares=(stale.holds_session,)))
