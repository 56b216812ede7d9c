"""One suite for every FenceDevice: the simulated one, and the real one in front of a small agent program."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.fencing.agent import FenceAgentDevice, FenceDeviceConfig
from holdfast.fencing.errors import FenceDeviceInvalid
from holdfast.fencing.port import FenceDevice, FenceResult, PowerState
from holdfast.fencing.simulated import DeviceFault, SimulatedFenceDevice

TIMEOUT_MS = 1000
SECRET = "correct-horse"

AGENT = """\
#!{python} -ISs
import os, sys, time
options = dict(line.rstrip("\\n").split("=", 1) for line in sys.stdin if not line.startswith("#"))
folder, action = options["folder"], options["action"]
state, log = os.path.join(folder, "state"), os.path.join(folder, "log")
fault = open(os.path.join(folder, "fault")).read()
with open(log, "a") as file:
    file.write(action + "\\n")
if options["password"] != "{secret}":
    sys.exit(3)
if fault == "hang":
    if os.fork() == 0:
        with open(log, "a") as file:
            file.write(f"pid {{os.getpid()}}\\n")
        time.sleep(600)
    time.sleep(600)
if fault == "unknown":
    sys.exit("cannot log in with " + options["password"])
if action == "status":
    is_on = open(state).read() == "on" and fault != "lie"
    print("Status: " + ("ON" if is_on else "OFF"))
    sys.exit(0 if is_on else 2)
if fault == "fail":
    sys.exit(1)
if action in ("on", "off") and fault != "lie":
    open(state, "w").write(action)
"""


class World:
    """A device, its real power, and its fault, whatever it is made of."""

    def __init__(self, device: FenceDevice, is_on: Callable[[], bool], break_by: Callable[[DeviceFault], None]) -> None:
        self.device = device
        self.is_on = is_on
        self.break_by = break_by


def real(folder: Path) -> World:
    agent = folder / "fence_test"
    agent.write_text(AGENT.format(python=sys.executable, secret=SECRET))
    agent.chmod(0o755)
    (folder / "state").write_text("on")
    (folder / "fault").write_text("none")
    options = {"folder": str(folder), "password": SECRET, "plug": "1"}
    config = FenceDeviceConfig(
        agent=str(agent),
        options=options,
        status_timeout_ms=TIMEOUT_MS,
        switch_timeout_ms=TIMEOUT_MS,
        monitor_timeout_ms=TIMEOUT_MS,
    )

    def break_by(fault: DeviceFault) -> None:
        (folder / "fault").write_text(fault)

    return World(
        FenceAgentDevice(config),
        lambda: (folder / "state").read_text() == "on",
        break_by,
    )


def simulated(_folder: Path) -> World:
    device = SimulatedFenceDevice(timeout_ms=200, delay_ms=1)

    def break_by(fault: DeviceFault) -> None:
        device.fault = fault

    return World(device, lambda: device.is_on, break_by)


@pytest.fixture(params=[real, simulated])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    made: World = request.param(tmp_path)
    return made


async def test_the_power_state_is_reported(world: World) -> None:
    assert (await world.device.status()).state is PowerState.ON
    assert (await world.device.monitor()).result is FenceResult.DONE


async def test_off_and_on_are_done_when_the_device_reports_it(world: World) -> None:
    assert (await world.device.off()).result is FenceResult.DONE
    assert not world.is_on()
    assert (await world.device.status()).state is PowerState.OFF
    assert (await world.device.off()).result is FenceResult.DONE
    assert (await world.device.on()).result is FenceResult.DONE
    assert world.is_on()
    assert (await world.device.reboot()).result is FenceResult.DONE


async def test_an_order_that_is_refused_has_failed(world: World) -> None:
    world.break_by(DeviceFault.FAIL)
    assert (await world.device.off()).result is FenceResult.FAILED
    assert (await world.device.status()).state is PowerState.ON


@pytest.mark.parametrize("fault", [DeviceFault.HANG, DeviceFault.UNKNOWN])
async def test_without_a_clear_answer_everything_is_unknown(world: World, fault: DeviceFault) -> None:
    """SAFE-2: unknown is never treated as off."""
    world.break_by(fault)
    reading = await world.device.status()
    assert reading.state is PowerState.UNKNOWN
    assert reading.detail
    assert SECRET not in reading.detail
    outcome = await world.device.off()
    assert outcome.result is FenceResult.UNKNOWN
    assert SECRET not in outcome.detail
    assert (await world.device.reboot()).result is FenceResult.UNKNOWN
    assert (await world.device.monitor()).result is not FenceResult.DONE
    assert world.is_on()


async def test_a_device_that_recovers_while_it_is_asked_is_believed_only_then(world: World) -> None:
    world.break_by(DeviceFault.HANG)
    assert (await world.device.off()).result is FenceResult.UNKNOWN
    world.break_by(DeviceFault.NONE)
    assert (await world.device.off()).result is FenceResult.DONE


async def test_a_lie_cannot_be_seen_through(world: World) -> None:
    """What the simulator uses to show that its checkers see a double start; a real device must not lie."""
    world.break_by(DeviceFault.LIE)
    assert (await world.device.off()).result is FenceResult.DONE
    assert world.is_on()


async def test_after_a_time_out_nothing_of_the_agent_is_left(tmp_path: Path) -> None:
    world = real(tmp_path)
    world.break_by(DeviceFault.HANG)
    await world.device.status()
    (child,) = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines() if line.startswith("pid")]
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"the agent's child {child} still runs")


async def test_a_cancelled_question_leaves_nothing_either(tmp_path: Path) -> None:
    world = real(tmp_path)
    world.break_by(DeviceFault.HANG)
    question = asyncio.create_task(world.device.status())
    log = tmp_path / "log"
    for _ in range(100):
        if log.exists() and "pid" in log.read_text():
            break
        await asyncio.sleep(0.02)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    child = log.read_text().split()[-1]
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"the agent's child {child} still runs")


@pytest.mark.parametrize("agent", ["fence_that_nobody_installed", "/etc/hostname"])
async def test_an_agent_that_cannot_run_proves_nothing(agent: str) -> None:
    device = FenceAgentDevice(FenceDeviceConfig(agent=agent))
    reading = await device.status()
    assert reading.state is PowerState.UNKNOWN
    assert agent in reading.detail
    assert (await device.off()).result is FenceResult.FAILED


async def test_a_flood_of_output_is_bounded(tmp_path: Path) -> None:
    agent = tmp_path / "fence_flood"
    agent.write_text("#!/bin/sh\nhead -c 30000000 /dev/zero | tr '\\0' x\nexit 2\n")
    agent.chmod(0o755)
    reading = await FenceAgentDevice(FenceDeviceConfig(agent=str(agent))).status()
    assert reading.state is PowerState.UNKNOWN
    assert len(reading.detail) < 1000


async def test_an_agent_that_reads_no_options_is_no_error(tmp_path: Path) -> None:
    agent = tmp_path / "fence_deaf"
    agent.write_text("#!/bin/sh\nexec <&-\necho 'Status: OFF'\nexit 2\n")
    agent.chmod(0o755)
    device = FenceAgentDevice(FenceDeviceConfig(agent=str(agent), options={"name": "x" * 200_000}))
    assert (await device.status()).state is PowerState.OFF


@pytest.mark.parametrize(
    "options", [{"pass word": "x"}, {"password": "a\nb"}, {"action": "off"}, {"": "x"}, {"#x": "y"}, {"a=b": "y"}]
)
def test_options_that_no_agent_could_read_are_refused_without_showing_them(options: dict[str, str]) -> None:
    with pytest.raises(FenceDeviceInvalid) as caught:
        FenceDeviceConfig(agent="fence_ipmilan", options=options)
    assert "a\nb" not in str(caught.value)


def test_the_configuration_does_not_show_its_secrets() -> None:
    assert SECRET not in repr(FenceDeviceConfig(agent="fence_ipmilan", options={"password": SECRET}))


async def test_an_agent_that_claims_success_is_not_believed(tmp_path: Path) -> None:
    """SAFE-2: done is what the device reports afterwards."""
    agent = tmp_path / "fence_boaster"
    agent.write_text("#!/bin/sh\ncat >/dev/null\necho 'Status: ON'\nexit 0\n")
    agent.chmod(0o755)
    device = FenceAgentDevice(FenceDeviceConfig(agent=str(agent)))
    assert (await device.off()).result is FenceResult.FAILED
