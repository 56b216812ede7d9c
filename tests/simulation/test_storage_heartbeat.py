"""Stamps on a shared disk as a second sign of life, with nothing but reservations to fence a node.

Source: DESIGN section 5; SAFE-1, SAFE-2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import replace
from functools import partial

import pytest

from holdfast.decide.stamps import Stamp
from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.nodes import NodeReport, Verdict
from holdfast.model.reasons import ReasonCode
from holdfast.sim.checkers import not_yet_well
from holdfast.sim.layout import Make
from holdfast.sim.machine import Machine
from holdfast.sim.run import broken_rules, quiet
from holdfast.sim.shared_disks import CLUSTER_ID
from holdfast.sim.world import World
from holdfast.storage.scsi.command import OperationCode
from holdfast.storage.simulated import Exchange, Fate
from holdfast.storage.slots import decode_stamp
from holdfast.store.records import decode, report_key, verdict_key

CALM_S = 20.0
SEEDS = pytest.mark.parametrize("seed", range(1, 4))
LOST_BY_BOTH_S = 2.5
PATIENCE_S = 4.8
"""Patience, from the last heartbeat: it may have left an interval before the fault."""
OF_SLOTS = (OperationCode.READ_16, OperationCode.WRITE_16)


@contextmanager
def cluster(seed: int = 1) -> Iterator[World]:
    with quiet():
        make = Make(roles=3, disks=2, heartbeats=1, has_fence=False, watchdog_s=None)
        world = World(make, seed=seed)
        try:
            world.loop.run_until(CALM_S)
            assert list(not_yet_well(world)) == []
            yield world
            assert list(broken_rules(world)) == []
        finally:
            world.close()


def owner(world: World) -> Machine:
    return world.machines[NodeName(world.truth.living()[0].node)]


def others(world: World, machine: Machine) -> set[str]:
    return {name for name in world.machines if name != machine.name}


def do(world: World, act: Callable[[], object]) -> None:
    world.loop.call_soon(act, context=Context())


def unplug(world: World, machine: Machine) -> None:
    for network, address in machine.spec.addresses.items():
        world.air.unplug(network, address)
    world.settle()


def slots_fare(world: World, of: set[str], fate: Fate) -> None:
    """From now on this becomes of every command of these nodes that reads or writes the heartbeat disk."""
    target, disk = world.shared_disks.target, list(world.shared_disks.target.disks)[-1]
    usual = target.fate

    def fare(exchange: Exchange) -> Fate:
        is_ours = exchange.initiator in of and exchange.disk == disk and exchange.command.operation in OF_SLOTS
        return fate if is_ours else usual(exchange)

    target.fate = fare


def verdict_on(world: World, machine: Machine) -> Verdict | None:
    key = verdict_key(machine.name)
    found = [item for item in world.database.listing(key).items if item.key == key]
    return decode(Verdict, key, found[0].value) if found else None


def verdict_after_s(world: World, machine: Machine) -> float:
    """When the node was declared lost, in seconds from the fault."""
    while verdict_on(world, machine) is None:
        world.loop.run_until(world.loop.time() + 0.05)
        assert world.loop.time() < CALM_S + 60, "nobody declared it lost"
    return world.loop.time() - CALM_S


def said(world: World, machine: Machine) -> list[ReasonCode]:
    verdict = verdict_on(world, machine)
    assert verdict is not None
    return [reason.code for reason in verdict.reasons]


def stamps(world: World, of: Incarnation) -> set[Stamp]:
    """What an incarnation has in its slot now."""
    disk = list(world.shared_disks.target.disks.values())[-1]
    found = [decode_stamp(CLUSTER_ID, block) for block in disk.medium.values()]
    return {stamp for stamp in found if stamp is not None and stamp.incarnation == of}


def warned(world: World, by: Machine) -> set[str]:
    key = report_key(by.name)
    return {
        condition.code
        for item in world.database.listing(key).items
        for condition in decode(NodeReport, item.key, item.value).conditions
    }


@SEEDS
def test_a_node_without_power_is_lost_as_soon_as_network_and_storage_were_silent(seed: int) -> None:
    with cluster(seed) as world:
        machine = owner(world)
        uuids = {run.uuid for run in world.truth.living()}
        do(world, partial(machine.power_off, "plug pulled"))
        assert verdict_after_s(world, machine) < LOST_BY_BOTH_S
        assert ReasonCode.SILENT_ON_STORAGE in said(world, machine)
        world.loop.run_until(CALM_S + LOST_BY_BOTH_S + 1)
        assert {run.uuid for run in world.truth.living()} == uuids


@SEEDS
def test_safe_1_a_frozen_node_is_lost_as_soon_and_stamps_no_more_when_it_thaws(seed: int) -> None:
    with cluster(seed) as world:
        machine = owner(world)
        frozen = machine.incarnation
        do(world, machine.freeze)
        assert verdict_after_s(world, machine) < LOST_BY_BOTH_S
        world.loop.run_until(CALM_S + 10)
        before = stamps(world, frozen)
        assert len(before) == 1
        do(world, machine.thaw)
        while world.loop.time() < CALM_S + 12:
            world.loop.run_until(world.loop.time() + 0.005)
            assert stamps(world, frozen) <= before
        world.loop.run_until(CALM_S + 50)
        assert list(not_yet_well(world)) == []


@SEEDS
def test_a_node_that_is_cut_off_and_still_stamps_gets_the_whole_patience(seed: int) -> None:
    with cluster(seed) as world:
        machine = owner(world)
        do(world, partial(unplug, world, machine))
        assert verdict_after_s(world, machine) > PATIENCE_S
        assert ReasonCode.STILL_STAMPS in said(world, machine)


@pytest.mark.parametrize(
    "fate",
    [
        Fate(request_ms=None),
        Fate(execution_ms=None),
        Fate(reply_ms=None),
        Fate(execution_ms=700.0),
    ],
    ids=["cut", "hung", "deaf", "slow"],
)
def test_who_cannot_use_the_disk_itself_concludes_nothing_from_a_silent_slot(fate: Fate) -> None:
    with cluster() as world:
        machine = owner(world)
        slots_fare(world, others(world, machine), fate)
        do(world, partial(unplug, world, machine))
        world.loop.run_until(CALM_S + 1.0)
        slots_fare(world, {machine.name}, Fate(request_ms=None))
        assert verdict_after_s(world, machine) > PATIENCE_S
        assert ReasonCode.SILENT_ON_STORAGE not in said(world, machine)


def test_a_torn_stamp_says_nothing() -> None:
    with cluster() as world:
        machine = owner(world)
        disk = list(world.shared_disks.target.disks.values())[-1]

        def tear() -> None:
            for block, data in disk.medium.items():
                stamp = decode_stamp(CLUSTER_ID, data)
                if stamp is not None and stamp.node == machine.name:
                    disk.medium[block] = data[:60] + b"\xff" + data[61:]

        do(world, partial(machine.power_off, "plug pulled"))
        do(world, tear)
        assert verdict_after_s(world, machine) > PATIENCE_S


def test_a_node_that_stamps_no_more_and_is_heard_is_not_suspect_and_a_condition_says_so() -> None:
    with cluster() as world:
        machine = owner(world)
        slots_fare(world, {machine.name}, Fate(request_ms=None))
        world.loop.run_until(CALM_S + 20)
        assert verdict_on(world, machine) is None
        assert "storage-heartbeat-failed" in warned(world, machine)
        witness = world.machines[NodeName(min(others(world, machine)))]
        assert "storage-heartbeat-silent" in warned(world, witness)


def test_a_heartbeat_disk_that_hangs_costs_nobody_anything() -> None:
    with cluster() as world:
        running = world.truth.living()
        slots_fare(world, set(world.machines), Fate(execution_ms=None))
        world.loop.run_until(CALM_S + 30)
        assert world.truth.living() == running
        assert all(verdict_on(world, machine) is None for machine in world.machines.values())


def test_a_holdfastd_that_was_killed_gets_the_whole_patience() -> None:
    """Its machine answers that nobody listens there; it would be a pity to lose its guests for a crash of holdfastd."""
    with cluster() as world:
        machine = owner(world)
        do(world, machine.kill_daemon)
        assert verdict_after_s(world, machine) > PATIENCE_S
        assert ReasonCode.NOBODY_LISTENS in said(world, machine)


@SEEDS
def test_a_storm_of_silence_on_both_pauses_fencing(seed: int) -> None:
    """Two of three are gone at once: without a majority nothing is decided, and with one again nobody is overdue."""
    with cluster(seed) as world:
        gone = list(world.machines.values())[1:]
        for machine in gone:
            do(world, partial(unplug, world, machine))
        slots_fare(world, {machine.name for machine in gone}, replace(Fate(), request_ms=None))
        world.loop.run_until(CALM_S + 20)
        assert all(verdict_on(world, machine) is None for machine in world.machines.values())
