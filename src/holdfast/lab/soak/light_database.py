"""A cluster database for light nodes: one etcd, in memory, that ends with the process that started it.

Rule of the file: it is real etcd behind real TLS; only its members are fewer, and on no node.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from holdfast.lab.errors import LabBroken
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import create_authority, create_request, sign_request
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import NodeName
from holdfast.store.etcd.client import EtcdConnections, EtcdStore
from holdfast.store.etcd.member_config import InitialState, MemberConfig
from holdfast.store.etcd.tls import TlsFiles

_READY_S: Final = 15.0


class LightDatabase:
    """A running etcd."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, tls: TlsFiles) -> None:
        self._process = process
        self.port = port
        self.tls = tls
        self.store = EtcdStore(EtcdConnections((f"127.0.0.1:{port}",), tls))

    def hang(self) -> None:
        """Let it answer nobody."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def light_database(folder: Path) -> AsyncIterator[LightDatabase]:
    """Run an empty database below `folder` while the context lasts. Raises LabBroken."""
    tls = _tls(folder / "tls")
    client, peer = free_port(), free_port()
    member = MemberConfig(
        name="database",
        data_dir=folder / "data",
        log_file=folder / "etcd.log",
        process_file=folder / "etcd.pid",
        client_addresses=(f"127.0.0.1:{client}",),
        peer_addresses=(f"127.0.0.1:{peer}",),
        initial_cluster=(("database", f"127.0.0.1:{peer}"),),
        initial_state=InitialState.NEW,
        cluster_token="soak",  # noqa: S106 - names the cluster, and is no secret
        tls=tls,
        progress_interval="1s",
    )
    with member.log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL"),
            *member.arguments(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    database = LightDatabase(process, client, tls)
    try:
        await _wait_ready(database, member.log_file)
        yield database
    finally:
        await database.store.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _wait_ready(database: LightDatabase, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _READY_S
    while True:
        try:
            await database.store.get("ready")
        except HoldfastError as error:
            if asyncio.get_running_loop().time() > deadline:
                last = log.read_text().strip().splitlines()[-1:]
                raise LabBroken(f"the database does not answer: {error.message}; {last}") from error
            await asyncio.sleep(0.1)
        else:
            return


def _tls(folder: Path) -> TlsFiles:
    """An authority and one certificate for 127.0.0.1."""
    now = datetime.now(UTC)
    authority = create_authority(cluster_name="soak", now=now)
    request = create_request(NodeName("node"))
    certificate = sign_request(authority, request.request_pem, node=NodeName("node"), addresses=("127.0.0.1",), now=now)
    folder.mkdir(parents=True)
    files = CertificateFiles(folder)
    files.write_node(key_pem=request.key_pem, certificate_pem=certificate, authority_pem=authority.certificate_pem)
    return TlsFiles(authority=files.authority, certificate=files.certificate, key=files.key)
