"""The worlds in which the store's promises are tested: the in-memory twin, and real etcd with one and three members."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import create_authority, create_request, sign_request
from holdfast.model.ids import NodeName
from holdfast.store.etcd.client import EtcdConnections, EtcdStore
from holdfast.store.etcd.member_config import InitialState, MemberConfig
from holdfast.store.etcd.supervisor import EtcdSupervisor
from holdfast.store.etcd.timing import Timing
from holdfast.store.etcd.tls import TlsFiles
from holdfast.store.memory import MemoryDatabase, MemoryStore
from holdfast.store.port import Store

_spaces = count(1)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_tls(folder: Path, cluster: str = "test") -> TlsFiles:
    """Make an authority and one certificate for 127.0.0.1."""
    now = datetime.now(UTC)
    authority = create_authority(cluster_name=cluster, now=now)
    request = create_request(NodeName("node"))
    certificate = sign_request(authority, request.request_pem, node=NodeName("node"), addresses=("127.0.0.1",), now=now)
    folder.mkdir(parents=True, exist_ok=True)
    files = CertificateFiles(folder)
    files.write_node(key_pem=request.key_pem, certificate_pem=certificate, authority_pem=authority.certificate_pem)
    return TlsFiles(authority=files.authority, certificate=files.certificate, key=files.key)


@dataclass
class EtcdCluster:
    """Real members on loopback, each under its own supervisor."""

    folder: Path
    tls: TlsFiles
    configs: list[MemberConfig] = field(default_factory=list)
    supervisors: list[EtcdSupervisor] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, size: int) -> EtcdCluster:
        """Found a database of ``size`` members and wait until each knows a leader."""
        cluster = cls(folder, make_tls(folder / "tls"))
        ports = [(f"m{number}", free_port(), free_port()) for number in range(size)]
        initial = tuple((name, f"127.0.0.1:{peer}") for name, _, peer in ports)
        for name, client, peer in ports:
            cluster.configs.append(cluster.config(name, client, peer, initial, InitialState.NEW))
            cluster.supervisors.append(EtcdSupervisor(cluster.configs[-1]))
            cluster.supervisors[-1].start()
        cluster.wait_healthy()
        return cluster

    def config(
        self, name: str, client: int, peer: int, initial: tuple[tuple[str, str], ...], state: InitialState
    ) -> MemberConfig:
        """Return how a member of this cluster runs."""
        return MemberConfig(
            name=name,
            data_dir=self.folder / name / "data",
            log_file=self.folder / name / "etcd.log",
            process_file=self.folder / name / "etcd.pid",
            client_addresses=(f"127.0.0.1:{client}",),
            peer_addresses=(f"127.0.0.1:{peer}",),
            initial_cluster=initial,
            initial_state=state,
            cluster_token=self.folder.name,
            tls=self.tls,
            progress_interval="1s",
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the members listen for clients."""
        return tuple(config.client_addresses[0] for config in self.configs)

    def connections(self, first: int = 0, *, timing: Timing | None = None) -> EtcdConnections:
        """Return connections that prefer the member with this number."""
        return EtcdConnections(self.addresses[first:] + self.addresses[:first], self.tls, timing)

    def ctl(self, *arguments: str, endpoint: str | None = None) -> str:
        """Run etcdctl, which shares no code with the client under test."""
        command = [
            "etcdctl",
            f"--endpoints={endpoint or ','.join(self.addresses)}",
            f"--cacert={self.tls.authority}",
            f"--cert={self.tls.certificate}",
            f"--key={self.tls.key}",
            "--command-timeout=5s",
            *arguments,
        ]
        run = subprocess.run(
            command, env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, timeout=15, check=False
        )
        return run.stdout if run.returncode == 0 else ""

    def leader(self) -> int:
        """Return the number of the leading member, -1 when there is none."""
        for number, address in enumerate(self.addresses):
            fields = self.ctl("endpoint", "status", endpoint=address).split(", ")
            if len(fields) > 4 and fields[4] == "true":
                return number
        return -1

    def wait_healthy(self, timeout_s: float = 15.0) -> None:
        """Wait until every member takes writes."""
        end = time.monotonic() + timeout_s
        for address in self.addresses:
            while not self.ctl("put", "health", "x", endpoint=address):
                assert time.monotonic() < end, f"{address} is not healthy: see {self.folder}"
                time.sleep(0.1)

    def signal(self, number: int, which: signal.Signals) -> None:
        """Send a signal to one member."""
        pid = self.supervisors[number].pid
        assert pid is not None
        os.kill(pid, which)

    def kill(self, number: int) -> None:
        """Kill one member at once."""
        self.signal(number, signal.SIGKILL)

    def revive(self, number: int) -> None:
        """Start a killed member again."""
        pid = self.supervisors[number].pid
        assert pid is not None
        os.waitpid(pid, 0)
        self.supervisors[number].release()
        self.supervisors[number] = EtcdSupervisor(self.configs[number])
        self.supervisors[number].start()

    def end(self) -> None:
        """Kill what still runs."""
        for supervisor in self.supervisors:
            if supervisor.pid is not None:
                os.kill(supervisor.pid, signal.SIGKILL)
                os.waitpid(supervisor.pid, 0)
                supervisor.release()


PATIENT = Timing(call_s=20.0, write_attempt_s=10.0)
"""The promises are not about time: a busy machine may take long for a write."""


class World(Protocol):
    """A store under test: the own corner of a database, and what only its operator can do."""

    space: str

    def store(self) -> Store:
        """Return a new way to the same database."""

    def compact(self, revision: int) -> None:
        """Forget the history before ``revision``."""


@dataclass
class MemoryWorld:
    """The twin."""

    space: str
    database: MemoryDatabase = field(default_factory=MemoryDatabase)

    def store(self) -> Store:
        """Return a new way to the same database."""
        return MemoryStore(self.database)

    def compact(self, revision: int) -> None:
        """Forget the history before ``revision``."""
        self.database.compact(revision)


@dataclass
class EtcdWorld:
    """The real thing."""

    space: str
    cluster: EtcdCluster
    closing: AsyncExitStack

    def store(self) -> Store:
        """Return a new client, each preferring another member."""
        first = next(_spaces) % len(self.cluster.configs)
        store = EtcdStore(self.cluster.connections(first, timing=PATIENT))
        self.closing.push_async_callback(store.close)
        return store

    def compact(self, revision: int) -> None:
        """Forget the history before ``revision``."""
        assert self.cluster.ctl("compact", str(revision))


@pytest.fixture(scope="session")
def etcd_of_size(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], EtcdCluster]]:
    """Give the cluster of that size, started once for all tests."""
    clusters: dict[int, EtcdCluster] = {}

    def get(size: int) -> EtcdCluster:
        if size not in clusters:
            clusters[size] = EtcdCluster.start(tmp_path_factory.mktemp(f"etcd{size}"), size)
        return clusters[size]

    yield get
    for cluster in clusters.values():
        cluster.end()


@pytest.fixture(params=["memory", "etcd-1", "etcd-3"])
async def world(request: pytest.FixtureRequest, etcd_of_size: Callable[[int], EtcdCluster]) -> AsyncIterator[World]:
    """A database that the test may fill below ``space``."""
    space = f"space{next(_spaces)}/"
    if request.param == "memory":
        yield MemoryWorld(space)
        return
    async with AsyncExitStack() as closing:
        yield EtcdWorld(space, etcd_of_size(int(request.param[-1])), closing)


@pytest.fixture
def three(etcd_of_size: Callable[[int], EtcdCluster]) -> Iterator[EtcdCluster]:
    """Three members, all healthy before and after the test."""
    cluster = etcd_of_size(3)
    yield cluster
    for number, supervisor in enumerate(cluster.supervisors):
        assert supervisor.pid is not None
        os.kill(supervisor.pid, signal.SIGCONT)
        if os.waitid(os.P_PID, supervisor.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            cluster.revive(number)
    cluster.wait_healthy()
