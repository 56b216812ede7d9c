"""Planned moves: which role leaves a node on which it runs, and for which other one.

Rule of the file: a move only writes where the role is wanted; owner, epoch and phase stay with the owner, which gives
the role up by itself. Roles that hard labels bind together move together. Source: DESIGN section 4, SAFE-2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Final

from holdfast.decide.failback import opens_in_ms, settles_in_ms
from holdfast.decide.groups import bound_together
from holdfast.decide.layout import Layout
from holdfast.decide.methods import Way, way_of
from holdfast.decide.placement import NODES_NAMED, candidacy, choose, rank, refusals, score
from holdfast.decide.steps import moved
from holdfast.decide.storage_loss import failed_over, lost_disk, may_settle, reaches_all, too_often
from holdfast.decide.traffic import Traffic
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import Return
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import FailbackPolicy, MoveMethod, Ownership, Phase, RoleSpec, Wanted
from holdfast.model.snapshot import Snapshot

RETRY_AFTER_MS: Final = 60_000
"""A role whose move failed and left it where it was is not moved again by the cluster itself before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One move that begins: the record with its target."""

    after: Ownership
    target: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """The moves that begin now, and why roles that are to leave a node stay."""

    begun: tuple[Move, ...] = ()
    staying: Mapping[RoleName, tuple[Reason, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A role that runs, with its record."""

    spec: RoleSpec
    ownership: Ownership


class Movers:
    """Gathers what should move, and decides how much of it moves now.

    look_again_ms   when time alone lets another role move.
    """

    def __init__(self, snapshot: Snapshot, now_ms: int, *, at_once: int | None = None) -> None:
        """`at_once`: how many moves may be under way, at any node; None: what the settings say."""
        nodes = snapshot.nodes.items()
        self.look_again_ms: list[int] = []
        self._at_once = snapshot.settings.moves_at_once if at_once is None else at_once
        self._snapshot = snapshot
        self._now_ms = now_ms
        self._draining = frozenset(name for name, node in nodes if node.value.is_draining)
        self._resumed = frozenset(name for name, node in nodes if node.value.returns is Return.NOW)
        self._traffic = Traffic(snapshot, has_limits=at_once is None)
        self._is_preview = at_once is not None
        self._under_way = 0
        self._cut_off: list[Runner] = []
        self._drained: list[Runner] = []
        self._coming_back: list[Runner] = []
        self._failing_back: list[Runner] = []

    @property
    def has_work(self) -> bool:
        """Whether any role should move."""
        return bool(self._cut_off or self._drained or self._coming_back or self._failing_back)

    def count(self, ownership: Ownership) -> None:
        """Count a role that is on the move already."""
        if ownership.target is None:
            return
        self._under_way += 1
        self._traffic.add(ownership)

    def look_at(self, spec: RoleSpec, ownership: Ownership) -> None:
        """Take note of a role whose owner is up."""
        if ownership.target is not None:
            self.count(ownership)
            return
        owner = ownership.owner
        if owner is None or spec.wanted is Wanted.OFFLINE or ownership.phase is Phase.STOPPING:
            return
        again_ms = ownership.failed_ms + RETRY_AFTER_MS - self._now_ms
        if 0 < again_ms <= RETRY_AFTER_MS and not self._is_preview:
            self.look_again_ms.append(again_ms)
            return
        if ownership.phase is Phase.ONLINE and lost_disk(self._snapshot, spec, owner) is not None:
            self._cut_off.append(Runner(spec=spec, ownership=ownership))
        elif owner in self._draining:
            self._drained.append(Runner(spec=spec, ownership=ownership))
        elif ownership.phase is not Phase.ONLINE:
            return
        elif ownership.drained_from in self._resumed and ownership.drained_from != owner:
            self._coming_back.append(Runner(spec=spec, ownership=ownership))
        elif spec.failback.policy is not FailbackPolicy.NEVER and self._may_fail_back(spec, ownership):
            self._failing_back.append(Runner(spec=spec, ownership=ownership))

    def decide(self, layout: Layout) -> Moves:
        """Begin as many moves as the settings allow: off lost disks, drains, then what comes back, each by urgency."""
        budget = self._at_once - self._under_way
        begun: dict[RoleName, Move] = {}
        staying: dict[RoleName, tuple[Reason, ...]] = {}
        of_each_kind = (self._cut_off, self._drained, self._coming_back, self._failing_back)
        for runner in (runner for kind in of_each_kind for runner in _sorted(kind)):
            if budget <= len(begun):
                break
            if runner.spec.name in begun or runner.spec.name in staying:
                continue
            unit = unit_of(runner, layout)
            is_busy = self._traffic.is_busy(runner.ownership.owner, len(unit))
            if (begun and len(begun) + len(unit) > budget) or is_busy:
                continue
            moves, against = self._begin(unit, layout)
            if not self._traffic.has_room([move.after for move in moves]):
                _undo(unit, moves[0].target, layout)
                continue
            begun |= {move.after.role: move for move in moves}
            for move in moves:
                self._traffic.add(move.after)
            if not moves and against:
                staying |= {member.spec.name: against for member in unit}
        return Moves(begun=tuple(begun.values()), staying=staying)

    def _begin(self, unit: tuple[Runner, ...], layout: Layout) -> tuple[tuple[Move, ...], tuple[Reason, ...]]:
        owner, home = unit[0].ownership.owner, unit[0].ownership.drained_from
        assert owner is not None
        disk, is_drain = lost_disk(self._snapshot, unit[0].spec, owner), owner in self._draining
        steady = self._steady(unit) if disk is not None else ()
        kept = too_often(((one.spec, one.ownership) for one in unit), self._now_ms)
        if disk is not None and steady and not kept:
            facts: dict[str, str | int] = {"disk": disk, "limit_ms": self._snapshot.settings.storage_loss_move_ms}
            reasons, method = (because(ReasonCode.STORAGE_LOST, owner, **facts),), MoveMethod.RESTART
            moves, against = begin(unit, layout, reasons, only=steady, is_drain=is_drain, method=method)
            counted = (replace(move, after=failed_over(move.after, self._now_ms)) for move in moves)
            return tuple(counted), against
        if is_drain:
            by_drain = self._snapshot.nodes[owner].value.drain_method
            return begin(unit, layout, (because(ReasonCode.DRAINED, owner),), is_drain=True, method=by_drain)
        if disk is not None:
            return (), kept if steady else ()
        if home is not None and home in self._resumed:
            moves, _ = begin(unit, layout, (because(ReasonCode.RESUMED, home),), only=(home,))
            return moves, ()
        for node in self._better(unit[0].spec, unit[0].ownership, layout):
            if all(self._is_as_good(one.spec, node, owner) for one in unit):
                moves, _ = begin(unit, layout, (because(ReasonCode.FAILBACK, node, owner=owner),), only=(node,))
                if moves:
                    return moves, ()
        return (), ()

    def _steady(self, unit: tuple[Runner, ...]) -> tuple[NodeName, ...]:
        """Who has reached all their disks for a while: where all nodes lost them, all come back, and nothing moves."""
        return tuple(
            node
            for node in sorted(self._snapshot.reports)
            if all(reaches_all(self._snapshot, one.spec, node) for one in unit)
        )

    def _may_fail_back(self, spec: RoleSpec, ownership: Ownership) -> bool:
        """Whether time lets it return to a node that it prefers; when it does not yet, say when to look again."""
        if self._snapshot.is_frozen:
            return False
        waits = []
        for node in self._preferred(spec, ownership):
            settles_ms = settles_in_ms(self._snapshot, node, self._now_ms)
            opens_ms = opens_in_ms(spec.failback, self._now_ms)
            if settles_ms is not None and opens_ms is not None:
                waits.append(max(settles_ms, opens_ms))
        self.look_again_ms += [wait_ms for wait_ms in waits if wait_ms > 0]
        return 0 in waits

    def _better(self, spec: RoleSpec, ownership: Ownership, layout: Layout) -> list[NodeName]:
        """Those that it prefers to its owner, that have been up long enough and reach its disks well, best first."""
        preferred = self._preferred(spec, ownership)
        slow = candidacy(spec, ownership, layout).slow
        return [n for n in preferred if n not in slow and settles_in_ms(self._snapshot, n, self._now_ms) == 0]

    def _is_as_good(self, spec: RoleSpec, node: NodeName, owner: NodeName) -> bool:
        return rank(spec, node) <= rank(spec, owner) and may_settle(self._snapshot, spec, node)

    def _preferred(self, spec: RoleSpec, ownership: Ownership) -> list[NodeName]:
        """The preferred owners before its owner that reach its disks if it leaves lost ones, and that nobody barred."""
        nodes = self._snapshot.nodes
        return [
            node
            for node in spec.preferred_owners[: rank(spec, ownership.owner)]
            if node in nodes
            and not nodes[node].value.is_paused
            and may_settle(self._snapshot, spec, node)
            and not (node == ownership.drained_from and nodes[node].value.returns is Return.NEVER)
        ]


def unit_of(runner: Runner, layout: Layout) -> tuple[Runner, ...]:
    """The role and those on its node that must stay with it: they move together. Those on their way already do not."""
    if not runner.spec.affinity:
        return (runner,)
    here = {}
    for role, versioned in layout.snapshot.ownerships.items():
        spec = layout.snapshot.specs.get(role)
        one = versioned.value
        is_beside = one.owner == runner.ownership.owner and one.target == runner.ownership.target
        if spec is not None and spec.value.affinity and is_beside:
            here[role] = Runner(spec=spec.value, ownership=versioned.value)
    bound = bound_together(one.spec for one in here.values()).get(runner.spec.name, ())
    return (runner, *(here[spec.name] for spec in bound))


def begin(
    unit: tuple[Runner, ...],
    layout: Layout,
    reasons: tuple[Reason, ...],
    *,
    only: Iterable[NodeName] = (),
    is_drain: bool = False,
    method: MoveMethod | None = None,
) -> tuple[tuple[Move, ...], tuple[Reason, ...]]:
    """Begin to move roles together; returns their moves, or why not.

    only       nodes that they may go to; empty: any.
    is_drain   their owner remembers them for its resumption.
    method     how they move; None: each as it is set for it.
    """
    for one in unit:
        layout.lift(one.spec, one.ownership)
    owner = unit[0].ownership.owner
    assert owner is not None
    target, said = _target(tuple(_anew(one) for one in unit), layout, owner, tuple(only), method)
    for one in unit:
        layout.put_back(one.spec, one.ownership)
    if target is None:
        return (), said
    moves = []
    for one in unit:
        layout.put(one.spec, target)
        home = one.ownership.drained_from or owner if is_drain else one.ownership.drained_from
        way = way_of(one.spec, method, owner, target, layout)
        after = replace(
            _ordered(one.ownership, way, layout.now_ms),
            target=target,
            source=one.ownership.source or owner,
            drained_from=home,
            reasons=(*reasons, *said),
        )
        moves.append(Move(after=after, target=target))
    return tuple(moves), ()


def _undo(unit: tuple[Runner, ...], target: NodeName, layout: Layout) -> None:
    """Take moves back that were decided and are not begun."""
    for one in unit:
        layout.lift(one.spec, replace(one.ownership, owner=target))
        layout.lift_room(one.spec, one.ownership)
        layout.put_back(one.spec, one.ownership)


def _anew(one: Runner) -> Runner:
    """As if it were on no move yet: a way back is for a move that fails, and no reason to choose a paused node."""
    return replace(one, ownership=moved(one.ownership))


def _ordered(ownership: Ownership, way: Way, now_ms: int) -> Ownership:
    """The record with how it moves. What was prepared for another move is void, but what is being saved stays."""
    is_saving = ownership.phase is Phase.SAVING
    return replace(
        ownership,
        method=MoveMethod.QUICK if is_saving else way.method,
        is_auto=way.is_auto,
        ordered_ms=now_ms,
        failed_ms=0,
        making=ownership.making if is_saving else None,
        receiving=None,
        target=ownership.owner,
        source=ownership.owner,
    )


def _target(
    unit: tuple[Runner, ...],
    layout: Layout,
    owner: NodeName,
    only: tuple[NodeName, ...],
    method: MoveMethod | None,
) -> tuple[NodeName | None, tuple[Reason, ...]]:
    """Choose where a unit goes, and why; or None, and why not."""
    leader = unit[0]
    if (clash := clash_within(unit, owner)) is not None:
        return None, (clash,)
    nodes = [node for node in only or sorted(layout.snapshot.nodes) if node != owner]
    barred = {node: against for node in nodes if (against := _no_way(unit, layout, owner, node, method))}
    if len(unit) == 1 and not only:
        left_out = (owner, *barred)
        choice = choose(candidacy(leader.spec, leader.ownership, layout, left_out=left_out))
        refused = {**choice.refused, **(barred if choice.node is None else {})}
        return choice.node, (*choice.reasons, *(why for each in refused.values() for why in each))
    refused = {node: (*refusals_of(unit, layout, node), *barred.get(node, ())) for node in nodes}
    search = candidacy(leader.spec, leader.ownership, layout, left_out=(owner,))
    target = min((node for node in nodes if not refused[node]), key=lambda node: score(search, node), default=None)
    if target is not None:
        return target, ()
    none = because(ReasonCode.NO_CANDIDATE, leader.spec.name)
    return None, (none, *(why for node in nodes[:NODES_NAMED] for why in refused[node]))


def _no_way(
    unit: tuple[Runner, ...], layout: Layout, owner: NodeName, target: NodeName, method: MoveMethod | None
) -> tuple[Reason, ...]:
    """Why the roles cannot get from one node to another in the way that they are to."""
    found: list[Reason] = []
    for one in unit:
        found += [why for why in way_of(one.spec, method, owner, target, layout).against if why not in found]
    return tuple(found)


def clash_within(unit: tuple[Runner, ...], owner: NodeName) -> Reason | None:
    """Say which two roles of a unit other hard labels would keep apart: no node can take both. None: there are none."""
    for one, other in combinations(unit, 2):
        hard = {label.name: label.is_hard for label in one.spec.anti_affinity}
        for label in other.spec.anti_affinity:
            if label.name in hard and (label.is_hard or hard[label.name]):
                return because(ReasonCode.MUST_AVOID, owner, role=other.spec.name, label=label.name)
    return None


def refusals_of(unit: tuple[Runner, ...], layout: Layout, node: NodeName) -> tuple[Reason, ...]:
    """Return why a node cannot take all the roles together."""
    leader = unit[0].spec
    summed = replace(
        leader,
        memory_bytes=sum(one.spec.memory_bytes for one in unit),
        vcpus=sum(one.spec.vcpus for one in unit),
    )
    found = list(refusals(candidacy(summed, unit[0].ownership, layout), node))
    for one in unit[1:]:
        found += refusals(candidacy(one.spec, one.ownership, layout), node)
    return tuple(found)


def _sorted(runners: list[Runner]) -> list[Runner]:
    return sorted(runners, key=lambda one: (-one.spec.priority, -one.spec.memory_bytes, one.spec.name))
