"""The executor on the twins: the record first, then the act; unknown is never absent. Source: SAFE-1 to SAFE-3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.decide.made_up import owned, verdict
from tests.unit.node.one_machine import UUID, WEB, XML, Machine, machine
from tests.unit.node.virtual_time import virtual

from holdfast.fencing.guard.logic import State
from holdfast.hypervisor.port import Guest, GuestEvent, GuestEventKind, GuestState, HypervisorEvent
from holdfast.model.ids import Epoch
from holdfast.model.nodes import GuestObservation
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Phase, Wanted
from holdfast.node.role_changes import observation_of
from holdfast.store.records import spec_key


async def ready(a: Machine, phase: Phase = Phase.ASSIGNED, **changes: Any) -> None:
    """A machine that is entitled and owns the role web in some phase; its daemon runs."""
    await a.entitle()
    a.database.role(a.web(**changes), owned("web", "a", phase))
    await a.start_daemon()


async def online(a: Machine, **changes: Any) -> None:
    """A machine whose guest runs."""
    await ready(a, **changes)
    await a.wait_phase(Phase.ONLINE)


def want(a: Machine, wanted: Wanted) -> None:
    a.database.put(spec_key(WEB), a.web(wanted=wanted))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (GuestState.STOPPED, GuestObservation.ABSENT),
        (GuestState.PAUSED, GuestObservation.PAUSED),
        (GuestState.PAUSED_IO_ERROR, GuestObservation.STALLED),
        (GuestState.RUNNING, GuestObservation.RUNNING),
        (GuestState.SHUTTING_DOWN, GuestObservation.RUNNING),
        (GuestState.CRASHED, GuestObservation.RUNNING),
        (GuestState.ORPHANED, GuestObservation.RUNNING),
    ],
)
def test_safe_2_whatever_may_still_write_counts_as_there(state: GuestState, expected: GuestObservation) -> None:
    guest = Guest(uuid=UUID, name="web", state=state)
    assert observation_of(guest) is expected
    assert (expected is GuestObservation.ABSENT) is not guest.is_present


def test_a_guest_that_is_not_listed_is_absent() -> None:
    assert observation_of(None) is GuestObservation.ABSENT


@virtual
async def test_a_role_is_claimed_protected_started_and_shown_online() -> None:
    async with machine() as a:
        await online(a)
        assert await a.runs()
        assert UUID in (await a.guard.state()).guests


@virtual
async def test_safe_3_nothing_starts_before_the_claim_is_committed() -> None:
    async with machine() as a:
        await a.entitle()
        a.database.role(a.web())
        await a.start_daemon()
        a.store.faults.lost_requests = 3
        a.record(owned("web", "a", Phase.ASSIGNED))
        while a.store.faults.lost_requests > 0:
            assert not await a.runs()
            await asyncio.sleep(0.01)
        await a.wait_phase(Phase.ONLINE)
        assert await a.runs()


@virtual
async def test_safe_3_a_claim_whose_answer_was_lost_is_looked_at_and_then_carried_out() -> None:
    async with machine() as a:
        await a.entitle()
        a.database.role(a.web())
        await a.start_daemon()
        a.store.faults.lost_replies = 1
        a.record(owned("web", "a", Phase.ASSIGNED))
        assert (await a.wait_phase(Phase.ONLINE)).epoch == 1
        assert await a.runs()


@virtual
async def test_safe_3_a_role_of_another_node_or_of_an_earlier_start_is_left_alone() -> None:
    async with machine() as a:
        for other in (owned("web", "b", Phase.ASSIGNED), owned("web", "a", Phase.STARTING, number=7)):
            await ready(a)
            a.record(other)
            await a.kill_daemon()
            a.hypervisor.crash(UUID)
            await a.start_daemon()
            await asyncio.sleep(10)
            assert a.ownership() == other
            assert not await a.runs()
            await a.kill_daemon()


@virtual
async def test_safe_1_without_the_guards_yes_no_guest_starts() -> None:
    async with machine() as a:
        a.database.role(a.web(), owned("web", "a", Phase.ASSIGNED))
        await a.start_daemon()
        await asyncio.sleep(20)
        assert a.ownership().phase is Phase.ASSIGNED
        assert not await a.runs()
        assert a.executor is not None
        await a.entitle()
        await a.wait_phase(Phase.ONLINE)


@virtual
async def test_safe_1_a_guest_whose_process_comes_after_the_deadline_never_executes() -> None:
    async with machine() as a:
        a.hypervisor._start_ms = 900
        events = a.hypervisor.events()
        await a.entitle(0.5)
        a.database.role(a.web(), owned("web", "a", Phase.ASSIGNED))
        await a.start_daemon()
        await a.wait_phase(Phase.STARTING)
        await asyncio.sleep(10)
        assert await seen(events, 3) == [GuestEventKind.STARTED, GuestEventKind.CRASHED]
        assert not await a.runs()


async def seen(events: AsyncIterator[HypervisorEvent], count: int) -> list[GuestEventKind]:
    """Return what happened to guests within the first events, that of the connection among them."""
    return [event.kind for event in [await anext(events) for _ in range(count)] if isinstance(event, GuestEvent)]


@virtual
async def test_safe_1_without_a_guard_no_guest_starts() -> None:
    async with machine() as a:
        await a.entitle()
        a.guard.crash()
        a.database.role(a.web(), owned("web", "a", Phase.ASSIGNED))
        await a.start_daemon()
        await asyncio.sleep(20)
        assert a.ownership().phase is Phase.ASSIGNED
        assert not await a.runs()


@virtual
async def test_safe_5_a_role_that_may_not_start_again_here_is_given_up_for_others() -> None:
    async with machine() as a:
        await online(a)
        a.guard.crash()
        a.hypervisor.crash(UUID)
        gone = await a.wait_phase(Phase.VACANT)
        assert [reason.code for reason in gone.reasons] == [ReasonCode.NODE_NOT_READY]
        assert gone.failed_on == ()
        assert not await a.runs()


@virtual
async def test_a_guard_that_is_away_for_a_moment_costs_no_role_its_node() -> None:
    async with machine() as a:
        await online(a)
        a.guard.crash()
        a.hypervisor.crash(UUID)
        await asyncio.sleep(8)
        assert a.ownership().owner == "a"
        a.guard.start()
        await asyncio.sleep(3)
        assert await a.runs()
        assert a.ownership().epoch == 1


@virtual
async def test_safe_1_a_start_that_is_repeated_is_refused_once_the_role_went_elsewhere() -> None:
    """The guest was claimed and is not there; meanwhile this node was taken over, and its mirror does not know yet."""
    async with machine() as a:
        await ready(a, Phase.ASSIGNED)
        a.hypervisor.freeze()
        await asyncio.sleep(0.1)
        a.store.faults.is_cut = True
        a.record(owned("web", "b", Phase.ONLINE, epoch=Epoch(2)))
        a.hypervisor.thaw()
        await asyncio.sleep(0.5)
        a.hypervisor.crash(UUID)
        await asyncio.sleep(20)
        assert not await a.runs()
        assert a.ownership().owner == "b"


@virtual
async def test_safe_2_a_start_with_unknown_end_releases_nothing_and_is_adopted_when_it_shows() -> None:
    async with machine() as a:
        await ready(a)
        await asyncio.sleep(0.01)
        a.hypervisor.freeze()
        await asyncio.sleep(30)
        assert a.ownership().phase in (Phase.ASSIGNED, Phase.STARTING)
        assert a.ownership().owner == "a"
        a.hypervisor.thaw()
        await a.wait_phase(Phase.ONLINE)
        assert a.ownership().restarts == ()


@virtual
async def test_safe_2_a_hypervisor_that_is_silent_leads_to_no_release_and_no_restart() -> None:
    async with machine() as a:
        await online(a)
        before = a.ownership()
        a.hypervisor.stop_daemon()
        want(a, Wanted.OFFLINE)
        await asyncio.sleep(60)
        assert a.ownership() == before
        assert a.executor is not None
        assert a.executor.guests is None
        assert a.executor.not_ready is not None
        a.hypervisor.start_daemon()
        await a.wait_phase(Phase.VACANT)
        assert not await a.runs()


@virtual
async def test_safe_2_a_role_is_released_only_after_its_guest_is_certainly_gone() -> None:
    async with machine() as a:
        await online(a)
        a.hypervisor.stuck.add(UUID)
        want(a, Wanted.OFFLINE)
        await asyncio.sleep(120)
        assert a.ownership().phase is Phase.STOPPING
        assert a.ownership().owner == "a"
        a.hypervisor.stuck.clear()
        await a.wait_phase(Phase.VACANT, time_s=120)
        assert not await a.runs()
        assert UUID not in (await a.guard.state()).guests


@virtual
async def test_safe_2_a_role_is_not_released_while_a_start_is_still_under_way() -> None:
    """An earlier daemon ordered it; the guest is absent, and would be there half a second after the release."""
    async with machine() as a:
        a.hypervisor._start_ms = 500
        starting = asyncio.create_task(a.hypervisor.prepare(XML))
        await asyncio.sleep(0.01)
        await ready(a, Phase.STOPPING, wanted=Wanted.OFFLINE)
        await a.wait_phase(Phase.VACANT)
        assert starting.done()
        assert not await a.runs()


@virtual
async def test_a_stop_presses_the_power_button_first() -> None:
    async with machine() as a:
        await online(a)
        a.hypervisor.heeds_power_button = False
        want(a, Wanted.OFFLINE)
        await asyncio.sleep(1.5)
        assert await a.runs()
        await a.wait_phase(Phase.VACANT)
        assert not await a.runs()


@virtual
async def test_a_crash_of_qemu_is_mended_in_place_and_after_the_limit_elsewhere() -> None:
    async with machine() as a:
        await online(a, restart_limit=2)
        for count in (1, 2):
            a.hypervisor.crash(UUID)
            await asyncio.sleep(0.4)
            assert (await a.wait_phase(Phase.ONLINE)).restarts.__len__() == count
            assert await a.runs()
        a.hypervisor.crash(UUID)
        gone = await a.wait_phase(Phase.VACANT)
        assert (gone.failed_on, len(gone.failovers)) == (("a",), 1)
        assert [reason.code for reason in gone.reasons] == [ReasonCode.GUEST_ENDED, ReasonCode.RESTART_LIMIT]


@virtual
async def test_a_start_that_fails_for_certain_is_tried_again_and_then_given_up() -> None:
    async with machine() as a:
        await a.entitle()
        a.hypervisor.refuse_next_start("no such disk")
        a.database.role(a.web(restart_limit=0), owned("web", "a", Phase.ASSIGNED))
        await a.start_daemon()
        gone = await a.wait_phase(Phase.VACANT)
        assert gone.failed_on == ("a",)
        assert "no such disk" in str(gone.reasons[0])


@virtual
async def test_safe_1_a_guest_of_a_role_that_is_not_owned_here_is_ended() -> None:
    async with machine() as a:
        await a.entitle()
        a.database.role(a.web(), owned("web", "b"))
        await a.hypervisor.prepare(XML)
        await a.start_daemon()
        await asyncio.sleep(10)
        assert not await a.runs()
        assert a.ownership() == owned("web", "b")


@virtual
async def test_a_guest_that_is_no_role_is_never_touched() -> None:
    async with machine() as a:
        await a.entitle()
        await a.hypervisor.prepare(XML)
        await a.start_daemon()
        await asyncio.sleep(60)
        assert await a.runs()


@virtual
async def test_safe_6_a_killed_daemon_comes_back_and_adopts_its_guest() -> None:
    async with machine() as a:
        await online(a)
        before = await a.hypervisor.process_of(UUID)
        recorded = a.ownership()
        await a.kill_daemon()
        await asyncio.sleep(3)
        await a.start_daemon()
        await asyncio.sleep(30)
        assert await a.hypervisor.process_of(UUID) == before
        assert a.ownership() == recorded


@virtual
async def test_safe_6_a_daemon_killed_between_claim_and_start_comes_back_and_starts() -> None:
    async with machine() as a:
        await ready(a, Phase.STARTING)
        assert (await a.wait_phase(Phase.ONLINE)).restarts == ()
        assert await a.runs()


@virtual
async def test_safe_6_a_daemon_killed_between_stop_and_release_comes_back_and_releases() -> None:
    async with machine() as a:
        await ready(a, Phase.STOPPING, wanted=Wanted.OFFLINE)
        await a.wait_phase(Phase.VACANT)


@virtual
async def test_safe_3_after_a_verdict_every_step_of_the_lost_node_fails() -> None:
    async with machine() as a:
        await online(a)
        before = a.ownership()
        a.database.lose(verdict("a"))
        a.hypervisor.crash(UUID)
        await asyncio.sleep(30)
        assert a.ownership() == before
        assert not await a.runs()


@virtual
async def test_a_paused_guest_is_still_online_and_not_started_again() -> None:
    async with machine() as a:
        await online(a)
        a.hypervisor.pause_on_io_error(UUID)
        before = replace(a.ownership())
        await asyncio.sleep(20)
        assert a.ownership() == before


@virtual
async def test_safe_1_an_adopted_guest_is_on_the_list_of_a_guard_that_lost_its_record() -> None:
    async with machine() as a:
        await online(a)
        a.guard._state = State()
        await a.entitle()
        await asyncio.sleep(10)
        assert UUID in (await a.guard.state()).guests
