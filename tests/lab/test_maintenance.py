"""What a person does in quiet times: evens the load of nodes, shuts one down, takes one out for good."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.lab.cluster_under_test import SHUT_OUT_S, ClusterUnderTest, eventually, node_in

from holdfast.client import requests
from holdfast.lab.layout import Network, node_address
from holdfast.lab.provision import forming
from holdfast.model.status import MoveOutcome, NodeState

pytestmark = pytest.mark.timeout(600)


async def test_balancing_moves_the_fewest_and_each_role_tells_of_its_moves(three: ClusterUnderTest) -> None:
    guests = [await three.start_guest(on="node1") for _ in range(3)]
    for guest in guests:
        choices = ("--no-preferred-owner", "--move-method", "restart")
        changed = await three.cli("node1", "role", "set", guest.name, *choices)
        assert changed.exit_code == 0, changed.errors

    planned = await three.ask("node2", requests.balance_cluster(threshold_percent=7, dry_run=True))
    assert (len(planned.moves), planned.is_within) == (2, True)
    assert {move.source for move in planned.moves} == {"node1"}
    assert {move.target for move in planned.moves} == {"node2", "node3"}
    assert {(await three.role(guest, "node1")).target for guest in guests} == {None}

    balanced = await three.cli("node2", "balance", "--threshold", "7", "--json", timeout_s=120)
    assert balanced.exit_code == 0, balanced.errors
    assert json.loads(balanced.output)["is_within"] is True
    again = await three.ask("node2", requests.balance_cluster(threshold_percent=7, dry_run=False))
    assert (again.moves, again.is_within) == ((), True)

    for move in planned.moves:
        [told] = await three.ask("node3", requests.role_history(move.role, limit=5))
        assert (told.source, told.target, told.owner) == ("node1", move.target, move.target)
        assert told.outcome is MoveOutcome.ARRIVED
        assert told.total_ms is not None
        assert 0 < told.total_ms < 120_000
    still = next(guest for guest in guests if guest.name not in {move.role for move in planned.moves})
    assert await three.ask("node3", requests.role_history(still.name, limit=5)) == ()


async def test_guests_leave_before_the_power_of_a_node_that_shuts_down_goes(three: ClusterUnderTest) -> None:
    guests = [await three.start_guest(on="node2", is_booted=False) for _ in range(2)]
    boots = await three.boot_ids(guests)

    asked = await three.cli("node2", "node", "prepare-shutdown", timeout_s=120)
    assert asked.exit_code == 0, asked.errors
    assert not [one for guest in guests for one in three.instances.living(guest.name) if one.node == "node2"]
    await three.lab.power_off("node2")

    for guest in guests:
        assert await three.wait_online(guest, asked="node1") != "node2"
    assert await three.boot_ids(guests) == boots
    await three.lab.power_on("node2")
    await three.wait(
        "node2 takes roles again",
        lambda seen: node_in(seen, "node2").state is NodeState.UP and not node_in(seen, "node2").is_draining,
        asked="node1",
    )
    for guest in guests:
        three.assert_ran_once_at_a_time(guest, boots=1)


async def test_a_node_that_was_off_when_it_was_evicted_comes_back_only_as_a_new_one(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node3", is_booted=False)
    command_node1 = ("virsh", "-c", f"qemu+tls://{node_address(Network.CLUSTER_A, 1)}/system", "list")
    assert (await three.lab.execute("node3", *command_node1, check=False)).exit_code == 0
    refused = await three.cli("node1", "node", "evict", "node3")
    assert "is still with node3" in refused.errors
    await three.lab.power_off("node3")
    await three.wait("node3 is fenced", lambda seen: node_in(seen, "node3").state is NodeState.FENCED, asked="node1")
    assert await three.wait_online(guest, asked="node1") != "node3"
    evicted = await three.cli("node1", "node", "evict", "node3", timeout_s=180)
    assert evicted.exit_code == 0, evicted.errors
    await three.wait(
        "two nodes are left", lambda seen: {node.name for node in seen.nodes} == {"node1", "node2"}, asked="node1"
    )

    processes = [one.pid for one in three.instances.of(guest.name)]
    await asyncio.sleep(SHUT_OUT_S)
    await three.lab.power_on("node3")

    async def says_why() -> bool | None:
        told = await three.cli("node3", "status")
        return True if "node forget" in told.output + told.errors else None

    await eventually("node3 says that it may have been taken out", says_why)
    commanded = await three.lab.execute("node3", *command_node1, check=False)
    assert commanded.exit_code != 0, "its certificate is worth nothing any more, to libvirt either"
    forgotten = await three.cli("node3", "node", "forget", "--yes", three.lab.layout.name)
    assert forgotten.exit_code == 0, forgotten.errors
    await forming()(three.lab, print)
    assert [one.pid for one in three.instances.of(guest.name)] == processes, (
        "neither its return nor its joining touched the guest"
    )
