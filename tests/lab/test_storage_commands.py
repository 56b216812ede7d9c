"""The storage commands of a person, in a cluster whose disks are in use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest

from holdfast.lab.luns import ADAPTER_FOLDER, portal
from holdfast.model.disk_status import CheckResult

pytestmark = pytest.mark.timeout(600)
WAYS = f"helper:{ADAPTER_FOLDER}/*.reservations"


async def answer(cluster: ClusterUnderTest, *arguments: str) -> Any:
    ended = await cluster.cli("node1", "storage", *arguments, "--json")
    assert ended.errors == ""
    return json.loads(ended.output)


async def test_disks_are_found_by_their_ways_and_at_their_portal(disks: ClusterUnderTest) -> None:
    known = {(lun.designator, lun.disk) for lun in disks.lab.luns}
    for where in (("--via", WAYS), ("--portal", portal())):
        seen = await answer(disks, "discover", *where)
        assert {(disk["designator"], disk["disk"]) for disk in seen} == known
        assert {(disk["size_bytes"], disk["keys"], disk["problem"]) for disk in seen} == {
            (disks.lab.spec.storage.lun_bytes, len(disks.nodes), "")  # type: ignore[union-attr]
        }


async def test_a_disk_in_use_is_validated_without_disturbing_its_guest(disks: ClusterUnderTest) -> None:
    lun = disks.lab.luns[0]
    guest = await disks.start_guest(on="node2", lun=lun)
    boots = await disks.boot_ids([guest])
    for node in disks.nodes:
        ended = await disks.cli(node, "storage", "validate", lun.disk)
        assert ended.exit_code == 0, ended.output + ended.errors
        assert "registered: node1, node2, node3" in " ".join(ended.output.split())
    refused = await disks.cli("node1", "storage", "remove", lun.disk)
    assert (refused.exit_code, refused.errors.splitlines()[0]) == (1, f"error: disk {lun.disk} is used by {guest.name}")
    refused = await disks.cli("node1", "storage", "validate", f"helper:{lun.reservations_socket}")
    assert refused.exit_code == 1
    assert f"is disk {lun.disk} of the cluster already" in refused.errors
    assert (await answer(disks, "show", lun.disk))["used_by"] == [guest.name]
    await disks.wait_online(guest, asked="node1", on="node2")
    assert await disks.boot_ids([guest]) == boots
    disks.assert_ran_once_at_a_time(guest, boots=1)


async def test_a_disk_leaves_the_cluster_and_comes_back(disks: ClusterUnderTest) -> None:
    lun = disks.lab.luns[1]
    way = f"helper:{lun.reservations_socket}"
    add = ("storage", "add", lun.disk, "--designator", lun.designator, "--reservations", way,
           "--guest-source", lun.guest_source)  # fmt: skip
    assert (await disks.cli("node1", "storage", "remove", lun.disk)).exit_code == 0
    try:
        validated = await disks.cli("node1", "storage", "validate", way)
        assert validated.exit_code == 1, "its keys stay, and with them its protection"
        refused = await disks.cli("node1", *add, "--accept-forgetful")
        assert "--clear-keys" in refused.errors
        refused = await disks.cli("node1", *add, "--clear-keys")
        assert "--accept-forgetful" in refused.errors, "tgtd forgets"
        check = await answer(disks, "validate", way)
        assert check["is_fit"]
        assert check["steps"][-1] == {
            "name": "tidy up",
            "result": CheckResult.OK,
            "words": "the throw-away key is gone",
        }
    finally:
        added = await disks.cli("node1", *add, "--clear-keys", "--accept-forgetful")
    assert added.exit_code == 0, added.errors
    assert added.output == f"{lun.disk} is added, and ready on node1, node2, node3\n"
    assert (await disks.cli("node3", "storage", "validate", lun.disk)).exit_code == 0
