"""A node hangs: for a moment it is forgiven, for longer it is off before its guests run elsewhere."""

from __future__ import annotations

import asyncio

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, codes, node_in

from holdfast.lab.machine import Power
from holdfast.model.events import EventCode
from holdfast.model.status import NodeState

pytestmark = pytest.mark.timeout(600)


async def test_for_a_moment(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node2")
    boots = await three.boot_ids([guest])

    await three.lab.freeze("node2")
    await asyncio.sleep(1.5)
    await three.lab.thaw("node2")

    await three.wait_event(EventCode.NODE_CLEARED, asked="node1", subject="node2")
    await three.wait("node2 up", lambda seen: node_in(seen, "node2").state is NodeState.UP, asked="node1")
    await three.wait_online(guest, asked="node1", on="node2")
    assert await three.boot_ids([guest]) == boots
    assert EventCode.NODE_LOST not in codes(await three.events("node1"), "node2")
    three.assert_ran_once_at_a_time(guest, boots=1)


async def test_until_its_watchdog_fires(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node3")
    [old] = three.instances.of(guest.name)

    await three.lab.freeze("node3")
    new = await three.wait_instance(guest, other_than=[old])
    await three.wait_boots(guest, 2)

    node = (await three.lab.status()).node("node3")
    assert (node.power, node.off_reason) == (Power.OFF, "its watchdog fired")
    [old, _] = three.instances.of(guest.name)
    assert old.seen_until < new.started_at
    three.assert_ran_once_at_a_time(guest, boots=2)
    assert "reports node3 as off" in " ".join(node_in(await three.status("node1"), "node3").reasons)


async def test_until_it_is_fenced(unguarded: ClusterUnderTest) -> None:
    guest = await unguarded.start_guest(on="node3")
    [old] = unguarded.instances.of(guest.name)

    await unguarded.lab.freeze("node3")
    new = await unguarded.wait_instance(guest, other_than=[old])
    await unguarded.wait_boots(guest, 2)

    node = (await unguarded.lab.status()).node("node3")
    assert (node.power, node.off_reason) == (Power.OFF, "fenced (off)")
    [old, _] = unguarded.instances.of(guest.name)
    assert old.seen_until < new.started_at
    unguarded.assert_ran_once_at_a_time(guest, boots=2)
    happened = codes(await unguarded.events("node1"), "node3")
    assert happened.index(EventCode.FENCE_ORDERED) < happened.index(EventCode.NODE_FENCED)
