"""What only a real libvirtd and a real QEMU can get wrong."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from holdfast.hypervisor.errors import (
    GuestOutcomeUnknown,
    GuestRequestFailed,
    GuestStartFailed,
    HypervisorUnavailable,
)
from holdfast.hypervisor.libvirt_host import LibvirtHost
from holdfast.hypervisor.port import (
    ConnectionEvent,
    ConnectionState,
    Guest,
    GuestProcess,
    GuestState,
    HypervisorEvent,
)
from holdfast.hypervisor.timeouts import HypervisorTimeouts

PATIENT = HypervisorTimeouts(start_ms=30_000, destroy_ms=20_000, kill_after_ms=500, settle_ms=500)
HASTY = HypervisorTimeouts(ask_ms=400, start_ms=800, destroy_ms=1_500, kill_after_ms=300, settle_ms=500)
FROZEN_S = 9
"""Long enough for libvirt's usual keep-alive to give the connection up, if it were switched on."""
MakeGuest = Callable[[], tuple[str, str]]


class LibvirtBench(Protocol):
    """A private libvirtd and its levers."""

    folder: Path

    def open(self, timeouts: HypervisorTimeouts) -> AbstractAsyncContextManager[LibvirtHost]: ...

    def process(self, uuid: str) -> GuestProcess: ...

    def kill_daemon(self) -> None: ...

    def start_daemon(self) -> None: ...

    def freeze_daemon(self) -> None: ...

    def thaw_daemon(self) -> None: ...

    def forget_guests(self) -> None: ...


async def wait_connection(events: AsyncIterator[HypervisorEvent], state: ConnectionState) -> str:
    async with asyncio.timeout(20):
        while True:
            event = await anext(events)
            if isinstance(event, ConnectionEvent) and event.state is state:
                return event.detail


async def test_a_frozen_qemu_is_killed_sooner_than_libvirt_would(
    libvirt_bench: LibvirtBench, make_guest: MakeGuest
) -> None:
    uuid, xml = make_guest()
    async with libvirt_bench.open(PATIENT) as host:
        await wait_connection(host.events(), ConnectionState.CONNECTED)
        await host.prepare(xml)
        os.kill(libvirt_bench.process(uuid).pid, signal.SIGSTOP)
        async with asyncio.timeout(5):
            await host.destroy(uuid)
        assert await host.guests() == ()


async def test_frozen_guests_do_not_hold_up_others(libvirt_bench: LibvirtBench, make_guest: MakeGuest) -> None:
    frozen = [make_guest() for _ in range(5)]  # as many as libvirtd serves at a time
    async with libvirt_bench.open(HypervisorTimeouts(ask_ms=1_000, start_ms=30_000, kill_after_ms=500)) as host:
        await wait_connection(host.events(), ConnectionState.CONNECTED)
        for uuid, xml in frozen:
            await host.prepare(xml)
            os.kill(libvirt_bench.process(uuid).pid, signal.SIGSTOP)
        await asyncio.gather(*(host.shutdown(uuid) for uuid, _ in frozen), return_exceptions=True)
        uuid, xml = make_guest()
        await host.prepare(xml)
        await host.destroy(uuid)
        await asyncio.gather(*(host.destroy(uuid) for uuid, _ in frozen))
        assert await host.guests() == ()


async def test_safe_2_a_guest_that_libvirt_forgot_is_found_and_ended(
    libvirt_bench: LibvirtBench, make_guest: MakeGuest
) -> None:
    uuid, xml = make_guest()
    async with libvirt_bench.open(PATIENT) as host:
        events = host.events()
        await wait_connection(events, ConnectionState.CONNECTED)
        await host.prepare(xml)
        libvirt_bench.kill_daemon()
        libvirt_bench.forget_guests()
        libvirt_bench.start_daemon()
        await wait_connection(events, ConnectionState.LOST)
        await wait_connection(events, ConnectionState.CONNECTED)
        pid = libvirt_bench.process(uuid).pid
        orphan = Guest(
            uuid=uuid, name=uuid, state=GuestState.ORPHANED, reason=f"QEMU process {pid}, unknown to libvirt"
        )
        assert await host.guests() == (orphan,)
        with pytest.raises(GuestOutcomeUnknown):
            await host.prepare(xml)
        await host.destroy(uuid)
        assert await host.guests() == ()
        assert await host.process_of(uuid) is None


async def test_safe_2_a_start_asked_of_a_frozen_libvirtd_is_settled(
    libvirt_bench: LibvirtBench, make_guest: MakeGuest
) -> None:
    """When it thaws it still starts what it was asked to, however long ago; only then a destroy is certain."""
    uuid, xml = make_guest()
    async with libvirt_bench.open(HASTY) as host:
        await wait_connection(host.events(), ConnectionState.CONNECTED)
        libvirt_bench.freeze_daemon()
        with pytest.raises(GuestOutcomeUnknown):
            await host.prepare(xml)
        with pytest.raises(HypervisorUnavailable):
            await host.guests()
        with pytest.raises(GuestOutcomeUnknown):
            await host.destroy(uuid)
        await asyncio.sleep(FROZEN_S)
        libvirt_bench.thaw_daemon()
        async with asyncio.timeout(20):
            while True:
                try:
                    await host.destroy(uuid)
                    break
                except GuestOutcomeUnknown:
                    await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert await host.guests() == ()
        assert await host.process_of(uuid) is None


async def test_a_missing_disk_is_named(libvirt_bench: LibvirtBench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    disk = "<disk type='file'><source file='/no/such/disk.img'/><target dev='hda'/></disk>"
    async with libvirt_bench.open(PATIENT) as host:
        await wait_connection(host.events(), ConnectionState.CONNECTED)
        with pytest.raises(GuestStartFailed, match=r"/no/such/disk\.img"):
            await host.prepare(xml.replace("<devices>", "<devices>" + disk))
        assert await host.process_of(uuid) is None


async def test_a_paused_guest_is_resumed(libvirt_bench: LibvirtBench, make_guest: MakeGuest) -> None:
    uuid, xml = make_guest()
    async with libvirt_bench.open(PATIENT) as host:
        await wait_connection(host.events(), ConnectionState.CONNECTED)
        await host.prepare(xml)
        await host.resume(uuid)
        handle = host._connection.current().handle
        handle.lookupByUUIDString(uuid).suspend()
        assert [guest.state for guest in await host.guests()] == [GuestState.PAUSED]
        with pytest.raises(GuestRequestFailed, match="not running"):
            await host.shutdown(uuid)
        await host.resume(uuid)
        assert [guest.state for guest in await host.guests()] == [GuestState.RUNNING]
        del handle


async def test_the_daemon_may_come_up_later(libvirt_bench: LibvirtBench) -> None:
    libvirt_bench.kill_daemon()
    async with libvirt_bench.open(PATIENT) as host:
        events = host.events()
        assert isinstance(event := await anext(events), ConnectionEvent)
        assert event.state is ConnectionState.LOST
        libvirt_bench.start_daemon()
        await wait_connection(events, ConnectionState.CONNECTED)
        assert await host.guests() == ()
