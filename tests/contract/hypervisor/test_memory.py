"""The contract for a guest's memory on its way through a file, on the simulated hypervisor and on libvirt with QEMU."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from holdfast.hypervisor.errors import GuestNotFound, GuestOutcomeUnknown, GuestRequestFailed, GuestStartFailed
from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget, SavedKind, SaveOptions
from holdfast.hypervisor.port import ConnectionEvent, ConnectionState, Guest, GuestState, Hypervisor
from holdfast.hypervisor.timeouts import HypervisorTimeouts

PATIENT = HypervisorTimeouts(start_ms=30_000, destroy_ms=20_000, settle_ms=500)
HASTY = HypervisorTimeouts(ask_ms=400, start_ms=800, restore_ms=800, destroy_ms=1_500, settle_ms=500)
SAVE = SaveOptions(timeout_ms=30_000)
MakeGuest = Callable[[], tuple[str, str]]


class Bench(Protocol):
    """A hypervisor and the levers that break it."""

    kind: str

    def open(self, timeouts: HypervisorTimeouts) -> AbstractAsyncContextManager[Hypervisor]: ...

    def kill_daemon(self) -> None: ...

    def start_daemon(self) -> None: ...

    def freeze_daemon(self) -> None: ...

    def thaw_daemon(self) -> None: ...


async def wait_connection(hypervisor: Hypervisor, state: ConnectionState) -> None:
    events: AsyncIterator[object] = hypervisor.events()
    async with asyncio.timeout(20):
        while True:
            event = await anext(events)
            if isinstance(event, ConnectionEvent) and event.state is state:
                return


async def running(hypervisor: Hypervisor, make_guest: MakeGuest) -> str:
    await wait_connection(hypervisor, ConnectionState.CONNECTED)
    uuid, xml = make_guest()
    await hypervisor.prepare(xml)
    await hypervisor.resume(uuid)
    return uuid


async def only(hypervisor: Hypervisor) -> Guest:
    (guest,) = await hypervisor.guests()
    return guest


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "web.m1.state")


async def test_safe_7_memory_goes_through_a_file_and_comes_back_paused_with_its_id(
    bench: Bench, make_guest: MakeGuest, path: str
) -> None:
    async with bench.open(PATIENT) as hypervisor:
        uuid = await running(hypervisor, make_guest)
        assert (await only(hypervisor)).memory_id == ""
        await hypervisor.suspend(uuid)
        assert (await only(hypervisor)).state is GuestState.PAUSED
        await hypervisor.suspend(uuid)
        assert (await hypervisor.saved_state(path)).kind is SavedKind.ABSENT

        await hypervisor.save(uuid, path, "m1", SAVE)
        assert await hypervisor.process_of(uuid) is None
        assert await hypervisor.guests() == ()
        saved = await hypervisor.saved_state(path)
        assert saved.is_usable(uuid=uuid, memory_id="m1")
        assert not saved.is_usable(uuid=uuid, memory_id="m2")
        assert saved.bytes > 100_000

        await hypervisor.restore(uuid, path, "m1")
        guest = await only(hypervisor)
        assert (guest.state, guest.memory_id) == (GuestState.PAUSED, "m1")
        await hypervisor.resume(uuid)
        assert (await only(hypervisor)).is_running
        assert (await hypervisor.saved_state(path)).is_usable(uuid=uuid, memory_id="m1"), "it is for others to remove"
        await hypervisor.discard_saved(path)
        await hypervisor.discard_saved(path)
        assert (await hypervisor.saved_state(path)).kind is SavedKind.ABSENT


async def test_memory_that_is_saved_again_gets_its_new_id(bench: Bench, make_guest: MakeGuest, path: str) -> None:
    async with bench.open(PATIENT) as hypervisor:
        uuid = await running(hypervisor, make_guest)
        await hypervisor.save(uuid, path, "m1", SAVE)
        await hypervisor.restore(uuid, path, "m1")
        assert (await only(hypervisor)).memory_id == "m1"
        await hypervisor.save(uuid, path + "2", "m2", SAVE)
        await hypervisor.restore(uuid, path + "2", "m2")
        assert (await only(hypervisor)).memory_id == "m2"


async def test_safe_7_only_whole_memory_of_the_right_id_is_restored(
    bench: Bench, make_guest: MakeGuest, path: str
) -> None:
    async with bench.open(PATIENT) as hypervisor:
        uuid = await running(hypervisor, make_guest)
        await hypervisor.save(uuid, path, "m1", SAVE)
        for file, memory_id in ((path, "m2"), (path + ".none", "m1")):
            with pytest.raises(GuestStartFailed):
                await hypervisor.restore(uuid, file, memory_id)
        assert await hypervisor.guests() == ()


async def test_a_fresh_start_from_xml_that_carries_an_id_has_none(bench: Bench, make_guest: MakeGuest) -> None:
    mark = "<metadata><h:memory xmlns:h='urn:holdfast:memory:1' id='old'/></metadata>"
    async with bench.open(PATIENT) as hypervisor:
        await wait_connection(hypervisor, ConnectionState.CONNECTED)
        _, xml = make_guest()
        await hypervisor.prepare(xml.replace("<memory ", mark + "<memory ", 1))
        assert (await only(hypervisor)).memory_id == ""


async def test_what_is_not_there_can_be_neither_saved_nor_copied(
    bench: Bench, make_guest: MakeGuest, path: str
) -> None:
    uuid, _ = make_guest()
    async with bench.open(PATIENT) as hypervisor:
        await wait_connection(hypervisor, ConnectionState.CONNECTED)
        with pytest.raises(GuestNotFound):
            await hypervisor.suspend(uuid)
        with pytest.raises(GuestNotFound):
            await hypervisor.save(uuid, path, "m1", SAVE)
        with pytest.raises(GuestNotFound):
            await hypervisor.migrate(uuid, MigrationTarget(uri="qemu+tls://127.0.0.1/system"), "m1", MigrateOptions())
        assert await hypervisor.progress(uuid) is None
        await hypervisor.cancel_move(uuid)
        assert not await hypervisor.has_moved_away(uuid, "nobody")


async def test_a_copy_to_nowhere_leaves_the_guest_running(bench: Bench, make_guest: MakeGuest) -> None:
    async with bench.open(PATIENT) as hypervisor:
        if bench.kind == "simulated":
            hypervisor.moves.keep_alive_ms = 100  # type: ignore[attr-defined]
        uuid = await running(hypervisor, make_guest)
        with pytest.raises(GuestRequestFailed):
            await hypervisor.migrate(uuid, MigrationTarget(uri="qemu+tls://127.0.0.1/system"), "m1", MigrateOptions())
        assert (await only(hypervisor)).is_running
        assert await hypervisor.progress(uuid) is None
        assert not await hypervisor.has_moved_away(uuid, f"contract-{uuid[:8]}")


async def test_safe_2_a_restore_without_answer_is_unknown_until_settled(
    bench: Bench, make_guest: MakeGuest, path: str
) -> None:
    async with bench.open(PATIENT) as hypervisor:
        uuid = await running(hypervisor, make_guest)
        await hypervisor.save(uuid, path, "m1", SAVE)
    async with bench.open(HASTY) as hypervisor:
        await wait_connection(hypervisor, ConnectionState.CONNECTED)
        bench.freeze_daemon()
        with pytest.raises(GuestOutcomeUnknown):
            await hypervisor.restore(uuid, path, "m1")
        with pytest.raises(GuestOutcomeUnknown):
            await hypervisor.destroy(uuid)
        bench.thaw_daemon()
        async with asyncio.timeout(20):
            while True:
                try:
                    await hypervisor.destroy(uuid)
                    break
                except GuestOutcomeUnknown:
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert await hypervisor.process_of(uuid) is None


async def test_the_host_tells_its_cpu_and_what_does_not_fit(bench: Bench, make_guest: MakeGuest) -> None:
    _, xml = make_guest()
    own = xml.replace("<os>", "<cpu mode='host-model'/><os>")
    async with bench.open(PATIENT) as hypervisor:
        await wait_connection(hypervisor, ConnectionState.CONNECTED)
        cpu = await hypervisor.cpu()
        assert cpu
        assert await hypervisor.can_run(xml) == ()
        assert await hypervisor.can_run(own, source_cpu=cpu) == ()
        (reason,) = await hypervisor.can_run(own, source_cpu="Another-1")
        assert "Another-1" in reason


async def test_a_directory_of_saved_memory_tells_its_files_and_its_room(
    bench: Bench, make_guest: MakeGuest, tmp_path: Path
) -> None:
    async with bench.open(PATIENT) as hypervisor:
        uuid = await running(hypervisor, make_guest)
        assert await hypervisor.saved_in(str(tmp_path)) == ()
        for name in ("b.state", "a.state"):
            await hypervisor.save(uuid, str(tmp_path / name), name, SAVE)
            await hypervisor.restore(uuid, str(tmp_path / name), name)
        assert await hypervisor.room_to_save(str(tmp_path), ".probe") > 1_000_000
        assert await hypervisor.saved_in(str(tmp_path)) == ("a.state", "b.state")
