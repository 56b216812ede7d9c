"""A person evens the load of nodes and asks afterwards what became of a role."""

from __future__ import annotations

import json

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, node_in

from holdfast.client import requests
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
