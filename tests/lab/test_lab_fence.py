"""The fence device as a node's cluster software meets it: a program, options on standard input, an exit code."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from xml.etree import ElementTree

import pytest
from tests.lab.bare_lab import bare_lab

from holdfast.lab.construction import LabOptions
from holdfast.lab.errors import LabBroken
from holdfast.lab.fence_device import FenceFault
from holdfast.lab.lab import Finished, Lab
from holdfast.lab.machine import Power


@pytest.fixture(scope="module")
def module_lab() -> Iterator[Lab]:
    with bare_lab("fence", LabOptions(nodes=2)) as lab:
        yield lab


@pytest.fixture
async def lab(module_lab: Lab) -> AsyncIterator[Lab]:
    yield module_lab
    await module_lab.fence_fault("node2", FenceFault.NONE)
    await module_lab.heal("node1")
    await module_lab.power_on("node2")


async def fence(lab: Lab, action: str, *more: str) -> Finished:
    """Run the agent on node1 against node2."""
    stdin = "\n".join((f"action={action}", "plug=node2", *more)) + "\n"
    return await lab.execute("node1", "fence_holdfast_lab", stdin=stdin, check=False)


async def power_of(lab: Lab, node: str) -> Power:
    return (await lab.status()).node(node).power


async def test_off_and_on_are_done_and_reported(lab: Lab) -> None:
    assert (await fence(lab, "status")).exit_code == 0
    assert (await fence(lab, "off")).exit_code == 0
    assert await power_of(lab, "node2") is Power.OFF
    assert (await fence(lab, "off")).exit_code == 0, "off twice is off"
    assert (await fence(lab, "status")).exit_code == 2
    assert (await fence(lab, "on")).exit_code == 0
    assert (await fence(lab, "status")).exit_code == 0


async def test_reboot_gives_the_node_a_new_life(lab: Lab) -> None:
    old = (await lab.execute("node2", "cat", "/run/boot_id")).output
    assert (await fence(lab, "reboot")).exit_code == 0
    assert (await lab.execute("node2", "cat", "/run/boot_id")).output != old


async def test_arguments_work_as_options_do(lab: Lab) -> None:
    told = await lab.execute("node1", "fence_holdfast_lab", "--action=off", "-n", "node2", check=False)
    assert told.exit_code == 0
    assert await power_of(lab, "node2") is Power.OFF


async def test_the_device_is_out_of_band(lab: Lab) -> None:
    await lab.cut("node1")
    assert (await fence(lab, "monitor")).exit_code == 0
    assert (await fence(lab, "off")).exit_code == 0


async def test_list_and_metadata_follow_the_interface(lab: Lab) -> None:
    assert (await fence(lab, "list")).output.splitlines() == ["node1,node1", "node2,node2"]
    root = ElementTree.fromstring((await fence(lab, "metadata")).output)
    assert root.tag == "resource-agent"
    assert {"action", "plug"} <= {item.get("name") for item in root.iter("parameter")}
    assert {"on", "off", "reboot", "status", "monitor", "metadata"} <= {
        item.get("name") for item in root.iter("action")
    }


@pytest.mark.parametrize(
    ("action", "more", "reason"),
    [
        ("off", ("plug=node7",), "node1, node2"),
        ("explode", (), "explode"),
        ("off", ("path=/run/lab/none.sock",), "none.sock"),
        ("off", ("plug=",), "plug"),
    ],
)
async def test_a_wrong_request_fails_with_its_reason(lab: Lab, action: str, more: tuple[str, ...], reason: str) -> None:
    told = await fence(lab, action, *more)
    assert told.exit_code == 1
    assert reason in told.errors
    assert await power_of(lab, "node2") is Power.ON


async def test_a_broken_device_refuses(lab: Lab) -> None:
    await lab.fence_fault("node2", FenceFault.FAIL)
    assert [(await fence(lab, action)).exit_code for action in ("off", "status")] == [1, 1]
    assert await power_of(lab, "node2") is Power.ON


async def test_a_hanging_device_answers_nobody(lab: Lab) -> None:
    await lab.fence_fault("node2", FenceFault.HANG)
    began = time.monotonic()
    assert (await fence(lab, "off", "timeout=1")).exit_code == 1
    assert time.monotonic() - began >= 1
    with pytest.raises(LabBroken, match="did not end"):
        await lab.execute("node1", "fence_holdfast_lab", stdin="action=status\nplug=node2\n", timeout_s=1.5)
    assert await power_of(lab, "node2") is Power.ON


async def test_a_device_that_knows_nothing_never_confirms(lab: Lab) -> None:
    await lab.fence_fault("node2", FenceFault.UNKNOWN)
    off, status = await fence(lab, "off"), await fence(lab, "status")
    assert (off.exit_code, status.exit_code) == (1, 1)
    assert "unknown" in off.errors
    assert "UNKNOWN" in status.output
    assert await power_of(lab, "node2") is Power.ON
