"""What the coordinator decides: which role gets which owner next, which one moves, and which is blocked and why.

Rule of the file: recomputed from the whole snapshot each time; a role changes hands only when its record is free, and
what makes it free is part of the change, so that the transaction can check it again. Source: SAFE-2, SAFE-3, SAFE-5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from holdfast.decide.balance import begin_balance, rests_in_ms
from holdfast.decide.freedom import (
    Freedom,
    freedom_of,
    has_living_owner,
    is_unclaimed_too_long,
    needs_decision,
    obstacle,
    wants_owner,
)
from holdfast.decide.groups import bound_together
from holdfast.decide.layout import Layout
from holdfast.decide.memory_steps import not_received
from holdfast.decide.moves import Move, Movers
from holdfast.decide.placement import Choice, candidacy, choose, refusals
from holdfast.decide.settling import settling
from holdfast.decide.steps import Attempt, Situation, lasting, lingering_after
from holdfast.model.ids import Epoch, Incarnation, NodeName, RoleName
from holdfast.model.nodes import ProofKind, Session
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import MoveMethod, Ownership, Phase, RoleSpec
from holdfast.model.snapshot import Snapshot, Versioned


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of an ownership record, with everything that must still hold when it is committed.

    before    the record it was decided on; `None`: the role has no record yet.
    session   the session of the new owner, or of the target of a move; None when the role becomes vacant.
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

    blocked         roles that do not run and get no owner, and why: something has to happen first.
    waiting         roles that wait a moment for nodes that are about to come up.
    staying         roles that are to leave a drained node or lost disks and cannot, and why; they run on.
    look_again_ms   when time alone may change the plan; None: only a change of the snapshot does.
    """

    changes: tuple[Change, ...] = ()
    blocked: dict[RoleName, tuple[Reason, ...]] = field(default_factory=dict)
    waiting: dict[RoleName, tuple[Reason, ...]] = field(default_factory=dict)
    staying: dict[RoleName, tuple[Reason, ...]] = field(default_factory=dict)
    look_again_ms: int | None = None


def plan(snapshot: Snapshot, now_ms: int) -> Plan:
    """Decide what must change. `now_ms` is wall-clock time, used only against limits counted in seconds."""
    return _Planning(snapshot, now_ms).plan()


class _Planning:
    """One plan in the making."""

    def __init__(self, snapshot: Snapshot, now_ms: int) -> None:
        self._snapshot = snapshot
        self._now_ms = now_ms
        self._changes: list[Change] = []
        self._blocked: dict[RoleName, tuple[Reason, ...]] = {}
        self._waiting: dict[RoleName, tuple[Reason, ...]] = {}
        self._look_again: list[int] = []
        self._layout: Layout | None = None

    @property
    def layout(self) -> Layout:
        """What stands where: made when the first role has to be decided, so that an idle plan never pays for it."""
        if self._layout is None:
            self._layout = Layout(self._snapshot, self._now_ms)
        return self._layout

    def plan(self) -> Plan:
        """Place what has no living owner, then move what should be elsewhere."""
        movers = Movers(self._snapshot, self._now_ms)
        due = []
        for role, versioned in self._snapshot.specs.items():
            before = self._snapshot.ownerships.get(role)
            ownership = before.value if before is not None else Ownership(role=role)
            if before is not None and (after := self._not_received(versioned.value, ownership)) is not None:
                self._changes.append(Change(role=role, before=before, after=after))
            elif self._is_due(versioned.value, ownership):
                due.append((versioned.value, before, ownership))
            else:
                movers.look_at(versioned.value, ownership)
        self._place(due)
        for spec, _, ownership in due:
            if spec.name not in self._blocked:
                movers.count(ownership)
        staying: dict[RoleName, tuple[Reason, ...]] = {}
        if movers.has_work:
            moves = movers.decide(self.layout)
            self._changes += [self._begin(move) for move in moves.begun]
            staying = dict(moves.staying)
        if not self._changes:
            self._changes += [self._begin(move) for move in self._balance()]
        look_again = [*self._look_again, *movers.look_again_ms]
        return Plan(
            changes=tuple(self._changes),
            blocked=self._blocked,
            waiting=self._waiting,
            staying=staying,
            look_again_ms=min(look_again, default=None),
        )

    def _not_received(self, spec: RoleSpec, ownership: Ownership) -> Ownership | None:
        """The record of a live move whose target is gone, or did not say in time that it takes the copy in."""
        target = ownership.target
        waits = ownership.phase is Phase.ONLINE and ownership.method is MoveMethod.LIVE and ownership.is_leaving
        if target is None or not waits or not has_living_owner(ownership, self._snapshot):
            return None
        receiver, limit_ms = ownership.receiving, self._snapshot.timings.claim_after_ms
        waited_ms = self._now_ms - ownership.ordered_ms
        session = self._snapshot.sessions.get(target)
        if session is None or (receiver is not None and session.value.incarnation != receiver.incarnation):
            detail = "it is not up"
        elif receiver is None and not 0 <= waited_ms < limit_ms:
            detail = f"it did not answer within {limit_ms} ms"
        else:
            if receiver is None:
                self._look_again.append(limit_ms - waited_ms)
            return None
        attempt = Attempt(directory=self._snapshot.settings.saved_state_directory)
        now = Situation(ownership=ownership, spec=spec, now_ms=self._now_ms, attempt=attempt)
        return not_received(now, detail)

    def _balance(self) -> tuple[Move, ...]:
        """What balances the nodes, when the cluster is to see to that itself and is at rest."""
        settings = self._snapshot.settings
        rests_ms = rests_in_ms(self._snapshot, self._now_ms) if settings.balance_automatically else None
        if rests_ms is None:
            return ()
        if rests_ms > 0:
            self._look_again.append(rests_ms)
            return ()
        threshold = settings.balance_threshold_percent
        return begin_balance(self._snapshot, self._now_ms, threshold, settings.moves_at_once)

    def _is_due(self, spec: RoleSpec, ownership: Ownership) -> bool:
        if needs_decision(spec, ownership, self._snapshot):
            return True
        if ownership.phase is not Phase.ASSIGNED:
            return False
        if is_unclaimed_too_long(ownership, self._snapshot, self._now_ms):
            return True
        claim_by_ms = ownership.since_ms + self._snapshot.timings.claim_after_ms
        self._look_again.append(max(0, claim_by_ms - self._now_ms))
        return False

    def _place(self, due: list[tuple[RoleSpec, Versioned[Ownership] | None, Ownership]]) -> None:
        due.sort(key=lambda one: urgency(one[0]))
        free: list[tuple[RoleSpec, Versioned[Ownership] | None, Ownership, Freedom]] = []
        wait = settling(self._snapshot, self._now_ms) if due else None
        for spec, before, ownership in due:
            freedom = freedom_of(ownership, self._snapshot, self._now_ms)
            if freedom.blocked:
                self._blocked[spec.name] = freedom.blocked
            elif not wants_owner(spec, ownership):
                self._changes.append(self._vacated(spec, before, ownership, freedom))
            elif against := obstacle(spec, ownership, freedom, self._snapshot, self._now_ms):
                self._blocked[spec.name] = against
            elif wait is not None and ownership.target is None:
                self._waiting[spec.name] = wait.reasons
                self._look_again.append(wait.remaining_ms)
            else:
                free.append((spec, before, ownership, freedom))
        self._make_room([(spec, ownership) for spec, _, ownership, _ in free])
        free.sort(key=lambda one: one[2].target is not None and one[2].target in self.layout.closed)
        free.sort(key=lambda one: one[2].target is None)
        companions = bound_together(spec for spec, _, _, _ in free)
        for spec, before, ownership, freedom in free:
            self._assign(spec, before, ownership, freedom, companions.get(spec.name, ()))

    def _make_room(self, free: list[tuple[RoleSpec, Ownership]]) -> None:
        """Take away what is nowhere, so that it stands in nobody's way.

        A role on the move keeps its room until its turn; what a living owner may yet take up keeps its neighbours too.
        """
        for spec, ownership in free:
            if self._is_nowhere(ownership):
                self.layout.lift(spec, ownership)
            elif not has_living_owner(ownership, self._snapshot):
                self.layout.lift_labels(spec)

    def _is_nowhere(self, ownership: Ownership) -> bool:
        return ownership.target is None and not has_living_owner(ownership, self._snapshot)

    def _assign(
        self,
        spec: RoleSpec,
        before: Versioned[Ownership] | None,
        ownership: Ownership,
        freedom: Freedom,
        companions: Iterable[RoleSpec],
    ) -> None:
        if not self._is_nowhere(ownership):
            self.layout.lift(spec, ownership)
        choice = where_to(spec, ownership, self.layout, companions)
        if choice.node is None:
            self.layout.put_back(spec, ownership)
            against = (why for each in choice.refused.values() for why in each)
            self._blocked[spec.name] = (*choice.reasons, *against, *kept(ownership))
            return
        if ownership.source is not None:
            self.layout.put(spec, ownership.source)
        if ownership.source != choice.node:
            self.layout.put(spec, choice.node)
        session = self._snapshot.sessions[choice.node]
        hesitant = ownership.phase is Phase.ASSIGNED and has_living_owner(ownership, self._snapshot)
        reasons = (*freedom.reasons, *choice.reasons)
        after = _assigned(spec, ownership, session.value, reasons, self._now_ms, is_hesitant=hesitant)
        after = replace(after, lingering=self._lingering(ownership, freedom))
        change = Change(role=spec.name, before=before, after=after, session=session, proof=freedom.proof)
        self._changes.append(change)

    def _begin(self, move: Move) -> Change:
        return Change(
            role=move.after.role,
            before=self._snapshot.ownerships[move.after.role],
            after=move.after,
            session=self._snapshot.sessions[move.target],
        )

    def _vacated(
        self, spec: RoleSpec, before: Versioned[Ownership] | None, ownership: Ownership, freedom: Freedom
    ) -> Change:
        after = Ownership(
            role=spec.name,
            epoch=ownership.epoch,
            last_owner=ownership.owner or ownership.last_owner,
            since_ms=self._now_ms,
            failovers=ownership.failovers,
            failed_on=ownership.failed_on,
            generation=ownership.generation,
            memory=lasting(ownership.memory),
            disk_generation=ownership.disk_generation,
            lingering=self._lingering(ownership, freedom),
            reasons=freedom.reasons,
        )
        return Change(role=spec.name, before=before, after=after, proof=freedom.proof)

    def _lingering(self, ownership: Ownership, freedom: Freedom) -> tuple[Incarnation, ...] | None:
        """Whose writes may still wait: nothing of who was expelled from all disks of the role. Source: SAFE-1."""
        proof = None if freedom.proof is None else self._snapshot.proofs[freedom.proof].value
        is_expelled = proof is not None and proof.kind is ProofKind.STORAGE_RESERVATION
        return ownership.lingering if is_expelled else lingering_after(ownership)


def where_to(spec: RoleSpec, ownership: Ownership, layout: Layout, companions: Iterable[RoleSpec] = ()) -> Choice:
    """Choose the next owner of a free role: where its move goes, else the best node, else back where it came from.

    An owner that did not take it up, or is gone, comes last.

    companions   roles that must be together with it and have no place yet: a node with room for all is better.
    """
    if ownership.target is not None:
        is_possible = ownership.target in layout.snapshot.nodes and ownership.target != ownership.owner
        against = refusals(candidacy(spec, ownership, layout), ownership.target) if is_possible else ()
        if is_possible and not against:
            return Choice(node=ownership.target, reasons=ownership.reasons, refused={})
        left_out = [node for node in (ownership.source, ownership.owner) if node is not None]
        elsewhere = choose(candidacy(spec, ownership, layout, left_out=left_out))
        if elsewhere.node is not None:
            return replace(elsewhere, reasons=(*against, *elsewhere.reasons))
    avoid = () if ownership.owner is None else (ownership.owner,)
    if together := tuple(companions):
        roomy = replace(
            spec,
            memory_bytes=spec.memory_bytes + sum(one.memory_bytes for one in together),
            vcpus=spec.vcpus + sum(one.vcpus for one in together),
        )
        choice = choose(candidacy(roomy, ownership, layout, avoid=avoid))
        if choice.node is not None:
            return choice
    return choose(candidacy(spec, ownership, layout, avoid=avoid))


def kept(ownership: Ownership) -> tuple[Reason, ...]:
    """Say of a role that nobody can restore where its memory lies, and how to start it without."""
    memory = ownership.memory
    return () if memory is None else (because(ReasonCode.MEMORY_KEPT, ownership.role, path=memory.path),)


def urgency(spec: RoleSpec) -> tuple[int, int, RoleName]:
    """Order of placement: by priority, then the large ones, which find room less easily."""
    return -spec.priority, -spec.memory_bytes, spec.name


def _assigned(
    spec: RoleSpec,
    ownership: Ownership,
    session: Session,
    reasons: tuple[Reason, ...],
    now_ms: int,
    *,
    is_hesitant: bool,
) -> Ownership:
    """The record of the new owner. `is_hesitant`: the last one is up and did not take it up in its time."""
    forgiven = spec.generation != ownership.generation
    moves = ownership.target is not None
    did_not_claim = ownership.owner if moves and is_hesitant else None
    failed_on = ownership.failed_on if did_not_claim is None else (*ownership.failed_on, did_not_claim)
    return Ownership(
        role=spec.name,
        phase=Phase.ASSIGNED,
        epoch=Epoch(ownership.epoch + 1),
        owner=session.node,
        incarnation=session.incarnation,
        last_owner=ownership.owner or ownership.last_owner,
        since_ms=now_ms,
        failovers=() if forgiven else ownership.failovers,
        failed_on=() if forgiven else failed_on,
        generation=spec.generation,
        target=session.node if moves else None,
        source=ownership.source,
        drained_from=ownership.drained_from if ownership.drained_from != session.node else None,
        method=ownership.method,
        is_auto=ownership.is_auto,
        ordered_ms=ownership.ordered_ms,
        memory=lasting(ownership.memory),
        disk_generation=ownership.disk_generation,
        reasons=reasons,
    )


def owners_by_node(snapshot: Snapshot) -> dict[NodeName, tuple[RoleName, ...]]:
    """The roles that each node owns, by name."""
    owned: dict[NodeName, list[RoleName]] = {name: [] for name in snapshot.nodes}
    for role, ownership in sorted(snapshot.ownerships.items()):
        if ownership.value.owner is not None:
            owned.setdefault(ownership.value.owner, []).append(role)
    return {node: tuple(roles) for node, roles in owned.items()}
