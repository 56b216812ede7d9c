"""Placement and moves on snapshots of any kind: hard rules, rest, and a way home for every role on the move."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, note, target
from hypothesis import strategies as st
from tests.property.decide.clusters import NODES, snapshots
from tests.property.decide.lives import Life, holds, put
from tests.unit.decide.made_up import NOW_MS

from holdfast.decide.coordination import plan
from holdfast.decide.layout import Layout
from holdfast.decide.orders import cancel_move, order_move, preview_drain
from holdfast.decide.placement import best, candidacy, refusals, score
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.roles import Label, MemoryKind, Ownership, Phase
from holdfast.model.snapshot import Snapshot

broken_nodes = st.sets(st.sampled_from(NODES), max_size=2)


def ownership_of(snapshot: Snapshot, role: RoleName) -> Ownership:
    found = snapshot.ownerships.get(role)
    return found.value if found is not None else Ownership(role=role)


@given(snapshots(), st.sets(st.sampled_from(NODES), max_size=2))
def test_the_quick_search_finds_what_looking_at_every_node_finds(snapshot: Snapshot, avoid: set[NodeName]) -> None:
    layout = Layout(snapshot, NOW_MS)
    for role, spec in snapshot.specs.items():
        ownership = ownership_of(snapshot, role)
        layout.lift(spec.value, ownership)
        search = candidacy(spec.value, ownership, layout, avoid=avoid)
        able = [node for node in snapshot.nodes if not refusals(search, node)]
        assert best(search) == min(able, key=lambda node: score(search, node), default=None)
        layout.put_back(spec.value, ownership)


@given(snapshots())
def test_a_role_that_is_lifted_and_put_back_changes_nothing(snapshot: Snapshot) -> None:
    layout, untouched = Layout(snapshot, NOW_MS), Layout(snapshot, NOW_MS)
    assert list(layout.by_room(None)) == list(untouched.by_room(None))
    for role, spec in snapshot.specs.items():
        layout.lift(spec.value, ownership_of(snapshot, role))
        layout.put_back(spec.value, ownership_of(snapshot, role))
    assert layout.free == untouched.free
    assert list(layout.by_room(None)) == list(untouched.by_room(None))
    for spec in snapshot.specs.values():
        assert layout.neighbours(spec.value) == untouched.neighbours(spec.value)


@given(snapshots())
def test_no_hard_rule_is_violated_by_what_the_plan_gives_away(snapshot: Snapshot) -> None:
    decided = plan(snapshot, NOW_MS)
    after = snapshot
    for change in decided.changes:
        after = put(after, change.after)
    for change in decided.changes:
        for other in after.ownerships.values():
            if other.value.role in after.specs and other.value.role != change.role and holds(after, other.value):
                check_pair(after, change.after, other.value)


def check_pair(snapshot: Snapshot, given_away: Ownership, other: Ownership) -> None:
    one, two = snapshot.specs[given_away.role].value, snapshot.specs[other.role].value
    here, there = given_away.target or given_away.owner, other.target or other.owner
    if here is None or there is None:
        return
    note(f"{one.name} on {here}, {two.name} on {there}")
    if share_hard(one.affinity, two.affinity):
        assert here == there
    if share_hard(one.anti_affinity, two.anti_affinity):
        assert here not in (other.owner, other.target)


def share_hard(one: tuple[Label, ...], two: tuple[Label, ...]) -> bool:
    return any(a.name == b.name and (a.is_hard or b.is_hard) for a in one for b in two)


@given(snapshots(), broken_nodes)
def test_everything_comes_to_rest_and_no_role_goes_to_and_fro(snapshot: Snapshot, broken: set[NodeName]) -> None:
    life = Life(snapshot, broken)
    life.live()
    target(float(max(life.assigned.values(), default=0)))
    assert max(life.assigned.values(), default=0) <= 2 * len(NODES)
    assert plan(life.snapshot, NOW_MS).changes == ()


@given(snapshots(), broken_nodes)
def test_safe_5_a_move_ends_online_whatever_becomes_of_its_target(snapshot: Snapshot, broken: set[NodeName]) -> None:
    life = Life(snapshot, broken)
    rest = life.live()
    for role in rest.specs:
        record = ownership_of(rest, role)
        if record.target is None or role in life.last.blocked:
            continue
        assert record.owner is not None, f"{role} is offline and nothing stands against it: {record}"
        assert rest.session_of(record.owner, record.incarnation) is None, f"{role} rests on its way: {record}"


@given(snapshots(), st.sampled_from(NODES))
def test_safe_2_a_move_leaves_owner_epoch_and_phase_alone(snapshot: Snapshot, to: NodeName) -> None:
    for role in snapshot.specs:
        old = ownership_of(snapshot, role)
        for chosen in (None, to):
            order = order_move(snapshot, role, chosen, NOW_MS) if chosen is None or to in snapshot.nodes else None
            for move in order.moves if order is not None else ():
                was = ownership_of(snapshot, move.after.role)
                assert (move.after.owner, move.after.incarnation) == (was.owner, was.incarnation)
                assert (move.after.epoch, move.after.phase) == (was.epoch, was.phase)
                assert move.after.target in snapshot.sessions
                assert move.after.target != was.owner
        cancelled = cancel_move(snapshot, role)
        if cancelled is not None:
            assert (cancelled.owner, cancelled.epoch, cancelled.phase) == (old.owner, old.epoch, old.phase)


@given(snapshots())
def test_safe_7_another_owner_gets_what_is_saved_and_not_consumed_and_no_other_memory(snapshot: Snapshot) -> None:
    for change in plan(snapshot, NOW_MS).changes:
        old, memory = ownership_of(snapshot, change.role), ownership_of(snapshot, change.role).memory
        if change.after.incarnation == old.incarnation:
            assert change.after.memory == memory
        else:
            is_kept = memory is not None and memory.kind is MemoryKind.SAVED and not memory.is_consumed
            assert change.after.memory == (memory if is_kept else None)
            assert change.after.making is None


@given(snapshots())
def test_an_order_moves_or_says_why_not(snapshot: Snapshot) -> None:
    for role in snapshot.specs:
        order = order_move(snapshot, role, None, NOW_MS)
        assert bool(order.moves) != bool(order.against)


@given(snapshots())
def test_a_drain_moves_all_that_the_others_can_take_and_names_the_rest(snapshot: Snapshot) -> None:
    for node in snapshot.nodes:
        drain = preview_drain(snapshot, node, NOW_MS)
        assert not drain.moves.keys() & drain.staying.keys()
        assert all(drain.staying.values())
        for role in snapshot.specs:
            record = ownership_of(snapshot, role)
            runs = record.phase is Phase.ONLINE and record.owner == node and record.target is None
            if runs and snapshot.session_of(node, record.incarnation) and snapshot.specs[role].value.wanted == "online":
                assert role in drain.moves or role in drain.staying


@given(snapshots())
def test_a_drained_node_is_left_by_all_but_those_that_stay_for_a_reason(snapshot: Snapshot) -> None:
    life = Life(snapshot)
    rest = life.live()
    for node, spec in rest.nodes.items():
        if spec.value.is_draining:
            left = {role for role in rest.specs if ownership_of(rest, role).owner == node}
            alive = {role for role in left if rest.session_of(node, ownership_of(rest, role).incarnation)}
            assert alive <= preview_drain(rest, node, NOW_MS).staying.keys()


@given(snapshots())
def test_a_frozen_cluster_starts_nothing_by_itself(snapshot: Snapshot) -> None:
    if not snapshot.is_frozen:
        return
    for change in plan(snapshot, NOW_MS).changes:
        old = ownership_of(snapshot, change.role)
        asked = snapshot.specs[change.role].value.generation != old.generation
        if change.after.phase is Phase.ASSIGNED:
            assert asked or (old.target is not None and change.proof is None)


@given(snapshots())
def test_the_plan_moves_no_more_at_once_than_it_may(snapshot: Snapshot) -> None:
    limit = snapshot.settings.moves_at_once
    under_way = sum(1 for role in snapshot.specs if ownership_of(snapshot, role).target is not None)
    begun = [change for change in plan(snapshot, NOW_MS).changes if change.after.is_leaving]
    units = {(change.after.owner, change.after.target) for change in begun}
    assert not begun or under_way < limit
    assert len(begun) <= limit - under_way or len(units) <= 1


def test_a_life_without_a_role_rests() -> None:
    assert Life(replace(Snapshot())).live() == Snapshot()
