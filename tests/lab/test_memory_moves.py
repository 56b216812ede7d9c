"""Memory on its way between two real libvirts, and what is left when something dies on that way.

Without a cluster: what libvirt and QEMU do by themselves is what all of the cluster's rules about memory rest on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest
from tests.lab.bare_lab import bare_lab, wait_until
from tests.lab.hypervisors import NODES, Host, give_certificates, host_of, options, target

from holdfast.hypervisor.errors import GuestOutcomeUnknown, GuestRequestFailed, GuestStartFailed
from holdfast.hypervisor.memory import SavedKind, SaveOptions
from holdfast.hypervisor.port import GuestState
from holdfast.lab import records
from holdfast.lab.construction import LabOptions
from holdfast.lab.guests import Guest
from holdfast.lab.lab import Lab
from holdfast.lab.layout import Network
from holdfast.lab.pauses import giving_time, talking

pytestmark = pytest.mark.timeout(600)
SAVE = SaveOptions(timeout_ms=60_000)
SLOW = 4 * 2**20
"""Bytes per second: a copy takes some 10 s."""
_indices = count(1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with bare_lab("memory", LabOptions(nodes=len(NODES))) as lab:
        asyncio.run(give_certificates(lab, tmp_path_factory.mktemp("pki")))
        yield lab


@pytest.fixture
async def hosts(lab: Lab) -> AsyncIterator[tuple[Host, Host]]:
    async with AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(host_of(lab, node)) for node in NODES]
        yield a, b
        for host in (a, b):
            for guest in await host.libvirt.guests():
                await host.libvirt.destroy(guest.uuid)


@pytest.fixture
def guest(lab: Lab) -> Guest:
    index = next(_indices)
    return lab.guest(f"memory{index}", index)


async def wait_copying(source: Host, destination: Host, uuid: str) -> None:
    """Return when bytes flow and the copy is there."""

    async def is_so() -> bool:
        progress = await source.libvirt.progress(uuid)
        return progress is not None and progress.bytes_processed > 0

    await wait_until(is_so, timeout_s=30)
    await destination.wait_state(uuid, GuestState.PAUSED)


async def test_memory_and_connections_survive_a_quick_move(
    hosts: tuple[Host, Host], guest: Guest, tmp_path: Path
) -> None:
    a, b = hosts
    uuid = await a.start(guest)
    path = str(tmp_path / "state")
    async with talking(guest) as talk, giving_time(guest) as pauses:
        boot, first = await talk.say()
        await a.libvirt.suspend(uuid)
        await a.libvirt.save(uuid, path, "m1", SAVE)
        await b.libvirt.restore(uuid, path, "m1")
        await b.libvirt.resume(uuid)
        assert await talk.say() == (boot, first + 1)
        answer = await pauses.wait_answer()
    assert answer.boot_id == boot
    assert 100 < answer.longest_gap_ms < 20_000, "it was gone for as long as saving and restoring takes"
    assert records.overlaps_on(guest.disk) == []


async def test_memory_and_connections_survive_a_live_move(hosts: tuple[Host, Host], guest: Guest) -> None:
    a, b = hosts
    uuid = await a.start(guest)
    async with talking(guest) as talk, giving_time(guest) as pauses:
        boot, first = await talk.say()
        await a.libvirt.migrate(uuid, target("node2"), "m1", options())
        assert await a.guest(uuid) is None
        assert await a.libvirt.has_moved_away(uuid, guest.name)
        copy = await b.guest(uuid)
        assert copy is not None
        assert (copy.state, copy.memory_id) == (GuestState.PAUSED, "m1")
        await b.libvirt.resume(uuid)
        assert await talk.say() == (boot, first + 1)
        answer = await pauses.wait_answer()
    assert answer.boot_id == boot
    assert answer.longest_gap_ms < 5_000
    assert records.overlaps_on(guest.disk) == []


async def test_safe_7_a_paused_copy_holds_no_lock_and_writes_nothing(hosts: tuple[Host, Host], guest: Guest) -> None:
    """So the original can go on when it is not heard that the copy is whole, and another node can start afresh."""
    a, b = hosts
    uuid = await a.start(guest)
    inode = f":{guest.disk.stat().st_ino} "
    assert inode in Path("/proc/locks").read_text()
    await a.libvirt.migrate(uuid, target("node2"), "m1", options())
    assert inode not in Path("/proc/locks").read_text()
    before = guest.disk.read_bytes()
    await asyncio.sleep(1.5)
    assert guest.disk.read_bytes() == before
    await b.libvirt.resume(uuid)
    assert inode in Path("/proc/locks").read_text()


async def test_safe_7_who_suspended_a_guest_alone_resumes_it_after_libvirtd_dies_while_saving(
    hosts: tuple[Host, Host], guest: Guest, tmp_path: Path
) -> None:
    a, b = hosts
    uuid = await a.start(guest)
    torn, whole = str(tmp_path / "torn"), str(tmp_path / "whole")
    await a.libvirt.suspend(uuid)
    saving = asyncio.create_task(a.libvirt.save(uuid, torn, "m1", SAVE))

    async def has_begun() -> bool:
        return Path(torn).exists() and Path(torn).stat().st_size > 2**20

    await wait_until(has_begun, timeout_s=20)
    await a.kill_daemon()
    with pytest.raises(GuestOutcomeUnknown):
        await saving
    assert (await a.libvirt.saved_state(torn)).kind is SavedKind.PARTIAL
    assert await a.state(uuid) is GuestState.PAUSED
    await asyncio.sleep(1)
    assert await a.state(uuid) is GuestState.PAUSED
    with pytest.raises(GuestStartFailed):
        await b.libvirt.restore(uuid, torn, "m1")

    await a.libvirt.resume(uuid)  # QEMU may have finished writing, and then does so again only after it executed
    await guest.wait_answer()
    await a.libvirt.save(uuid, whole, "m2", SAVE)
    await b.libvirt.restore(uuid, whole, "m2")
    await b.libvirt.resume(uuid)
    await guest.wait_answer()
    assert records.overlaps_on(guest.disk) == []


async def test_a_storage_that_refuses_leaves_the_guest_suspended(
    hosts: tuple[Host, Host], guest: Guest, tmp_path: Path, lab: Lab
) -> None:
    a, _ = hosts
    uuid = await a.start(guest)
    path = str(tmp_path / "state")
    await a.libvirt.suspend(uuid)
    limit = "prlimit --pid $(pidof libvirtd) --fsize="
    await lab.execute("node1", "sh", "-c", f"{limit}{4 * 2**20}:")
    try:
        with pytest.raises(GuestRequestFailed):
            await a.libvirt.save(uuid, path, "m1", SAVE)
    finally:
        await lab.execute("node1", "sh", "-c", f"{limit}unlimited:")
    assert await a.state(uuid) is GuestState.PAUSED
    assert (await a.libvirt.saved_state(path)).kind is SavedKind.ABSENT
    await a.libvirt.resume(uuid)
    await guest.wait_answer()


async def test_safe_7_a_file_that_lost_its_end_starts_nothing(
    hosts: tuple[Host, Host], guest: Guest, tmp_path: Path
) -> None:
    a, b = hosts
    uuid = await a.start(guest)
    path = tmp_path / "state"
    await a.libvirt.save(uuid, str(path), "m1", SAVE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(GuestStartFailed):
        await b.libvirt.restore(uuid, str(path), "m1")
    assert await b.guest(uuid) is None
    path.write_bytes(content)
    await b.libvirt.restore(uuid, str(path), "m1")
    assert await b.state(uuid) is GuestState.PAUSED


@pytest.mark.parametrize("node", NODES)
async def test_the_original_goes_on_when_libvirtd_of_either_side_dies_while_copying(
    hosts: tuple[Host, Host], guest: Guest, node: str
) -> None:
    a, b = hosts
    uuid = await a.start(guest)
    moving = asyncio.create_task(a.libvirt.migrate(uuid, target("node2"), "m1", options(bandwidth_bytes_per_s=SLOW)))
    await wait_copying(a, b, uuid)
    await (a if node == "node1" else b).kill_daemon()
    with pytest.raises((GuestOutcomeUnknown, GuestRequestFailed)) as told:
        await moving
    assert isinstance(told.value, GuestOutcomeUnknown) is (node == "node1")
    await a.wait_state(uuid, GuestState.RUNNING)
    await b.wait_state(uuid, None)
    assert not await a.libvirt.has_moved_away(uuid, guest.name)
    await guest.wait_answer()
    await a.libvirt.suspend(uuid)  # an emulated guest that executes may not survive its copying, see has_panicked
    await a.libvirt.migrate(uuid, target("node2"), "m2", options())
    await b.libvirt.resume(uuid)
    await guest.wait_answer()
    assert records.overlaps_on(guest.disk) == []


async def test_a_copy_is_cancelled_and_its_original_goes_on(hosts: tuple[Host, Host], guest: Guest) -> None:
    a, b = hosts
    uuid = await a.start(guest)
    moving = asyncio.create_task(a.libvirt.migrate(uuid, target("node2"), "m1", options(bandwidth_bytes_per_s=SLOW)))
    await wait_copying(a, b, uuid)
    progress = await a.libvirt.progress(uuid)
    assert progress is not None
    assert 0 < progress.bytes_processed < progress.bytes_total
    await a.libvirt.cancel_move(uuid)
    with pytest.raises(GuestRequestFailed):
        await moving
    assert await a.state(uuid) is GuestState.RUNNING
    await b.wait_state(uuid, None)


async def test_a_suspended_guest_is_copied_and_stays_suspended_when_that_fails(
    hosts: tuple[Host, Host], guest: Guest
) -> None:
    a, b = hosts
    uuid = await a.start(guest)
    await a.libvirt.suspend(uuid)
    moving = asyncio.create_task(a.libvirt.migrate(uuid, target("node2"), "m1", options(bandwidth_bytes_per_s=SLOW)))
    await wait_copying(a, b, uuid)
    await b.libvirt.destroy(uuid)
    with pytest.raises(GuestRequestFailed):
        await moving
    assert await a.state(uuid) is GuestState.PAUSED


async def test_the_original_goes_on_when_the_network_dies_while_copying(
    hosts: tuple[Host, Host], guest: Guest, lab: Lab
) -> None:
    a, b = hosts
    uuid = await a.start(guest)
    moving = asyncio.create_task(a.libvirt.migrate(uuid, target("node2"), "m1", options(bandwidth_bytes_per_s=SLOW)))
    await wait_copying(a, b, uuid)
    await lab.cut("node2", [Network.CLUSTER_A])
    try:
        with pytest.raises((GuestOutcomeUnknown, GuestRequestFailed)):
            await moving
        assert await a.state(uuid) is GuestState.RUNNING
        await guest.wait_answer()
        await b.wait_state(uuid, None, timeout_s=60)
    finally:
        await lab.heal("node2", [Network.CLUSTER_A])
