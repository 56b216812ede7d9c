"""The transactions that change who is up, who is lost, what is proven and who owns what.

Rule of the file: pure; a record and the snapshot it was decided on go in, a guarded transaction comes out. Each
function names the SAFE rule that its comparisons enforce. Events of a decision are committed with it, never beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.decide.coordination import Change
from holdfast.decide.moves import Move
from holdfast.model.certificates import HeartbeatKeys
from holdfast.model.disks import DiskSpec, Slot
from holdfast.model.events import Event
from holdfast.model.ids import NodeName
from holdfast.model.nodes import FenceOrder, Proof, Session, Verdict
from holdfast.model.roles import Ownership
from holdfast.model.snapshot import ClusterRecord, Coordinator, Snapshot, Versioned
from holdfast.store.port import (
    Compare,
    CreateRevision,
    Delete,
    KeyValue,
    LeaseId,
    ModRevision,
    Operation,
    Put,
    Txn,
)
from holdfast.store.records import (
    CLUSTER,
    COORDINATOR,
    HEARTBEAT_KEYS,
    MEMBER_RESTART,
    VOTE_ORDER,
    disk_key,
    encode,
    event_key,
    order_key,
    ownership_key,
    proof_key,
    report_key,
    session_key,
    slot_key,
    spec_key,
    verdict_key,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Self:
    """This node as its transactions must prove it: its session exists without a gap since `created`. Source: SAFE-3."""

    node: NodeName
    created: int
    lease: LeaseId

    @property
    def holds_session(self) -> Compare:
        """Holds while no verdict on this incarnation is committed and its session has not ended."""
        return CreateRevision(session_key(self.node), equals=self.created)


def revision_of(record: Versioned[object] | None) -> int:
    """The revision to compare with; 0 for a record that must not exist."""
    return 0 if record is None else record.revision


def put_events(events: tuple[Event, ...], count: int) -> tuple[Operation, ...]:
    """Record events. `count` numbers them within this node."""
    return tuple(Put(event_key(event, count + index), encode(event)) for index, event in enumerate(events))


def register_session(
    session: Session,
    *,
    lease: LeaseId,
    snapshot: Snapshot,
    restarted: tuple[Proof, ...],
    events: tuple[Operation, ...],
) -> Txn:
    """Come up. `restarted`: proofs that earlier incarnations of this very node run nothing any more.

    Fails when the session changed, or when a verdict on this node was committed meanwhile; and when the cluster's
    record changed: the others drop the times of before a change when nobody who is up uses them. Source: SAFE-3.
    """
    node = session.node
    return Txn(
        compares=(
            ModRevision(CLUSTER, equals=revision_of(snapshot.cluster)),
            ModRevision(session_key(node), equals=revision_of(snapshot.sessions.get(node))),
            ModRevision(verdict_key(node), equals=revision_of(snapshot.verdicts.get(node))),
        ),
        then=(
            Put(session_key(node), encode(session), lease=lease),
            *(Put(proof_key(proof.incarnation), encode(proof)) for proof in restarted),
            *events,
        ),
    )


def end_earlier_session(
    before: Versioned[Session], *, restarted: tuple[Proof, ...], events: tuple[Operation, ...]
) -> Txn:
    """End the session that an earlier incarnation of this node left, so that the next one is a new key.

    Written over, it would keep its creation revision, and a late step of the earlier incarnation would still pass for
    one of a node that holds its session. Source: SAFE-3.
    """
    key = session_key(before.value.node)
    proofs = (Put(proof_key(proof.incarnation), encode(proof)) for proof in restarted)
    return Txn(compares=(ModRevision(key, equals=before.revision),), then=(Delete(key), *proofs, *events))


def record_restarts(proofs: tuple[Proof, ...], me: Self, snapshot: Snapshot) -> Txn:
    """Prove of earlier incarnations of this node, which is clean, that they run nothing. Source: SAFE-2."""
    return Txn(
        compares=(
            me.holds_session,
            *(
                ModRevision(proof_key(proof.incarnation), equals=revision_of(snapshot.proofs.get(proof.incarnation)))
                for proof in proofs
            ),
        ),
        then=tuple(Put(proof_key(proof.incarnation), encode(proof)) for proof in proofs),
    )


def update_session(session: Session, me: Self, *, revision: int) -> Txn:
    """Change this node's own session as it was at `revision`; as a write it shows that no verdict is committed.

    Source: SAFE-4.
    """
    key = session_key(session.node)
    return Txn(
        compares=(me.holds_session, ModRevision(key, equals=revision)),
        then=(Put(key, encode(session), lease=me.lease),),
    )


def convict(verdict: Verdict, proof: Proof | None, *, snapshot: Snapshot, events: tuple[Operation, ...]) -> Txn:
    """Commit that an incarnation is lost; ends its session and its coordination at the same revision.

    Fails when the suspect touched its session since the judgement was made. Source: SAFE-2, SAFE-4.
    """
    node = verdict.node
    compares: list[Compare] = [
        ModRevision(session_key(node), equals=revision_of(snapshot.sessions.get(node))),
        ModRevision(verdict_key(node), equals=revision_of(snapshot.verdicts.get(node))),
    ]
    then: list[Operation] = [
        Put(verdict_key(node), encode(verdict)),
        Delete(session_key(node)),
        Delete(report_key(node)),
    ]
    if proof is not None:
        then.append(Put(proof_key(proof.incarnation), encode(proof)))
    coordinator = snapshot.coordinator
    if coordinator is not None and coordinator.value.node == node:
        compares.append(ModRevision(COORDINATOR, equals=coordinator.revision))
        then.append(Delete(COORDINATOR))
    return Txn(compares=tuple(compares), then=(*then, *events))


def record_proof(
    proof: Proof,
    *,
    verdict: Versioned[Verdict],
    events: tuple[Operation, ...],
    before: Versioned[Proof] | None = None,
    disks: tuple[Versioned[DiskSpec], ...] = (),
) -> Txn:
    """Commit the proof that a lost incarnation can do no harm. Source: SAFE-2.

    before   a proof about some disks, which this one replaces; it may only say more.
    disks    the records of the disks that it is about: it fails when one of them was removed meanwhile.
    """
    if before is not None and (before.value.is_complete or not (proof.is_complete or _says_more(proof, before.value))):
        raise ValueError(f"proof of {proof.node}: {proof.kind} would take back what {before.value.kind} proved")
    return Txn(
        compares=(
            ModRevision(verdict_key(proof.node), equals=verdict.revision),
            ModRevision(proof_key(proof.incarnation), equals=revision_of(before)),
            *(ModRevision(disk_key(disk.value.name), equals=disk.revision) for disk in disks),
        ),
        then=(Put(proof_key(proof.incarnation), encode(proof)), *events),
    )


def _says_more(proof: Proof, before: Proof) -> bool:
    return frozenset(proof.disks) > frozenset(before.disks)


def order_off(node: NodeName, order: FenceOrder, *, snapshot: Snapshot, verdict: Versioned[Verdict]) -> Txn:
    """Record that a node is about to be ordered off: only a coordinator that a majority hears may. Source: SAFE-4."""
    incarnation = verdict.value.incarnation
    return Txn(
        compares=(
            ModRevision(COORDINATOR, equals=revision_of(snapshot.coordinator)),
            ModRevision(verdict_key(node), equals=verdict.revision),
            ModRevision(proof_key(incarnation), equals=revision_of(snapshot.proofs.get(incarnation))),
        ),
        then=(Put(order_key(node), encode(order)),),
    )


def order_votes(order: object, *, snapshot: Snapshot) -> Txn:
    """Record a change of the database's members that is about to be made: only a coordinator that a majority hears may.

    The change itself is no transaction. One of a coordinator that froze just here comes late; it was right when it was
    decided, the database refuses one that would cost it its majority, and whoever coordinates now sees it and goes on
    from there. Source: SAFE-4.
    """
    return Txn(
        compares=(ModRevision(COORDINATOR, equals=revision_of(snapshot.coordinator)),),
        then=(Put(VOTE_ORDER, encode(order)),),
    )


def end_vote_order(order: KeyValue, *, events: tuple[Operation, ...]) -> Txn:
    """Record what came of an order, and drop it: fails when that is told already, or another one followed."""
    return Txn(compares=(ModRevision(VOTE_ORDER, equals=order.mod_revision),), then=(Delete(VOTE_ORDER), *events))


def begin_restart(me: Self) -> Txn:
    """Have this node's member of the database start again, while nobody else's does; ends with this node's session."""
    return Txn(
        compares=(ModRevision(MEMBER_RESTART, equals=0), me.holds_session),
        then=(Put(MEMBER_RESTART, encode(me.node), lease=me.lease),),
    )


def change_keys(keys: HeartbeatKeys, *, snapshot: Snapshot) -> Txn:
    """Take a step of a change of the heartbeats' secret: while exactly those are up that were seen to be ready."""
    unchanged = ModRevision(HEARTBEAT_KEYS, equals=revision_of(snapshot.heartbeat_keys))
    return Txn(compares=(*_as_seen(snapshot), unchanged), then=(Put(HEARTBEAT_KEYS, encode(keys)),))


def settle_timings(record: ClusterRecord, *, snapshot: Snapshot) -> Txn:
    """Drop the times of before a change: while exactly those are up that were seen not to use them any more."""
    unchanged = ModRevision(CLUSTER, equals=revision_of(snapshot.cluster))
    return Txn(compares=(*_as_seen(snapshot), unchanged), then=(Put(CLUSTER, encode(record)),))


def _as_seen(snapshot: Snapshot) -> tuple[Compare, ...]:
    """Holds while the same node coordinates and every session is as it was seen."""
    up = (
        ModRevision(session_key(name), equals=revision_of(snapshot.sessions.get(name)))
        for name in sorted({*snapshot.nodes, *snapshot.sessions})
    )
    return ModRevision(COORDINATOR, equals=revision_of(snapshot.coordinator)), *up


def campaign(candidate: Coordinator, me: Self, *, events: tuple[Operation, ...]) -> Txn:
    """Become coordinator when there is none. Source: SAFE-4."""
    return Txn(
        compares=(ModRevision(COORDINATOR, equals=0), me.holds_session),
        then=(Put(COORDINATOR, encode(candidate), lease=me.lease), *events),
    )


def resign(coordinator: Versioned[Coordinator]) -> Txn:
    """Give coordination up, so that another node is elected at once."""
    return Txn(compares=(ModRevision(COORDINATOR, equals=coordinator.revision),), then=(Delete(COORDINATOR),))


def change_owner(change: Change, *, snapshot: Snapshot, events: tuple[Operation, ...]) -> Txn:
    """Commit a coordinator's decision: fails when anything that it rests on has changed.

    Compared: this coordinator still coordinates; the role's record and spec are as seen; the new owner's session has no
    gap; the proof is committed. Source: SAFE-2, SAFE-3, SAFE-4.
    """
    if snapshot.coordinator is None:
        raise ValueError(f"role {change.role}: an owner is assigned without a coordinator")
    compares: list[Compare] = [
        ModRevision(COORDINATOR, equals=snapshot.coordinator.revision),
        ModRevision(ownership_key(change.role), equals=revision_of(change.before)),
        ModRevision(spec_key(change.role), equals=revision_of(snapshot.specs.get(change.role))),
    ]
    if change.session is not None:
        compares.append(CreateRevision(session_key(change.session.value.node), equals=change.session.created))
    if change.proof is not None:
        compares.append(ModRevision(proof_key(change.proof), equals=snapshot.proofs[change.proof].revision))
    return Txn(compares=tuple(compares), then=(Put(ownership_key(change.role), encode(change.after)), *events))


def order_moves(moves: tuple[Move, ...], *, snapshot: Snapshot, events: tuple[Operation, ...]) -> Txn:
    """Commit where roles are wanted; owner, epoch and phase stay, so nothing is given away by it. Source: SAFE-2.

    Fails when a role's record or spec changed, or when the target's session has a gap. Source: SAFE-4.
    """
    compares: list[Compare] = []
    for move in moves:
        role = move.after.role
        compares += [
            ModRevision(ownership_key(role), equals=snapshot.ownerships[role].revision),
            ModRevision(spec_key(role), equals=snapshot.specs[role].revision),
            CreateRevision(session_key(move.target), equals=snapshot.sessions[move.target].created),
        ]
    puts = (Put(ownership_key(move.after.role), encode(move.after)) for move in moves)
    return Txn(compares=tuple(dict.fromkeys(compares)), then=(*puts, *events))


def take_back_move(after: Ownership, *, before: Versioned[Ownership], events: tuple[Operation, ...]) -> Txn:
    """Commit that a role is wanted where its move began: fails when its record changed. Source: SAFE-3."""
    return Txn(
        compares=(ModRevision(ownership_key(after.role), equals=before.revision),),
        then=(Put(ownership_key(after.role), encode(after)), *events),
    )


def advance(after: Ownership, *, before: Versioned[Ownership], me: Self, events: tuple[Operation, ...]) -> Txn:
    """Commit a step of the owner: fails when the role was reassigned or this node was declared lost. Source: SAFE-3."""
    return Txn(
        compares=(ModRevision(ownership_key(after.role), equals=before.revision), me.holds_session),
        then=(Put(ownership_key(after.role), encode(after)), *events),
    )


def hand_over(
    after: Ownership,
    *,
    before: Versioned[Ownership],
    me: Self,
    receiver: Versioned[Session],
    events: tuple[Operation, ...],
) -> Txn:
    """Commit that a role is owned by the node that has the whole copy of its guest.

    Fails when its record changed, when this node was declared lost, or when the session of the incarnation that
    received it has ended. Source: SAFE-2, SAFE-3.

    Raises: ValueError when the session is not that of the new owner.
    """
    if (after.owner, after.incarnation) != (receiver.value.node, receiver.value.incarnation):
        raise ValueError(f"role {after.role}: it is handed to {after.owner}, not to {receiver.value.node}")
    return Txn(
        compares=(
            ModRevision(ownership_key(after.role), equals=before.revision),
            me.holds_session,
            CreateRevision(session_key(receiver.value.node), equals=receiver.created),
        ),
        then=(Put(ownership_key(after.role), encode(after)), *events),
    )


def take_slot(slot: Slot, me: Self, *, before: Versioned[Slot] | None) -> Txn:
    """Take a slot of the heartbeat disks that is free, or whose node left the cluster. Two never have the same one."""
    key = slot_key(slot.number)
    return Txn(
        compares=(me.holds_session, ModRevision(key, equals=revision_of(before))), then=(Put(key, encode(slot)),)
    )
