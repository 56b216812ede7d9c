"""What the coordinator decides: which role gets which owner next, and which role is blocked and why.

Rule of the file: recomputed from the whole snapshot each time; a role changes hands only when its record is free, and
what makes it free is part of the action, so that the transaction can check it again. Source: SAFE-2, SAFE-3, SAFE-5.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.decide.placement import choose, free_capacity
from holdfast.model.ids import Epoch, Incarnation, NodeName, RoleName
from holdfast.model.nodes import Session
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of an ownership record, with everything that must still hold when it is committed.

    before    the record it was decided on; `None`: the role has no record yet.
    session   the session of the new owner; None when the role becomes vacant.
    proof     incarnation whose proof must be committed.
    """

    role: RoleName
    before: Versioned[Ownership] | None
    after: Ownership
    session: Versioned[Session] | None = None
    proof: Incarnation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision: changes in the order of urgency, and why the others do not move.

    look_again_ms   when time alone may change the plan; None: only a change of the snapshot does.
    """

    changes: tuple[Change, ...] = ()
    blocked: dict[RoleName, tuple[Reason, ...]] = field(default_factory=dict)
    look_again_ms: int | None = None


def plan(snapshot: Snapshot, now_ms: int) -> Plan:
    """Decide what must change. `now_ms` is wall-clock time, used only against limits counted in seconds."""
    changes: list[Change] = []
    blocked: dict[RoleName, tuple[Reason, ...]] = {}
    free = free_capacity(snapshot)
    wait_ms: list[int] = []
    for spec in sorted((v.value for v in snapshot.specs.values()), key=_urgency):
        before = snapshot.ownerships.get(spec.name)
        ownership = before.value if before is not None else Ownership(role=spec.name)
        if not needs_decision(spec, ownership, snapshot):
            if ownership.phase is Phase.ASSIGNED:
                wait_ms.append(snapshot.settings.timings.claim_after_ms)
            if not _is_unclaimed_too_long(ownership, snapshot, now_ms):
                continue
        freedom = freedom_of(ownership, snapshot, now_ms)
        if freedom.blocked:
            blocked[spec.name] = freedom.blocked
            continue
        if not wants_owner(spec, ownership):
            changes.append(_vacate(spec, before, ownership, freedom, now_ms))
            continue
        if (limit := failover_limit(spec, ownership, now_ms)) is not None:
            blocked[spec.name] = (limit,)
            continue
        avoid = (ownership.owner,) if ownership.owner is not None else ()
        choice = choose(spec, ownership, snapshot=snapshot, free=free, now_ms=now_ms, avoid=avoid)
        if choice.node is None:
            blocked[spec.name] = (*choice.reasons, *(reason for why in choice.refused.values() for reason in why))
            continue
        free[choice.node] = free[choice.node].less(spec)
        session = snapshot.sessions[choice.node]
        after = _assigned(spec, ownership, session.value, (*freedom.reasons, *choice.reasons), now_ms)
        changes.append(Change(role=spec.name, before=before, after=after, session=session, proof=freedom.proof))
    return Plan(changes=tuple(changes), blocked=blocked, look_again_ms=min(wait_ms, default=None))


def wants_owner(spec: RoleSpec, ownership: Ownership) -> bool:
    """Whether the role should have an owner. NO_AUTOSTART gets one only for a request of a person not yet served."""
    if spec.wanted is Wanted.OFFLINE:
        return False
    return spec.priority is not Priority.NO_AUTOSTART or spec.generation != ownership.generation


def needs_decision(spec: RoleSpec, ownership: Ownership, snapshot: Snapshot) -> bool:
    """Whether the role has no living owner that would see to it."""
    if ownership.owner is None:
        return wants_owner(spec, ownership)
    return snapshot.session_of(ownership.owner, ownership.incarnation) is None


def freedom_of(ownership: Ownership, snapshot: Snapshot, now_ms: int) -> Freedom:
    """Say whether the role may be given to another owner. Source: SAFE-2."""
    owner, incarnation = ownership.owner, ownership.incarnation
    if owner is None or incarnation is None:
        return Freedom()
    if ownership.phase is Phase.ASSIGNED:
        if _is_unclaimed_too_long(ownership, snapshot, now_ms):
            limit_ms = snapshot.settings.timings.claim_after_ms
            return Freedom(reasons=(because(ReasonCode.NOT_CLAIMED, owner, limit_ms=limit_ms),))
        return Freedom(reasons=(because(ReasonCode.NODE_ABSENT, owner),))
    proof = snapshot.proofs.get(incarnation)
    if proof is not None:
        return Freedom(
            proof=incarnation, reasons=(because(ReasonCode.NODE_FENCED, owner, proof=str(proof.value.kind)),)
        )
    if snapshot.is_lost(owner, incarnation):
        return Freedom(blocked=(because(ReasonCode.NODE_LOST, owner), because(ReasonCode.NO_PROOF, owner)))
    return Freedom(blocked=(because(ReasonCode.NODE_ABSENT, owner), because(ReasonCode.NO_PROOF, owner)))


def failover_limit(spec: RoleSpec, ownership: Ownership, now_ms: int) -> Reason | None:
    """Why the role is not tried on yet another node, or None. A new request of a person forgives."""
    if spec.generation != ownership.generation:
        return None
    since_ms = now_ms - spec.failover_period_s * 1000
    failovers = sum(1 for at_ms in ownership.failovers if at_ms >= since_ms)
    if failovers < spec.failover_limit:
        return None
    counts = {"failovers": failovers, "period_s": spec.failover_period_s, "limit": spec.failover_limit}
    return because(ReasonCode.FAILOVER_LIMIT, spec.name, **counts)


def _is_unclaimed_too_long(ownership: Ownership, snapshot: Snapshot, now_ms: int) -> bool:
    limit_ms = snapshot.settings.timings.claim_after_ms
    return ownership.phase is Phase.ASSIGNED and now_ms - ownership.since_ms >= limit_ms


def _urgency(spec: RoleSpec) -> tuple[int, int, RoleName]:
    return -spec.priority, -spec.memory_bytes, spec.name


def _vacate(
    spec: RoleSpec, before: Versioned[Ownership] | None, ownership: Ownership, freedom: Freedom, now_ms: int
) -> Change:
    after = Ownership(
        role=spec.name,
        epoch=ownership.epoch,
        last_owner=ownership.owner,
        since_ms=now_ms,
        failovers=ownership.failovers,
        failed_on=ownership.failed_on,
        generation=ownership.generation,
        reasons=freedom.reasons,
    )
    return Change(role=spec.name, before=before, after=after, proof=freedom.proof)


def _assigned(
    spec: RoleSpec, ownership: Ownership, session: Session, reasons: tuple[Reason, ...], now_ms: int
) -> Ownership:
    forgiven = spec.generation != ownership.generation
    return Ownership(
        role=spec.name,
        phase=Phase.ASSIGNED,
        epoch=Epoch(ownership.epoch + 1),
        owner=session.node,
        incarnation=session.incarnation,
        last_owner=ownership.owner or ownership.last_owner,
        since_ms=now_ms,
        failovers=() if forgiven else ownership.failovers,
        failed_on=() if forgiven else ownership.failed_on,
        generation=spec.generation,
        reasons=reasons,
    )


def owners_by_node(snapshot: Snapshot) -> dict[NodeName, tuple[RoleName, ...]]:
    """The roles that each node owns, by name."""
    owned: dict[NodeName, list[RoleName]] = {name: [] for name in snapshot.nodes}
    for role, ownership in sorted(snapshot.ownerships.items()):
        if ownership.value.owner is not None:
            owned.setdefault(ownership.value.owner, []).append(role)
    return {node: tuple(roles) for node, roles in owned.items()}
