"""etcd stands still on every node for a minute: decisions wait, guests run on, and everything recovers by itself."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, codes, is_in_order, role_in

from holdfast.client import requests
from holdfast.model.errors import Unavailable
from holdfast.model.events import EventCode

pytestmark = pytest.mark.timeout(600)

STOPPED_S = 60.0
FAILS_WITHIN_S = 5.0


async def signal_database(cluster: ClusterUnderTest, name: str) -> None:
    """Send a signal to the member of the database on every node."""
    for node in cluster.nodes:
        told = await cluster.lab.execute(node, "cat", "/run/holdfast/etcd.process")
        await cluster.lab.execute(node, "kill", f"-{name}", str(json.loads(told.output)["pid"]))


async def test_no_guest_stops(three: ClusterUnderTest) -> None:
    guests = [await three.start_guest(on=node) for node in ("node1", "node3")]
    boots = await three.boot_ids(guests)

    await signal_database(three, "STOP")
    stopped_at = time.monotonic()
    try:
        status = await three.wait("no quorum", lambda seen: not seen.database_answers, asked="node2")
        assert any(condition.code == "no-quorum" for condition in status.conditions)
        await a_decision_fails_at_once(three, guests[0].name)
        await asyncio.sleep(max(0.0, stopped_at + STOPPED_S - time.monotonic()))
        assert await three.boot_ids(guests) == boots
    finally:
        await signal_database(three, "CONT")

    status = await three.wait(
        "everything in order again",
        lambda seen: is_in_order(seen) and seen.voters_up == len(three.nodes),
        asked="node2",
    )
    assert [role_in(status, guest).owner for guest in guests] == ["node1", "node3"]
    for guest in guests:
        await three.wait_online(guest, asked="node2")
        assert len(three.instances.of(guest.name)) == 1
        three.assert_ran_once_at_a_time(guest, boots=1)
    assert await three.boot_ids(guests) == boots
    happened = await three.events("node2")
    assert not [line.text for line in happened if line.event.code is EventCode.NODE_LOST]
    assert EventCode.ROLE_STOPPING not in codes(happened, guests[0].name)


async def a_decision_fails_at_once(cluster: ClusterUnderTest, role: str) -> None:
    """Ask for decisions, by the client and by the command line: nothing is sent that might be done later."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no majority of voters") as caught:
        await cluster.ask("node2", requests.stop_vm(role, wait=False))
    print(f"refused after {time.monotonic() - began:.1f} s: {caught.value.message}")
    assert time.monotonic() - began < FAILS_WITHIN_S
    assert caught.value.code == "unavailable"
    for command in (("vm", "stop", role), ("token", "create"), ("node", "pause", "node1")):
        finished = await cluster.cli("node2", *command)
        assert finished.exit_code == 4, finished.errors
        assert "nothing was done" in finished.errors
        assert "\nnext: guests run on" in finished.errors
