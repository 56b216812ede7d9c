"""Networks and times of a running cluster change under a guest: nobody becomes suspect, and the new ones count."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

import pytest
from tests.lab.cluster_under_test import BOOT_S, ClusterUnderTest, codes, eventually, is_in_order, node_in

from holdfast.client import requests
from holdfast.lab.database import LabDatabase
from holdfast.lab.layout import Network, node_address, node_number
from holdfast.lab.machine import Power
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import ClusterStatus, NodeState

pytestmark = pytest.mark.timeout(900)

SHORTER = {"timings.guard_deadline_ms": 2000, "timings.patience_ms": 3000}
USUAL = {"timings.guard_deadline_ms": Timings().guard_deadline_ms, "timings.patience_ms": Timings().patience_ms}
WATCHDOG_MS = 3000
IN_FORCE_S = 60.0


def proof_s(times: Mapping[str, int]) -> float:
    """How long without a fence device a failover takes at least: patience, then the watchdog's arithmetic."""
    patience_ms, deadline_ms = times["timings.patience_ms"], times["timings.guard_deadline_ms"]
    proof_ms = Timings().watchdog_proof_after_ms(deadline_ms=deadline_ms, watchdog_timeout_ms=WATCHDOG_MS)
    return (patience_ms + proof_ms) / 1000


def hears_all_on(asked: str, networks: Collection[Network]) -> Callable[[ClusterStatus], bool]:
    """Whether a node hears all others on exactly these networks."""
    wanted = {str(network) for network in networks}
    return lambda seen: all(set(node.heard_on) == wanted for node in seen.nodes if node.name != asked)


async def change_networks(cluster: ClusterUnderTest, *, new: Network, gone: Network) -> None:
    """Give every node an address on one network, then take that on another away, each on the node itself."""
    before = {Network(name) for name in node_in(await cluster.status("node1"), "node1").addresses}
    for node in cluster.nodes:
        address = f"{new}={node_address(new, node_number(node))}"
        ended = await cluster.cli(node, "node", "set", node, "--address", address)
        assert ended.exit_code == 0, ended.errors
        assert f"{node}: heartbeats on" in ended.output
        assert str(new) in ended.output.partition("(was:")[0]
    for asked in cluster.nodes:
        await cluster.wait(
            f"{asked} hears all on the new network, too",
            hears_all_on(asked, {*before, new}),
            asked=asked,
        )
    for node in cluster.nodes:
        ended = await cluster.cli(node, "node", "set", node, "--no-address", gone)
        assert ended.exit_code == 0, ended.errors
    for asked in cluster.nodes:
        await cluster.wait(
            f"{asked} hears all on what is left",
            hears_all_on(asked, {*before, new} - {gone}),
            asked=asked,
        )


async def set_times(cluster: ClusterUnderTest, times: Mapping[str, int]) -> None:
    """Change times, and wait until every node uses the new ones alone."""
    await cluster.ask("node1", requests.change_settings(times))

    async def is_in_force() -> bool | None:
        page = await cluster.ask("node1", requests.show_settings())
        return None if page.is_changing else True

    await eventually("the new times are used everywhere", is_in_force, timeout_s=IN_FORCE_S)


async def called_on(cluster: ClusterUnderTest, *networks: Network) -> None:
    """Wait until the members of the database call each other on exactly these networks."""
    wanted = {node: {node_address(network, node_number(node)) for network in networks} for node in cluster.nodes}

    async def are_called() -> bool | None:
        return True if await LabDatabase(lab=cluster.lab, asked="node1").called_at() == wanted else None

    await eventually(f"members are called on {networks}", are_called, timeout_s=BOOT_S)


@asynccontextmanager
async def put_back(cluster: ClusterUnderTest) -> AsyncGenerator[None, None]:
    """Give the cluster its networks and times back for the tests that follow."""
    try:
        yield
    finally:
        for machine in (await cluster.lab.status()).nodes:
            if machine.power is Power.OFF:
                await cluster.lab.power_on(machine.name)
        await cluster.wait(
            "every node up", lambda seen: {node.state for node in seen.nodes} == {NodeState.UP}, asked="node1"
        )
        await set_times(cluster, USUAL)
        if Network.STORAGE in node_in(await cluster.status("node1"), "node1").addresses:
            await change_networks(cluster, new=Network.CLUSTER_A, gone=Network.STORAGE)
            await cluster.lab.power_off("node2")
            await cluster.lab.power_on("node2")
            await called_on(cluster, Network.CLUSTER_A, Network.CLUSTER_B)


async def test_a_network_is_added_another_removed_and_times_are_shortened_under_a_guest(
    three: ClusterUnderTest,
) -> None:
    guest = await three.start_guest(on="node2")
    boots = await three.boot_ids([guest])
    [old] = three.instances.of(guest.name)
    async with put_back(three):
        await change_networks(three, new=Network.STORAGE, gone=Network.CLUSTER_A)
        await called_on(three, Network.CLUSTER_B)
        await set_times(three, SHORTER)
        status = await three.wait("everything in order", is_in_order, asked="node1")
        assert {node.state for node in status.nodes} == {NodeState.UP}
        assert set(node_in(status, "node2").addresses) == {Network.CLUSTER_B, Network.STORAGE}
        suspected = [node for node in three.nodes if EventCode.NODE_SUSPECT in codes(await three.events("node1"), node)]
        assert suspected == []
        assert await three.boot_ids([guest]) == boots
        assert len(three.instances.of(guest.name)) == 1

        async with three.without_fence_device("node2"):
            pulled_at = await three.lab.power_off("node2")
            new = await three.wait_instance(guest, other_than=[old])
        print(f"plug pulled to the new QEMU: {new.started_at - pulled_at:.2f} s")
        assert proof_s(SHORTER) - 1 <= new.started_at - pulled_at < proof_s(USUAL)
        await three.wait_boots(guest, 2)
        three.assert_ran_once_at_a_time(guest, boots=2)

        await three.lab.power_on("node2")
        await three.wait(
            "node2 up again, on the networks that it was left with",
            lambda seen: (
                node_in(seen, "node2").state is NodeState.UP
                and set(node_in(seen, "node2").heard_on) == {Network.CLUSTER_B, Network.STORAGE}
            ),
            asked="node1",
            timeout_s=BOOT_S,
        )
        places = {node_address(network, 2) for network in (Network.CLUSTER_B, Network.STORAGE)}

        async def is_called() -> bool | None:
            called = (await LabDatabase(lab=three.lab, asked="node1").called_at())["node2"]
            return True if called == places else None

        await eventually("the restarted member is called on the new network, too", is_called)
        await three.wait("three voters", lambda seen: (seen.voters, seen.voters_up) == (3, 3), asked="node1")


async def exchange_networks(
    cluster: ClusterUnderTest, *, new: Collection[Network], gone: Collection[Network], said: str
) -> None:
    """Give every node its new addresses, have each member listen there, then take all the old ones away."""
    for node in cluster.nodes:
        given = (f"--address={network}={node_address(network, node_number(node))}" for network in new)
        ended = await cluster.cli(node, "node", "set", node, *given)
        assert ended.exit_code == 0, ended.errors
    for asked in cluster.nodes:
        await cluster.wait(f"{asked} hears all everywhere", hears_all_on(asked, {*new, *gone}), asked=asked)
    for node in cluster.nodes:
        ended = await cluster.cli(node, "quorum", "restart", node)
        assert ended.exit_code == 0, ended.errors
        assert f"the member of the cluster database on {node} {said}" in ended.output
        await cluster.wait("three voters", lambda seen: (seen.voters, seen.voters_up) == (3, 3), asked=node)
    for node in cluster.nodes:
        ended = await cluster.cli(node, "node", "set", node, *(f"--no-address={network}" for network in gone))
        assert ended.exit_code == 0, ended.errors
    for asked in cluster.nodes:
        await cluster.wait(f"{asked} hears all on the new ones alone", hears_all_on(asked, new), asked=asked)
    await called_on(cluster, *new)


async def test_every_network_is_exchanged_under_a_guest_without_a_restart_of_any_machine(
    three: ClusterUnderTest,
) -> None:
    guest = await three.start_guest(on="node2")
    boots = await three.boot_ids([guest])
    usual = (Network.CLUSTER_A, Network.CLUSTER_B)
    await exchange_networks(three, new=(Network.STORAGE,), gone=usual, said="started again, and listens at")
    try:
        status = await three.wait("everything in order", is_in_order, asked="node1")
        assert {node.state for node in status.nodes} == {NodeState.UP}
    finally:
        await exchange_networks(three, new=usual, gone=(Network.STORAGE,), said="listens already at")
    suspected = [node for node in three.nodes if EventCode.NODE_SUSPECT in codes(await three.events("node1"), node)]
    assert suspected == []
    assert await three.boot_ids([guest]) == boots
    assert len(three.instances.of(guest.name)) == 1
