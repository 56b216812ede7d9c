"""The contract of the hypervisor port, on the simulated one and on libvirt with QEMU."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from holdfast.hypervisor.errors import (
    GuestAlreadyRunning,
    GuestNotFound,
    GuestOutcomeUnknown,
    GuestStartFailed,
    HypervisorUnavailable,
)
from holdfast.hypervisor.port import (
    ConnectionEvent,
    ConnectionState,
    GuestEvent,
    GuestEventKind,
    GuestState,
    Hypervisor,
    HypervisorEvent,
)
from holdfast.hypervisor.timeouts import HypervisorTimeouts

PATIENT = HypervisorTimeouts(start_ms=30_000, destroy_ms=20_000, settle_ms=500)
HASTY = HypervisorTimeouts(ask_ms=400, start_ms=800, destroy_ms=1_500, kill_after_ms=300, settle_ms=500)
MakeGuest = Callable[[], tuple[str, str]]


class Bench(Protocol):
    """A hypervisor and the levers that break it."""

    kind: str

    def open(self, timeouts: HypervisorTimeouts) -> AbstractAsyncContextManager[Hypervisor]: ...

    async def kill_qemu(self, uuid: str) -> None: ...

    def kill_daemon(self) -> None: ...

    def start_daemon(self) -> None: ...

    def freeze_daemon(self) -> None: ...

    def thaw_daemon(self) -> None: ...


async def wait_connection(events: AsyncIterator[HypervisorEvent], state: ConnectionState) -> None:
    async with asyncio.timeout(20):
        while True:
            event = await anext(events)
            if isinstance(event, ConnectionEvent) and event.state is state:
                return


async def wait_guest(events: AsyncIterator[HypervisorEvent], uuid: str, kind: GuestEventKind) -> GuestEvent:
    async with asyncio.timeout(20):
        while True:
            event = await anext(events)
            if isinstance(event, GuestEvent) and event.uuid == uuid and event.kind is kind:
                return event


async def connected(hypervisor: Hypervisor) -> AsyncIterator[HypervisorEvent]:
    events = hypervisor.events()
    await wait_connection(events, ConnectionState.CONNECTED)
    return events


async def present(hypervisor: Hypervisor) -> dict[str, GuestState]:
    return {guest.uuid: guest.state for guest in await hypervisor.guests() if guest.is_present}


async def destroy_until_certain(hypervisor: Hypervisor, uuid: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await hypervisor.destroy(uuid)
            except GuestOutcomeUnknown:
                await asyncio.sleep(0.05)


async def test_a_guest_is_prepared_runs_and_is_destroyed(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        events = await connected(hypervisor)
        await hypervisor.warm()
        await hypervisor.prepare(xml)
        started = await wait_guest(events, uuid, GuestEventKind.STARTED)
        assert started.name == f"contract-{uuid[:8]}"
        assert await hypervisor.process_of(uuid) is not None
        assert await present(hypervisor) == {uuid: GuestState.PAUSED}
        await hypervisor.resume(uuid)
        await wait_guest(events, uuid, GuestEventKind.RESUMED)
        assert await present(hypervisor) == {uuid: GuestState.RUNNING}

        await hypervisor.destroy(uuid)
        assert await hypervisor.process_of(uuid) is None
        assert await hypervisor.guests() == (), "nothing of a guest may stay on the node"
        await wait_guest(events, uuid, GuestEventKind.STOPPED)
        await hypervisor.destroy(uuid)


async def test_a_second_start_is_told_that_the_guest_runs(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        await connected(hypervisor)
        await hypervisor.prepare(xml)
        process = await hypervisor.process_of(uuid)
        with pytest.raises(GuestAlreadyRunning):
            await hypervisor.prepare(xml)
        assert await hypervisor.process_of(uuid) == process


async def test_a_refused_start_leaves_nothing_and_says_why(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    other_uuid, _ = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        await connected(hypervisor)
        await hypervisor.prepare(xml)
        with pytest.raises(GuestStartFailed, match="exists"):
            await hypervisor.prepare(xml.replace(f"<uuid>{uuid}", f"<uuid>{other_uuid}"))
        assert set(await present(hypervisor)) == {uuid}
        assert await hypervisor.process_of(other_uuid) is None


async def test_an_absent_guest_can_be_neither_shut_down_nor_resumed(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, _ = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        await connected(hypervisor)
        with pytest.raises(GuestNotFound):
            await hypervisor.shutdown(uuid)
        with pytest.raises(GuestNotFound):
            await hypervisor.resume(uuid)


async def test_a_running_guest_can_be_resumed_to_no_effect(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        await connected(hypervisor)
        await hypervisor.prepare(xml)
        await hypervisor.resume(uuid)
        await hypervisor.resume(uuid)
        assert await present(hypervisor) == {uuid: GuestState.RUNNING}


async def test_a_crash_is_an_event_and_the_guest_can_start_again(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        events = await connected(hypervisor)
        await hypervisor.prepare(xml)
        await bench.kill_qemu(uuid)
        await wait_guest(events, uuid, GuestEventKind.CRASHED)
        assert await present(hypervisor) == {}
        await hypervisor.prepare(xml)
        assert await present(hypervisor) == {uuid: GuestState.PAUSED}


async def test_guests_survive_the_daemon_and_are_found_again(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        events = await connected(hypervisor)
        await hypervisor.prepare(xml)
        await hypervisor.resume(uuid)
        process = await hypervisor.process_of(uuid)
        bench.kill_daemon()
        await wait_connection(events, ConnectionState.LOST)
        with pytest.raises(HypervisorUnavailable):
            await hypervisor.guests()
        with pytest.raises(HypervisorUnavailable):
            await hypervisor.prepare(xml)
        bench.start_daemon()
        await wait_connection(events, ConnectionState.CONNECTED)
        assert await present(hypervisor) == {uuid: GuestState.RUNNING}
        assert await hypervisor.process_of(uuid) == process
        await hypervisor.destroy(uuid)
        assert await hypervisor.guests() == ()


async def test_safe_2_without_the_daemon_a_destroy_kills_and_is_not_certain(
    bench: Bench, make_guest: MakeGuest
) -> None:
    uuid, xml = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        events = await connected(hypervisor)
        await hypervisor.prepare(xml)
        bench.kill_daemon()
        await wait_connection(events, ConnectionState.LOST)
        with pytest.raises(GuestOutcomeUnknown):
            await hypervisor.destroy(uuid)
        assert await hypervisor.process_of(uuid) is None
        bench.start_daemon()
        await wait_connection(events, ConnectionState.CONNECTED)
        await hypervisor.destroy(uuid)
        assert await hypervisor.guests() == ()


async def test_safe_2_a_start_without_answer_is_unknown_until_settled(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(HASTY) as hypervisor:
        await connected(hypervisor)
        bench.freeze_daemon()
        with pytest.raises(GuestOutcomeUnknown):
            await hypervisor.prepare(xml)
        with pytest.raises(GuestOutcomeUnknown):
            await hypervisor.prepare(xml)
        with pytest.raises(GuestOutcomeUnknown):
            await hypervisor.destroy(uuid)
        bench.thaw_daemon()
        await destroy_until_certain(hypervisor, uuid)
        await asyncio.sleep(0.5)
        assert await hypervisor.process_of(uuid) is None
        assert await present(hypervisor) == {}


async def test_safe_2_a_destroy_outlasts_a_start_under_way(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(HypervisorTimeouts(start_ms=30_000, destroy_ms=20_000, settle_ms=0)) as hypervisor:
        await connected(hypervisor)
        starting = asyncio.create_task(hypervisor.prepare(xml))
        await asyncio.sleep(0)
        await hypervisor.destroy(uuid)
        assert await hypervisor.process_of(uuid) is None
        await asyncio.wait([starting])
        assert starting.exception() is None or isinstance(starting.exception(), GuestStartFailed)
        assert await hypervisor.guests() == ()


async def test_a_late_start_is_seen(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(HASTY) as hypervisor:
        events = await connected(hypervisor)
        bench.freeze_daemon()
        with pytest.raises(GuestOutcomeUnknown):
            await hypervisor.prepare(xml)
        bench.thaw_daemon()
        await wait_guest(events, uuid, GuestEventKind.STARTED)
        assert await hypervisor.process_of(uuid) is not None


async def test_safe_2_a_frozen_daemon_makes_a_destroy_uncertain(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        await connected(hypervisor)
        await hypervisor.prepare(xml)
    async with bench.open(HASTY) as hypervisor:
        await connected(hypervisor)
        bench.freeze_daemon()
        with pytest.raises(GuestOutcomeUnknown):
            await hypervisor.destroy(uuid)
        assert await hypervisor.process_of(uuid) is None, "it is killed all the same"
        bench.thaw_daemon()
        await destroy_until_certain(hypervisor, uuid)
        assert await present(hypervisor) == {}


async def test_a_frozen_daemon_holds_up_nobody_for_ever(bench: Bench) -> None:
    async with bench.open(HASTY) as hypervisor:
        await connected(hypervisor)
        bench.freeze_daemon()
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*(hypervisor.guests() for _ in range(30)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {HypervisorUnavailable}
        bench.thaw_daemon()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await hypervisor.guests() == ()
                    break
                except HypervisorUnavailable:
                    await asyncio.sleep(0.05)


async def test_every_consumer_first_hears_of_the_connection(bench: Bench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        first = await connected(hypervisor)
        await hypervisor.prepare(xml)
        second = await connected(hypervisor)
        await hypervisor.destroy(uuid)
        await wait_guest(first, uuid, GuestEventKind.STOPPED)
        await wait_guest(second, uuid, GuestEventKind.STOPPED)


async def test_capacity_and_versions_are_told(bench: Bench) -> None:
    async with bench.open(PATIENT) as hypervisor:
        await connected(hypervisor)
        capacity = await hypervisor.capacity()
        assert capacity.memory_bytes > 2**28
        assert capacity.vcpus >= 1
        version = await hypervisor.version()
        assert version.libvirt.count(".") == version.qemu.count(".") == 2
