"""What the simulator found, told again without chance: each of these failed once. See docs/track-record.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from holdfast.hypervisor.simulated_guest import MoveAct, MoveFault
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.roles import Ownership, Phase
from holdfast.model.settings import LEAST, Timings
from holdfast.sim.checkers import not_yet_well
from holdfast.sim.fault import FaultKind
from holdfast.sim.layout import Layout, Make, layout_of
from holdfast.sim.memory_checkers import memory_is_not_lost
from holdfast.sim.run import Order, run
from holdfast.sim.schedule import Profile
from holdfast.sim.status_checkers import StatusWatch
from holdfast.sim.world import World
from holdfast.store.records import OWNERSHIPS, decode, ownership_key


@contextmanager
def a_world(make: Make, layout: Layout | None = None) -> Iterator[World]:
    world = World(make, seed=1, layout=layout)
    try:
        yield world
    finally:
        world.close()


def test_a_report_that_arrives_late_does_not_undo_a_newer_one() -> None:
    with a_world(Make(roles=1)) as world:
        world.loop.run_until(10.0)
        one, other = world.machines[NodeName("node1")], world.machines[NodeName("node3")]
        ways = [(network, address, other.spec.addresses[network]) for network, address in one.spec.addresses.items()]
        for way in ways:
            world.air.cut(*way)
        other.store.late_writes, other.store.late_s = 2, 6.0
        world.loop.run_until(12.5)
        assert other.store.late_writes < 2, "no report is under way: this shows nothing"
        for way in ways:
            world.air.heal(*way)
        other.store.late_writes = 0
        world.loop.run_until(40.0)
        assert list(not_yet_well(world)) == []


def test_a_role_whose_guest_ended_while_the_guard_was_silent_is_not_called_online() -> None:
    with a_world(Make(roles=1, watchdog_s=None)) as world:
        world.loop.run_until(10.0)
        (guest,) = world.truth.living()
        machine = world.machines[NodeName(guest.node)]
        machine.is_guard_wanted = False
        machine.settle()
        machine.hypervisor.crash_guest(guest.uuid)
        watch = StatusWatch(world)
        world.loop.call_soon(watch.start)
        world.loop.run_until(15.0)
        assert world.truth.living() == (), "it was started without a guard"
        world.loop.run_until(40.0)
        assert [one.node != guest.node for one in world.truth.living()] == [True], "nobody else took it"
        assert watch.found == []


def test_a_daemon_killed_while_a_guest_was_being_prepared_finds_it_and_lets_it_run() -> None:
    with a_world(Make(roles=1)) as world:
        while not any("role-starting" in str(entry) for entry in world.truth.entries):
            world.loop.run_until(world.loop.time() + 0.001)
        world.loop.run_until(world.loop.time() + 0.02)
        assert world.truth.living() == (), "it runs already: this shows nothing"
        for machine in world.machines.values():
            world.loop.call_soon(machine.kill_daemon)
        world.loop.run_until(world.loop.time() + 1.0)
        for machine in world.machines.values():
            world.loop.call_soon(machine.start_daemon)
        world.loop.run_until(world.loop.time() + 20.0)
        assert list(not_yet_well(world)) == []


def test_a_daemon_that_is_stopped_right_after_it_was_killed_and_started_again_says_so_first() -> None:
    with a_world(Make(roles=1, has_fence=False, watchdog_s=None)) as world:
        world.loop.run_until(10.0)
        before = world.truth.living()
        machine = world.machines[NodeName(before[0].node)]
        for act, then_s in ((machine.kill_daemon, 0.9), (machine.start_daemon, 0.001), (machine.stop_daemon, 6.0)):
            world.loop.call_soon(act)
            world.loop.run_until(world.loop.time() + then_s)
        assert machine.daemon is None, "it still runs: this shows nothing"
        world.loop.call_soon(machine.start_daemon)
        world.loop.run_until(world.loop.time() + 10.0)
        assert world.truth.living() == before, "its guest ended"


def test_a_restore_that_is_never_answered_is_over_when_its_machine_is_healed() -> None:
    with a_world(Make(roles=1, keeps_memory=True)) as world:
        world.loop.run_until(10.0)
        (role,) = world.roles()
        (guest,) = world.truth.living()
        to = next(machine for name, machine in world.machines.items() if name != guest.node)
        to.hypervisor.moves.fail_next(MoveAct.RESTORE, MoveFault.UNANSWERED)
        params = {"role": role.name, "to": to.name, "method": "quick", "wait": False}
        world.loop.call_soon(world.people.ask, "role.move", params)
        world.loop.run_until(world.loop.time() + 10.0)
        assert record_of(world, role.name).phase is Phase.STARTING, "it was answered: this shows nothing"
        world.loop.call_soon(to.heal)
        world.loop.run_until(world.loop.time() + 10.0)
        assert list(not_yet_well(world)) == []


def test_what_follows_at_once_on_getting_well_is_no_flapping() -> None:
    """A copy is given up 4 ms before the cluster is looked at, and what is left of it is removed 4 ms later."""
    kinds = (FaultKind.MEMORY_MOVED, FaultKind.MEMORY_ACT_FAILS)
    order = Order(seed=30000374, profile=Profile.ROUGH, minutes=0.4, kinds=kinds, kept=(0, 1))
    assert run(order).failures == ()


def test_the_shortest_deadline_that_is_allowed_passes_on_no_healthy_node() -> None:
    make = Make(roles=3)
    layout = layout_of(make)
    timings = Timings(guard_deadline_ms=LEAST["guard_deadline_ms"], patience_ms=1500)
    with a_world(make, replace(layout, settings=replace(layout.settings, timings=timings))) as world:
        world.loop.run_until(10.0)
        before = world.truth.living()
        assert len(before) == make.roles
        world.loop.run_until(30.0)
        assert world.truth.living() == before, "a guard ended guests of a healthy node"


def test_a_role_that_is_stopped_ends_where_its_memory_came_to_a_disk_that_nobody_protects() -> None:
    with a_world(Make(roles=1, disks=1, keeps_memory=True)) as world:
        world.loop.run_until(15.0)
        (role,) = world.roles()
        (guest,) = world.truth.living()
        to = next(name for name in world.machines if name != guest.node)
        params = {"role": role.name, "to": to, "method": "live", "wait": False}
        world.loop.call_soon(world.people.ask, "role.move", params)
        run_until_phase(world, role.name, Phase.MIGRATING)
        world.loop.run_until(world.loop.time() + 0.3)
        world.shared_disks.switch_off(forgets=True)
        world.shared_disks.switch_on()
        arrived = run_until_phase(world, role.name, Phase.STARTING)
        world.loop.run_until(world.loop.time() + 10.0)
        waits = record_of(world, role.name)
        assert waits.phase is Phase.STARTING
        assert waits.since_ms == arrived.since_ms, "its record is written again and again"
        world.loop.call_soon(world.stop_role, role.name)
        run_until_phase(world, role.name, Phase.VACANT)
        world.loop.run_until(world.loop.time() + 5.0)
        world.loop.call_soon(world.start_role, role.name)
        world.loop.run_until(world.loop.time() + 40.0)
        assert list(not_yet_well(world)) == []
        assert list(memory_is_not_lost(world.truth, world.database.history)) == []


def record_of(world: World, role: RoleName) -> Ownership:
    """The record of a role as the database has it."""
    items = {item.key: item.value for item in world.database.listing(OWNERSHIPS).items}
    return decode(Ownership, OWNERSHIPS, items[ownership_key(role)])


def run_until_phase(world: World, role: RoleName, phase: Phase, within_s: float = 30.0) -> Ownership:
    """Go on until the role is in that phase."""
    until = world.loop.time() + within_s
    while record_of(world, role).phase is not phase:
        assert world.loop.time() < until, f"{role} is never {phase}: {record_of(world, role)}"
        world.loop.run_until(world.loop.time() + 0.005)
    return record_of(world, role)
