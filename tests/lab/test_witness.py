"""Two hosts and a witness: any one of the three may fail, and a second failure freezes decisions and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, eventually, node_in
from tests.lab.conftest import Labs, Shape
from tests.lab.test_bad_join import addresses

from holdfast.client import requests
from holdfast.client.requests import Request
from holdfast.lab.layout import SHARED_MOUNT
from holdfast.model.errors import Refused, Unavailable
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import NodeState

pytestmark = pytest.mark.timeout(600)

FIRST, SECOND, THIRD, WITNESS = "node1", "node2", "node3", "attic"
THIRD_MACHINE = Shape(name="witness", nodes=3, is_formed=False)
CUT_S = Timings().patience_ms / 1000 + 2
RUN = "setsid holdfast witness run >/var/log/holdfast/witness.log 2>&1 </dev/null &"

A = TypeVar("A")


@pytest.fixture
async def two(labs: Labs) -> AsyncGenerator[ClusterUnderTest, None]:
    """Two hosts with fence devices, and a third machine that is their witness."""
    cluster = ClusterUnderTest(await labs.get(THIRD_MACHINE))
    create = requests.create_cluster(
        cluster="two", node=FIRST, addresses=addresses(1), shared_directories=(str(SHARED_MOUNT),)
    )
    await patiently(cluster, FIRST, create)
    token = (await patiently(cluster, FIRST, requests.create_token())).token
    await patiently(cluster, SECOND, requests.join_node(token=token, node=SECOND, addresses=addresses(2)))
    for host in (FIRST, SECOND):
        device = {"agent": "fence_holdfast_lab", "options": {"plug": host}}
        await cluster.ask(FIRST, requests.set_node(host, {"fence": device}))
    await cluster.lab.service_stop(THIRD, "holdfastd")
    token = (await cluster.ask(FIRST, requests.create_token())).token
    joined = await cluster.cli(THIRD, "witness", "join", token, "--name", WITNESS)
    assert joined.exit_code == 0, joined.errors
    await cluster.lab.execute(THIRD, "sh", "-c", RUN)
    yield cluster
    await labs.close()


async def patiently(cluster: ClusterUnderTest, node: str, request: Request[A]) -> A:
    """Ask a daemon that may still be starting."""

    async def answer() -> A | None:
        try:
            return await cluster.ask(node, request)
        except Unavailable:
            return None

    return await eventually(f"{node} answers {request.method}", answer)


async def all_vote(cluster: ClusterUnderTest, asked: str) -> None:
    """Wait until all three vote and are up."""
    await cluster.wait("three voters", lambda seen: (seen.voters, seen.voters_up) == (3, 3), asked=asked)


async def stay_whole_while_hosts_are_cut_from_each_other(two: ClusterUnderTest) -> None:
    """Both still hear the witness, which hears both: for longer than any patience nobody is lost and nothing stops."""
    for do in ("add", "del"):
        for host, number in ((FIRST, 2), (SECOND, 1)):
            for ip in addresses(number).values():
                await two.lab.execute(host, "ip", "route", do, "blackhole", f"{ip}/32")
        if do == "add":
            await asyncio.sleep(CUT_S)
            for host, other in ((FIRST, SECOND), (SECOND, FIRST)):
                status = await two.status(host)
                assert status.database_answers
                assert node_in(status, other).state is NodeState.BADLY_CONNECTED
    happened = {line.event.code for line in await two.events(FIRST)}
    assert not happened & {EventCode.NODE_LOST, EventCode.FENCE_ORDERED}
    await all_vote(two, FIRST)


async def test_any_one_of_two_hosts_and_a_witness_may_fail(two: ClusterUnderTest) -> None:
    await all_vote(two, FIRST)
    told = await two.cli(FIRST, "quorum", "show")
    assert "Any one of attic, node1, node2 may fail now" in told.output

    await two.lab.cut(THIRD)
    status = await two.wait("the witness missed", lambda seen: seen.voters_up == 2, asked=FIRST)
    assert status.database_answers
    assert "because attic is down" in (await two.cli(FIRST, "quorum", "show")).output
    await two.lab.heal(THIRD)
    await all_vote(two, FIRST)

    guest = await two.start_guest(on=FIRST, is_booted=False)
    await two.move_database_leader(FIRST)
    before = two.instances.of(guest.name)
    await stay_whole_while_hosts_are_cut_from_each_other(two)
    assert two.instances.of(guest.name) == before
    plugged_at = await two.lab.power_off(FIRST)
    instance = await two.wait_instance(guest, other_than=before)
    print(f"plug of the host that leads the database to QEMU: {instance.started_at - plugged_at:.2f} s")
    assert await two.wait_online(guest, asked=SECOND) == SECOND

    await two.lab.cut(THIRD)
    status = await two.wait("no quorum", lambda seen: not seen.database_answers, asked=SECOND)
    refused = await two.cli(SECOND, "cluster", "set", "moves_at_once", "3")
    assert "no majority of voters" in refused.errors
    await two.lab.heal(THIRD)
    status = await two.wait("quorum again", lambda seen: seen.database_answers, asked=SECOND)
    assert node_in(status, FIRST).state is NodeState.FENCED


async def test_a_host_and_a_witness_leave_and_nothing_pauses(two: ClusterUnderTest) -> None:
    await all_vote(two, FIRST)
    guest = await two.start_guest(on=SECOND, is_booted=False)
    before = two.instances.of(guest.name)
    await patiently(two, FIRST, requests.rotate_key())
    renewed = await patiently(two, SECOND, requests.renew_certificates(None))
    assert [one.node for one in renewed] == [WITNESS, FIRST, SECOND]
    with pytest.raises(Refused, match="is still with node2"):
        await patiently(two, FIRST, requests.leave_cluster(SECOND))

    await patiently(two, FIRST, requests.leave_cluster(WITNESS))
    left = await two.cli(FIRST, "node", "leave")
    assert left.exit_code == 0, left.errors
    status = await two.wait("one node left", lambda seen: len(seen.nodes) == 1, asked=SECOND)
    assert (status.voters, status.database_answers, node_in(status, SECOND).is_voter) == (1, True, True)
    assert two.instances.of(guest.name) == before, "the guest did not notice"
    assert await two.wait_online(guest, asked=SECOND) == SECOND
    happened = {line.event.code for line in await two.events(SECOND)}
    assert not happened & {EventCode.NODE_LOST, EventCode.FENCE_ORDERED}
    assert "not in a cluster" in (await two.cli(FIRST, "status")).errors
    told = await two.lab.execute(FIRST, "ls", "/var/lib/holdfast")
    assert "identity.json" not in told.output
    token = (await two.ask(SECOND, requests.create_token())).token
    await patiently(two, FIRST, requests.join_node(token=token, node=FIRST, addresses=addresses(1)))
    await two.wait("two nodes again", lambda seen: len(seen.nodes) == 2, asked=SECOND)
