"""QEMU processes found, told apart, and certainly ended."""

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.hypervisor.port import GuestProcess
from holdfast.hypervisor.qemu_process import QemuProcesses, is_alive, kill_and_wait

SLEEP = "import time; print(flush=True); time.sleep(60)"
MAIN_THREAD_DIES = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print(flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit(2) ends one thread, as happens to a QEMU whose other threads hang in I/O
"""


@contextmanager
def process(program: str, guest: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-S", "-c", program, "-uuid", guest.upper(), "-more"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def test_a_process_is_found_by_its_uuid_and_ended() -> None:
    guest = str(uuid.uuid4())
    processes = QemuProcesses()
    assert processes.find(guest) is None
    with process(SLEEP, guest) as child:
        found = processes.find(guest)
        assert found is not None
        assert found.pid == child.pid
        assert is_alive(found)
        assert kill_and_wait(found, wait_s=5)
        assert not is_alive(found), "a zombie that only waits for its parent can do no harm"
        assert processes.find(guest) is None
        assert child.wait() == -signal.SIGKILL
    assert kill_and_wait(found, wait_s=5)


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    with process(SLEEP, str(uuid.uuid4())) as child:
        earlier = GuestProcess(pid=child.pid, start_ticks=1)
        assert not is_alive(earlier)
        assert kill_and_wait(earlier, wait_s=5)
        assert child.poll() is None


def test_safe_2_a_dead_main_thread_does_not_hide_living_ones() -> None:
    guest = str(uuid.uuid4())
    with process(MAIN_THREAD_DIES, guest) as child:
        deadline = time.monotonic() + 5
        while Path(f"/proc/{child.pid}/cmdline").read_bytes() and time.monotonic() < deadline:
            time.sleep(0.01)
        found = QemuProcesses().find(guest)
        assert found is not None
        assert found.pid == child.pid
        assert is_alive(found)
        assert kill_and_wait(found, wait_s=5)


def test_the_processes_of_another_pid_namespace_are_not_ours() -> None:
    guest = str(uuid.uuid4())
    with process(SLEEP, guest):
        assert QemuProcesses(pid_namespace="pid:[1]").find_all() == {}
        assert QemuProcesses(pid_namespace=str(Path("/proc/self/ns/pid").readlink())).find(guest)
