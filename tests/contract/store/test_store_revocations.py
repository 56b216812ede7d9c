"""A revoked certificate: real etcd refuses it from the next handshake on, without a restart, and nobody else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.contract.store.conftest import free_port

from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import KeyAndCertificate, create_authority, create_request, sign_request
from holdfast.membership.revocation import issued, sign_revocations
from holdfast.model.certificates import RevokedCertificate
from holdfast.model.errors import Unavailable
from holdfast.model.ids import NodeName
from holdfast.store.etcd.client import EtcdConnections, EtcdStore
from holdfast.store.etcd.member_config import InitialState, MemberConfig
from holdfast.store.etcd.supervisor import EtcdSupervisor
from holdfast.store.etcd.tls import TlsFiles
from holdfast.store.port import Put, Txn

NOW = datetime.now(UTC)


def certified(folder: Path, authority: KeyAndCertificate, name: str) -> CertificateFiles:
    """A node's own files."""
    folder.mkdir()
    request = create_request(NodeName(name))
    pem = sign_request(authority, request.request_pem, node=NodeName(name), addresses=("127.0.0.1",), now=NOW)
    files = CertificateFiles(folder)
    files.write_node(key_pem=request.key_pem, certificate_pem=pem, authority_pem=authority.certificate_pem)
    files.write_revocations(sign_revocations(authority, (), NOW))
    return files


def tls(files: CertificateFiles) -> TlsFiles:
    return TlsFiles(
        authority=files.authority, certificate=files.certificate, key=files.key, revocations=files.revocations
    )


def member(folder: Path, files: CertificateFiles) -> MemberConfig:
    client, peer = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    return MemberConfig(
        name="m",
        data_dir=folder / "etcd",
        log_file=folder / "etcd.log",
        process_file=folder / "etcd.process",
        client_addresses=(client,),
        peer_addresses=(peer,),
        initial_cluster=(("m", peer),),
        initial_state=InitialState.NEW,
        cluster_token="revocations",
        tls=tls(files),
    )


async def writes(address: str, files: CertificateFiles) -> bool:
    """Whether somebody with these files gets a write through on a connection of its own."""
    connections = EtcdConnections((address,), tls(files))
    store = EtcdStore(connections)
    try:
        return (await store.txn(Txn(then=(Put("k", b"v"),)), timeout_s=1.0)).succeeded
    except Unavailable:
        return False
    finally:
        await store.close()


async def wait_written(address: str, files: CertificateFiles) -> None:
    """Return once a write got through."""
    for _ in range(100):
        if await writes(address, files):
            return


@pytest.mark.timeout(60)
async def test_who_is_revoked_gets_in_no_more_and_the_others_do(tmp_path: Path) -> None:
    authority = create_authority(cluster_name="revocations", now=NOW)
    own = certified(tmp_path / "own", authority, "own")
    gone, other = (certified(tmp_path / name, authority, name) for name in ("gone", "other"))
    config = member(tmp_path, own)
    supervisor = EtcdSupervisor(config)
    supervisor.start()
    address = config.client_addresses[0]
    try:
        async with asyncio.timeout(20):
            await asyncio.gather(*(wait_written(address, files) for files in (own, gone, other)))
        serial = issued(gone.read_node(), "test").serial
        entry = RevokedCertificate(node=NodeName("gone"), serial=serial, until_ms=0, at_ms=int(NOW.timestamp() * 1000))
        own.write_revocations(sign_revocations(authority, (entry,), NOW))
        assert not await writes(address, gone)
        assert await writes(address, other)
        assert await writes(address, own)
    finally:
        await supervisor.stop()
