"""What a person's order makes of the records: move a role, take that back, empty a node.

Rule of the file: answered from the whole snapshot before anything is written; an order that cannot be carried out comes
back with every reason. Source: DESIGN sections 4 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from holdfast.decide.freedom import has_living_owner
from holdfast.decide.layout import Layout
from holdfast.decide.moves import Move, Movers, Runner, begin, unit_of
from holdfast.decide.steps import moved
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import MoveMethod, Ownership, Phase, Wanted
from holdfast.model.snapshot import Snapshot, Versioned


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOrder:
    """The moves that an order begins, or why it begins none."""

    moves: tuple[Move, ...] = ()
    against: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Where and how the roles of a node would go, and why the others would stay. They run on there."""

    moves: Mapping[RoleName, NodeName] = field(default_factory=dict)
    methods: Mapping[RoleName, MoveMethod] = field(default_factory=dict)
    staying: Mapping[RoleName, tuple[Reason, ...]] = field(default_factory=dict)


def order_move(
    snapshot: Snapshot, role: RoleName, to: NodeName | None, now_ms: int, *, method: MoveMethod | None = None
) -> MoveOrder:
    """Decide a person's order to move a role to a node, or to the best other one; bound roles go along.

    method   how it moves; None: as it is set for each role.
    """
    spec, ownership = snapshot.specs[role].value, _ownership(snapshot, role)
    owner = ownership.owner
    stops = spec.wanted is Wanted.OFFLINE or (ownership.phase is Phase.STOPPING and ownership.target is None)
    if owner is None or stops or not has_living_owner(ownership, snapshot):
        return MoveOrder(against=(because(ReasonCode.NOT_RUNNING, role),))
    if ownership.phase is Phase.MIGRATING:
        return MoveOrder(against=(because(ReasonCode.BEING_COPIED, role),))
    if to == owner:
        return MoveOrder(against=(because(ReasonCode.ALREADY_HERE, owner),))
    layout = Layout(snapshot, now_ms)
    unit = unit_of(Runner(spec=spec, ownership=ownership), layout)
    moves, against = begin(unit, layout, (), only=() if to is None else (to,), method=method)
    return MoveOrder(moves=tuple(_asked(move) for move in moves), against=against)


def cancel_move(snapshot: Snapshot, role: RoleName) -> Ownership | None:
    """Return the record of a role whose move is taken back; None when none is under way or it arrives already.

    What has been stopped or saved for it starts again where it came from; what is being copied may have gone already.
    """
    ownership = _ownership(snapshot, role)
    if ownership.source is None or (ownership.phase is not Phase.VACANT and not ownership.is_leaving):
        return None
    cancelled = because(ReasonCode.MOVE_CANCELLED, ownership.source)
    if ownership.phase in (Phase.STOPPING, Phase.SAVING, Phase.MIGRATING, Phase.VACANT):
        return replace(ownership, target=ownership.source, drained_from=None, reasons=(cancelled,))
    return replace(moved(ownership), drained_from=None, reasons=(cancelled,))


def discard_memory(snapshot: Snapshot, role: RoleName, person: str) -> Ownership | None:
    """Return the record of a role whose saved memory a person gives up; None when there is none that is at rest.

    It starts anew then, wherever it failed before.
    """
    ownership = _ownership(snapshot, role)
    if ownership.phase is not Phase.VACANT or ownership.memory is None:
        return None
    discarded = because(ReasonCode.MEMORY_DISCARDED, role, person=person)
    return replace(ownership, memory=None, failed_on=(), reasons=(discarded,))


def preview_drain(snapshot: Snapshot, node: NodeName, now_ms: int, *, method: MoveMethod | None = None) -> Drain:
    """Say what a drain of a node would move and what it would leave there, without regard to how many at once.

    method   how it moves roles; None: as the drain that is under way does, or each as it is set for it.
    """
    drained = drained_node(snapshot, node, method)
    movers = Movers(drained, now_ms, at_once=len(snapshot.specs))
    moves: dict[RoleName, NodeName] = {}
    methods: dict[RoleName, MoveMethod] = {}
    for role in sorted(snapshot.specs):
        ownership = _ownership(snapshot, role)
        if ownership.owner != node or not has_living_owner(ownership, snapshot):
            continue
        if ownership.target is not None and ownership.is_leaving:
            moves[role] = ownership.target
            methods[role] = ownership.method or MoveMethod.RESTART
        else:
            movers.look_at(snapshot.specs[role].value, ownership)
    decided = movers.decide(Layout(drained, now_ms)) if movers.has_work else None
    if decided is None:
        return Drain(moves=moves, methods=methods)
    moves |= {move.after.role: move.target for move in decided.begun}
    methods |= {move.after.role: move.after.method or MoveMethod.RESTART for move in decided.begun}
    return Drain(moves=moves, methods=methods, staying=decided.staying)


def left_on(snapshot: Snapshot, node: NodeName, drain: Drain) -> tuple[RoleName, ...]:
    """The roles that a drained node is not rid of yet and will be.

    Besides those that leave: what ends there, what arrives there first, and what is on its way and may come back.
    """
    going = sorted(snapshot.ownerships.keys() - drain.staying.keys())
    return tuple(
        role for role in going if node in (_ownership(snapshot, role).owner, _ownership(snapshot, role).source)
    )


def drained_node(snapshot: Snapshot, node: NodeName, method: MoveMethod | None = None) -> Snapshot:
    """The snapshot as it would be with the node being drained."""
    known = snapshot.nodes[node]
    how = method or known.value.drain_method
    emptied = replace(known.value, is_paused=True, is_draining=True, drain_method=how)
    changed = Versioned(value=emptied, revision=known.revision, created=known.created)
    return replace(snapshot, nodes={**snapshot.nodes, node: changed})


def _asked(move: Move) -> Move:
    asked = because(ReasonCode.MOVE_REQUESTED, move.target)
    return replace(move, after=replace(move.after, drained_from=None, reasons=(asked, *move.after.reasons)))


def _ownership(snapshot: Snapshot, role: RoleName) -> Ownership:
    found = snapshot.ownerships.get(role)
    return found.value if found is not None else Ownership(role=role)
