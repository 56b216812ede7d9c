"""Guests' processes are found by their ``-uuid`` argument and by nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid

import pytest

from holdfast.fencing.guard.logic import Victim
from holdfast.fencing.guard.processes import Processes, guest_of

UUID = "0000000a-0000-4000-8000-00000000000a"


@pytest.mark.parametrize(
    ("arguments", "guest"),
    [
        (["/usr/bin/qemu-system-x86_64", "-name", "web", "-uuid", UUID, "-S"], UUID),
        (["qemu-kvm", "--uuid", UUID.upper()], UUID),
        (["/usr/bin/qemu-system-x86_64", "-name", UUID], None),
        (["vim", f"/etc/libvirt/{UUID}.xml"], None),
        (["qemu", "-uuid"], ""),
        ([], None),
    ],
)
def test_guest_of(arguments: list[str], guest: str | None) -> None:
    assert guest_of(b"".join(argument.encode() + b"\0" for argument in arguments)) == guest


def test_a_process_is_found_and_killed_and_only_then_gone() -> None:
    guest = str(uuid.uuid4())
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "-uuid", guest])
    processes = Processes()
    try:
        scanned = wait_for_one(processes, guest)
        (victim,) = scanned
        assert (victim.pid, victim.uuid) == (process.pid, guest)
        assert processes.scan(frozenset({str(uuid.uuid4())})).alive == {victim}, (
            "known victims are watched to their end"
        )
        processes.kill(victim)
        assert process.wait(5) == -9
        assert processes.scan(frozenset({guest})).alive == frozenset()
    finally:
        process.kill()
        process.wait()


def test_killing_what_is_not_known_does_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        Processes().kill(Victim(pid=process.pid, start_time=0, uuid=UUID))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    finally:
        process.kill()
        process.wait()


def wait_for_one(processes: Processes, guest: str) -> frozenset[Victim]:
    """Return what is found once the process has replaced its parent's command line with its own."""
    for _ in range(100):
        if alive := processes.scan(frozenset({guest})).alive:
            return alive
        time.sleep(0.02)
    pytest.fail("the process was not found")
