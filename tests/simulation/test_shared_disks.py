"""Failover by reservations alone: no fence device, no watchdog, and the disks themselves are the judges.

Source: SAFE-1, SAFE-2; docs/safety.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context

import pytest

from holdfast.model.ids import NodeName
from holdfast.model.nodes import Proof, ProofKind
from holdfast.sim.campaign import run_all
from holdfast.sim.checkers import not_yet_well
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.faults import FAULTS
from holdfast.sim.layout import Make
from holdfast.sim.machine import Machine
from holdfast.sim.quiet_lun import QuietLun
from holdfast.sim.run import Order, broken_rules, quiet
from holdfast.sim.schedule import Profile
from holdfast.sim.target_faults import cut_paths
from holdfast.sim.truth import GuestRun
from holdfast.sim.world import World
from holdfast.storage.outcome import Done
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.store.records import PROOFS, decode

CALM_S = 20.0
QUIET_STEPS_PER_S = 165
"""Of three nodes, three roles and two disks: 141, and 189 if each write of a guest took its time."""


@contextmanager
def cluster(seed: int = 1, *, nodes: int = 3, paths: int = 1) -> Iterator[World]:
    """A cluster at work whose roles are protected by reservations and by nothing else."""
    with quiet():
        world = World(Make(nodes=nodes, roles=3, disks=2, paths=paths, has_fence=False, watchdog_s=None), seed=seed)
        try:
            world.loop.run_until(CALM_S)
            assert list(not_yet_well(world)) == []
            yield world
        finally:
            world.close()


def owner(world: World) -> tuple[Machine, list[GuestRun]]:
    """A machine that runs guests, and these."""
    runs = [run for run in world.truth.living() if run.node == world.truth.living()[0].node]
    return world.machines[NodeName(runs[0].node)], runs


def kinds_of_proof(world: World) -> list[ProofKind]:
    items = world.database.listing(PROOFS).items
    return [decode(Proof, item.key, item.value).kind for item in items]


@pytest.mark.parametrize("seed", range(1, 4))
def test_safe_1_the_guests_of_a_frozen_node_run_elsewhere_and_nothing_of_it_lands_after_it_thaws(seed: int) -> None:
    with cluster(seed) as world:
        machine, before = owner(world)
        world.loop.call_soon(machine.freeze, context=Context())
        world.loop.run_until(CALM_S + 30)
        assert kinds_of_proof(world) == [ProofKind.STORAGE_RESERVATION]
        for run in before:
            (elsewhere,) = [other for other in world.truth.living() if other.uuid == run.uuid and other is not run]
            assert elsewhere.began < CALM_S + 10
        world.loop.call_soon(machine.thaw, context=Context())
        world.loop.run_until(CALM_S + 31)
        assert all(run.ended is not None for run in before)
        late = [at for at in world.shared_disks.landed if at.run in before and at.at > CALM_S + 1]
        assert late == []
        world.loop.run_until(CALM_S + 60)
        assert list(not_yet_well(world)) == []
        assert list(broken_rules(world)) == []


def test_safe_1_a_node_whose_guard_is_dead_too_is_kept_off_by_the_disks_and_ends_its_guests_within_a_second() -> None:
    with cluster() as world:
        machine, before = owner(world)
        machine.is_guard_wanted = False
        world.loop.call_soon(machine.freeze, context=Context())
        world.loop.run_until(CALM_S + 30)
        world.loop.call_soon(machine.thaw, context=Context())
        world.loop.run_until(CALM_S + 31)
        assert all(run.ended is not None for run in before)
        assert [at for at in world.shared_disks.landed if at.run in before and at.at > CALM_S + 1] == []


def test_safe_2_an_owner_without_power_is_replaced_on_the_reservation_alone() -> None:
    with cluster() as world:
        machine, before = owner(world)
        world.loop.call_soon(machine.power_off, "plug pulled", context=Context())
        world.loop.run_until(CALM_S + 15)
        assert kinds_of_proof(world) == [ProofKind.STORAGE_RESERVATION]
        running = {run.uuid for run in world.truth.living()}
        assert {run.uuid for run in before} <= running
        assert list(broken_rules(world)) == []


def test_a_guest_that_is_suspended_while_the_answer_to_its_write_is_lost_hangs_no_longer_than_that() -> None:
    with cluster() as world:
        machine, (run, *_) = owner(world)
        lost = Fault(kind=FaultKind.TARGET_REPLIES_LOST, at_s=CALM_S, lasts_s=1, target=0, other=0, amount=1.0)
        end = FAULTS[lost.kind](world, lost)
        world.loop.run_until(CALM_S + 1)
        assert run.uuid in machine.hypervisor.stuck
        world.loop.run_until_complete(machine.hypervisor.suspend(run.uuid))
        end()
        world.loop.run_until(CALM_S + 5)
        assert run.is_suspended
        assert run.uuid not in machine.hypervisor.stuck
        written = len(world.shared_disks.landed)
        others = [other for other in world.truth.living() if other is not run]
        world.loop.run_until(CALM_S + 8)
        assert {at.run.number for at in world.shared_disks.landed[written:]} <= {other.number for other in others}


def test_safe_1_what_is_written_again_over_another_path_was_dropped_before() -> None:
    with cluster(paths=2) as world:
        machine, runs = owner(world)
        paths, disks = world.shared_disks.paths(runs[0].node), world.shared_disks
        mend_first, mend_others = cut_paths(world, paths[::2]), cut_paths(world, paths[1::2])
        world.loop.run_until(CALM_S + 4)
        assert all(run.uuid in machine.hypervisor.stuck for run in runs), "no record waits: this shows nothing"
        world.loop.call_soon(mend_others, context=Context())
        while all(run.uuid in machine.hypervisor.stuck for run in runs):
            world.loop.run_until(world.loop.time() + 0.001)
        (written, *_) = [run for run in runs if run.uuid not in machine.hypervisor.stuck]
        machine.hypervisor.crash_guest(written.uuid)
        before = len(disks.landed)
        world.loop.call_soon(mend_first, context=Context())
        world.loop.run_until(CALM_S + 20)
        assert written.number not in {at.run.number for at in disks.landed[before:]}


def test_no_rule_is_broken_within_sixteen_seeds_on_shared_disks() -> None:
    orders = [Order(seed=seed, disks=3, profile=Profile.BRUTAL, minutes=0.4) for seed in range(1, 11)]
    freezes = (FaultKind.FREEZE, FaultKind.PARTITION, FaultKind.DAEMON_FREEZE, FaultKind.GUARD_CRASH)
    orders += [Order(seed=seed, disks=2, kinds=freezes, minutes=0.4) for seed in range(11, 17)]
    failed = {result.order.replay(): result.failures for result in run_all(orders) if result.failures}
    assert failed == {}


def test_disks_cost_few_steps_while_all_is_quiet() -> None:
    with cluster() as world:
        before, landed = world.loop.steps, len(world.shared_disks.landed)
        world.loop.run_until(CALM_S + 10)
        assert world.loop.steps - before < 10 * QUIET_STEPS_PER_S
        assert len(world.shared_disks.landed) - landed >= 3 * 10 * 4


@pytest.mark.parametrize("seed", range(1, 4))
def test_what_is_read_without_commands_is_what_commands_read(seed: int) -> None:
    with cluster(seed) as world:
        shared, readings = world.shared_disks, 0
        luns = {place: (QuietLun(way, shared.weather), ScsiLun(way)) for place, way in shared._ways.items()}
        machine, _ = owner(world)
        world.loop.call_soon(machine.freeze, context=Context())
        for second in range(30):
            world.loop.run_until(CALM_S + second)
            readings += world.loop.run_until_complete(agreeing(luns.values()))
        assert readings > 300
        assert kinds_of_proof(world) == [ProofKind.STORAGE_RESERVATION]


async def agreeing(luns: Iterable[tuple[QuietLun, ScsiLun]]) -> int:
    """How many readings agree, each made without a command and with one on the same way."""
    found = 0
    for quick, plain in luns:
        await plain.check()  # takes in what the disk had to tell
        for quickly, plainly in ((quick.read_keys, plain.read_keys), (quick.read_reservation, plain.read_reservation)):
            read, told = await quickly(), await plainly()
            assert isinstance(read, Done)
            assert read == told
            found += 1
    return found
