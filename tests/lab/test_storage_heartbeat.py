"""A second sign of life, on a disk, and nothing but reservations to fence a node."""

from __future__ import annotations

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, codes, eventually, hold, node_in
from tests.lab.test_disks import ASKED, GONE_WITHIN_S, OWNER, boots, count, start_guest, wait_back

from holdfast.lab.layout import Network
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import NodeState

pytestmark = pytest.mark.timeout(600)

TIMINGS = Timings()
SILENT_THERE = "has not stamped its slot on the heartbeat disks"


async def why_lost(cluster: ClusterUnderTest) -> str:
    """Return the reasons of the verdict on the owner."""
    lost = [line.event for line in await cluster.events(ASKED) if line.event.code is EventCode.NODE_LOST]
    return " ".join(map(str, lost[-1].reasons))


async def test_the_plug_is_pulled(beating: ClusterUnderTest) -> None:
    guest, old, first = await start_guest(beating)

    plugged_at = await beating.lab.power_off(OWNER)
    new = await beating.wait_instance(guest, other_than=[old])
    owner = await beating.wait_online(guest, asked=ASKED)
    await beating.wait_boots(guest, 2)

    print(f"power cut to QEMU, by reservation and storage heartbeat: {new.started_at - plugged_at:.2f} s")
    assert owner == new.node != OWNER
    beating.assert_ran_once_at_a_time(guest, boots=2)
    assert boots(beating, guest)[0] == first
    assert SILENT_THERE in await why_lost(beating)
    assert "the storage refuses the writes of node3 to heartbeat, lun1" in " ".join(
        node_in(await beating.status(ASKED), OWNER).reasons
    )


async def test_a_frozen_owner_thaws(beating: ClusterUnderTest) -> None:
    """It is given up long before the patience is over, and neither writes nor stamps when it goes on."""
    guest, old, first = await start_guest(beating)
    incarnation = node_in(await beating.status(ASKED), OWNER).incarnation

    await beating.lab.freeze(OWNER)
    new = await beating.wait_instance(guest, other_than=[old])
    await beating.wait_boots(guest, 2)
    second = (await guest.wait_answer(other_than=first)).boot_id
    assert SILENT_THERE in await why_lost(beating)
    fenced_at = count(beating, guest, first)
    thawed_at = await beating.lab.thaw(OWNER)
    await wait_back(beating, incarnation)

    [old] = [one for one in beating.instances.of(guest.name) if one.pid == old.pid]
    print(f"thaw to the end of the old QEMU: {old.seen_until - thawed_at:.2f} s")
    assert old.seen_until - thawed_at <= GONE_WITHIN_S
    hold(boots(beating, guest) == [first, second], "two boots wrote by turns")
    hold(count(beating, guest, first) == fenced_at, "something was written after the fencing")
    assert [one.pid for one in beating.instances.living(guest.name)] == [new.pid]
    beating.assert_ran_once_at_a_time(guest, boots=2)


async def test_an_owner_that_only_its_disks_can_be_reached_from(beating: ClusterUnderTest) -> None:
    """It is alive and cut off: it gets the whole patience, and its guest has ended by then."""
    guest, old, _ = await start_guest(beating)
    incarnation = node_in(await beating.status(ASKED), OWNER).incarnation

    cut_at = await beating.lab.cut(OWNER, [Network.CLUSTER_A, Network.CLUSTER_B])
    new = await beating.wait_instance(guest, other_than=[old])
    await beating.wait_online(guest, asked=ASKED, on=new.node)
    why = await why_lost(beating)
    await beating.lab.heal(OWNER)
    await wait_back(beating, incarnation)

    assert new.started_at - cut_at >= (TIMINGS.patience_ms - TIMINGS.heartbeat_interval_ms) / 1000
    assert "it lives, is cut off, and gets patience" in why
    assert SILENT_THERE not in why
    beating.assert_ran_once_at_a_time(guest)


async def test_an_owner_that_does_not_reach_its_disks_is_not_suspected(beating: ClusterUnderTest) -> None:
    guest, _, _ = await start_guest(beating)

    await beating.lab.cut(OWNER, [Network.STORAGE])
    for code, said in (("storage-heartbeat-silent", f"{OWNER} is heard by"), ("storage-heartbeat-failed", f"{OWNER}:")):
        await beating.wait(
            f"{code} of {OWNER}",
            lambda status, code=code, said=said: any(  # type: ignore[misc]
                one.code == code and one.text.startswith(said) for one in status.conditions
            ),
            asked=ASKED,
        )
    status = await beating.status(ASKED)
    assert node_in(status, OWNER).state is NodeState.UP
    await beating.lab.heal(OWNER)

    async def is_clear() -> bool | None:
        conditions = (await beating.status(ASKED)).conditions
        return not any(one.code.startswith("storage-heartbeat") for one in conditions) or None

    await eventually("the heartbeats are back", is_clear)
    assert (await beating.role(guest, ASKED)).owner == OWNER
    assert EventCode.NODE_LOST not in codes(await beating.events(ASKED), OWNER)
