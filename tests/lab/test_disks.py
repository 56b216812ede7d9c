"""Shared disks, and nothing but their reservations to fence a node: what reached the blocks decides who was right."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, STDOUT

import pytest
from tests.lab.adapter_client import io_command
from tests.lab.cluster_under_test import PATIENCE_S, ClusterUnderTest, codes, eventually, node_in
from tests.lab.instances import Instance

from holdfast.client import requests
from holdfast.lab.guests import Guest
from holdfast.lab.journal import read_journal
from holdfast.lab.layout import Network
from holdfast.lab.luns import LUN_BYTES
from holdfast.lab.provision import wait_disks_ready
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import ClusterStatus, NodeState, RoleState

pytestmark = pytest.mark.timeout(600)

OWNER, ASKED = "node3", "node1"
SCHEDULING_S = 1.5
"""What a busy machine adds to a time that is bounded by the clock of the node only."""
GONE_WITHIN_S = Timings().guard_kill_ms / 1000 + SCHEDULING_S
STEADY_S = 3.0
LATE_AT = LUN_BYTES - 4096
"""Where something on the frozen node writes when it thaws that no guard ends."""
LONG_CUT_S = 30.0
"""The adapter gives its session up by then; a cut that ends when it is noticed, after some seconds, it outlasts."""


async def start_guest(cluster: ClusterUnderTest, number: int = 0) -> tuple[Guest, Instance, str]:
    """Start a guest on a shared disk of the owner; returns it, its process and the id of its boot."""
    guest = await cluster.start_guest(on=OWNER, lun=cluster.lab.luns[number])
    [old] = cluster.instances.of(guest.name)
    return guest, old, (await cluster.boot_ids([guest]))[0]


def count(cluster: ClusterUnderTest, guest: Guest, boot_id: str) -> int:
    """Return how many records a boot has on the disk."""
    return read_journal(cluster.blocks_of(guest)).count(boot_id)


def boots(cluster: ClusterUnderTest, guest: Guest) -> list[str]:
    """Return the boots in the order in which they began to write."""
    return read_journal(cluster.blocks_of(guest)).boots


async def wait_records(cluster: ClusterUnderTest, guest: Guest, boot_id: str, *, more: int = 4) -> None:
    """Wait until a boot has appended some more records."""
    wanted = count(cluster, guest, boot_id) + more

    async def appended() -> bool | None:
        return count(cluster, guest, boot_id) >= wanted or None

    await eventually(f"{more} more records of {guest.name}", appended)


async def wait_back(cluster: ClusterUnderTest, incarnation: str | None) -> None:
    """Wait until the owner of once is up again by itself, as a new incarnation that may use the disks."""

    def is_back(status: ClusterStatus) -> bool:
        node = node_in(status, OWNER)
        return node.state is NodeState.UP and node.incarnation != incarnation

    await cluster.wait(f"{OWNER} up again by itself", is_back, asked=ASKED)
    await wait_disks_ready(cluster.lab, ASKED)


async def assert_fenced_by_the_disks_alone(cluster: ClusterUnderTest, guest: Guest) -> None:
    """Fail unless the owner was fenced, for its disks, and the guest was given away once."""
    assert "the storage refuses the writes of node3 to lun1, lun2" in " ".join(
        node_in(await cluster.status(ASKED), OWNER).reasons
    )
    assert any("storage-reservation" in why for why in (await cluster.explain(guest, ASKED)).here)
    happened = codes(await cluster.events(ASKED), guest.name)
    assert happened.count(EventCode.ROLE_ASSIGNED) == 2, "once to begin with, and once after its node was fenced"


def assert_one_after_the_other(cluster: ClusterUnderTest, guest: Guest, old: Instance, new: Instance) -> None:
    """Fail unless these are the guest's only processes, and the first was gone when the second began."""
    ended, begun = cluster.instances.of(guest.name)
    assert (ended.pid, begun.pid) == (old.pid, new.pid)
    assert ended.seen_until <= begun.started_at
    assert [one.pid for one in cluster.instances.living(guest.name)] == [new.pid]


async def test_the_plug_is_pulled(disks: ClusterUnderTest) -> None:
    guest, old, first = await start_guest(disks)

    plugged_at = await disks.lab.power_off(OWNER)
    new = await disks.wait_instance(guest, other_than=[old])
    owner = await disks.wait_online(guest, asked=ASKED)
    await disks.wait_boots(guest, 2)

    print(f"power cut to QEMU, by reservation alone: {new.started_at - plugged_at:.2f} s")
    assert owner == new.node != OWNER
    disks.assert_ran_once_at_a_time(guest, boots=2)
    assert boots(disks, guest)[0] == first
    await assert_fenced_by_the_disks_alone(disks, guest)


async def test_a_frozen_owner_thaws(disks: ClusterUnderTest) -> None:
    """It believes for a moment that the guest is its own; the disk knows better, and takes no other writes either."""
    guest, old, first = await start_guest(disks)
    incarnation = node_in(await disks.status(ASKED), OWNER).incarnation
    lun = disks.lab.luns[0]
    writing = await asyncio.create_subprocess_exec(
        *await disks.lab.joining_command(OWNER, *io_command(lun)), stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    assert writing.stdin is not None
    assert writing.stdout is not None
    writing.stdin.write(b"read 0 4k\n")
    assert b"read 4096/4096" in await writing.stdout.readuntil(b"at offset")

    await disks.lab.freeze(OWNER)
    writing.stdin.write(f"write -P 4 {LATE_AT} 4k\n".encode())
    new = await disks.wait_instance(guest, other_than=[old])
    await disks.wait_boots(guest, 2)
    second = (await guest.wait_answer(other_than=first)).boot_id
    await assert_fenced_by_the_disks_alone(disks, guest)
    fenced_at = count(disks, guest, first)
    thawed_at = await disks.lab.thaw(OWNER)
    async with asyncio.timeout(PATIENCE_S):
        assert b"write failed" in (await writing.communicate(b"quit\n"))[0]
    await wait_back(disks, incarnation)
    await wait_records(disks, guest, second)

    [old] = [one for one in disks.instances.of(guest.name) if one.pid == old.pid]
    print(f"thaw to the end of the old QEMU: {old.seen_until - thawed_at:.2f} s")
    assert old.seen_until - thawed_at <= GONE_WITHIN_S
    assert boots(disks, guest) == [first, second]
    assert count(disks, guest, first) == fenced_at
    assert [one.pid for one in disks.instances.living(guest.name)] == [new.pid]
    disks.assert_ran_once_at_a_time(guest, boots=2)


async def test_an_owner_that_only_its_disks_can_be_reached_from(disks: ClusterUnderTest) -> None:
    guest, old, first = await start_guest(disks)
    incarnation = node_in(await disks.status(ASKED), OWNER).incarnation

    await disks.lab.cut(OWNER, [Network.CLUSTER_A, Network.CLUSTER_B])
    new = await disks.wait_instance(guest, other_than=[old])
    await disks.wait_online(guest, asked=ASKED, on=new.node)
    await assert_fenced_by_the_disks_alone(disks, guest)
    fenced_at = count(disks, guest, first)
    await disks.lab.heal(OWNER)
    await wait_back(disks, incarnation)

    assert count(disks, guest, first) == fenced_at
    assert_one_after_the_other(disks, guest, old, new)
    disks.assert_ran_once_at_a_time(guest)


async def test_an_owner_that_does_not_reach_its_disks_for_a_while(disks: ClusterUnderTest) -> None:
    """Nobody knows whether it is the disks; to move the guest would help nobody. Its writes wait."""
    guest, old, first = await start_guest(disks)

    await disks.lab.cut(OWNER, [Network.STORAGE])
    await wait_condition(disks, "disk-unreachable")
    await disks.lab.heal(OWNER)
    await wait_records(disks, guest, first)
    await wait_disks_ready(disks.lab, ASKED)

    assert [one.pid for one in disks.instances.of(guest.name)] == [old.pid]
    assert (await disks.role(guest, ASKED)).owner == OWNER
    assert boots(disks, guest) == [first]
    assert EventCode.NODE_LOST not in codes(await disks.events(ASKED), OWNER)
    disks.assert_ran_once_at_a_time(guest, boots=1)


async def test_an_owner_whose_session_ends_while_it_does_not_reach_its_disks(disks: ClusterUnderTest) -> None:
    """Its adapter logs in anew, and this target admits the new session only when nothing there could write."""
    guest, old, first = await start_guest(disks)

    await disks.lab.cut(OWNER, [Network.STORAGE])
    await asyncio.sleep(LONG_CUT_S)
    assert [one.pid for one in disks.instances.of(guest.name)] == [old.pid]
    await disks.lab.heal(OWNER)
    new = await disks.wait_instance(guest, other_than=[old])
    await disks.wait_boots(guest, 2)
    await wait_disks_ready(disks.lab, ASKED)

    assert boots(disks, guest)[0] == first
    assert EventCode.NODE_LOST not in codes(await disks.events(ASKED), OWNER)
    assert_one_after_the_other(disks, guest, old, new)
    disks.assert_ran_once_at_a_time(guest, boots=2)


async def test_a_role_that_is_to_move_off_an_owner_that_lost_its_disk(disks: ClusterUnderTest) -> None:
    """The owner lives and is heard. What its adapter still has of the guest is refused when the cable is mended."""
    guest, old, first = await start_guest(disks)
    await disks.cli(ASKED, "role", "set", guest.name, "--on-storage-loss", "move")
    waiting = disks.lab.luns[1]
    other = await disks.start_guest(on=OWNER, lun=waiting)

    await disks.lab.cut(OWNER, [Network.STORAGE])
    new = await disks.wait_instance(guest, other_than=[old])
    owner = await disks.wait_online(guest, asked=ASKED)
    await disks.wait_boots(guest, 2)
    assert owner == new.node != OWNER
    assert (await disks.role(other, ASKED)).owner == OWNER
    await disks.lab.heal(OWNER)
    await wait_disks_ready(disks.lab, ASKED)
    await asyncio.sleep(STEADY_S)

    assert boots(disks, guest)[0] == first
    assert (await disks.role(guest, ASKED)).owner == owner
    assert EventCode.NODE_LOST not in codes(await disks.events(ASKED), OWNER)
    assert_one_after_the_other(disks, guest, old, new)
    disks.assert_ran_once_at_a_time(guest, boots=2)


async def test_a_guest_that_an_io_error_stopped_goes_on_by_itself(disks: ClusterUnderTest) -> None:
    """Its directory is full, so QEMU stops it at a write; when there is room it goes on from where it stood."""
    folder, guest = "/srv/holdfast/shared/small", disks.new_guest()
    await disks.lab.execute(OWNER, "mkdir", "-p", folder)
    await disks.lab.execute(OWNER, "mount", "-t", "tmpfs", "-o", "size=200k", "small", folder)
    try:
        await disks.lab.execute(OWNER, "truncate", "-s", "32M", f"{folder}/{guest.name}.raw")
        xml = disks.lab.guest_xml(guest, has_disk_lock=False).replace("cache='none'", "cache='writethrough'")
        xml = xml.replace(f"/{guest.name}.raw", f"/small/{guest.name}.raw")
        await disks.ask(OWNER, requests.add_vm(xml, possible_owners=(OWNER,), shutdown_timeout_ms=0))
        await wait_condition(disks, "guest-stalled")
        [old] = disks.instances.of(guest.name)
        await asyncio.sleep(STEADY_S)
        still = await disks.role(guest, ASKED)
        assert (still.state, still.owner) == (RoleState.ONLINE, OWNER)

        await disks.lab.execute(OWNER, "mount", "-o", "remount,size=16m", folder)
        await disks.wait_event(EventCode.ROLE_RESUMED, asked=ASKED, subject=guest.name)
        await guest.wait_answer()

        assert [one.pid for one in disks.instances.of(guest.name)] == [old.pid]
    finally:
        await disks.ask(OWNER, requests.remove_vm(guest.name, force=True))
        await disks.lab.execute(OWNER, "umount", "--lazy", folder)


async def wait_condition(cluster: ClusterUnderTest, code: str) -> None:
    """Wait until a condition of the owner is shown."""

    def is_shown(status: ClusterStatus) -> bool:
        return any(one.code == code and one.text.startswith(OWNER) for one in status.conditions)

    await cluster.wait(f"{code} of {OWNER}", is_shown, asked=ASKED)


async def test_the_target_forgets_who_may_write(disks: ClusterUnderTest) -> None:
    """Nothing keeps a frozen node from writing then, so nothing is proven by that disk, until it is protected again."""
    guest, old, first = await start_guest(disks)
    incarnation = node_in(await disks.status(ASKED), OWNER).incarnation

    await disks.lab.restart_target()
    await wait_condition(disks, "disk-unprotected")
    await wait_records(disks, guest, first)
    await disks.lab.freeze(OWNER)
    blocked = await disks.wait_blocked(guest, asked=ASKED, because="could not be kept from writing to disk lun1")
    await asyncio.sleep(STEADY_S)
    still = await disks.role(guest, ASKED)
    assert any("kept from writing" in reason or "no proof" in reason for reason in blocked.reasons)
    assert (still.state, still.owner) == (RoleState.BLOCKED, OWNER)
    assert [one.pid for one in disks.instances.of(guest.name)] == [old.pid]
    await disks.lab.thaw(OWNER)
    await wait_back(disks, incarnation)
    new = await disks.wait_instance(guest, other_than=[old])
    await disks.wait_online(guest, asked=ASKED, on=new.node)

    assert_one_after_the_other(disks, guest, old, new)
    disks.assert_ran_once_at_a_time(guest)
