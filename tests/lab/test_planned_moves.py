"""A person has guests elsewhere: one is moved, a node is emptied and filled again, a frozen cluster starts nothing."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, codes, node_in, role_in

from holdfast.client import requests
from holdfast.lab.provision import MEMORY_PER_NODE
from holdfast.model.events import EventCode
from holdfast.model.status import NodeState, RoleState

pytestmark = pytest.mark.timeout(600)


async def test_a_guest_is_moved_by_restart(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node2")

    moved = await three.cli("node1", "role", "move", guest.name, "--to", "node3", "--method", "restart")
    assert moved.exit_code == 0, moved.errors
    await three.wait_online(guest, asked="node1", on="node3")
    await three.wait_boots(guest, 2)

    role = await three.role(guest, "node1")
    assert (role.owner, role.epoch, role.target) == ("node3", 2, None)
    assert [one.node for one in three.instances.of(guest.name)] == ["node2", "node3"]
    three.assert_ran_once_at_a_time(guest, boots=2)
    happened = codes(await three.events("node1"), guest.name)
    assert happened[happened.index(EventCode.ROLE_MOVING) :] == [
        EventCode.ROLE_MOVING, EventCode.ROLE_STOPPING, EventCode.ROLE_OFFLINE,
        EventCode.ROLE_ASSIGNED, EventCode.ROLE_STARTING, EventCode.ROLE_ONLINE,
    ]  # fmt: skip


async def test_a_node_is_drained_and_filled_again(three: ClusterUnderTest) -> None:
    guests = [await three.start_guest(on="node2") for _ in range(2)]
    names = {guest.name for guest in guests}

    planned = await three.ask("node1", requests.drain_node("node2", dry_run=True, wait=False))
    assert (planned.is_dry_run, set(planned.moves), planned.staying) == (True, names, {})
    assert set(planned.moves.values()) <= {"node1", "node3"}
    assert {(await three.role(guest, "node1")).target for guest in guests} == {None}

    drained = await three.cli("node1", "node", "drain", "node2", "--method", "restart", "--wait", timeout_s=120)
    assert drained.exit_code == 0, drained.errors
    status = await three.status("node1")
    assert (node_in(status, "node2").is_draining, node_in(status, "node2").roles) == (True, ())
    for guest in guests:
        assert await three.wait_online(guest, asked="node1") != "node2"
        await three.wait_boots(guest, 2)
    assert not [one for guest in guests for one in three.instances.living(guest.name) if one.node == "node2"]

    resumed = await three.cli("node1", "node", "resume", "node2", "--failback", "now")
    assert resumed.exit_code == 0, resumed.errors
    for guest in guests:
        await three.wait_online(guest, asked="node1", on="node2")
        await guest.wait_answer()
        three.assert_ran_once_at_a_time(guest)


async def test_of_two_people_who_drain_two_nodes_at_once_the_second_is_refused(three: ClusterUnderTest) -> None:
    guests = [await three.start_guest(on=node, is_booted=False) for node in ("node2", "node3")]
    one_guest = 128 * 2**20
    await three.ask("node1", requests.set_node("node1", {"memory_bytes": one_guest}))
    try:
        order = ("node", "drain", "--method", "restart", "--wait")
        drains = await asyncio.gather(*(three.cli(node, *order, node) for node in ("node2", "node3")))
        [refused] = [told for told in drains if told.exit_code != 0]
        assert "would find no room" in refused.errors
        assert "they all want 256 MiB" in refused.errors
        assert "--force" in refused.errors
        status = await three.wait(
            "both guests are online",
            lambda seen: {one.state for one in seen.roles} == {RoleState.ONLINE},
            asked="node1",
        )
        assert sum(node.is_draining for node in status.nodes) == 1
    finally:
        await three.ask("node1", requests.set_node("node1", {"memory_bytes": MEMORY_PER_NODE}))
    for guest in guests:
        three.assert_ran_once_at_a_time(guest)


async def test_a_frozen_cluster_starts_nothing(three: ClusterUnderTest) -> None:
    killed, orphaned = await three.start_guest(on="node2"), await three.start_guest(on="node3")
    frozen = await three.cli("node1", "cluster", "freeze", "--reason", "work on the switches")
    assert frozen.exit_code == 0, frozen.errors

    [process] = three.instances.of(killed.name)
    os.kill(process.pid, signal.SIGKILL)
    await three.lab.power_off("node3")
    await three.wait_blocked(killed, asked="node1", because="frozen")
    await three.wait(
        "node3 fenced", lambda seen: node_in(seen, "node3").state is NodeState.FENCED, asked="node1", timeout_s=60
    )
    await three.wait_blocked(orphaned, asked="node1", because="frozen")
    assert [len(three.instances.of(guest.name)) for guest in (killed, orphaned)] == [1, 1]

    unfrozen = await three.cli("node1", "cluster", "unfreeze")
    assert unfrozen.exit_code == 0, unfrozen.errors
    for guest in (killed, orphaned):
        assert await three.wait_online(guest, asked="node1") != "node3"
        await three.wait_boots(guest, 2)
        three.assert_ran_once_at_a_time(guest, boots=2)
    assert role_in(await three.status("node1"), orphaned).epoch == 2
