"""A fence device that cannot be trusted: without a proof nothing starts elsewhere, until a person gives their word."""

from __future__ import annotations

import asyncio

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, codes, node_in

from holdfast.lab.fence_device import FenceFault
from holdfast.lab.guests import Guest
from holdfast.lab.machine import Power
from holdfast.model.events import EventCode
from holdfast.model.settings import Timings
from holdfast.model.status import NodeState, RoleState

pytestmark = pytest.mark.timeout(600)

A_GOOD_WHILE_S = 8.0
VICTIM, ASKED = "node3", "node1"


async def nothing_starts(cluster: ClusterUnderTest, guest: Guest) -> None:
    """See the role blocked for want of a proof, and still so after a good while."""
    await cluster.wait_blocked(guest, asked=ASKED, because=f"no proof yet that {VICTIM} can do no harm")
    await cluster.wait_blocked(guest, asked=ASKED, because=f"holdfast node confirm-down {VICTIM}")
    instances = len(cluster.instances.of(guest.name))
    await asyncio.sleep(A_GOOD_WHILE_S)
    assert len(cluster.instances.of(guest.name)) == instances
    explanation = await cluster.explain(guest, ASKED)
    assert explanation.state is RoleState.BLOCKED
    assert any(f"run: holdfast node confirm-down {VICTIM}" in reason for reason in explanation.not_running)
    assert node_in(await cluster.status(ASKED), VICTIM).state is NodeState.LOST


async def confirm_down(cluster: ClusterUnderTest) -> None:
    """Give a person's word by the command line."""
    finished = await cluster.cli(
        ASKED, "node", "confirm-down", VICTIM, "--by", "Ada Lovelace", "--reason", "looked at it", "--yes"
    )
    assert finished.exit_code == 0, finished.errors


async def test_a_dead_node_whose_fence_device_lies_unknown(unguarded: ClusterUnderTest) -> None:
    guest = await unguarded.start_guest(on=VICTIM)
    await unguarded.lab.fence_fault(VICTIM, FenceFault.UNKNOWN)
    await unguarded.lab.power_off(VICTIM)

    await nothing_starts(unguarded, guest)
    await confirm_down(unguarded)

    owner = await unguarded.wait_online(guest, asked=ASKED)
    await unguarded.wait_boots(guest, 2)
    assert owner != VICTIM
    unguarded.assert_ran_once_at_a_time(guest, boots=2)
    assert any("(person)" in reason for reason in (await unguarded.explain(guest, ASKED)).here)
    fenced = await unguarded.wait_event(EventCode.NODE_FENCED, asked=ASKED, subject=VICTIM)
    assert "Ada Lovelace confirmed that node3 is down: looked at it" in fenced.text


async def test_an_isolated_node_whose_fence_device_hangs(unguarded: ClusterUnderTest) -> None:
    """The node has stopped its guest by itself, but only a person can know it; later it comes back and starts none."""
    guest = await unguarded.start_guest(on=VICTIM)
    incarnation = node_in(await unguarded.status(ASKED), VICTIM).incarnation
    await unguarded.lab.fence_fault(VICTIM, FenceFault.HANG)
    await unguarded.lab.cut(VICTIM)

    await nothing_starts(unguarded, guest)
    assert not unguarded.instances.living(guest.name)
    assert (await unguarded.lab.status()).node(VICTIM).power is Power.ON
    await confirm_down(unguarded)
    owner = await unguarded.wait_online(guest, asked=ASKED)
    assert owner != VICTIM
    await unguarded.wait_boots(guest, 2)

    await unguarded.lab.heal(VICTIM)
    status = await unguarded.wait(
        "the node up again", lambda seen: node_in(seen, VICTIM).state is NodeState.UP, asked=ASKED
    )
    assert node_in(status, VICTIM).incarnation != incarnation
    assert [one.node for one in unguarded.instances.living(guest.name)] == [owner]
    unguarded.assert_ran_once_at_a_time(guest, boots=2)


async def test_a_frozen_node_whose_fence_device_fails_and_that_thaws(unguarded: ClusterUnderTest) -> None:
    """The hardest case: the guest's memory is there, and goes on, long after the others gave the node up."""
    guest = await unguarded.start_guest(on=VICTIM)
    [old] = unguarded.instances.of(guest.name)
    await unguarded.lab.fence_fault(VICTIM, FenceFault.FAIL)
    await unguarded.lab.freeze(VICTIM)

    await nothing_starts(unguarded, guest)
    thawed_at = await unguarded.lab.thaw(VICTIM)

    new = await unguarded.wait_instance(guest, other_than=[old])
    [old, _] = unguarded.instances.of(guest.name)
    await unguarded.wait_boots(guest, 2)
    lived_s, began_s = old.seen_until - thawed_at, new.started_at - thawed_at
    print(f"from the thaw to the old QEMU's end {lived_s:.2f} s, to the new {began_s:.2f} s")
    assert old.seen_until < new.started_at
    assert lived_s < Timings().guard_kill_ms / 1000 + 1
    unguarded.assert_ran_once_at_a_time(guest, boots=2)
    assert EventCode.NODE_LOST in codes(await unguarded.events(ASKED), VICTIM)
    assert any("(restarted)" in reason for reason in (await unguarded.explain(guest, ASKED)).here)
