"""The plug of a node is pulled: its guests run again elsewhere, once."""

from __future__ import annotations

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, codes, node_in, since_last_suspicion

from holdfast.model.events import EventCode
from holdfast.model.status import NodeState

pytestmark = pytest.mark.timeout(600)


async def pull_plug_of(cluster: ClusterUnderTest, victim: str) -> None:
    """Pull the plug of a node that owns a guest; see the guest run elsewhere, and the cluster say why and how."""
    guest = await cluster.start_guest(on=victim)
    asked = cluster.others(victim)[0]
    before = cluster.instances.of(guest.name)

    plugged_at = await cluster.lab.power_off(victim)
    instance = await cluster.wait_instance(guest, other_than=before)
    owner = await cluster.wait_online(guest, asked=asked)
    await cluster.wait_boots(guest, 2)

    print(f"power cut to QEMU: {instance.started_at - plugged_at:.2f} s")
    assert owner == instance.node != victim
    cluster.assert_ran_once_at_a_time(guest, boots=2)
    status = await cluster.status(asked)
    assert node_in(status, victim).state is NodeState.FENCED
    assert "reports " + victim + " as off" in " ".join(node_in(status, victim).reasons)
    assert any("proven unable to touch storage" in why for why in (await cluster.explain(guest, asked)).here)
    happened = await cluster.events(asked)
    of_victim = [one for one in codes(happened, victim) if one is not EventCode.COORDINATOR_ELECTED]
    assert since_last_suspicion(of_victim) == [EventCode.NODE_SUSPECT, EventCode.NODE_LOST, EventCode.NODE_FENCED]
    assert codes(happened, guest.name)[-3:] == [
        EventCode.ROLE_ASSIGNED, EventCode.ROLE_STARTING, EventCode.ROLE_ONLINE,
    ]  # fmt: skip


async def test_a_plain_node_which_then_comes_back(three: ClusterUnderTest) -> None:
    coordinator = await three.coordinator()
    await three.move_database_leader(coordinator)
    victim = three.others(coordinator)[-1]
    before = node_in(await three.status(coordinator), victim).incarnation
    await pull_plug_of(three, victim)
    roles = (await three.status(coordinator)).roles

    await three.lab.power_on(victim)
    status = await three.wait(
        "the node up again", lambda seen: node_in(seen, victim).state is NodeState.UP, asked=coordinator
    )
    assert node_in(status, victim).incarnation != before
    assert [(role.owner, role.epoch) for role in status.roles] == [(role.owner, role.epoch) for role in roles]
    assert len(three.instances.living(roles[0].name)) == 1


async def test_the_leader_of_the_database(three: ClusterUnderTest) -> None:
    victim = three.others(await three.coordinator())[0]
    await three.move_database_leader(victim)
    await pull_plug_of(three, victim)


async def test_the_coordinator(three: ClusterUnderTest) -> None:
    victim = await three.coordinator()
    await three.move_database_leader(three.others(victim)[0])
    await pull_plug_of(three, victim)


async def test_the_coordinator_that_also_leads_the_database(three: ClusterUnderTest) -> None:
    victim = await three.coordinator()
    await three.move_database_leader(victim)
    await pull_plug_of(three, victim)
