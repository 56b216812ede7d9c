"""The guest or its hypervisor is at fault, not the node: restarted in place, elsewhere, or blocked until mended."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, codes

from holdfast.client import requests
from holdfast.model.events import EventCode
from holdfast.model.roles import Wanted
from holdfast.model.settings import Timings
from holdfast.model.status import RoleState

LONGER_THAN_A_CLAIM_S = Timings().claim_after_ms / 1000 + 2

pytestmark = pytest.mark.timeout(600)


async def test_qemu_is_killed(three: ClusterUnderTest) -> None:
    guest = await three.start_guest(on="node2")
    [old] = three.instances.of(guest.name)

    os.kill(old.pid, signal.SIGKILL)
    new = await three.wait_instance(guest, other_than=[old])
    await three.wait_boots(guest, 2)

    [old, _] = three.instances.of(guest.name)
    print(f"QEMU killed to the next one: {new.started_at - old.seen_until:.2f} s at most")
    role = await three.role(guest, "node1")
    assert (role.owner, role.epoch, role.restarts) == ("node2", 1, 1)
    assert new.node == "node2"
    three.assert_ran_once_at_a_time(guest, boots=2)
    assert any("ended by itself" in line.text for line in await three.events("node1"))


async def test_a_guest_that_starts_nowhere(three: ClusterUnderTest) -> None:
    guest = three.new_guest()
    disk = guest.disk.read_bytes()
    add = requests.add_vm(
        three.lab.guest_xml(guest, has_disk_lock=False),
        wanted=Wanted.OFFLINE, restart_limit=1, failover_limit=2, shutdown_timeout_ms=0,
    )  # fmt: skip
    await three.ask("node1", add)
    guest.disk.unlink()

    await three.ask("node1", requests.start_vm(guest.name, wait=False))
    blocked = await three.wait_blocked(guest, asked="node1", because="failed over 2 times")

    assert f"holdfast vm start {guest.name}" in " ".join(blocked.reasons)
    assert f"{guest.name}.raw" in " ".join(blocked.reasons)
    happened = await three.events("node1")
    tried_on = [str(line.event.target) for line in happened if line.event.code is EventCode.ROLE_ASSIGNED]
    assert len(set(tried_on)) == len(tried_on) == 3
    assert codes(happened, guest.name).count(EventCode.ROLE_FAILED) == 3
    explanation = await three.explain(guest, "node1")
    assert explanation.state is RoleState.BLOCKED
    assert explanation.elsewhere[tried_on[0]] == (f"it failed on {tried_on[0]} before",)

    guest.disk.write_bytes(disk)
    mended = await three.cli("node2", "vm", "start", guest.name)
    assert mended.exit_code == 0, mended.errors
    await guest.wait_answer()
    three.assert_ran_once_at_a_time(guest)


async def test_the_hypervisor_hangs_while_it_starts_a_guest(three: ClusterUnderTest) -> None:
    """Whether the guest runs is unknown, so it starts nowhere else; when the hypervisor goes on, it runs there."""
    guest = three.new_guest()
    await three.lab.service_kill("node3", "libvirtd", signal.SIGSTOP)
    try:
        add = requests.add_vm(
            three.lab.guest_xml(guest, has_disk_lock=False), preferred_owners=("node3",), shutdown_timeout_ms=0
        )
        await three.ask("node1", add)
        await three.wait_event(EventCode.ROLE_STARTING, asked="node1", subject=guest.name)
        status = await three.wait(
            "node3 not ready", lambda seen: any(one.code == "node-not-ready" for one in seen.conditions), asked="node1"
        )
        assert any("node3: libvirt has not answered" in condition.text for condition in status.conditions)
        await asyncio.sleep(LONGER_THAN_A_CLAIM_S)
        assert not three.instances.of(guest.name)
    finally:
        await three.lab.service_kill("node3", "libvirtd", signal.SIGCONT)

    await three.wait_online(guest, asked="node1", on="node3")
    await three.wait_boots(guest, 1)
    assert len(three.instances.of(guest.name)) == 1
    three.assert_ran_once_at_a_time(guest, boots=1)
    daemon = (await three.lab.status()).node("node3").service("holdfastd")
    assert daemon is not None
    assert daemon.last_exit in (None, 0)
