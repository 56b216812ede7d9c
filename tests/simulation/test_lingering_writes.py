"""Guests whose writes wait in a helper that outlives them, and that end while the path of their node is out.

The disk is the judge: once a guest has written, nothing of an earlier one lands. Source: SAFE-1; docs/safety.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context

import pytest

from holdfast.model.ids import NodeName
from holdfast.sim.checkers import not_yet_well
from holdfast.sim.layout import Make
from holdfast.sim.run import broken_rules, quiet
from holdfast.sim.target_faults import cut_paths
from holdfast.sim.truth import GuestRun
from holdfast.sim.world import World

CALM_S = 15.0


@contextmanager
def cluster(seed: int = 1, *, keeps_memory: bool = False) -> Iterator[World]:
    """A cluster at work of whose roles each has a disk of its own behind helpers."""
    with quiet():
        make = Make(roles=2, helped=2, has_fence=False, watchdog_s=None, keeps_memory=keeps_memory)
        world = World(make, seed=seed)
        try:
            world.loop.run_until(CALM_S)
            assert list(not_yet_well(world)) == []
            yield world
        finally:
            world.close()


def run_of(world: World, uuid: str) -> GuestRun:
    (found,) = [run for run in world.truth.living() if run.uuid == uuid]
    return found


def waits(world: World, run: GuestRun) -> bool:
    """Whether something of it is still in the helpers of its node."""
    return any(len(path._waiting) > 0 for path in world.shared_disks.paths(run.node))


@pytest.mark.parametrize("end", ["nobody", "source", "target"])
@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.3])
def test_safe_1_a_role_is_moved_off_a_node_whose_path_is_out_and_holdfastd_is_killed(end: str, after_s: float) -> None:
    with cluster() as world:
        role = world.roles()[0]
        before = run_of(world, role.uuid)
        (target, *_) = [name for name in world.machines if name != before.node]
        mend = cut_paths(world, world.shared_disks.paths(before.node))
        world.loop.run_until(CALM_S + 1)
        world.people.ask("role.move", {"role": role.name, "to": target, "method": "restart", "wait": False})
        if end != "nobody":
            killed = world.machines[NodeName(before.node) if end == "source" else target]
            world.loop.call_later(after_s, killed.kill_daemon, context=Context())
            world.loop.call_later(after_s + 1, killed.start_daemon, context=Context())
        world.loop.run_until(CALM_S + 15)
        now = run_of(world, role.uuid)
        assert now.node != before.node
        assert before.ended is not None
        assert waits(world, before)
        written = len([at for at in world.shared_disks.landed if at.run is now])
        assert written > 0
        world.loop.call_soon(mend, context=Context())
        world.loop.run_until(CALM_S + 25)
        assert not waits(world, before)
        assert run_of(world, role.uuid) is now, "nobody is stopped by it"
        assert list(not_yet_well(world)) == []
        assert list(broken_rules(world)) == []


@pytest.mark.parametrize("method", ["live", "quick"])
def test_safe_1_memory_leaves_no_node_while_something_that_the_guest_wrote_waits_in_a_helper(method: str) -> None:
    with cluster(keeps_memory=True) as world:
        role = world.roles()[0]
        before = run_of(world, role.uuid)
        (target, *_) = [name for name in world.machines if name != before.node]
        mend = cut_paths(world, world.shared_disks.paths(before.node))
        world.loop.run_until(CALM_S + 1)
        world.people.ask("role.move", {"role": role.name, "to": target, "method": method, "wait": False})
        world.loop.run_until(CALM_S + 15)
        assert waits(world, before)
        assert run_of(world, role.uuid) is before, "QEMU waits for its writes before it gives its memory away"
        world.loop.call_soon(mend, context=Context())
        world.loop.run_until(CALM_S + 30)
        now = run_of(world, role.uuid)
        assert now.node == target
        assert not [at for at in world.shared_disks.landed if at.run is before and at.at > now.began]
        assert list(not_yet_well(world)) == []
        assert list(broken_rules(world)) == []


def test_safe_1_a_guest_that_crashes_while_its_path_is_out_starts_again_and_nothing_old_lands() -> None:
    with cluster() as world:
        role = world.roles()[0]
        before = run_of(world, role.uuid)
        mend = cut_paths(world, world.shared_disks.paths(before.node))
        world.loop.run_until(CALM_S + 3)
        world.machines[NodeName(before.node)].hypervisor.crash_guest(role.uuid)
        world.loop.run_until(CALM_S + 12)
        world.loop.call_soon(mend, context=Context())
        world.loop.run_until(CALM_S + 30)
        assert run_of(world, role.uuid).number > before.number
        assert list(not_yet_well(world)) == []
        assert list(broken_rules(world)) == []
