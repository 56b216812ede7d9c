"""holdfastd or the guard ends, by accident or in order: no guest notices, and the next one carries on where it was."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, is_in_order, node_in, role_in

from holdfast.client import requests
from holdfast.lab.guests import Guest
from holdfast.lab.pauses import talking
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import ClusterStatus, NodeState, RoleState

pytestmark = pytest.mark.timeout(600)

LONGER_THAN_SILENCE_COUNTS_S = Timings().patience_ms / 1000 + Timings().session_ttl_s
GRACE_MS = 5000
HARM = {EventCode.NODE_LOST, EventCode.NODE_FENCED, EventCode.ROLE_STARTING, EventCode.ROLE_STOPPING}


async def right_again_after(cluster: ClusterUnderTest, guest: Guest, node: str, since: float) -> float:
    """Return how long after `since` a restarted daemon shows its node up and its guest online."""

    def is_right(status: ClusterStatus) -> bool:
        everybody = all(one.state is NodeState.UP for one in status.nodes)
        reported = node_in(status, node).memory_bytes is not None
        return everybody and reported and role_in(status, guest).state is RoleState.ONLINE

    await cluster.wait("status right again", is_right, asked=node)
    return time.monotonic() - since


async def assert_nothing_happened(cluster: ClusterUnderTest, guest: Guest, boots: list[str], began_ms: float) -> None:
    """The guest is the same instance, and no node was lost since."""
    await asyncio.sleep(Timings().patience_ms / 1000)
    assert await cluster.boot_ids([guest]) == boots
    assert len(cluster.instances.of(guest.name)) == 1
    cluster.assert_ran_once_at_a_time(guest, boots=1)
    happened = [line for line in await cluster.events(cluster.nodes[0]) if line.event.monotonic_ms > began_ms]
    assert not [line.text for line in happened if line.event.code in HARM]


@pytest.mark.parametrize("who", ["coordinator", "plain"])
async def test_holdfastd_is_killed(three: ClusterUnderTest, who: str) -> None:
    coordinator = await three.coordinator()
    node = coordinator if who == "coordinator" else three.others(coordinator)[0]
    guest = await three.start_guest(on=node)
    boots = await three.boot_ids([guest])
    incarnation = node_in(await three.status(node), node).incarnation

    began = time.monotonic()
    await three.lab.service_kill(node, "holdfastd")
    print(f"status is right again after {await right_again_after(three, guest, node, began):.2f} s")

    await assert_nothing_happened(three, guest, boots, began * 1000)
    assert node_in(await three.status(node), node).incarnation == incarnation


async def test_holdfastd_is_restarted_in_order(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node2")
    boots = await three.boot_ids([guest])

    began = time.monotonic()
    await three.lab.service_stop("node2", "holdfastd")
    await asyncio.sleep(LONGER_THAN_SILENCE_COUNTS_S)
    assert await three.boot_ids([guest]) == boots
    assert not [line.text for line in await three.events("node1") if line.event.code is EventCode.NODE_LOST]
    started_at = time.monotonic()
    await three.lab.service_start("node2", "holdfastd")
    print(f"status is right again after {await right_again_after(three, guest, 'node2', started_at):.2f} s")

    await assert_nothing_happened(three, guest, boots, began * 1000)


async def test_holdfastd_is_stopped_and_does_not_come_back(three: ClusterUnderTest) -> None:
    """What the stop announced ends: the guard stops the guests, and with no fence device its deadline is the proof."""
    guest = await three.start_guest(on="node3")
    [old] = three.instances.of(guest.name)

    async with three.without_fence_device("node3"), three.setting("timings.restart_grace_ms", GRACE_MS):
        stopped_at = time.monotonic()
        await three.lab.service_stop("node3", "holdfastd")
        new = await three.wait_instance(guest, other_than=[old])
    await three.wait_boots(guest, 2)

    [old, _] = three.instances.of(guest.name)
    print(f"stop to the old QEMU's end: {old.seen_until - stopped_at:.2f} s")
    print(f"stop to the new QEMU: {new.started_at - stopped_at:.2f} s")
    assert old.seen_until - stopped_at >= GRACE_MS / 1000 - 1
    assert new.started_at > old.seen_until
    three.assert_ran_once_at_a_time(guest, boots=2)


async def test_the_guard_is_killed(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node3")
    boots = await three.boot_ids([guest])

    began = time.monotonic()
    await three.lab.service_kill("node3", "holdfast-guard")

    await assert_nothing_happened(three, guest, boots, began * 1000)
    assert (await three.lab.status()).node("node3").watchdog_is_armed


async def test_the_guard_is_away_when_a_guest_is_to_start(three: ClusterUnderTest) -> None:
    """Without it no guest may start, so the role goes elsewhere; when it is back, that order is an old one."""
    guest = three.new_guest()
    await three.lab.service_stop("node3", "holdfast-guard")
    try:
        add = requests.add_vm(
            three.lab.guest_xml(guest, has_disk_lock=False), preferred_owners=("node3",), shutdown_timeout_ms=0
        )
        await three.ask("node1", add)
        instance = await three.wait_instance(guest)
    finally:
        await three.lab.service_start("node3", "holdfast-guard")

    assert instance.node != "node3"
    await three.wait_online(guest, asked="node1", on=instance.node)
    await three.wait("everything in order", is_in_order, asked="node1")
    await three.wait_boots(guest, 1)
    assigned = [line for line in await three.events("node1") if line.event.code is EventCode.ROLE_ASSIGNED]
    assert [str(line.event.target) for line in assigned] == ["node3", instance.node]
    assert "did not take it up" in assigned[1].text
    assert len(three.instances.of(guest.name)) == 1
    three.assert_ran_once_at_a_time(guest, boots=1)


async def test_every_holdfastd_is_restarted_one_after_the_other_under_load(three: ClusterUnderTest) -> None:
    guests = [await three.start_guest(on=node, is_booted=False) for node in three.nodes]
    boots = await three.boot_ids(guests)

    began = time.monotonic()
    async with talking(guests[0]) as talk:
        boot, said = await talk.say()
        for node in three.nodes:
            await three.lab.service_stop(node, "holdfastd")
            await three.lab.service_start(node, "holdfastd")
            started_at = time.monotonic()
            guest = next(one for one in guests if three.instances.of(one.name)[0].node == node)
            print(f"{node} is right again after {await right_again_after(three, guest, node, started_at):.2f} s")
            said += 1
            assert await talk.say() == (boot, said)

    for guest, before in zip(guests, boots, strict=True):
        await assert_nothing_happened(three, guest, [before], began * 1000)
