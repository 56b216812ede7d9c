"""A shared disk that only the owner of its role is registered with: it goes from hand to hand, by challenge at need."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, hold, node_in
from tests.lab.test_disks import (
    ASKED,
    GONE_WITHIN_S,
    OWNER,
    assert_one_after_the_other,
    boots,
    count,
    start_guest,
    wait_back,
    wait_records,
)

from holdfast.client import requests, storage_requests
from holdfast.lab.layout import Network
from holdfast.lab.provision import wait_disks_ready
from holdfast.model.disks import DiskState
from holdfast.model.roles import MoveMethod
from holdfast.model.settings import Timings

pytestmark = pytest.mark.timeout(600)

NUMBER = 1
"""Which of the lab's disks it is; the other one is protected by node, as ever."""


@asynccontextmanager
async def protected_by_role(cluster: ClusterUnderTest) -> AsyncGenerator[None, None]:
    """Have the second disk be one of role-level protection for a while."""
    await _add_again(cluster, "role")
    try:
        yield
    finally:
        await cluster.remove_roles()
        await _add_again(cluster, "node")


async def _add_again(cluster: ClusterUnderTest, protection: str) -> None:
    lun = cluster.lab.luns[NUMBER]
    way = f"helper:{lun.reservations_socket}"
    for command in (
        ("remove", lun.disk),
        ("add", lun.disk, "--designator", lun.designator, "--reservations", way, "--guest-source", lun.guest_source,
         "--accept-forgetful", "--clear-keys", "--protection", protection),
    ):  # fmt: skip
        finished = await cluster.cli(ASKED, "storage", *command)
        assert finished.exit_code == 0, finished.errors
    await wait_disks_ready(cluster.lab, ASKED)


async def states(cluster: ClusterUnderTest) -> dict[str, str]:
    """Return how each node stands with the disk."""
    disks = {disk.name: disk for disk in await cluster.ask(ASKED, storage_requests.list_disks())}
    return {name: seen.state for name, seen in disks[cluster.lab.luns[NUMBER].disk].nodes.items()}


async def test_the_disk_goes_with_its_role(disks: ClusterUnderTest) -> None:
    async with protected_by_role(disks):
        guest, old, first = await start_guest(disks, NUMBER)
        assert {name for name, state in (await states(disks)).items() if state == DiskState.READY} == {OWNER}

        move = requests.move_role(guest.name, to="node2", wait=True, method=MoveMethod.RESTART)
        await disks.ask(ASKED, move)
        new = await disks.wait_instance(guest, other_than=[old])
        await disks.wait_boots(guest, 2)

        assert {name for name, state in (await states(disks)).items() if state == DiskState.READY} == {"node2"}
        assert boots(disks, guest)[0] == first
        assert_one_after_the_other(disks, guest, old, new)
        disks.assert_ran_once_at_a_time(guest, boots=2)


async def test_the_plug_is_pulled(disks: ClusterUnderTest) -> None:
    """The owner does not defend its disk, so the challenge is won."""
    async with protected_by_role(disks):
        guest, old, first = await start_guest(disks, NUMBER)

        plugged_at = await disks.lab.power_off(OWNER)
        new = await disks.wait_instance(guest, other_than=[old])
        await disks.wait_online(guest, asked=ASKED, on=new.node)
        await disks.wait_boots(guest, 2)
        await disks.lab.power_on(OWNER)

        print(f"power cut to QEMU, by challenge: {new.started_at - plugged_at:.2f} s")
        assert new.node != OWNER
        assert boots(disks, guest)[0] == first
        disks.assert_ran_once_at_a_time(guest, boots=2)


async def test_a_frozen_owner_thaws(disks: ClusterUnderTest) -> None:
    """It could not defend its disk; not one write of it lands afterwards."""
    async with protected_by_role(disks):
        guest, old, first = await start_guest(disks, NUMBER)
        incarnation = node_in(await disks.status(ASKED), OWNER).incarnation

        await disks.lab.freeze(OWNER)
        await disks.wait_instance(guest, other_than=[old])
        await disks.wait_boots(guest, 2)
        second = (await guest.wait_answer(other_than=first)).boot_id
        fenced_at = count(disks, guest, first)
        thawed_at = await disks.lab.thaw(OWNER)
        await wait_back(disks, incarnation)
        await wait_records(disks, guest, second)

        [old] = [one for one in disks.instances.of(guest.name) if one.pid == old.pid]
        print(f"thaw to the end of the old QEMU: {old.seen_until - thawed_at:.2f} s")
        assert old.seen_until - thawed_at <= GONE_WITHIN_S
        hold(boots(disks, guest) == [first, second], "two boots wrote by turns")
        hold(count(disks, guest, first) == fenced_at, "something was written after the fencing")
        disks.assert_ran_once_at_a_time(guest, boots=2)


async def test_an_owner_that_is_cut_off_defends_its_disk_while_its_guest_lives(disks: ClusterUnderTest) -> None:
    async with protected_by_role(disks):
        guest, old, first = await start_guest(disks, NUMBER)
        incarnation = node_in(await disks.status(ASKED), OWNER).incarnation

        cut_at = await disks.lab.cut(OWNER, [Network.CLUSTER_A, Network.CLUSTER_B])
        new = await disks.wait_instance(guest, other_than=[old])
        await disks.wait_online(guest, asked=ASKED, on=new.node)
        await disks.lab.heal(OWNER)
        await wait_back(disks, incarnation)

        print(f"cut to QEMU elsewhere: {new.started_at - cut_at:.2f} s")
        assert new.started_at - cut_at >= Timings().guard_deadline_ms / 1000
        assert boots(disks, guest)[0] == first
        assert_one_after_the_other(disks, guest, old, new)
        disks.assert_ran_once_at_a_time(guest)
