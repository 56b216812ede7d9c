"""Two hosts and a witness: any one of the three may fail, and a second failure freezes decisions until one is back."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TypeVar

import pytest
from tests.lab.cluster_under_test import SHUT_OUT_S, ClusterUnderTest, eventually, node_in
from tests.lab.test_bad_join import addresses

from holdfast.client import requests
from holdfast.client.requests import Request
from holdfast.lab.errors import LabBroken
from holdfast.lab.layout import WITNESS
from holdfast.lab.machine import Power
from holdfast.lab.provision import join, join_witness
from holdfast.model.errors import Refused, Unavailable
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import ClusterStatus, NodeState, RoleState
from holdfast.node.residence import is_virtual_machine

pytestmark = pytest.mark.timeout(600)

FIRST, SECOND = "node1", "node2"
TIMINGS = Timings()
FEED = "power:A"
STANDS_STILL_S = 4.0
CUT_S = TIMINGS.patience_ms / 1000 + 2
GUARD_KILLS_WITHIN_S = (TIMINGS.guard_deadline_ms + TIMINGS.guard_kill_ms) / 1000
SCHEDULING_S = 1.5
"""What a busy machine adds to a time that is bounded by the clock of the node only."""
REFUSED_WITHIN_S = 5.0
HARM = {EventCode.NODE_LOST, EventCode.FENCE_ORDERED}

A = TypeVar("A")


async def patiently(cluster: ClusterUnderTest, node: str, request: Request[A]) -> A:
    """Ask a daemon that may still be starting."""

    async def answer() -> A | None:
        try:
            return await cluster.ask(node, request)
        except Unavailable:
            return None

    return await eventually(f"{node} answers", answer)


async def route(cluster: ClusterUnderTest, host: str, do: str, number: int) -> None:
    """Have a machine drop what it would send to another one on both networks, or (`del`) send it again."""
    for ip in addresses(number).values():
        await cluster.lab.execute(host, "ip", "route", do, "blackhole", f"{ip}/32")


async def assert_nothing_happened(cluster: ClusterUnderTest, asked: str) -> None:
    """Fail if anybody was lost or ordered off in this test."""
    assert not HARM & {line.event.code for line in await cluster.events(asked)}


async def test_whom_one_voter_cannot_hear_is_heard_through_the_other(two: ClusterUnderTest) -> None:
    """The witness is cut from one host, and the hosts from each other, each for longer than any patience."""
    guests = [await two.start_guest(on=host, is_booted=False) for host in (FIRST, SECOND)]
    before = two.processes(*guests)
    numbers = {FIRST: 1, SECOND: 2, WITNESS: 102}
    for one, other in ((FIRST, WITNESS), (FIRST, SECOND)):
        for do in ("add", "del"):
            await route(two, one, do, numbers[other])
            await route(two, other, do, numbers[one])
            if do == "add":
                await asyncio.sleep(CUT_S)
                seen = node_in(await two.status(one), other)
                assert seen.state is NodeState.BADLY_CONNECTED
                for host in (FIRST, SECOND):
                    assert (await two.status(host)).database_answers
        await two.wait_votes(3)
    assert two.processes(*guests) == before
    await assert_nothing_happened(two, FIRST)


async def test_the_plug_of_the_host_that_leads_the_database(two: ClusterUnderTest) -> None:
    told = await two.cli(FIRST, "quorum", "show")
    assert "Any one of node1, node2, witness1 may fail now" in told.output
    guest = await two.start_guest(on=FIRST, is_booted=False)
    await two.move_database_leader(FIRST)
    before = two.instances.of(guest.name)
    plugged_at = await two.lab.power_off(FIRST)
    instance = await two.wait_instance(guest, other_than=before)
    print(f"plug of the host that leads the database to QEMU: {instance.started_at - plugged_at:.2f} s")
    assert await two.wait_online(guest, asked=SECOND) == SECOND
    assert node_in(await two.status(SECOND), FIRST).state is NodeState.FENCED


async def test_the_plug_of_the_witness_and_then_of_a_host(two: ClusterUnderTest) -> None:
    """Without the witness all goes on; without a host as well nothing is decided until the witness is back."""
    staying, moving = [await two.start_guest(on=host, is_booted=False) for host in (FIRST, SECOND)]
    before = two.processes(staying)
    await two.lab.power_off(WITNESS)
    status = await two.wait("the witness missed", lambda seen: seen.voters_up == 2, asked=FIRST)
    assert status.database_answers
    assert f"because {WITNESS} is down" in (await two.cli(FIRST, "quorum", "show")).output
    await two.ask(FIRST, requests.set_cluster("moves_at_once", 3))
    assert two.processes(staying) == before

    plugged_at = await two.lab.power_off(SECOND)
    await two.wait("no quorum", lambda seen: not seen.database_answers, asked=FIRST)
    await alone_nothing_is_decided(two, staying.name)
    [old] = two.instances.of(staying.name)
    print(f"plug of the second voter to the end of the guest on the third: {old.seen_until - plugged_at:.2f} s")
    assert old.seen_until - plugged_at <= GUARD_KILLS_WITHIN_S + SCHEDULING_S

    await two.lab.power_on(WITNESS)
    await two.wait("quorum again", lambda seen: seen.database_answers, asked=FIRST)
    for guest in (staying, moving):
        assert await two.wait_online(guest, asked=FIRST) == FIRST
        two.assert_ran_once_at_a_time(guest)
    assert node_in(await two.status(FIRST), SECOND).state is NodeState.FENCED
    assert (await two.lab.status()).node(SECOND).off_reason == "its plug was pulled"


async def alone_nothing_is_decided(two: ClusterUnderTest, role: str) -> None:
    """The only voter left shows what is missing, refuses decisions at once, and gives its guests up in time."""
    began = time.monotonic()
    refused = await two.cli(FIRST, "cluster", "set", "moves_at_once", "4")
    assert refused.exit_code == 4
    assert "no majority of voters" in refused.errors
    assert time.monotonic() - began < REFUSED_WITHIN_S
    await eventually(f"no QEMU of {role}", lambda: none_lives(two, role))
    status = await two.wait("both missed", lambda seen: seen.voters_up == 1, asked=FIRST)
    assert "no-quorum" in {condition.code for condition in status.conditions}
    assert {found.state for found in status.roles} == {RoleState.UNKNOWN}
    assert all("1 of 3 voters are up" in " ".join(found.reasons) for found in status.roles)
    told = await two.cli(FIRST, "quorum", "show")
    assert "There is no quorum: 1 of 3 voters are up, 2 are needed" in told.output
    assert f"{SECOND}, {WITNESS}" in told.output


async def none_lives(two: ClusterUnderTest, role: str) -> bool | None:
    """Whether no process of a guest lives."""
    return True if not two.instances.living(role) else None


async def test_a_witness_that_was_evicted_while_it_was_off_forgets_and_joins_anew(two: ClusterUnderTest) -> None:
    await two.lab.power_off(WITNESS)
    await two.wait("the witness down", lambda seen: node_in(seen, WITNESS).state is NodeState.DOWN, asked=FIRST)
    evicted = await two.cli(FIRST, "node", "evict", WITNESS)
    assert evicted.exit_code == 0, evicted.errors
    await two.wait("one vote", lambda seen: seen.voters == 1, asked=FIRST)
    await asyncio.sleep(SHUT_OUT_S)
    await two.lab.power_on(WITNESS)
    cluster = two.lab.layout.name
    with pytest.raises(LabBroken, match="witness of that cluster already"):
        await join_witness(two.lab, asked=FIRST)
    forgotten = await two.lab.execute(WITNESS, "holdfast", "witness", "forget", cluster, stdin=f"{cluster}\n")
    assert f"not witness {WITNESS} of cluster {cluster} any more" in forgotten.output
    await join_witness(two.lab, "--fault-domain", FEED, asked=FIRST)
    await two.wait_votes(3)
    await a_shared_feed_is_warned_of(two)
    wrong = await two.lab.execute(WITNESS, "holdfast", "witness", "forget", cluster, "--yes", check=False)
    assert "still has this machine as its witness" in wrong.errors
    assert (await two.lab.status()).node(WITNESS).power is Power.ON
    await two.wait_votes(3)


async def test_a_witness_that_stood_still_while_it_was_removed_learns_of_it(two: ClusterUnderTest) -> None:
    await two.lab.freeze(WITNESS)
    await two.ask(FIRST, requests.leave_cluster(WITNESS))
    await two.wait("it is out", lambda seen: WITNESS not in {node.name for node in seen.nodes}, asked=FIRST)
    await asyncio.sleep(STANDS_STILL_S)
    await two.lab.thaw(WITNESS)

    async def is_forgotten() -> bool | None:
        told = await two.lab.execute(WITNESS, "holdfast", "witness", "list", "--json")
        return True if json.loads(told.output) == [] else None

    await eventually("the witness forgets the cluster", is_forgotten)
    await join_witness(two.lab, asked=FIRST)
    await two.wait_votes(3)


async def a_shared_feed_is_warned_of(two: ClusterUnderTest) -> None:
    """The witness was declared as it joined, and a host has the same feed now, until the witness is moved."""
    takes = f"{FEED} takes {FIRST}, {WITNESS}, and with them the majority."
    assert not is_warned(await two.status(FIRST))
    shared = await two.cli(FIRST, "node", "set", FIRST, "--fault-domain", FEED)
    assert shared.exit_code == 0, shared.errors
    await two.wait("the warning", is_warned, asked=SECOND)
    assert takes in (await two.cli(SECOND, "quorum", "show")).output
    moved = await two.cli(FIRST, "node", "set", WITNESS, "--no-fault-domain", FEED)
    assert moved.exit_code == 0, moved.errors
    await two.wait("no warning", lambda seen: not is_warned(seen), asked=SECOND)
    assert takes not in (await two.cli(SECOND, "quorum", "show")).output
    await two.ask(FIRST, requests.set_node(FIRST, {"fault_domains": {FEED: False}}))


def is_warned(status: ClusterStatus) -> bool:
    """Whether the witness is said to share something with a host."""
    found = {(condition.code, condition.subject) for condition in status.conditions}
    return ("witness-shares-fault-domain", WITNESS) in found


async def test_a_host_and_a_witness_leave_and_nothing_pauses(two: ClusterUnderTest) -> None:
    guest = await two.start_guest(on=SECOND, is_booted=False)
    before = two.processes(guest)
    await patiently(two, FIRST, requests.rotate_key())
    renewed = await patiently(two, SECOND, requests.renew_certificates(None))
    assert [one.node for one in renewed] == [FIRST, SECOND, WITNESS]
    with pytest.raises(Refused, match="is still with node2"):
        await patiently(two, FIRST, requests.leave_cluster(SECOND))

    await patiently(two, FIRST, requests.leave_cluster(WITNESS))
    left = await two.cli(FIRST, "node", "leave")
    assert left.exit_code == 0, left.errors
    status = await two.wait("one node left", lambda seen: len(seen.nodes) == 1, asked=SECOND)
    assert (status.voters, status.database_answers, node_in(status, SECOND).is_voter) == (1, True, True)
    assert two.processes(guest) == before, "the guest did not notice"
    assert await two.wait_online(guest, asked=SECOND) == SECOND
    await assert_nothing_happened(two, SECOND)

    async def has_forgotten() -> bool | None:
        return True if "not in a cluster" in (await two.cli(FIRST, "status")).errors else None

    await eventually("node1 forgets the cluster", has_forgotten)
    told = await two.lab.execute(FIRST, "ls", "/var/lib/holdfast")
    assert "identity.json" not in told.output
    await join(two.lab, FIRST, asked=SECOND)
    joined = await join_witness(two.lab, asked=SECOND)
    assert ("this machine is a virtual machine" in joined.errors) is is_virtual_machine()
    device = {"agent": "fence_holdfast_lab", "options": {"plug": FIRST}}
    await two.ask(SECOND, requests.set_node(FIRST, {"fence": device}))
    await two.wait_votes(3, asked=SECOND)
