"""Votes that move and a witness, told without chance: one world each, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations, permutations

import pytest

from holdfast.model.ids import NodeName
from holdfast.sim.checkers import not_yet_well
from holdfast.sim.layout import WITNESS, Make
from holdfast.sim.machine import Machine
from holdfast.sim.member_checkers import votes_not_yet_well
from holdfast.sim.network_faults import pairs_cut
from holdfast.sim.run import broken_rules, quiet
from holdfast.sim.world import World

HOST1, HOST2 = NodeName("node1"), NodeName("node2")
ALL = (HOST1, HOST2, WITNESS)
UP_S = 12.0


@contextmanager
def a_world(make: Make) -> Iterator[World]:
    with quiet():
        world = World(make, seed=1)
        try:
            world.loop.run_until(UP_S)
            yield world
            assert list(broken_rules(world)) == []
        finally:
            world.close()


def two_hosts() -> Make:
    return Make(nodes=2, witness=True, votes=True, roles=2)


def pass_time(world: World, time_s: float) -> None:
    world.loop.run_until(world.loop.time() + time_s)


def do(world: World, act: Callable[[], object]) -> None:
    world.loop.call_soon(act)
    pass_time(world, 0.0)


def what_is_missing(world: World) -> list[str]:
    return [*not_yet_well(world), *votes_not_yet_well(world)]


def machines(world: World, names: tuple[NodeName, ...]) -> list[Machine]:
    return [world.machines[name] for name in names]


@pytest.mark.parametrize("dies", ALL)
def test_safe_6_any_one_of_two_hosts_and_a_witness_may_die(dies: NodeName) -> None:
    with a_world(two_hosts()) as world:
        others = [run for run in world.truth.living() if run.node != dies]
        do(world, lambda: world.machines[dies].power_off("plug pulled"))
        pass_time(world, 10.0)
        assert [run for run in others if run.ended is not None] == []
        assert {run.uuid for run in world.truth.living()} == set(world.truth.names)
        do(world, world.machines[dies].power_on)
        pass_time(world, 30.0)
        assert what_is_missing(world) == []


@pytest.mark.parametrize(("first", "second"), list(permutations(ALL, 2)))
def test_safe_4_when_two_of_three_die_nothing_is_decided_until_one_is_back(first: NodeName, second: NodeName) -> None:
    with a_world(two_hosts()) as world:
        for name in (first, second):
            do(world, lambda name=name: world.machines[name].power_off("plug pulled"))  # type: ignore[misc]
            pass_time(world, 10.0)
        decided = len(world.database.history)
        pass_time(world, 20.0)
        assert len(world.database.history) == decided
        do(world, world.machines[first].power_on)
        pass_time(world, 30.0)
        assert len(world.database.history) > decided
        do(world, world.machines[second].power_on)
        pass_time(world, 60.0)
        assert what_is_missing(world) == []


@pytest.mark.parametrize("pair", list(combinations(ALL, 2)))
def test_safe_6_two_that_are_cut_from_each_other_and_reach_the_third_stop_nothing(
    pair: tuple[NodeName, NodeName],
) -> None:
    with a_world(two_hosts()) as world:
        before = world.truth.living()
        one, other = machines(world, pair)
        heal: list[Callable[[], None]] = []
        do(world, lambda: heal.append(pairs_cut(world, [(one, other), (other, one)], 0)))
        pass_time(world, 60.0)
        assert world.truth.living() == before
        assert [entry for entry in world.truth.entries if entry.code == "node-lost"] == []
        do(world, heal[0])
        pass_time(world, 20.0)
        assert what_is_missing(world) == []


def test_a_member_that_lost_its_data_gets_a_new_one_and_never_votes_with_the_old() -> None:
    with a_world(two_hosts()) as world:
        member = world.machines[HOST2].member
        assert member is not None
        before = member.holds
        do(world, member.lose_data)
        pass_time(world, 30.0)
        assert member.holds not in (before, None)
        assert what_is_missing(world) == []


def test_one_vote_becomes_three_and_one_again() -> None:
    with a_world(Make(nodes=3, roles=2, votes=True, voters_at_most=1)) as world:
        assert world.members is not None
        counts = [len(world.members.voters())]
        for number in (3, 1):
            do(world, lambda number=number: world.people.ask("cluster.set", settings(number)))  # type: ignore[misc]
            pass_time(world, 25.0)
            counts.append(len(world.members.voters()))
        assert counts == [1, 3, 1]
        assert what_is_missing(world) == []


def settings(voters: int) -> dict[str, object]:
    return {"changes": {"voters_at_most": voters}}


def test_a_dead_voter_gives_its_vote_to_a_node_that_lives() -> None:
    with a_world(Make(nodes=4, roles=2, votes=True, voters_at_most=3, replace_after_s=20)) as world:
        assert world.members is not None
        do(world, lambda: world.machines[HOST1].power_off("plug pulled"))
        pass_time(world, 40.0)
        assert [one.node for one in world.members.voters()] == ["node2", "node3", "node4"]
        do(world, world.machines[HOST1].power_on)
        pass_time(world, 30.0)
        assert what_is_missing(world) == []


def test_safe_4_no_vote_is_taken_back_in_reliance_on_a_witness_that_has_just_died() -> None:
    with a_world(two_hosts()) as world:
        node = {"node": HOST2}
        do(world, lambda: world.people.ask("node.drain", {**node, "wait": False, "force": True}))
        pass_time(world, 20.0)
        do(world, lambda: world.machines[WITNESS].power_off("plug pulled"))
        pass_time(world, 2.5)
        do(world, lambda: world.people.ask("node.leave", node))
        for _ in range(30):
            pass_time(world, 1.0)
            assert world.leader is not None
        assert world.machines[HOST2].is_out
