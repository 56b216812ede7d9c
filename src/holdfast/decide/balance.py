"""Balance: the fewest guests whose moves bring the loads of the nodes within a threshold of each other.

Rule of the file: every rule of placement holds, and no wish is served worse than before: a move never goes to a node
that the role prefers less, never out of its site, and never against a soft label. So nothing that balances is undone by
a failback, and a cluster that is balanced stays as it is. Source: DESIGN section 9, docs/maintenance.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from holdfast.decide.balance_search import Board, Piece, Step, steps_to_balance
from holdfast.decide.layout import Layout, closed
from holdfast.decide.loads import Amount, amount_of, loads_of, rooms_of, spread, taken_of
from holdfast.decide.moves import Move, Runner, begin, clash_within, refusals_of, unit_of
from holdfast.decide.placement import candidacy, rank
from holdfast.decide.storage_loss import may_settle
from holdfast.decide.traffic import Traffic
from holdfast.model.ids import NodeName, RoleName, SiteName
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.roles import Ownership, Phase, Wanted
from holdfast.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Roles that go to another node together: one role, or those that hard labels bind."""

    unit: tuple[Runner, ...]
    target: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What balances the nodes.

    shifts          in an order in which each fits once those before it are done; it is carried out in parts, and
                    decided again after each.
    before, after   per node that takes part, how full it is, in hundredths of a percent.
    spread          per site, how far the fullest and the emptiest node are apart then.
    """

    shifts: tuple[Shift, ...]
    before: Mapping[NodeName, int]
    after: Mapping[NodeName, int]
    spread: Mapping[SiteName | None, int]

    def is_within(self, threshold_percent: int) -> bool:
        """Whether every site comes within the threshold."""
        return all(apart <= threshold_percent * 100 for apart in self.spread.values())


def balance(snapshot: Snapshot, now_ms: int, threshold_percent: int) -> Balance:
    """Decide what balances the nodes of each site."""
    rooms = {node: room for node, room in rooms_of(snapshot).items() if not closed(snapshot, node, now_ms)}
    before = loads_of(taken_of(snapshot, rooms), rooms)
    shifts: list[Shift] = []
    after, apart = dict(before), {}
    for site in sorted({snapshot.nodes[node].value.site for node in rooms}, key=lambda name: name or ""):
        nodes = {node: room for node, room in rooms.items() if snapshot.nodes[node].value.site == site}
        moved = snapshot
        while found := _site(moved, nodes, now_ms, threshold_percent):
            shifts += found
            moved = _moved(moved, found)
        reached = loads_of(taken_of(moved, nodes), nodes)
        after |= reached
        apart[site] = spread(list(reached.values()))
    return Balance(shifts=tuple(shifts), before=before, after=after, spread=apart)


def begin_balance(snapshot: Snapshot, now_ms: int, threshold_percent: int, at_once: int) -> tuple[Move, ...]:
    """Begin the first of the moves that balance the nodes, `at_once` at most; a unit larger than that goes alone."""
    layout = Layout(snapshot, now_ms)
    decided = balance(snapshot, now_ms, threshold_percent)
    begun: list[Move] = []
    traffic = Traffic(snapshot)
    for shift in decided.shifts:
        if begun and len(begun) + len(shift.unit) > at_once:
            break
        owner = shift.unit[0].ownership.owner
        assert owner is not None, "only what runs is balanced"
        percent = {"from_percent": decided.before[owner] // 100, "to_percent": decided.before[shift.target] // 100}
        reason = because(ReasonCode.BALANCED, shift.target, owner=owner, **percent)
        moves, _ = begin(shift.unit, layout, (reason,), only=(shift.target,))
        if not moves or not traffic.has_room([move.after for move in moves]):
            break
        for move in moves:
            traffic.add(move.after)
        begun += [replace(move, after=replace(move.after, drained_from=None)) for move in moves]
    return tuple(begun)


def rests_in_ms(snapshot: Snapshot, now_ms: int) -> int | None:
    """In how many ms the cluster may balance by itself: 0 now, None not while it is as it is.

    It has to have been at rest for `failback_settle_s`: no node is drained or came up lately, no role moved or waits.
    """
    if snapshot.is_frozen or any(node.value.is_draining for node in snapshot.nodes.values()):
        return None
    newest_ms = max((session.value.started_at_ms for session in snapshot.sessions.values()), default=now_ms)
    for role, spec in snapshot.specs.items():
        ownership = _ownership(snapshot, role)
        if spec.value.wanted is Wanted.OFFLINE and ownership.owner is None:
            continue
        if ownership.phase is not Phase.ONLINE or ownership.target is not None:
            return None
        newest_ms = max(newest_ms, ownership.since_ms, ownership.failed_ms)
    return max(0, newest_ms + snapshot.settings.failback_settle_s * 1000 - now_ms)


def _site(
    snapshot: Snapshot, rooms: Mapping[NodeName, Amount], now_ms: int, threshold_percent: int
) -> tuple[Shift, ...]:
    """What balances the nodes of one site."""
    layout, nodes = Layout(snapshot, now_ms), tuple(rooms)
    units = _units(layout, nodes)
    taken = taken_of(snapshot, nodes)
    board = Board(
        rooms=tuple(rooms.values()),
        taken=tuple(taken[node] for node in nodes),
        pieces=tuple(_piece(unit, nodes) for unit in units),
        limit=threshold_percent * 100,
        allows=_Rules(layout, units, nodes).allows,
    )
    return tuple(Shift(unit=units[piece], target=nodes[place]) for piece, place in steps_to_balance(board))


def _units(layout: Layout, nodes: Sequence[NodeName]) -> tuple[tuple[Runner, ...], ...]:
    """What may be moved: roles that run in peace on these nodes, those that are bound together as one."""
    found: dict[frozenset[RoleName], tuple[Runner, ...]] = {}
    for role in sorted(layout.snapshot.specs):
        ownership = _ownership(layout.snapshot, role)
        owner = ownership.owner
        if owner is None or owner not in nodes:
            continue
        unit = unit_of(Runner(spec=layout.snapshot.specs[role].value, ownership=ownership), layout)
        if all(_is_at_peace(one) for one in unit) and clash_within(unit, owner) is None:
            found.setdefault(frozenset(one.spec.name for one in unit), unit)
    return tuple(found.values())


def _is_at_peace(one: Runner) -> bool:
    wanted = one.spec.wanted is Wanted.ONLINE
    return wanted and one.ownership.phase is Phase.ONLINE and one.ownership.target is None


def _piece(unit: tuple[Runner, ...], nodes: Sequence[NodeName]) -> Piece:
    first = unit[0]
    spec, owner = first.spec, first.ownership.owner
    assert owner is not None, "only what runs is balanced"
    has_ties = len(unit) > 1 or spec.affinity or spec.anti_affinity or spec.disks
    nameless = replace(spec, name=RoleName(""), uuid="", domain_xml="", disk_paths=())
    twin_of = None if has_ties else (nameless, first.ownership.failed_on, first.ownership.generation)
    takes = amount_of(one.spec for one in unit)
    return Piece(guests=len(unit), takes=takes, place=nodes.index(owner), twin_of=twin_of)


class _Rules:
    """Whether a unit may go to a node once others have gone to theirs."""

    def __init__(self, layout: Layout, units: Sequence[tuple[Runner, ...]], nodes: Sequence[NodeName]) -> None:
        self._layout = layout
        self._units = units
        self._nodes = nodes

    def allows(self, before: Sequence[Step], step: Step) -> bool:
        """Whether the step may follow; leaves the layout as it was."""
        for piece, place in before:
            self._carry(piece, None, self._nodes[place])
        allowed = self._may_go(self._units[step[0]], self._nodes[step[1]])
        for piece, place in reversed(before):
            self._carry(piece, self._nodes[place], None)
        return allowed

    def _carry(self, piece: int, here: NodeName | None, there: NodeName | None) -> None:
        """Have a unit on one node instead of another; None: its owner's."""
        for one in self._units[piece]:
            self._layout.lift(one.spec, one.ownership if here is None else replace(one.ownership, owner=here))
            self._layout.put_back(one.spec, one.ownership if there is None else replace(one.ownership, owner=there))

    def _may_go(self, unit: tuple[Runner, ...], node: NodeName) -> bool:
        for one in unit:
            self._layout.lift(one.spec, one.ownership)
        may = not refusals_of(unit, self._layout, node) and all(self._is_as_welcome(one, node) for one in unit)
        for one in unit:
            self._layout.put_back(one.spec, one.ownership)
        return may

    def _is_as_welcome(self, one: Runner, node: NodeName) -> bool:
        """Whether no wish of the role is served worse there than where it is."""
        owner = one.ownership.owner
        search = candidacy(one.spec, one.ownership, self._layout)
        near = search.neighbours

        def unwelcome(where: NodeName | None) -> int:
            return 0 if where is None else near.avoids.get(where, 0) - near.joins.get(where, 0)

        if rank(one.spec, node) > rank(one.spec, owner) or node in search.slow:
            return False
        return may_settle(self._layout.snapshot, one.spec, node) and unwelcome(node) <= unwelcome(owner)


def _moved(snapshot: Snapshot, shifts: Sequence[Shift]) -> Snapshot:
    """The snapshot once the shifts are done."""
    ownerships = dict(snapshot.ownerships)
    for shift in shifts:
        session = snapshot.sessions[shift.target].value
        for one in shift.unit:
            there = replace(one.ownership, owner=shift.target, incarnation=session.incarnation)
            ownerships[one.spec.name] = replace(ownerships[one.spec.name], value=there)
    return replace(snapshot, ownerships=ownerships)


def _ownership(snapshot: Snapshot, role: RoleName) -> Ownership:
    found = snapshot.ownerships.get(role)
    return found.value if found is not None else Ownership(role=role)
