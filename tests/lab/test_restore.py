"""Going on from a backup, or with one node's data: old nodes are told and come back; no guest ever runs twice."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from functools import partial

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, eventually
from tests.lab.conftest import Labs, Shape
from tests.lab.test_bad_join import addresses

from holdfast.client import requests
from holdfast.model.errors import HoldfastError
from holdfast.model.status import ClusterStatus, RoleState

pytestmark = pytest.mark.timeout(600)

FIRST, SECOND, THIRD = "node1", "node2", "node3"
NUMBERS = {SECOND: 2, THIRD: 3}
UNPROVEN = Shape(name="restore", nodes=3, has_fence=False, has_watchdog=False)
"""Nothing but a person, or the node itself, can say that a node is down."""
FILE = "/var/lib/holdfast/test.backup"
LEFT_BEHIND = "went on from a backup without it"


@pytest.fixture
async def trio(labs: Labs) -> AsyncGenerator[ClusterUnderTest, None]:
    """Three voters, none of which can be fenced; the lab is gone afterwards, for its cluster is another one then."""
    cluster = ClusterUnderTest(await labs.get(UNPROVEN))
    await all_vote(cluster)
    await cluster.mend()
    async with cluster.instances.watching():
        yield cluster
    await labs.close()


async def all_vote(trio: ClusterUnderTest) -> ClusterStatus:
    """Wait until all three vote and are up."""
    return await trio.wait(
        "three voters", lambda seen: (seen.voters, seen.voters_up) == (3, 3), asked=FIRST, timeout_s=90
    )


async def be_left_behind(trio: ClusterUnderTest, node: str) -> None:
    """Wait until a node says that its cluster went on without it."""

    async def told() -> bool | None:
        return True if LEFT_BEHIND in (await trio.cli(node, "vm", "list")).errors else None

    await eventually(f"{node} is left behind", told)


async def join_anew(trio: ClusterUnderTest, node: str) -> None:
    """Join a node under the name that it had."""
    token = (await trio.ask(FIRST, requests.create_token())).token
    await trio.ask(node, requests.join_node(token=token, node=node, addresses=addresses(NUMBERS[node])))


async def kept_backups(trio: ClusterUnderTest) -> list[dict[str, object]] | None:
    """The backups that the first node took by itself, if any."""
    listed: list[dict[str, object]] = json.loads((await trio.cli(FIRST, "backup", "list", "--json")).output)
    return listed or None


async def is_back(trio: ClusterUnderTest) -> None:
    """Wait until the restored node answers as one that is up."""

    async def up() -> bool | None:
        try:
            status = await trio.status(FIRST)
        except HoldfastError:
            return None
        return True if status.database_answers and status.coordinator == FIRST else None

    await eventually("the restored node coordinates", up)


async def test_safe_1_after_a_restore_no_role_starts_before_each_node_is_accounted_for(trio: ClusterUnderTest) -> None:
    guest = await trio.start_guest(on=SECOND, is_booted=False)
    created = await trio.cli(FIRST, "backup", "create", FILE)
    assert created.exit_code == 0, created.errors
    assert "3 nodes, 1 role" in created.output
    unknown = await trio.start_guest(on=THIRD, is_booted=False)
    listed = await eventually("the node that votes takes one by itself", partial(kept_backups, trio))
    assert {one["problem"] for one in listed} == {""}

    await trio.lab.freeze(SECOND)
    restored = await trio.cli(FIRST, "backup", "restore", FILE, "--yes", timeout_s=120)
    assert restored.exit_code == 0, restored.errors
    assert "node2, node3" in restored.output
    await is_back(trio)
    await trio.ask(FIRST, requests.unfreeze_cluster())
    role = await trio.wait_blocked(guest, asked=FIRST, because="node2 may still run guests")
    assert "node3 may still run guests" in " ".join(role.reasons)

    await be_left_behind(trio, THIRD)
    assert trio.instances.living(unknown.name) == []
    await join_anew(trio, THIRD)
    role = await trio.wait_blocked(guest, asked=FIRST, because="node2 may still run guests")
    await eventually("node3 is accounted for", lambda: _only(trio, "node2"))
    assert len(trio.instances.living(guest.name)) == 1, "the frozen node's own guest is the only one"

    await trio.lab.thaw(SECOND)
    await be_left_behind(trio, SECOND)
    await join_anew(trio, SECOND)
    await trio.wait_online(guest, asked=FIRST)
    trio.assert_ran_once_at_a_time(guest)


async def _only(trio: ClusterUnderTest, node: str) -> bool | None:
    """Whether all roles wait for this node and no other."""
    reasons = [why for role in (await trio.status(FIRST)).roles for why in role.reasons]
    return True if reasons and all(node in why for why in reasons) else None


async def test_safe_1_a_forced_quorum_goes_on_alone_and_the_old_majority_comes_back_as_nobody(
    trio: ClusterUnderTest,
) -> None:
    guest = await trio.start_guest(on=FIRST, is_booted=False)
    for node in (SECOND, THIRD):
        await trio.lab.power_off(node)
    await trio.wait("no quorum", lambda seen: not seen.database_answers, asked=FIRST)
    said = ("--yes-the-others-are-down", SECOND)
    refused = await trio.cli(FIRST, "quorum", "force", "--from", FIRST, *said)
    assert "it was not said of node3" in refused.errors
    wrong = await trio.cli(FIRST, "quorum", "force", "--from", SECOND, *said)
    assert "this machine is node1" in wrong.errors

    forced = await trio.cli(
        FIRST, "quorum", "force", "--from", FIRST, *said, "--yes-the-others-are-down", THIRD, timeout_s=120
    )
    assert forced.exit_code == 0, forced.errors
    assert "at revision" in forced.errors
    await is_back(trio)
    await trio.ask(FIRST, requests.unfreeze_cluster())
    assert await trio.wait_online(guest, asked=FIRST) == FIRST

    for node in (SECOND, THIRD):
        await trio.lab.power_on(node)
    for node in (SECOND, THIRD):
        await be_left_behind(trio, node)
        await join_anew(trio, node)
    status = await trio.wait(
        "three voters", lambda seen: (seen.voters, seen.voters_up) == (3, 3), asked=FIRST, timeout_s=90
    )
    assert [role.state for role in status.roles] == [RoleState.ONLINE]
    trio.assert_ran_once_at_a_time(guest)
