"""A node and a disk that only the owner of its role is registered with, on the simulated target.

The other end is a second nexus: an earlier owner, a challenger, or the next owner. Source: SAFE-1, SAFE-2.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.unit.decide.made_up import cluster, incarnation, lost, owned, put, role, verdict
from tests.unit.node.one_machine import UUID, Machine, machine
from tests.unit.node.test_disks import (
    ONE,
    OTHER,
    TWO,
    A,
    B,
    can_write,
    disk,
    key_of,
    keys,
    other_node,
    registers,
    spec,
    state,
    until,
)
from tests.unit.node.virtual_time import virtual

from holdfast.model.disks import DiskSpec, DiskState, Protection
from holdfast.model.roles import Phase, Wanted
from holdfast.node.expulsion import unproven_disks
from holdfast.storage.arbitration import PROTECTION, Alone, Expelled, RefusalReason, Refused, protect, take_over
from holdfast.storage.challenge import challenge
from holdfast.storage.simulated import ORDINARY, Exchange, Fate
from holdfast.store.records import disk_key


def owned_spec() -> DiskSpec:
    return replace(spec(), protection=Protection.ROLE)


async def standing_by(a: Machine) -> None:
    """A machine that reaches the disk and owns nothing yet."""
    await a.entitle()
    a.database.put(disk_key(ONE), owned_spec())
    a.database.role(a.web(disks=(ONE,), disk_paths=()), None)
    await a.start_daemon()
    await until(lambda: state(a) is DiskState.STANDBY)


async def running(a: Machine) -> None:
    """A machine whose guest runs from the disk."""
    await standing_by(a)
    a.record(owned("web", "a", Phase.ASSIGNED))
    await a.wait_phase(Phase.ONLINE)


@virtual
async def test_safe_2_a_node_registers_after_its_claim_and_is_then_the_only_one() -> None:
    async with machine() as a:
        earlier = await other_node(a)
        phases: list[Phase] = []

        def fate(exchange: Exchange) -> Fate:
            if registers(exchange):
                phases.append(a.ownership().phase)
            return ORDINARY

        a.target.fate = fate
        await standing_by(a)
        await asyncio.sleep(5)
        assert keys(a) == {OTHER}
        a.record(owned("web", "a", Phase.ASSIGNED))
        await a.wait_phase(Phase.ONLINE)
        assert phases == [Phase.STARTING]
        assert keys(a) == {key_of()}
        assert disk(a).reservations.type is PROTECTION
        assert await can_write(a)
        await earlier.close()


@virtual
async def test_safe_1_a_node_that_was_lost_before_it_registered_takes_nothing_from_its_successor() -> None:
    """It is frozen before its registration arrives; meanwhile it is declared lost and the role runs elsewhere."""
    async with machine() as a:
        successor = await other_node(a)

        def fate(exchange: Exchange) -> Fate:
            if registers(exchange):
                a.database.lose(verdict(A))
                return Fate(request_ms=1000)
            return ORDINARY

        a.target.fate = fate
        await standing_by(a)
        a.record(owned("web", "a", Phase.ASSIGNED))
        await asyncio.sleep(10)
        assert keys(a) == {OTHER, key_of()}, "the late key is there, and the successor's too"
        assert not await a.runs()
        assert state(a) is not DiskState.READY
        assert isinstance(await take_over(successor, OTHER), Alone)
        assert keys(a) == {OTHER}


@virtual
async def test_an_owner_that_lives_defends_its_disk_against_a_challenger() -> None:
    async with machine() as a:
        await running(a)
        outcome = await challenge(await other_node(a), OTHER, victim=key_of())
        assert isinstance(outcome, Refused)
        assert outcome.reason is RefusalReason.DEFENDED
        assert await a.runs()
        assert await can_write(a)
        assert state(a) is DiskState.READY


@virtual
async def test_safe_1_an_owner_that_does_not_defend_is_expelled_and_ends_its_guest_when_it_is_back() -> None:
    async with machine() as a:
        await running(a)
        before = await a.hypervisor.process_of(UUID)
        await a.kill_daemon()
        began = asyncio.get_running_loop().time()
        outcome = await challenge(await other_node(a), OTHER, victim=key_of())
        assert isinstance(outcome, Expelled)
        assert 2.0 <= asyncio.get_running_loop().time() - began < 3.0
        assert not await can_write(a)
        await a.start_daemon()
        await asyncio.sleep(1)
        assert await a.hypervisor.process_of(UUID) != before


@virtual
async def test_safe_2_a_released_role_leaves_its_key_and_defends_nothing() -> None:
    async with machine() as a:
        await running(a)
        a.database.role(a.web(disks=(ONE,), disk_paths=(), wanted=Wanted.OFFLINE), a.ownership())
        await a.wait_phase(Phase.VACANT)
        assert keys(a) == {key_of()}
        assert disk(a).reservations.type is PROTECTION, "at no time is it unprotected"
        successor = await other_node(a)
        await asyncio.sleep(3)
        assert keys(a) == {OTHER, key_of()}
        assert isinstance(await take_over(successor, OTHER), Alone)
        await until(lambda: state(a) is DiskState.STANDBY)
        assert keys(a) == {OTHER}


@virtual
async def test_safe_1_while_a_guest_is_there_a_node_neither_takes_nor_challenges() -> None:
    async with machine() as a:
        await running(a)
        a.hypervisor.stuck.add(UUID)
        taken = await other_node(a)
        await a.kill_daemon()
        assert isinstance(await challenge(taken, OTHER, victim=key_of()), Expelled)
        await a.start_daemon()
        await until(lambda: state(a) is DiskState.EXPELLED)
        await a.disks.take((ONE,))
        refused = await a.disks.expel(owned_spec(), incarnation(B))
        assert isinstance(refused, Refused)
        assert keys(a) == {OTHER}
        a.hypervisor.stuck.clear()


@virtual
async def test_a_coordinator_registers_challenges_and_leaves_its_key_to_the_next_owner() -> None:
    async with machine() as a:
        lost = await other_node(a)
        await standing_by(a)
        outcome = await a.disks.expel(owned_spec(), incarnation(B))
        assert isinstance(outcome, Expelled), "it was never registered"
        assert keys(a) == {OTHER, key_of()}
        await asyncio.sleep(1)
        assert state(a) is DiskState.STANDBY
        assert isinstance(await take_over(lost, OTHER), Alone)
        assert keys(a) == {OTHER}


@virtual
async def test_safe_2_a_challenge_makes_a_disk_safe_whose_target_forgot_everything() -> None:
    async with machine() as a:
        lost = await other_node(a)
        await standing_by(a)
        disk(a).reservations.registered.clear()
        disk(a).reservations.type = disk(a).reservations.holder = None
        assert isinstance(await a.disks.expel(owned_spec(), incarnation(B)), Expelled)
        assert keys(a) == {key_of()}
        assert disk(a).reservations.type is PROTECTION
        await lost.close()


@virtual
async def test_a_restarted_holdfastd_goes_on_with_the_disk_that_its_guest_runs_from() -> None:
    async with machine() as a:
        await running(a)
        await a.kill_daemon()
        await a.start_daemon()
        await until(lambda: state(a) is DiskState.READY)
        assert await a.runs()
        assert keys(a) == {key_of()}


@virtual
async def test_a_dead_guest_is_started_again_on_the_disk_that_is_held() -> None:
    async with machine() as a:
        await running(a)
        before = disk(a).reservations.generation
        a.hypervisor.crash(UUID)
        await asyncio.sleep(3)
        assert await a.runs()
        assert a.ownership().phase is Phase.ONLINE
        assert disk(a).reservations.generation == before


@virtual
async def test_protect_is_no_way_around_the_owner() -> None:
    """Somebody who registers without any right is removed by the owner at its next look."""
    async with machine() as a:
        await running(a)
        stranger = await other_node(a)
        await until(lambda: keys(a) == {key_of()}, 2)
        await protect(stranger, OTHER)
        await until(lambda: keys(a) == {key_of()}, 2)


def test_safe_2_a_lost_owner_is_expelled_from_what_its_roles_use_and_from_every_disk_that_all_nodes_use() -> None:
    shared = put("disks", TWO, replace(spec(TWO, 2), protection=Protection.NODE))
    snapshot = cluster(
        lost("b"), put("disks", ONE, owned_spec()), shared, role("web", owner="b", phase=Phase.ONLINE, disks=(ONE,))
    )
    assert list(unproven_disks(incarnation("b"), snapshot)) == [ONE, TWO]
    begun_later = cluster(
        lost("b"), put("disks", ONE, owned_spec()), shared, role("web", owner="b", phase=Phase.ASSIGNED, disks=(ONE,))
    )
    assert list(unproven_disks(incarnation("b"), begun_later)) == [TWO]
    elsewhere = cluster(
        lost("b"), put("disks", ONE, owned_spec()), shared, role("web", owner="a", phase=Phase.ONLINE, disks=(ONE,))
    )
    assert list(unproven_disks(incarnation("b"), elsewhere)) == [TWO]
