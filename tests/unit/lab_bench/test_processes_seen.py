"""QEMU's birth and an idle node's cost, read from the /proc of real processes."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from holdfast.lab.bench.host import busy_percent, wait_quiet
from holdfast.lab.bench.idle import Cost, idle_cost, total
from holdfast.lab.errors import LabBroken
from holdfast.lab.qemu import TICK_S, QemuWatch, all_running

SLEEP = "import time; time.sleep(30)"
SPIN = "while True: pass"


@contextmanager
def a_process(name: str, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that calls itself otherwise."""
    process = subprocess.Popen([name, "-c", program, *arguments], executable=sys.executable)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def born_in_time(watch: QemuWatch, wanted: str) -> float:
    async with asyncio.timeout(5):
        while wanted not in (born := watch.born()):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
    return born[wanted].started_at


async def test_a_qemu_tells_when_it_was_born() -> None:
    wanted, watch = str(uuid.uuid4()), QemuWatch()
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.1)
    before = loop.time()
    with a_process("/usr/bin/qemu-system-x86_64", SLEEP, "-uuid", wanted.upper()):
        after = loop.time()
        assert before - TICK_S <= await born_in_time(watch, wanted) <= after


async def test_a_qemu_of_before_is_not_born_again_but_runs() -> None:
    wanted = str(uuid.uuid4())
    with a_process("/usr/bin/qemu-system-x86_64", SLEEP, "-uuid", wanted) as process:
        await born_in_time(QemuWatchOfNothing(), wanted)
        assert wanted not in QemuWatch().born()
        assert all_running()[wanted].process.pid == process.pid


class QemuWatchOfNothing(QemuWatch):
    """Takes every process for new."""

    def __init__(self) -> None:
        super().__init__()
        self._old = set()


def test_another_program_with_a_uuid_is_no_qemu() -> None:
    wanted = str(uuid.uuid4())
    with a_process("/usr/bin/virsh", SLEEP, "-uuid", wanted):
        assert wanted not in all_running()


async def test_cost_is_summed_per_program_of_this_pid_namespace() -> None:
    with a_process("/opt/etcd", SPIN), a_process("/opt/unheard-of", SPIN):
        costs = await idle_cost(os.getpid(), 0.3)
    assert costs["etcd"].cpu_percent > 5
    assert costs["etcd"].pss_mib > 1
    assert "unheard-of" not in costs


async def test_the_guard_is_known_by_the_module_that_python_runs() -> None:
    with a_process("/usr/bin/python3", SLEEP, "from holdfast.fencing.guard.main import main; main()"):
        assert "holdfast-guard" in await idle_cost(os.getpid(), 0.05)


def test_the_total_is_of_our_programs_and_not_of_libvirt() -> None:
    one = Cost(cpu_percent=1.0, pss_mib=10.0)
    assert total(dict.fromkeys(("holdfastd", "holdfast-guard", "etcd", "libvirtd"), one)) == Cost(
        cpu_percent=3.0, pss_mib=30.0
    )


def test_a_program_that_does_not_run_has_no_cost_of_nothing() -> None:
    with pytest.raises(LabBroken, match="holdfast-guard"):
        total({"holdfastd": Cost(cpu_percent=1, pss_mib=1), "etcd": Cost(cpu_percent=1, pss_mib=1)})


async def test_a_spinning_process_makes_the_machine_busy() -> None:
    with a_process("/opt/spin", SPIN):
        assert await busy_percent(0.3) > 10


async def test_waiting_for_quiet_ends_in_time_and_says_so() -> None:
    said: list[str] = []
    with a_process("/opt/spin", SPIN):
        assert await wait_quiet(limit_percent=1.0, limit_s=0.1, progress=said.append) > 1.0
    assert len(said) == 1
