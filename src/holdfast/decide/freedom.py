"""Whether a role may be given to another owner, and what else keeps it from getting one.

Rule of the file: a role is free when nobody owns it, or when its owner's incarnation is proven harmless, or when its
owner never began. Nothing else frees a role, least of all a wish to move it. A proof about some disks frees only what
writes nowhere else. Source: SAFE-2.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.decide.restored import unaccounted
from holdfast.model.ids import Incarnation
from holdfast.model.nodes import Proof
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Ownership, Phase, Priority, RoleSpec, Wanted
from holdfast.model.snapshot import Snapshot, Versioned


@dataclass(frozen=True, slots=True, kw_only=True)
class Freedom:
    """Whether a role may be given away, and on what that rests.

    blocked     why not; empty when it may.
    proof       incarnation whose committed proof makes it free, to be checked in the transaction; None: none needed.
    reasons     why it has to leave its last owner, for the record.
    """

    blocked: tuple[Reason, ...] = ()
    proof: Incarnation | None = None
    reasons: tuple[Reason, ...] = ()


def wants_owner(spec: RoleSpec, ownership: Ownership) -> bool:
    """Whether the role should have an owner.

    NO_AUTOSTART gets one only for a request of a person not yet served, and when it ran and is on the move.
    """
    if spec.wanted is Wanted.OFFLINE:
        return False
    if spec.priority is not Priority.NO_AUTOSTART or spec.generation != ownership.generation:
        return True
    return ownership.target is not None


def has_living_owner(ownership: Ownership, snapshot: Snapshot) -> bool:
    """Whether its owner is up in the very incarnation that owns it."""
    return ownership.owner is not None and snapshot.session_of(ownership.owner, ownership.incarnation) is not None


def needs_decision(spec: RoleSpec, ownership: Ownership, snapshot: Snapshot) -> bool:
    """Whether the role has no living owner that would see to it. A move that nobody wants any more is ended too."""
    if ownership.owner is None:
        return ownership.target is not None or wants_owner(spec, ownership)
    return snapshot.session_of(ownership.owner, ownership.incarnation) is None


def freedom_of(ownership: Ownership, snapshot: Snapshot, now_ms: int) -> Freedom:
    """Say whether the role may be given to another owner. Source: SAFE-2."""
    if left := unaccounted(snapshot):
        return Freedom(blocked=tuple(because(ReasonCode.NOT_ACCOUNTED_FOR, node) for node in left))
    owner, incarnation = ownership.owner, ownership.incarnation
    if owner is None or incarnation is None:
        return Freedom()
    if ownership.phase is Phase.ASSIGNED:
        if is_unclaimed_too_long(ownership, snapshot, now_ms):
            limit_ms = snapshot.timings.claim_after_ms
            return Freedom(reasons=(because(ReasonCode.NOT_CLAIMED, owner, limit_ms=limit_ms),))
        return Freedom(reasons=(because(ReasonCode.NODE_ABSENT, owner),))
    proof = snapshot.proofs.get(incarnation)
    if proof is not None and not is_covered(snapshot.specs.get(ownership.role), proof.value):
        kept_off = because(
            ReasonCode.PARTLY_FENCED, owner, disks=", ".join(proof.value.disks) or "no disk", role=ownership.role
        )
        return Freedom(blocked=(because(ReasonCode.NODE_LOST, owner), kept_off))
    if proof is not None:
        fenced = because(ReasonCode.NODE_FENCED, owner, proof=str(proof.value.kind))
        return Freedom(proof=incarnation, reasons=(fenced,))
    if snapshot.is_lost(owner, incarnation):
        return Freedom(blocked=(because(ReasonCode.NODE_LOST, owner), because(ReasonCode.NO_PROOF, owner)))
    return Freedom(blocked=(because(ReasonCode.NODE_ABSENT, owner), because(ReasonCode.NO_PROOF, owner)))


def is_covered(spec: Versioned[RoleSpec] | None, proof: Proof) -> bool:
    """Whether a proof says of everything that the role could write to that its owner cannot any more.

    A role without any disk is covered by no reservation: nothing keeps its guest from doing what it does.
    """
    if proof.is_complete:
        return True
    if spec is None or spec.value.disk_paths or not spec.value.disks:
        return False
    return frozenset(spec.value.disks) <= frozenset(proof.disks)


def obstacle(
    spec: RoleSpec, ownership: Ownership, freedom: Freedom, snapshot: Snapshot, now_ms: int
) -> tuple[Reason, ...]:
    """Return why a free role that wants an owner gets none all the same; empty when it does.

    A move that has begun is neither frozen nor counted against the limit: the role ran, and is to run again.
    """
    moves = ownership.target is not None and freedom.proof is None
    asked = spec.generation != ownership.generation
    if snapshot.is_frozen and not moves and not asked:
        return (*freedom.reasons, because(ReasonCode.FROZEN, spec.name))
    limit = failover_limit(spec, ownership, now_ms) if not moves else None
    return () if limit is None else (limit,)


def failover_limit(spec: RoleSpec, ownership: Ownership, now_ms: int) -> Reason | None:
    """Why the role is not tried on yet another node, or None. A new request of a person forgives.

    It failed once more than it failed over: the last failure is the one that nothing follows.
    """
    if spec.generation != ownership.generation:
        return None
    since_ms = now_ms - spec.failover_period_s * 1000
    failures = sum(1 for at_ms in ownership.failovers if at_ms >= since_ms)
    if failures <= spec.failover_limit:
        return None
    counts = {"failovers": failures - 1, "period_s": spec.failover_period_s, "limit": spec.failover_limit}
    return because(ReasonCode.FAILOVER_LIMIT, spec.name, **counts)


def is_unclaimed_too_long(ownership: Ownership, snapshot: Snapshot, now_ms: int) -> bool:
    """Whether its owner had its time to take it up and did not."""
    limit_ms = snapshot.timings.claim_after_ms
    return ownership.phase is Phase.ASSIGNED and now_ms - ownership.since_ms >= limit_ms
