"""Two benches for the contract of the hypervisor: one in memory, one with libvirtd and QEMU in private namespaces."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import uuid as uuid_module
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from holdfast.hypervisor.libvirt_host import LibvirtHost
from holdfast.hypervisor.port import GuestProcess, Hypervisor
from holdfast.hypervisor.qemu_process import QemuProcesses, kill_and_wait
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.hypervisor.timeouts import HypervisorTimeouts

SETUP = Path(__file__).parent / "private_libvirtd.sh"


def guest_xml(name: str, uuid: str) -> str:
    """Return a guest that sits in its BIOS for ever: enough of a QEMU process, and no image needed."""
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>"
        "<os><type machine='pc'>hvm</type></os><features><acpi/></features>"
        "<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"
    )


class SimulatedBench:
    """The simulated hypervisor and its levers."""

    kind = "simulated"

    def __init__(self) -> None:
        self._hypervisor = SimulatedHypervisor()

    @contextlib.asynccontextmanager
    async def open(self, timeouts: HypervisorTimeouts) -> AsyncIterator[Hypervisor]:
        self._hypervisor._timeouts = timeouts
        yield self._hypervisor

    async def kill_qemu(self, uuid: str) -> None:
        self._hypervisor.crash(uuid)

    def kill_daemon(self) -> None:
        self._hypervisor.stop_daemon()

    def start_daemon(self) -> None:
        self._hypervisor.start_daemon()

    def freeze_daemon(self) -> None:
        self._hypervisor.freeze()

    def thaw_daemon(self) -> None:
        self._hypervisor.thaw()


class LibvirtBench:
    """A libvirtd of our own, whose processes all die with this one."""

    kind = "libvirt"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--mount-proc", "sh", str(SETUP), str(folder)]
        self._namespaces = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command])
        wait_until((folder / "ready").exists)
        self._init = first_child(self._namespaces.pid)
        self.processes = QemuProcesses(pid_namespace=str(Path(f"/proc/{self._init}/ns/pid").readlink()))
        self._entered: subprocess.Popen[bytes] | None = None
        self._libvirtd = 0

    @contextlib.asynccontextmanager
    async def open(self, timeouts: HypervisorTimeouts) -> AsyncIterator[LibvirtHost]:
        socket = self.folder / "run/libvirt/libvirt-sock"
        host = LibvirtHost(uri=f"qemu+unix:///system?socket={socket}", timeouts=timeouts, processes=self.processes)
        keeping = asyncio.create_task(host.run())
        try:
            yield host
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def kill_qemu(self, uuid: str) -> None:
        os.kill(self.process(uuid).pid, signal.SIGKILL)

    def process(self, uuid: str) -> GuestProcess:
        process = self.processes.find(uuid)
        assert process is not None
        return process

    def start_daemon(self) -> None:
        if self._entered is None:
            enter = ["nsenter", "-t", str(self._init), "-m", "-n", "-p"]
            self._entered = subprocess.Popen([*enter, "libvirtd"], stderr=subprocess.DEVNULL)
            self._libvirtd = first_child(self._entered.pid)

    def kill_daemon(self) -> None:
        if self._entered is not None:
            os.kill(self._libvirtd, signal.SIGKILL)
            self._entered.kill()  # nsenter stops itself whenever its child is stopped, and would then wait for ever
            self._entered.wait()
            self._entered = None
            wait_until(lambda: not Path(f"/proc/{self._libvirtd}").exists())

    def freeze_daemon(self) -> None:
        os.kill(self._libvirtd, signal.SIGSTOP)

    def thaw_daemon(self) -> None:
        os.kill(self._libvirtd, signal.SIGCONT)

    def forget_guests(self) -> None:
        """Lose what libvirtd wrote down about running guests, as when /run was cleaned."""
        for status in (self.folder / "run/libvirt/qemu").glob("*.xml"):
            status.unlink()

    def reset(self) -> None:
        """Make ready for the next test, whatever this one left behind."""
        self.start_daemon()
        self.thaw_daemon()
        for process in self.processes.find_all().values():
            kill_and_wait(process, wait_s=5)

    def close(self) -> None:
        self.kill_daemon()
        self._namespaces.kill()
        self._namespaces.wait()


def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail after 10 s."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the private libvirtd did not come up"
        time.sleep(0.01)


def first_child(pid: int) -> int:
    """Return the first child of a process as soon as there is one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(children.read_text)
    return int(children.read_text().split()[0])


@pytest.fixture(scope="session")
def private_libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtBench]:
    """One libvirtd for all tests of this folder: probing QEMU takes seconds each time."""
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces")
    bench = LibvirtBench(tmp_path_factory.mktemp("libvirt"))
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def libvirt_bench(private_libvirtd: LibvirtBench) -> Iterator[LibvirtBench]:
    private_libvirtd.reset()
    yield private_libvirtd
    private_libvirtd.reset()


@pytest.fixture(params=["simulated", "libvirt"])
def bench(request: pytest.FixtureRequest) -> SimulatedBench | LibvirtBench:
    if request.param == "simulated":
        return SimulatedBench()
    found: LibvirtBench = request.getfixturevalue("libvirt_bench")
    return found


@pytest.fixture
def make_guest() -> Callable[[], tuple[str, str]]:
    """Return a function that makes a new (uuid, domain XML)."""

    def make() -> tuple[str, str]:
        uuid = str(uuid_module.uuid4())
        return uuid, guest_xml(f"contract-{uuid[:8]}", uuid)

    return make
