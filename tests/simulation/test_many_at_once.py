"""Many nodes vanish or come back at once: patience and the storm guard. Source: DESIGN section 5, SAFE-8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import partial

import pytest

from holdfast.model.ids import NodeName
from holdfast.sim.checkers import not_yet_well
from holdfast.sim.layout import Make
from holdfast.sim.run import broken_rules, quiet
from holdfast.sim.world import World

CALM_S = 20.0


@contextmanager
def cluster(seed: int, *, nodes: int) -> Iterator[World]:
    """A cluster with fence devices that answer at once."""
    with quiet():
        world = World(Make(nodes=nodes, roles=4, watchdog_s=None), seed=seed)
        try:
            world.loop.run_until(CALM_S)
            assert list(not_yet_well(world)) == []
            yield world
        finally:
            world.close()


def unplug(world: World, node: str) -> None:
    for network, address in world.machines[NodeName(node)].spec.addresses.items():
        world.air.unplug(network, address)
    world.settle()


def plug(world: World, node: str) -> None:
    for network, address in world.machines[NodeName(node)].spec.addresses.items():
        world.air.plug(network, address)
    world.settle()


def switched_off(world: World) -> set[str]:
    return {entry.subject or "" for entry in world.truth.entries if entry.code == "power-off"}


def names(numbers: Iterable[int]) -> list[str]:
    return [f"node{number}" for number in numbers]


@pytest.mark.parametrize("seed", range(1, 4))
def test_who_heals_last_is_not_overdue_when_a_majority_comes_back(seed: int) -> None:
    with cluster(seed, nodes=5) as world:
        for node in names((3, 4, 5)):
            world.loop.call_soon(partial(unplug, world, node), context=Context())
        for late, node in enumerate(names((3, 4, 5))):
            world.loop.call_at(CALM_S + 20 + 1.5 * late, partial(plug, world, node), context=Context())
        world.loop.run_until(CALM_S + 60)
        assert switched_off(world) == set()
        assert list(not_yet_well(world)) == []
        assert list(broken_rules(world)) == []


@pytest.mark.parametrize("seed", range(1, 4))
def test_safe_8_not_even_the_first_of_a_vanishing_majority_is_switched_off(seed: int) -> None:
    """Four of five voters are left, so verdicts are committed; five of nine nodes are gone."""
    with cluster(seed, nodes=9) as world:
        for late, node in enumerate(names(range(5, 10))):
            world.loop.call_at(CALM_S + 0.1 * late, partial(unplug, world, node), context=Context())
        world.loop.run_until(CALM_S + 20)
        assert len(world.database.listing("holdfast/verdicts/").items) == 5
        assert switched_off(world) == set()
