"""What a person gets wrong at the command line: they are told what, and what to do next, and nothing changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest

from holdfast.client import requests
from holdfast.lab.guests import Guest
from holdfast.lab.lab import Finished
from holdfast.model.roles import Wanted

pytestmark = pytest.mark.timeout(600)

INVALID, FAILED, NOT_FOUND = 2, 1, 3


@pytest.fixture
async def cluster(three: ClusterUnderTest) -> AsyncGenerator[ClusterUnderTest, None]:
    """A cluster that must be the same after the test as before."""
    before = await three.status("node1")
    yield three
    after = await three.status("node1")
    assert (after.roles, after.settings) == (before.roles, before.settings)
    assert [node.fence_agent for node in after.nodes] == [node.fence_agent for node in before.nodes]


def assert_said(finished: Finished, code: int, *words: str) -> None:
    """The command ended with this code and told these words, and what to do next."""
    print(finished.errors)
    assert finished.exit_code == code, finished.errors
    assert finished.output == ""
    assert finished.errors.startswith("error: ")
    assert "\nnext: " in finished.errors
    for word in words:
        assert word in finished.errors


def domain(cluster: ClusterUnderTest) -> tuple[Guest, str]:
    """A good domain to spoil; it is removed with the other guests."""
    guest = cluster.new_guest()
    return guest, cluster.lab.guest_xml(guest)


async def test_a_domain_that_is_no_xml(cluster: ClusterUnderTest) -> None:
    _, xml = domain(cluster)
    torn = xml[: xml.index("</devices>")]
    assert_said(await cluster.cli("node1", "vm", "add", "-", stdin=torn), INVALID, "line")


async def test_a_domain_without_a_name(cluster: ClusterUnderTest) -> None:
    guest, xml = domain(cluster)
    nameless = xml.replace(f"<name>{guest.name}</name>", "")
    assert_said(await cluster.cli("node1", "vm", "add", "-", stdin=nameless), INVALID, "no name", "<name>NAME</name>")


async def test_a_disk_that_is_not_on_shared_storage(cluster: ClusterUnderTest) -> None:
    guest, xml = domain(cluster)
    local = xml.replace(f"/srv/holdfast/shared/{guest.name}.raw", "/var/lib/libvirt/images/mine.raw")
    finished = await cluster.cli("node1", "vm", "add", "-", stdin=local)
    assert_said(finished, INVALID, "/var/lib/libvirt/images/mine.raw", "Shared directories: /srv/holdfast/shared")


async def test_a_node_that_does_not_exist(cluster: ClusterUnderTest) -> None:
    _, xml = domain(cluster)
    finished = await cluster.cli("node1", "vm", "add", "-", "--preferred-owner", "node9", stdin=xml)
    assert_said(finished, NOT_FOUND, "node9", "node1, node2, node3")
    for command in (("show",), ("pause",), ("confirm-down", "--yes", "--reason", "gone")):
        finished = await cluster.cli("node2", "node", command[0], "node9", *command[1:])
        assert_said(finished, NOT_FOUND, "node9", "node1, node2, node3")


async def test_a_role_that_does_not_exist(cluster: ClusterUnderTest) -> None:
    for command in (("vm", "start"), ("vm", "stop"), ("vm", "remove"), ("vm", "show"), ("explain", "role")):
        assert_said(await cluster.cli("node1", *command, "nosuch"), NOT_FOUND, "nosuch")


async def test_a_node_confirmed_down_that_is_up(cluster: ClusterUnderTest) -> None:
    finished = await cluster.cli("node1", "node", "confirm-down", "node2", "--yes", "--reason", "I think so")
    assert_said(finished, FAILED, "node2", "up")


async def test_settings_that_make_no_sense(cluster: ClusterUnderTest) -> None:
    finished = await cluster.cli("node1", "cluster", "set", "timings.patience_ms", "100")
    assert_said(finished, INVALID, "100", "4500")
    finished = await cluster.cli("node1", "cluster", "set", "timings.patients_ms", "6000")
    assert_said(finished, INVALID, "timings.patients_ms", "timings.patience_ms")
    finished = await cluster.cli("node1", "cluster", "set", "timings.patience_ms", "soon")
    assert_said(finished, INVALID, "soon")


async def test_a_role_that_exists_already(three: ClusterUnderTest) -> None:
    guest, xml = domain(three)
    await three.ask("node1", requests.add_vm(xml, wanted=Wanted.OFFLINE))
    before = (await three.status("node1")).roles

    assert_said(await three.cli("node2", "vm", "add", "-", stdin=xml), FAILED, guest.name)
    renamed = xml.replace(f"<name>{guest.name}</name>", "<name>other</name>")
    assert_said(await three.cli("node2", "vm", "add", "-", stdin=renamed), FAILED, guest.name, "<uuid>")
    start, end = renamed.index("<uuid>"), renamed.index("</uuid>") + len("</uuid>")
    same_disk = renamed[:start] + renamed[end:]
    assert_said(await three.cli("node2", "vm", "add", "-", stdin=same_disk), FAILED, guest.name, f"{guest.name}.raw")

    assert (await three.status("node1")).roles == before
