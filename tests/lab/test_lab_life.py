"""Labs come and go: twice, beside each other, after a crash, and without leaving anything."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.lab.bare_lab import lab_name, wait_until

from holdfast.lab.construction import LabOptions, is_running
from holdfast.lab.errors import LabNameTaken, LabNotRunning
from holdfast.lab.freezer import freezer_root
from holdfast.lab.lab import Lab
from holdfast.lab.layout import Network
from holdfast.lab.machine import Power
from holdfast.lab.namespaces import NETNS_FOLDER
from holdfast.lab.processes import ProcessId
from holdfast.lab.tools import run_tool

ONE_NODE = LabOptions(nodes=1)


@asynccontextmanager
async def labs(*purposes: str) -> AsyncIterator[list[Lab]]:
    """Bring one-node labs up for the body."""
    made = [Lab(lab_name(purpose)) for purpose in purposes]
    try:
        for lab in made:
            await lab.up(ONE_NODE)
        yield made
    finally:
        for lab in made:
            await lab.down()


def traces(lab: Lab) -> list[str]:
    """Return what is on the machine under the lab's name."""
    places = (freezer_root(), NETNS_FOLDER, lab.layout.base)
    found = [path.name for place in places if place.exists() for path in place.iterdir()]
    return [name for name in found if lab.layout.name in name]


async def test_two_labs_live_side_by_side() -> None:
    async with labs("one", "two") as (one, two):
        await one.execute("node1", "sh", "-c", "echo one > /etc/holdfast/whose")
        assert (await two.execute("node1", "ls", "/etc/holdfast")).output == ""
        await one.cut("node1")
        assert (await two.status()).node("node1").cut == ()
        await one.power_off("node1")
        assert (await two.status()).node("node1").power is Power.ON
        assert await one.down()
        assert traces(one) == []
        assert (await two.execute("node1", "hostname")).output == "node1\n"


async def test_up_again_completes_the_lab_that_is_there() -> None:
    lab = Lab(lab_name("again"))
    lines: list[str] = []
    try:
        first = await lab.up(LabOptions(nodes=2))
        await lab.power_off("node2")
        second = await lab.up(LabOptions(nodes=2), progress=lines.append)
    finally:
        await lab.down()
    assert second.pid == first.pid
    assert second.node("node1").init_pid == first.node("node1").init_pid
    assert second.node("node2").power is Power.ON
    assert "is up already" in lines[0]


async def test_nothing_outlives_a_killed_datacenter_and_up_and_down_work_after_it() -> None:
    lab = Lab(lab_name("crash"))
    try:
        status = await lab.up(ONE_NODE)
        await lab.execute("node1", "sh", "-c", "echo kept > /var/lib/holdfast/kept")
        init = ProcessId.of(status.node("node1").init_pid)
        assert init is not None
        await lab.freeze("node1")
        os.kill(status.pid, signal.SIGKILL)
        again = await lab.up(ONE_NODE)
        assert again.pid != status.pid
        assert not init.is_alive
        assert (await lab.execute("node1", "cat", "/var/lib/holdfast/kept")).output == "kept\n"
        init = ProcessId.of(again.node("node1").init_pid)
        assert init is not None
        os.kill(again.pid, signal.SIGKILL)

        async def is_dead() -> bool:
            return not init.is_alive

        await wait_until(is_dead)
    finally:
        assert await lab.down()
    assert traces(lab) == []
    assert not await lab.down()


async def test_leftovers_without_a_datacenter_are_swept() -> None:
    lab = Lab(lab_name("torn"))
    try:
        for namespace in (lab.layout.switch_namespace, lab.layout.node("node1").namespace):
            await run_tool("ip", "netns", "add", namespace)
        (freezer_root() / lab.layout.node("node1").namespace).mkdir()
        lab.layout.root.mkdir(parents=True)
        lab.layout.pid_file.write_text("17 ")
        await lab.up(ONE_NODE)
    finally:
        await lab.down()
    assert traces(lab) == []


async def test_a_name_in_use_below_another_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with labs("taken") as (lab,):
        monkeypatch.setenv("HOLDFAST_LAB_ROOT", str(tmp_path))
        other = Lab(lab.layout.name)
        with pytest.raises(LabNameTaken):
            await other.up(ONE_NODE)
        assert not await is_running(other.layout)
        assert (await lab.execute("node1", "hostname")).output == "node1\n"


async def test_a_lab_without_devices_has_none() -> None:
    lab = Lab(lab_name("plain"))
    try:
        status = await lab.up(LabOptions(nodes=1, has_fence=False, has_watchdog=False))
        told = await lab.execute("node1", "ls", "/dev/watchdog", "/run/lab", check=False)
    finally:
        await lab.down()
    assert told.output == ""
    assert status.node("node1").fence_fault is None


async def test_a_lab_that_is_not_up_says_what_to_do() -> None:
    with pytest.raises(LabNotRunning) as caught:
        await Lab(lab_name("none")).cut("node1", [Network.VM])
    assert "lab up" in caught.value.hint
