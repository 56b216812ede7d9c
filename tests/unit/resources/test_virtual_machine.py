"""The virtual-machine agent on the simulated hypervisor: every outcome, and unknown as its own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from holdfast.hypervisor.port import GuestEvent, GuestEventKind, GuestState
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.hypervisor.timeouts import HypervisorTimeouts
from holdfast.model.errors import Unavailable
from holdfast.resources.port import HealthKind, OutcomeKind, ResourceAgent
from holdfast.resources.virtual_machine import VirtualMachine

UUID = "5b5f1b8c-0f5e-4a55-9c0e-3f2d7a1e9b11"
XML = f"<domain type='kvm'><name>web</name><uuid>{UUID}</uuid><memory>1024</memory><vcpu>1</vcpu></domain>"
QUICK = HypervisorTimeouts(ask_ms=50, start_ms=100, destroy_ms=100)


async def entitled() -> bool:
    return True


async def too_late() -> bool:
    return False


async def guard_is_away() -> bool:
    raise Unavailable("holdfast-guard does not answer")


def make(
    *, heeds_power_button: bool = True, may_run: Callable[[], Awaitable[bool]] = entitled
) -> tuple[SimulatedHypervisor, VirtualMachine]:
    hypervisor = SimulatedHypervisor(timeouts=QUICK, start_ms=10)
    hypervisor.heeds_power_button = heeds_power_button
    agent = VirtualMachine(
        host=hypervisor,
        name="web",
        uuid=UUID,
        domain_xml=XML,
        may_run=may_run,
        shutdown_timeout_ms=300,
        terminate_timeout_ms=500,
    )
    return hypervisor, agent


async def states(hypervisor: SimulatedHypervisor) -> list[GuestState]:
    return [guest.state for guest in await hypervisor.guests()]


async def ending(hypervisor: SimulatedHypervisor, agent: ResourceAgent) -> GuestEventKind:
    """Take it offline and return the first thing that happened to the guest."""
    events = hypervisor.events()
    await anext(events)
    assert (await agent.offline()).kind is OutcomeKind.DONE
    event = await anext(events)
    assert isinstance(event, GuestEvent)
    return event.kind


async def test_online_starts_and_a_second_one_adopts() -> None:
    hypervisor, agent = make()
    assert (await agent.validate()).kind is OutcomeKind.DONE
    assert (await agent.online()).kind is OutcomeKind.DONE
    again = await agent.online()
    assert (again.kind, again.detail) == (OutcomeKind.DONE, "its process existed already and was adopted")
    assert await states(hypervisor) == [GuestState.RUNNING]


async def test_online_refused_is_failed_with_the_hypervisors_words() -> None:
    hypervisor, agent = make()
    hypervisor.refuse_next_start("no such disk")
    outcome = await agent.online()
    assert outcome.kind is OutcomeKind.FAILED
    assert "no such disk" in outcome.detail
    assert await states(hypervisor) == []


async def test_online_without_a_hypervisor_is_failed_and_worth_a_retry() -> None:
    hypervisor, agent = make()
    hypervisor.stop_daemon()
    outcome = await agent.online()
    assert (outcome.kind, outcome.can_retry) == (OutcomeKind.FAILED, True)
    assert (await agent.validate()).kind is OutcomeKind.FAILED


async def test_safe_2_online_without_an_answer_is_unknown() -> None:
    hypervisor, agent = make()
    hypervisor.freeze()
    assert (await agent.online()).kind is OutcomeKind.UNKNOWN
    hypervisor.thaw()
    assert await states(hypervisor) == [GuestState.PAUSED], "what comes late does not execute"


@pytest.mark.parametrize("may_run", [too_late, guard_is_away])
async def test_safe_1_a_guest_that_may_no_longer_run_never_executes(may_run: Callable[[], Awaitable[bool]]) -> None:
    hypervisor, agent = make(may_run=may_run)
    assert (await agent.online()).kind is OutcomeKind.UNKNOWN
    assert await states(hypervisor) == [GuestState.PAUSED]


async def test_validate_refuses_a_name_that_another_guest_has() -> None:
    hypervisor, agent = make()
    await hypervisor.prepare(XML.replace(UUID, UUID.replace("5b5f", "6b5f")))
    outcome = await agent.validate()
    assert outcome.kind is OutcomeKind.FAILED
    assert "'web'" in outcome.detail


async def test_offline_is_gentle_first() -> None:
    hypervisor, agent = make()
    await agent.online()
    assert await ending(hypervisor, agent) is GuestEventKind.SHUT_DOWN


async def test_offline_pulls_the_plug_of_a_guest_that_ignores_its_button() -> None:
    hypervisor, agent = make(heeds_power_button=False)
    await agent.online()
    begun = asyncio.get_running_loop().time()
    assert await ending(hypervisor, agent) is GuestEventKind.STOPPED
    assert asyncio.get_running_loop().time() - begun >= 0.3
    assert await states(hypervisor) == []


async def test_offline_of_an_absent_guest_is_done() -> None:
    _, agent = make()
    assert (await agent.offline()).kind is OutcomeKind.DONE


async def test_offline_without_a_hypervisor_does_not_kill() -> None:
    hypervisor, agent = make()
    await agent.online()
    hypervisor.stop_daemon()
    outcome = await agent.offline()
    assert (outcome.kind, outcome.can_retry) == (OutcomeKind.FAILED, True)
    hypervisor.start_daemon()
    assert await states(hypervisor) == [GuestState.RUNNING]


async def test_terminate_tries_until_it_is_certain() -> None:
    hypervisor, agent = make()
    await agent.online()
    hypervisor.freeze()
    ending = asyncio.create_task(agent.terminate())
    await asyncio.sleep(0.25)
    assert not ending.done()
    hypervisor.thaw()
    assert (await ending).kind is OutcomeKind.DONE


async def test_safe_2_terminate_of_a_process_that_will_not_die_is_unknown() -> None:
    hypervisor, agent = make()
    await agent.online()
    hypervisor.stuck.add(UUID)
    outcome = await agent.terminate()
    assert outcome.kind is OutcomeKind.UNKNOWN
    assert outcome.detail
    assert (await agent.looks_alive()).kind is HealthKind.ALIVE


async def test_health() -> None:
    hypervisor, agent = make()
    assert (await agent.looks_alive()).kind is HealthKind.DEAD
    assert (await agent.is_alive()).kind is HealthKind.DEAD
    await agent.online()
    assert (await agent.looks_alive()).kind is HealthKind.ALIVE
    assert (await agent.is_alive()).kind is HealthKind.ALIVE
    hypervisor.pause_on_io_error(UUID)
    paused = await agent.is_alive()
    assert (paused.kind, "paused-io-error" in paused.detail) == (HealthKind.UNKNOWN, True)
    hypervisor.freeze()
    assert (await agent.is_alive()).kind is HealthKind.UNKNOWN
