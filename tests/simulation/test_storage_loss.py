"""What becomes of a role whose node loses its path to a shared disk: it waits there, or moves, as it is set for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import replace

from holdfast.model.roles import Ownership, StorageLoss
from holdfast.sim.checkers import needing_a_person, not_yet_well
from holdfast.sim.layout import Make
from holdfast.sim.run import broken_rules, quiet
from holdfast.sim.target_faults import cut_paths
from holdfast.sim.truth import GuestRun
from holdfast.sim.world import World
from holdfast.store.port import Put, Txn
from holdfast.store.records import decode, encode, ownership_key, spec_key

CALM_S = 15.0
MOVED_S = CALM_S + 25.0


@contextmanager
def cluster(*, to_move: int) -> Iterator[World]:
    """A cluster at work with three roles behind helpers, so many of which are to move."""
    with quiet():
        world = World(Make(roles=3, helped=3, has_fence=False, watchdog_s=None), seed=1)
        try:
            for role in world.roles()[:to_move]:
                moves = replace(role, on_storage_loss=StorageLoss.MOVE)
                world.write(Txn(then=(Put(spec_key(role.name), encode(moves)),)))
            world.loop.run_until(CALM_S)
            assert list(not_yet_well(world)) == []
            yield world
        finally:
            world.close()


def runs(world: World) -> dict[str, GuestRun]:
    return {run.uuid: run for run in world.truth.living()}


def cut(world: World, *names: str) -> None:
    """Cut nodes off the target; they come back a minute later."""
    for name in names:
        mend = cut_paths(world, world.shared_disks.paths(name))
        world.loop.call_later(60, mend, context=Context())


def test_a_role_moves_off_a_node_that_lost_its_disk_and_another_one_waits_there() -> None:
    with cluster(to_move=1) as world:
        moves, waits, _ = (role.uuid for role in world.roles())
        before = runs(world)
        cut(world, before[moves].node, before[waits].node)
        away = {before[moves].node, before[waits].node}
        world.loop.run_until(MOVED_S)
        after = runs(world)
        assert after[moves].node not in away
        assert after[waits] is before[waits]
        world.loop.run_until(CALM_S + 75)
        assert runs(world)[moves] is after[moves]
        assert runs(world)[waits] is before[waits]
        assert list(not_yet_well(world)) == []
        assert list(broken_rules(world)) == []


def test_nothing_moves_in_circles_when_no_node_reaches_the_disks_and_all_go_on_when_they_do() -> None:
    with cluster(to_move=3) as world:
        before = runs(world)
        cut(world, *world.machines)
        world.loop.run_until(CALM_S + 59)
        assert runs(world) == before
        world.loop.run_until(CALM_S + 75)
        assert runs(world) == before
        assert list(not_yet_well(world)) == []
        assert list(broken_rules(world)) == []


def test_a_short_loss_moves_nothing() -> None:
    with cluster(to_move=3) as world:
        before = runs(world)
        mend = cut_paths(world, world.shared_disks.paths(next(iter(before.values())).node))
        world.loop.call_later(10, mend, context=Context())
        world.loop.run_until(CALM_S + 40)
        assert runs(world) == before
        assert list(broken_rules(world)) == []


def test_no_person_excuses_a_role_that_moved_off_lost_disks_and_is_not_up() -> None:
    with cluster(to_move=1) as world:
        role = world.roles()[0]
        world.stop_role(role.name)
        world.loop.run_until(CALM_S + 20)
        (stopped,) = (one for one in world.database.listing(ownership_key(role.name)).items)
        for times, needs in ((1, []), (role.failover_limit, []), (role.failover_limit + 1, [role.name])):
            moved = replace(decode(Ownership, stopped.key, stopped.value), failovers=(1,) * times)
            world.write(Txn(then=(Put(stopped.key, encode(moved)),)))
            assert list(needing_a_person(world)) == needs
