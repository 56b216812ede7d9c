"""Going on from a backup: this machine becomes the only node of a new generation of its cluster.

Rule of the file: no guest runs here from the first step on, and `identity.json` is written last. Killed between any two
lines, the machine is either the node that it was, or in no cluster, or the restored one; the backup's file is never
touched, so restoring can be repeated. Source: SAFE-1, docs/safety.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from holdfast.membership.cluster_key import read_cluster_key
from holdfast.membership.errors import NotJoined
from holdfast.membership.identity import (
    IncarnationFile,
    IpText,
    NodeIdentity,
    Ports,
    read_boot_id,
    read_identity,
    write_identity,
)
from holdfast.model.backups import RestoredCluster
from holdfast.model.errors import Conflict, InvalidInput
from holdfast.model.ids import ClusterId, NetworkName, NodeName
from holdfast.model.nodes import NodeSpec
from holdfast.model.roles import RoleSpec
from holdfast.node.backups import read_backup
from holdfast.node.clean_machine import clean_machine
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import database_member
from holdfast.node.enrolment import peer_of
from holdfast.node.founding import NAME_PATTERN, Tell, commit_first, write_own_authority
from holdfast.node.left_behind import kept_of_another_generation, set_aside
from holdfast.node.residence import forget_cluster, known_nodes, node_spec, require_own_addresses
from holdfast.node.restored_records import Restoration
from holdfast.store.backup import Backup
from holdfast.store.etcd.member_config import InitialState
from holdfast.store.etcd.supervisor import EtcdSupervisor
from holdfast.store.port import Put, Txn
from holdfast.store.records import NODES, SPECS, decode

CLEAN_WITHIN_S: Final = 30.0
TXN_BYTES: Final = 512 * 1024
TXN_OPERATIONS: Final = 256


class RestoreParams(BaseModel):
    """What `holdfast backup restore` asks for.

    node, addresses   of a machine that is in no cluster; a node of the cluster stays who it is.
    down              nodes of which the person says that they are down, and stay so until they join anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    person: str
    node: str | None = Field(default=None, pattern=NAME_PATTERN)
    addresses: dict[str, IpText] = {}
    ports: Ports = Ports()
    down: tuple[str, ...] = ()


class Machine(Protocol):
    """What restoring does to the machine beside writing its files."""

    async def end_guests(self, roles: Collection[str]) -> None:
        """End every guest of a role, and be certain of it. Raises: HoldfastError."""

    async def begin_database(self, identity: NodeIdentity, records: tuple[Put, ...]) -> None:
        """Start a new member of one, and have it hold exactly these records. Raises: HoldfastError."""


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """The machine that holdfastd runs on."""

    config: DaemonConfig

    async def end_guests(self, roles: Collection[str]) -> None:
        """See the protocol; gives up after half a minute."""
        await clean_machine(self.config, roles, within_s=CLEAN_WITHIN_S)

    async def begin_database(self, identity: NodeIdentity, records: tuple[Put, ...]) -> None:
        """See the protocol; the member runs on."""
        supervisor = EtcdSupervisor(database_member(self.config, identity, InitialState.NEW, ()))
        try:
            supervisor.start()
            await commit_first(self.config, identity, supervisor, tuple(transactions(records)))
        finally:
            supervisor.release()


@dataclass(frozen=True, slots=True)
class Restorer:
    """Restores on this machine, while no node lives on it."""

    config: DaemonConfig
    clock: Clock
    machine: Machine

    def check(self, params: RestoreParams) -> Restoration:
        """Read the backup and say what would become of it here; changes nothing.

        Raises: NotFound, BackupDamaged, Conflict, InvalidInput.
        """
        backup = read_backup(params.path)
        present = self._present(backup)
        if present is None:
            identity = self._newcomer(backup, params)
            known: dict[NodeName, NodeSpec] = {}
        else:
            identity, known = present, known_nodes(present)
        now_ms = self.clock.wall_ms()
        oldest = max(backup.generation, identity.generation) + 1
        identity = identity.model_copy(update={"generation": max(oldest, now_ms // 1000), "is_voter": True})
        restoration = Restoration(
            backup=backup,
            me=identity,
            own=node_spec(identity, is_voter=True, joined_at_ms=now_ms),
            known=known,
            down=frozenset(map(NodeName, params.down)),
            person=params.person,
            now_ms=now_ms,
        )
        if unknown := sorted(set(restoration.down) - restoration.others().keys()):
            raise InvalidInput(
                f"{', '.join(unknown)}: no other node of this cluster has that name",
                hint=f"there are {', '.join(restoration.others()) or 'no other ones'}",
            )
        peers = tuple(peer_of(spec) for spec in restoration.others().values())
        return replace(restoration, me=identity.model_copy(update={"peers": peers}))

    async def restore(self, restoration: Restoration, roles: Collection[str], tell: Tell) -> RestoredCluster:
        """Do it. `roles`: uuids of guests that the node which lived here knew. Raises: HoldfastError.

        Source: SAFE-1: nothing of the earlier generation runs here when the new one may let it run.
        """
        key = self._heartbeat_key(restoration.backup)
        tell("ending every guest of a role on this machine")
        await self.machine.end_guests({*roles, *_uuids(restoration.backup)})
        IncarnationFile(read_boot_id(), self.config.run_directory / "incarnation").replace()
        try:
            before = read_identity(self.config.identity)
        except NotJoined:
            await forget_cluster(self.config)
        else:
            folder = await set_aside(self.config, before.generation)
            tell(f"what this machine had of the cluster is kept in {folder}")
        identity = restoration.me
        tell(f"beginning generation {identity.generation} of the database")
        write_own_authority(self.config, identity, key)
        await self.machine.begin_database(identity, restoration.records())
        write_identity(identity, self.config.identity)
        return RestoredCluster(
            cluster=identity.cluster_name,
            node=identity.node,
            generation=identity.generation,
            unaccounted=restoration.unaccounted(),
        )

    def _heartbeat_key(self, backup: Backup) -> bytes:
        """The one that this machine had last: the others may have changed theirs since the backup, and with it.

        Only by heartbeats that they can read do they learn that they are left behind. Source: docs/safety.md.
        """
        kept = kept_of_another_generation(self.config)
        for folder in (self.config.state_directory, *((kept,) if kept is not None else ())):
            with contextlib.suppress(NotJoined):
                if read_identity(folder / self.config.identity.name).cluster_id == backup.cluster_id:
                    return read_cluster_key(folder / self.config.cluster_key.name)
        return bytes.fromhex(backup.cluster_key_hex)

    def _present(self, backup: Backup) -> NodeIdentity | None:
        """Who this machine is. Raises: Conflict when it is a node of another cluster."""
        try:
            present = read_identity(self.config.identity)
        except NotJoined:
            return None
        if present.cluster_id != backup.cluster_id:
            raise Conflict(
                f"this machine is node {present.node} of cluster {present.cluster_name}, the backup is of another one, "
                f"{backup.cluster_name} ({backup.cluster_id})",
                hint="restore it on a machine that is in no cluster",
            )
        return present

    def _newcomer(self, backup: Backup, params: RestoreParams) -> NodeIdentity:
        """A machine that was in no cluster. Another machine's name it may not take: that one may still run guests."""
        if params.node is None or not params.addresses:
            raise InvalidInput(
                "this machine is in no cluster, so its name and addresses are needed",
                hint="holdfast backup restore FILE --node NAME --address NETWORK=IP",
            )
        require_own_addresses(params.addresses)
        identity = NodeIdentity(
            cluster_id=ClusterId(backup.cluster_id),
            cluster_name=backup.cluster_name,
            node=NodeName(params.node),
            node_id=str(uuid4()),
            addresses={NetworkName(name): ip for name, ip in params.addresses.items()},
            ports=params.ports,
            is_voter=True,
        )
        own = node_spec(identity, is_voter=True, joined_at_ms=0)
        for key, value in backup.items:
            if key == NODES + identity.node:
                known = decode(NodeSpec, key, value).machine_id
                if not known or known != own.machine_id:
                    raise Conflict(
                        f"the backup knows another machine as {identity.node}, which may still run guests",
                        hint="give this machine a name of its own with --node",
                    )
        return identity


def transactions(records: tuple[Put, ...]) -> Iterator[Txn]:
    """The records in pieces that the database takes, in their order."""
    piece: list[Put] = []
    size = 0
    for record in records:
        if piece and (len(piece) >= TXN_OPERATIONS or size + len(record.value) > TXN_BYTES):
            yield Txn(then=tuple(piece))
            piece, size = [], 0
        piece.append(record)
        size += len(record.value)
    if piece:
        yield Txn(then=tuple(piece))


def _uuids(backup: Backup) -> set[str]:
    return {decode(RoleSpec, key, value).uuid for key, value in backup.items if key.startswith(SPECS)}
