"""Balancing, compared with trying everything: never worse, as few guests as possible, and at rest afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from tests.property.decide.clusters import snapshots
from tests.unit.decide.made_up import GIB, NOW_MS, Part, cluster, known, role, up

from holdfast.decide.balance import balance, begin_balance
from holdfast.decide.balance_search import Board, Piece, steps_to_balance
from holdfast.decide.layout import Layout
from holdfast.decide.loads import Amount, load, moves_at_least, spread
from holdfast.decide.placement import candidacy, rank, refusals
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.roles import Label
from holdfast.model.snapshot import Snapshot

thresholds = st.sampled_from([1, 10, 20, 40])


def crowd(seed: int) -> Snapshot:
    """A cluster that is up and at peace, with rules and wishes that stand in the way."""
    random = Random(seed)
    names = "abc"[: random.randint(2, 3)]
    parts: list[Part] = []
    for name in names:
        parts += [known(name, is_paused=random.random() < 0.1), up(name, memory_bytes=random.randint(4, 8) * GIB)]
    for number in range(random.randint(0, 5)):
        labels = tuple(Label(name=label, is_hard=random.random() < 0.5) for label in "xy" if random.random() < 0.2)
        others = tuple(NodeName(name) for name in names if random.random() < 0.3)
        parts.append(
            role(
                f"role{number}",
                owner=random.choice(names),
                memory_bytes=random.randint(0, 3) * GIB,
                vcpus=random.randint(1, 6),
                possible_owners=tuple(NodeName(name) for name in names) if random.random() < 0.1 else (),
                preferred_owners=others if random.random() < 0.3 else (),
                anti_affinity=labels,
            )
        )
    return cluster(*parts)


crowds = st.builds(crowd, st.integers(0, 2**32))


def spread_of(snapshot: Snapshot) -> int:
    """How far the nodes that take roles are apart, counted by hand."""
    loads = []
    for name, node in snapshot.nodes.items():
        if node.value.is_paused:
            continue
        has = snapshot.reports[name].value.capacity
        here = [one.value.role for one in snapshot.ownerships.values() if one.value.owner == name]
        memory = sum(snapshot.specs[each].value.memory_bytes for each in here)
        vcpus = sum(snapshot.specs[each].value.vcpus for each in here)
        loads.append(max(memory * 10_000 // has.memory_bytes, vcpus * 10_000 // (has.vcpus * 4)))
    return max(loads, default=0) - min(loads, default=0)


def moved(snapshot: Snapshot, name: RoleName, node: NodeName) -> Snapshot:
    there = snapshot.sessions[node].value.incarnation
    before = snapshot.ownerships[name]
    after = replace(before, value=replace(before.value, owner=node, incarnation=there))
    return replace(snapshot, ownerships={**snapshot.ownerships, name: after})


def is_allowed(snapshot: Snapshot, name: RoleName, node: NodeName) -> bool:
    """Asked of placement anew for every state: no rule is broken, no wish is served worse."""
    spec, ownership = snapshot.specs[name].value, snapshot.ownerships[name].value
    owner = ownership.owner
    if owner is None or owner == node or snapshot.nodes[owner].value.is_paused:
        return False
    layout = Layout(snapshot, NOW_MS)
    layout.lift(spec, ownership)
    search = candidacy(spec, ownership, layout)
    near = search.neighbours

    def wishes(where: NodeName) -> tuple[int, int]:
        return rank(spec, where), near.avoids.get(where, 0) - near.joins.get(where, 0)

    better = all(there <= here for there, here in zip(wishes(node), wishes(owner), strict=True))
    return better and not refusals(search, node)


def reachable(snapshot: Snapshot, depth: int, done: frozenset[RoleName] = frozenset()) -> Iterator[Snapshot]:
    """Every cluster that moving so many roles leads to, each role once."""
    if depth == 0:
        yield snapshot
        return
    for name in sorted(snapshot.specs.keys() - done):
        for node in sorted(snapshot.nodes):
            if is_allowed(snapshot, name, node):
                yield from reachable(moved(snapshot, name, node), depth - 1, done | {name})


@given(crowds, thresholds)
def test_no_plan_with_fewer_guests_reaches_the_threshold(snapshot: Snapshot, threshold: int) -> None:
    decided = balance(snapshot, NOW_MS, threshold)
    guests = sum(len(shift.unit) for shift in decided.shifts)
    reached = decided.is_within(threshold)
    event(f"{guests} guests, {'reached' if reached else 'not reached'}")
    tried = range(guests if reached else 3)
    for depth in tried:
        assert all(spread_of(after) > threshold * 100 for after in reachable(snapshot, depth))


@given(crowds, thresholds)
def test_every_step_is_allowed_when_its_turn_comes_and_the_end_is_no_worse(snapshot: Snapshot, threshold: int) -> None:
    decided = balance(snapshot, NOW_MS, threshold)
    after = snapshot
    for shift in decided.shifts:
        for one in shift.unit:
            assert is_allowed(after, one.spec.name, shift.target)
            after = moved(after, one.spec.name, shift.target)
    assert spread_of(after) < spread_of(snapshot) or not decided.shifts
    assert max(decided.spread.values(), default=0) == spread_of(after)
    assert balance(after, NOW_MS, threshold).shifts == ()


@given(crowds, thresholds)
def test_carried_out_in_parts_it_comes_to_rest_with_no_more_guests_moved(snapshot: Snapshot, threshold: int) -> None:
    whole = balance(snapshot, NOW_MS, threshold)
    assume(whole.is_within(threshold))
    after, count = snapshot, 0
    while begun := begin_balance(after, NOW_MS, threshold, 1):
        for move in begun:
            after = moved(after, move.after.role, move.target)
        count += len(begun)
    assert (count, spread_of(after) <= threshold * 100) == (sum(len(shift.unit) for shift in whole.shifts), True)


@given(snapshots(), thresholds)
def test_on_any_cluster_it_names_only_roles_that_run_and_nodes_that_take_them(
    snapshot: Snapshot, threshold: int
) -> None:
    decided = balance(snapshot, NOW_MS, threshold)
    closed = Layout(snapshot, NOW_MS).closed
    for shift in decided.shifts:
        assert shift.target not in closed
        assert all(one.ownership.owner not in closed for one in shift.unit)
    assert balance(snapshot, NOW_MS, threshold) == decided


def board(seed: int, limit: int, *, places: int, pieces: int) -> Board:
    random = Random(seed)
    rooms = tuple(Amount(memory_bytes=random.randint(50, 100), vcpus=100) for _ in range(places))
    made = [
        Piece(guests=1, takes=Amount(memory_bytes=random.randint(1, 9), vcpus=1), place=random.randrange(places))
        for _ in range(pieces)
    ]
    taken = [Amount() for _ in rooms]
    for piece in made:
        taken[piece.place] = taken[piece.place].plus(piece.takes)
    return Board(rooms=rooms, taken=tuple(taken), pieces=tuple(made), limit=limit, allows=lambda _, __: True)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([500, 2000]))
def test_also_a_search_that_is_too_large_ends_and_makes_nothing_worse(seed: int, limit: int) -> None:
    large = board(seed, limit, places=12, pieces=60)
    taken = large.taken
    for step in (steps := steps_to_balance(large)):
        taken = large.after(taken, step)
    assert spread(large.loads(taken)) < spread(large.loads(large.taken)) or not steps


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5), st.integers(0, 5000))
def test_the_lower_bound_is_one(loads: list[int], limit: int) -> None:
    """Nodes that have to change, by every range that the loads could end in."""
    ranges = sorted({*loads, *(one - limit for one in loads)})
    least = min(max(sum(one < low for one in loads), sum(one > low + limit for one in loads)) for low in ranges)
    assert moves_at_least(loads, limit) <= least
    assert (moves_at_least(loads, limit) == 0) == (spread(loads) <= limit)
    assert all(one <= two for one, two in pairwise(moves_at_least(loads, each) for each in (limit, limit // 2, 0)))


@given(st.integers(0, 100), st.integers(1, 100), st.integers(0, 100), st.integers(1, 100))
def test_the_load_is_the_larger_share(memory: int, memory_room: int, vcpus: int, vcpu_room: int) -> None:
    full = load(Amount(memory_bytes=memory, vcpus=vcpus), Amount(memory_bytes=memory_room, vcpus=vcpu_room))
    assert full == max(memory * 10_000 // memory_room, vcpus * 10_000 // vcpu_room)
