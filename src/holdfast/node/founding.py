"""Founding a cluster of one node on this machine.

Rule of the file: after an error the machine is as before; what it keeps is the business of `residence`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import create_authority, create_request, sign_request
from holdfast.membership.cluster_key import create_cluster_key, write_cluster_key
from holdfast.membership.identity import IpText, NodeIdentity, Ports, write_identity
from holdfast.membership.revocation import sign_revocations
from holdfast.model.errors import Unavailable
from holdfast.model.ids import ClusterId, NetworkName, NodeName
from holdfast.model.settings import Settings
from holdfast.model.snapshot import ClusterRecord
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import database_member, open_database
from holdfast.node.residence import checked_directories, forget_cluster, node_spec, require_own_addresses
from holdfast.node.settings_words import changed_settings
from holdfast.store.etcd.member_config import InitialState
from holdfast.store.etcd.supervisor import EtcdSupervisor
from holdfast.store.port import ModRevision, Put, Store, Txn
from holdfast.store.records import CLUSTER, encode, node_key

NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DATABASE_WAIT_S: Final = 30.0

Tell = Callable[[str], None]


class CreateParams(BaseModel):
    """What `holdfast cluster create` asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: str = Field(pattern=NAME_PATTERN)
    node: str = Field(pattern=NAME_PATTERN)
    addresses: dict[str, IpText] = Field(min_length=1)
    shared_directories: tuple[str, ...] = ()
    ports: Ports = Ports()
    settings: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Founder:
    """Founds a cluster on this machine."""

    config: DaemonConfig
    clock: Clock

    async def create(self, params: CreateParams, tell: Tell) -> NodeIdentity:
        """Found a cluster of this one node, which has the only vote."""
        settings = changed_settings(
            Settings(shared_directories=checked_directories(params.shared_directories)), params.settings
        )
        require_own_addresses(params.addresses)
        await forget_cluster(self.config)
        identity = NodeIdentity(
            cluster_id=ClusterId(str(uuid4())),
            cluster_name=params.cluster,
            node=NodeName(params.node),
            node_id=str(uuid4()),
            addresses={NetworkName(name): ip for name, ip in params.addresses.items()},
            ports=params.ports,
            is_voter=True,
        )
        tell("making the cluster's certificate authority and key")
        write_own_authority(self.config, identity, create_cluster_key())
        supervisor = EtcdSupervisor(database_member(self.config, identity, InitialState.NEW, ()))
        try:
            tell("starting the cluster database")
            supervisor.start()
            await self._write_first_records(identity, settings, supervisor)
            write_identity(identity, self.config.identity)
        except BaseException:
            supervisor.release()
            await forget_cluster(self.config)
            raise
        supervisor.release()
        return identity

    async def _write_first_records(
        self, identity: NodeIdentity, settings: Settings, supervisor: EtcdSupervisor
    ) -> None:
        now_ms = self.clock.wall_ms()
        record = ClusterRecord(
            id=identity.cluster_id, name=identity.cluster_name, created_at_ms=now_ms, settings=settings
        )
        spec = node_spec(identity, is_voter=True, joined_at_ms=now_ms)
        txn = Txn(
            compares=(ModRevision(CLUSTER, equals=0),),
            then=(Put(CLUSTER, encode(record)), Put(node_key(identity.node), encode(spec))),
        )
        await commit_first(self.config, identity, supervisor, (txn,))


def write_own_authority(config: DaemonConfig, identity: NodeIdentity, cluster_key: bytes) -> None:
    """Make a new authority with this node's certificate, and keep both beside the key of the heartbeats."""
    now = datetime.now(UTC)
    files = CertificateFiles(config.keys)
    authority = create_authority(cluster_name=identity.cluster_name, now=now)
    request = create_request(identity.node)
    certificate = sign_request(
        authority, request.request_pem, node=identity.node, addresses=identity.addresses.values(), now=now
    )
    files.write_authority(authority)
    files.write_revocations(sign_revocations(authority, (), now))
    files.write_node(key_pem=request.key_pem, certificate_pem=certificate, authority_pem=authority.certificate_pem)
    write_cluster_key(cluster_key, config.cluster_key)


async def commit_first(
    config: DaemonConfig, identity: NodeIdentity, supervisor: EtcdSupervisor, txns: tuple[Txn, ...]
) -> None:
    """Write the first records of a database that was just started; each may be written twice. Raises: Unavailable."""
    database = open_database(config, identity)
    try:
        for txn in txns:
            await _commit_patiently(database.store, txn, supervisor)
    finally:
        await database.store.close()


async def _commit_patiently(store: Store, txn: Txn, supervisor: EtcdSupervisor) -> None:
    until = asyncio.get_running_loop().time() + DATABASE_WAIT_S
    while True:
        try:
            await store.txn(txn, timeout_s=2.0)
            return
        except Unavailable:
            if supervisor.problem is not None:
                raise supervisor.problem from None
            if asyncio.get_running_loop().time() > until:
                raise
        await asyncio.sleep(0.1)
