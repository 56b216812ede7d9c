"""Cables are cut: one network raises a condition and no more; all of them stop the node's guests, then move them."""

from __future__ import annotations

import asyncio

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, codes, is_in_order, node_in, since_last_suspicion
from tests.lab.instances import Instance

from holdfast.lab.layout import Network
from holdfast.lab.machine import Power
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import NodeState

pytestmark = pytest.mark.timeout(600)

TIMINGS = Timings()
BEYOND_PATIENCE_S = TIMINGS.patience_ms / 1000 + 2
GUARD_KILLS_WITHIN_S = (TIMINGS.guard_deadline_ms + TIMINGS.guard_kill_ms) / 1000
SCHEDULING_S = 1.5
"""What a busy machine adds to a time that is bounded by the clock of the node only."""
ENDS_OF_A_NODE = {EventCode.NODE_LOST, EventCode.NODE_FENCED, EventCode.FENCE_ORDERED}


def show_times(cut_at: float, old: Instance, new: Instance) -> None:
    """Print what was measured."""
    print(f"cut to the old QEMU's end: {old.seen_until - cut_at:.2f} s")
    print(f"cut to the new QEMU: {new.started_at - cut_at:.2f} s")


async def test_one_network_of_a_node(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node2")
    boots = await three.boot_ids([guest])

    await three.lab.cut("node2", [Network.CLUSTER_A])
    status = await three.wait(
        "node2 badly connected", lambda seen: node_in(seen, "node2").state is NodeState.BADLY_CONNECTED, asked="node1"
    )
    assert node_in(status, "node2").heard_on == (Network.CLUSTER_B,)
    status = await three.wait(
        "a condition that names node2",
        lambda seen: any("node2" in condition.text for condition in seen.conditions),
        asked="node1",
    )
    await asyncio.sleep(BEYOND_PATIENCE_S)
    await three.wait(
        "node2 still only badly connected",
        lambda seen: node_in(seen, "node2").state is NodeState.BADLY_CONNECTED,
        asked="node1",
    )
    assert (await three.role(guest, "node1")).owner == "node2"
    await three.lab.heal("node2")
    await three.wait("everything in order", is_in_order, asked="node1")

    assert not ENDS_OF_A_NODE & set(codes(await three.events("node1"), "node2"))
    assert await three.boot_ids([guest]) == boots
    assert len(three.instances.of(guest.name)) == 1
    three.assert_ran_once_at_a_time(guest, boots=1)


async def test_all_networks_of_a_node_with_a_fence_device(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node3")
    [old] = three.instances.of(guest.name)

    cut_at = await three.lab.cut("node3")
    new = await three.wait_instance(guest, other_than=[old])
    await three.wait_boots(guest, 2)

    [old, _] = three.instances.of(guest.name)
    show_times(cut_at, old, new)
    assert old.seen_until - cut_at <= GUARD_KILLS_WITHIN_S + SCHEDULING_S
    assert new.started_at > old.seen_until
    three.assert_ran_once_at_a_time(guest, boots=2)
    assert (await three.lab.status()).node("node3").off_reason == "fenced (off)"
    happened = codes(await three.events("node1"), "node3")
    assert [one for one in since_last_suspicion(happened) if one is not EventCode.COORDINATOR_ELECTED] == [
        EventCode.NODE_SUSPECT, EventCode.NODE_LOST, EventCode.FENCE_ORDERED, EventCode.NODE_FENCED,
    ]  # fmt: skip


async def test_all_networks_of_a_node_without_a_fence_device(three: ClusterUnderTest) -> None:
    """Only the watchdog's deadline proves that the isolated node has stopped its guests. It did so long before."""
    guest = await three.start_guest(on="node3")
    [old] = three.instances.of(guest.name)
    incarnation = node_in(await three.status("node1"), "node3").incarnation

    async with three.without_fence_device("node3"):
        cut_at = await three.lab.cut("node3")
        blocked = await three.wait_blocked(guest, asked="node1", because="watchdog of node3 must have fired")
        new = await three.wait_instance(guest, other_than=[old])
    await three.wait_boots(guest, 2)

    [old, _] = three.instances.of(guest.name)
    show_times(cut_at, old, new)
    assert any("node3 has no fence device" in reason for reason in blocked.reasons)
    assert old.seen_until - cut_at <= GUARD_KILLS_WITHIN_S + SCHEDULING_S
    proof_after_ms = TIMINGS.patience_ms + TIMINGS.watchdog_proof_after_ms(
        deadline_ms=TIMINGS.guard_deadline_ms, watchdog_timeout_ms=3000
    )
    assert new.started_at - cut_at >= proof_after_ms / 1000
    three.assert_ran_once_at_a_time(guest, boots=2)
    assert (await three.lab.status()).node("node3").power is Power.ON
    assert any("(watchdog)" in reason for reason in (await three.explain(guest, "node1")).here)

    await three.lab.heal("node3")
    status = await three.wait(
        "node3 up again by itself", lambda seen: node_in(seen, "node3").state is NodeState.UP, asked="node1"
    )
    assert node_in(status, "node3").incarnation != incarnation
    assert len(three.instances.living(guest.name)) == 1
