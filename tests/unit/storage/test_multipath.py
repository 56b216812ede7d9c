"""mpathpersist: what it is told, what its exit code says, and that it has a deadline."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.storage.multipath import MultipathTransport, mpathpersist_arguments, reply_of_exit
from holdfast.storage.outcome import Conflict, Done, Failed, Unknown
from holdfast.storage.scsi.reservations import OutAction, ReservationType, ReserveOut
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.transport import Lost, Unsent

WE_RO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY


def program(folder: Path, script: str) -> str:
    """Write a stand-in for mpathpersist, which needs device-mapper devices."""
    path = folder / "mpathpersist"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        (
            ReserveOut(action=OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, service_key=0xABC, survives_power_loss=True),
            "--out --register-ignore --param-rk=0 --param-sark=abc --param-aptpl /dev/mapper/m",
        ),
        (
            ReserveOut(action=OutAction.PREEMPT_AND_ABORT, key=0xA, service_key=0xB, type=WE_RO),
            "--out --preempt-abort --param-rk=a --param-sark=b --prout-type=5 /dev/mapper/m",
        ),
        (
            ReserveOut(action=OutAction.REGISTER, key=0xA, service_key=0xB, all_target_ports=True),
            "--out --register --param-rk=a --param-sark=b --param-alltgpt /dev/mapper/m",
        ),
    ],
    ids=["register-ignore", "preempt-abort", "register"],
)
def test_commands_are_told_as_the_manual_says(request_: ReserveOut, arguments: str) -> None:
    assert " ".join(mpathpersist_arguments(request_, "/dev/mapper/m")) == arguments


@pytest.mark.parametrize("action", list(OutAction))
def test_every_action_has_an_option(action: OutAction) -> None:
    assert mpathpersist_arguments(ReserveOut(action=action), "d")[0] == "--out"


@pytest.mark.parametrize("code", [3, 4, 8, 9, 10, 13, 14, 15, 99, -9])
def test_an_exit_that_settles_nothing_is_unknown(code: int) -> None:
    assert isinstance(reply_of_exit(code, ""), Lost)


@pytest.mark.parametrize("code", [1, 12])
def test_an_exit_before_anything_was_sent_says_so(code: int) -> None:
    assert reply_of_exit(code, " no such\n device ") == Unsent(words=f"mpathpersist ended with {code}: no such device")


@pytest.mark.parametrize(
    ("script", "outcome"),
    [("exit 0", Done), ("exit 11", Conflict), ("exit 2", Failed), ("exit 15", Unknown), ("exec sleep 60", Unknown)],
)
async def test_exits_become_outcomes(tmp_path: Path, script: str, outcome: type) -> None:
    transport = MultipathTransport("/dev/mapper/none", program=program(tmp_path, script))
    assert isinstance(await ScsiLun(transport, timeout_ms=500).reserve(key=1, type=WE_RO), outcome)


@pytest.mark.parametrize("code", [5, 7])
async def test_an_unsupported_action_makes_callers_try_another(tmp_path: Path, code: int) -> None:
    lun = ScsiLun(MultipathTransport("/dev/mapper/none", program=program(tmp_path, f"exit {code}")))
    asked = await lun.preempt(key=1, victim=2, type=WE_RO, abort=True)
    assert isinstance(asked, Failed)
    assert asked.is_unsupported


async def test_other_commands_go_to_the_device_itself(tmp_path: Path) -> None:
    lun = ScsiLun(MultipathTransport(str(tmp_path / "none"), program=program(tmp_path, "exit 0")))
    assert isinstance(await lun.read_keys(), Failed)
    assert isinstance(await lun.reset(), Failed)
    await lun.close()


async def test_a_missing_program_is_named() -> None:
    asked = await ScsiLun(MultipathTransport("/dev/mapper/none", program="/nowhere/mpathpersist")).clear(key=1)
    assert isinstance(asked, Failed)
    assert "multipath-tools" in asked.words
