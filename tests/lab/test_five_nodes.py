"""Several nodes at once: what a majority survives, and what it must not answer with force."""

from __future__ import annotations

import asyncio

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, node_in

from holdfast.lab.machine import Power
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import NodeState

pytestmark = pytest.mark.timeout(600)

CUT_S = Timings().patience_ms / 1000 + 5


async def test_both_plugs_of_the_coordinator_and_of_the_leader_of_the_database(five: ClusterUnderTest) -> None:
    coordinator = await five.coordinator()
    leader = five.others(coordinator)[0]
    await five.move_database_leader(leader)
    guests = [await five.start_guest(on=node, is_booted=False) for node in (coordinator, leader)]
    await five.boot_ids(guests)
    asked = five.others(coordinator, leader)[0]
    before = {guest.name: five.instances.of(guest.name) for guest in guests}

    plugged = await asyncio.gather(*(five.lab.power_off(node) for node in (coordinator, leader)))
    for guest in guests:
        new = await five.wait_instance(guest, other_than=before[guest.name])
        print(f"power cut to QEMU of {guest.name}: {new.started_at - plugged[0]:.2f} s")
    for guest in guests:
        assert await five.wait_online(guest, asked=asked) not in (coordinator, leader)
        await five.wait_boots(guest, 2)
        five.assert_ran_once_at_a_time(guest, boots=2)
    status = await five.status(asked)
    assert {node_in(status, node).state for node in (coordinator, leader)} == {NodeState.FENCED}


async def test_the_networks_of_three_nodes_of_five(five: ClusterUnderTest) -> None:
    """The two that still hear each other are a minority: they fence nobody, and say why nothing is decided.

    Nor does the majority when it comes back node by node: patience begins anew with it.
    """
    cut = ["node3", "node4", "node5"]
    guests = [await five.start_guest(on=node, is_booted=False) for node in ("node1", "node4")]
    await five.boot_ids(guests)

    await asyncio.gather(*(five.lab.cut(node) for node in cut))
    status = await five.wait("no quorum", lambda seen: not seen.database_answers, asked="node1")
    assert any(condition.code == "no-quorum" for condition in status.conditions)
    await asyncio.sleep(CUT_S)
    status = await five.status("node1")
    assert {node_in(status, node).state for node in cut} == {NodeState.SUSPECT}
    assert not any(five.instances.living(guest.name) for guest in guests)
    assert {node.power for node in (await five.lab.status()).nodes} == {Power.ON}
    await asyncio.gather(*(five.lab.heal(node) for node in cut))

    for guest in guests:
        await five.wait_online(guest, asked="node2")
        await five.wait_boots(guest, 2)
        five.assert_ran_once_at_a_time(guest, boots=2)
    await five.wait("all up again", lambda seen: {node.state for node in seen.nodes} == {NodeState.UP}, asked="node2")
    assert {node.power for node in (await five.lab.status()).nodes} == {Power.ON}
    happened = {line.event.code for line in await five.events("node2")}
    assert not happened & {EventCode.NODE_LOST, EventCode.FENCE_ORDERED, EventCode.NODE_FENCED}
