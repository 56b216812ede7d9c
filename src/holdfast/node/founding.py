"""How a machine gets into a cluster: by founding one, or by joining one with a token.

Rule of the file: `identity.json` is written last. Without it a machine is in no cluster, and whatever an attempt left
behind is cleared before the next one: nothing is ever half done. Source: DESIGN section 6.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from holdfast import __version__
from holdfast.membership.certificate_files import CertificateFiles, joining_context, unproven_context
from holdfast.membership.certificates import (
    KeyAndCertificate,
    KeyAndRequest,
    create_authority,
    create_request,
    require_fingerprint,
    sign_request,
)
from holdfast.membership.cluster_key import create_cluster_key, write_cluster_key
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.identity import IpText, NodeIdentity, Ports, write_identity
from holdfast.membership.tokens import JoinToken, decode_token
from holdfast.model.errors import HoldfastError, InvalidInput, Refused, Unavailable
from holdfast.model.ids import ClusterId, NetworkName, NodeName
from holdfast.model.nodes import NodeSpec
from holdfast.model.settings import Settings
from holdfast.model.snapshot import ClusterRecord
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import database_member, open_database
from holdfast.node.enrolment import Admission, JoinRequest
from holdfast.node.settings_words import changed_settings
from holdfast.store.errors import MemberChangeRefused
from holdfast.store.etcd.member_config import InitialState
from holdfast.store.etcd.preconditions import check
from holdfast.store.etcd.supervisor import EtcdSupervisor
from holdfast.store.port import Delete, MemberId, ModRevision, Put, Store, StoreAdmin, Txn
from holdfast.store.records import CLUSTER, decode, encode, node_key

log = logging.getLogger(__name__)

NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DATABASE_WAIT_S: Final = 30.0
ANSWER_WAIT_S: Final = 45.0

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


class JoinParams(BaseModel):
    """What `holdfast node join` asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str
    node: str = Field(pattern=NAME_PATTERN)
    addresses: dict[str, IpText] = Field(min_length=1)
    ports: Ports = Ports()


@dataclass(frozen=True, slots=True)
class Founder:
    """Founds or joins a cluster on this machine."""

    config: DaemonConfig
    clock: Clock

    async def create(self, params: CreateParams, tell: Tell) -> NodeIdentity:
        """Found a cluster of this one node. After an error this machine is as before."""
        settings = changed_settings(
            Settings(shared_directories=_checked_directories(params.shared_directories)), params.settings
        )
        _require_own_addresses(params.addresses)
        await self._clear_leftovers()
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
        self._write_own_authority(identity)
        supervisor = EtcdSupervisor(database_member(self.config, identity, InitialState.NEW, ()))
        try:
            tell("starting the cluster database")
            supervisor.start()
            await self._write_first_records(identity, settings, supervisor)
            write_identity(identity, self.config.identity)
        except BaseException:
            await self._undo(supervisor)
            raise
        supervisor.release()
        return identity

    async def join(self, params: JoinParams, tell: Tell) -> NodeIdentity:
        """Join the cluster that issued the token. After an error this machine and the cluster are as before.

        What can be known to fail here is tried before the cluster is asked, so that it costs no token.
        """
        token = decode_token(params.token)
        _require_own_addresses(params.addresses)
        await self._clear_leftovers()
        room = database_member(self.config, _stranger(params), InitialState.EXISTING, ())
        supervisor = EtcdSupervisor(room)
        try:
            check(room)
            request = create_request(NodeName(params.node))
            tell(f"asking {', '.join(map(str, token.endpoints[:2]))} to be let in")
            admission = await _ask_to_join(token, self._join_request(params, request))
            identity = _admitted(params, admission)
            supervisor = EtcdSupervisor(
                database_member(self.config, identity, InitialState.EXISTING, admission.initial_cluster)
            )
            try:
                self._write_admission(admission, request.key_pem)
                _checked_directories(admission.shared_directories)
                await self._take_seat(identity, admission, supervisor, tell)
                write_identity(identity, self.config.identity)
            except BaseException:
                await self._withdraw(identity, admission)
                raise
        except BaseException:
            await self._undo(supervisor)
            raise
        supervisor.release()
        return identity

    def _join_request(self, params: JoinParams, request: KeyAndRequest) -> JoinRequest:
        return JoinRequest(
            token=params.token,
            node=params.node,
            addresses=params.addresses,
            ports=params.ports,
            version=__version__,
            wall_clock_ms=self.clock.wall_ms(),
            request_pem=request.request_pem.decode(),
        )

    def _write_own_authority(self, identity: NodeIdentity) -> None:
        now = datetime.now(UTC)
        files = CertificateFiles(self.config.keys)
        authority = create_authority(cluster_name=identity.cluster_name, now=now)
        request = create_request(identity.node)
        certificate = sign_request(
            authority, request.request_pem, node=identity.node, addresses=identity.addresses.values(), now=now
        )
        files.write_authority(authority)
        files.write_node(key_pem=request.key_pem, certificate_pem=certificate, authority_pem=authority.certificate_pem)
        write_cluster_key(create_cluster_key(), self.config.cluster_key)

    def _write_admission(self, admission: Admission, key_pem: bytes) -> None:
        from_pem = admission.authority_pem.encode()
        files = CertificateFiles(self.config.keys)
        files.write_authority(_authority(admission))
        files.write_node(key_pem=key_pem, certificate_pem=admission.certificate_pem.encode(), authority_pem=from_pem)
        write_cluster_key(bytes.fromhex(admission.cluster_key_hex), self.config.cluster_key)

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
        database = open_database(self.config, identity)
        try:
            await _retry(lambda: database.store.txn(txn, timeout_s=2.0), supervisor)
        finally:
            await database.store.close()

    async def _take_seat(
        self, identity: NodeIdentity, admission: Admission, supervisor: EtcdSupervisor, tell: Tell
    ) -> None:
        """Start this node's member, wait until it has caught up, and give it its vote."""
        if admission.member_id is None:
            return
        tell("starting this node's member of the cluster database")
        supervisor.start()
        database = open_database(self.config, identity)
        try:
            tell("copying the cluster database")
            member = MemberId(admission.member_id)
            await _retry(lambda: _promote(database.admin, member), supervisor)
            while not await _retry(lambda: _record_vote(database.store, identity.node), supervisor):
                continue
        finally:
            await database.store.close()

    async def _withdraw(self, identity: NodeIdentity, admission: Admission) -> None:
        """Take back what the cluster prepared for this node, as far as it can be reached."""
        database = open_database(self.config, identity)
        key = node_key(identity.node)
        try:
            stored = await database.store.get(key)
            if stored is not None:
                unchanged = ModRevision(key, equals=stored.mod_revision)
                await database.store.txn(Txn(compares=(unchanged,), then=(Delete(key),)), timeout_s=5.0)
            if admission.member_id is not None:
                await database.admin.remove(MemberId(admission.member_id), timeout_s=5.0)
        except HoldfastError as error:
            log.warning("the cluster keeps a seat for this node; joining again replaces it (%s)", error)
        finally:
            await database.store.close()

    async def _clear_leftovers(self) -> None:
        """Remove what an attempt left that did not get as far as an identity."""
        nobody = JoinParams(token="", node="none", addresses={"none": "127.0.0.1"})
        await self._undo(EtcdSupervisor(database_member(self.config, _stranger(nobody), InitialState.NEW, ())))

    async def _undo(self, supervisor: EtcdSupervisor) -> None:
        await supervisor.stop()
        for folder in (self.config.database, self.config.keys):
            if folder.exists():
                shutil.rmtree(folder)
        self.config.cluster_key.unlink(missing_ok=True)


async def _record_vote(store: Store, node: NodeName) -> bool:
    """Write that the node votes; False when its record changed meanwhile."""
    key = node_key(node)
    stored = await store.get(key)
    if stored is None:
        raise Refused(f"node {node} was removed while it joined", hint="join again")
    spec = replace(decode(NodeSpec, key, stored.value), is_voter=True)
    compare = ModRevision(key, equals=stored.mod_revision)
    return (await store.txn(Txn(compares=(compare,), then=(Put(key, encode(spec)),)))).succeeded


def _stranger(params: JoinParams) -> NodeIdentity:
    """A machine before any cluster has let it in."""
    return NodeIdentity(
        cluster_id=ClusterId(str(uuid4())),
        cluster_name="none",
        node=NodeName(params.node),
        node_id=str(uuid4()),
        addresses={NetworkName(name): ip for name, ip in params.addresses.items()},
        ports=params.ports,
        is_voter=True,
    )


def _admitted(params: JoinParams, admission: Admission) -> NodeIdentity:
    """The same machine once it was let in."""
    return _stranger(params).model_copy(
        update={
            "cluster_id": ClusterId(admission.cluster_id),
            "cluster_name": admission.cluster_name,
            "is_voter": admission.member_id is not None,
            "peers": admission.peers,
        }
    )


def node_spec(identity: NodeIdentity, *, is_voter: bool, joined_at_ms: int) -> NodeSpec:
    """The database's record of a node as it describes itself."""
    return NodeSpec(
        name=identity.node,
        addresses=dict(identity.addresses),
        is_voter=is_voter,
        etcd_client_port=identity.ports.etcd_client,
        etcd_peer_port=identity.ports.etcd_peer,
        heartbeat_port=identity.ports.heartbeat,
        join_port=identity.ports.join,
        joined_at_ms=joined_at_ms,
    )


def _authority(admission: Admission) -> KeyAndCertificate:
    return KeyAndCertificate(
        key_pem=admission.authority_key_pem.encode(), certificate_pem=admission.authority_pem.encode()
    )


async def _promote(admin: StoreAdmin, member: MemberId) -> None:
    """Give a member its vote. One that has it already is no learner any more: the answer of an earlier try was lost."""
    try:
        await admin.promote(member, timeout_s=2.0)
    except MemberChangeRefused:
        if not any(one.id == member and not one.is_learner for one in await admin.members(timeout_s=2.0)):
            raise


async def _retry(attempt: Callable[[], Any], supervisor: EtcdSupervisor) -> Any:
    """Repeat what may be repeated until the database answers or it is clear that it will not."""
    until = asyncio.get_running_loop().time() + DATABASE_WAIT_S
    while True:
        try:
            return await attempt()
        except (Unavailable, MemberChangeRefused):
            if supervisor.problem is not None:
                raise supervisor.problem from None
            if asyncio.get_running_loop().time() > until:
                raise
        await asyncio.sleep(0.1)


async def _ask_to_join(token: JoinToken, request: JoinRequest) -> Admission:
    """Ask one node after the other; a refusal is final, silence is not."""
    failures = []
    for endpoint in token.endpoints:
        try:
            pem = str(await _call(endpoint, unproven_context(), "authority", {})).encode()
            require_fingerprint(pem, token.authority_fingerprint, str(endpoint))
            answer = await _call(endpoint, joining_context(pem), "join", request.model_dump(mode="json"))
            return Admission.model_validate(answer)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            failures.append(f"{endpoint} ({str(error) or 'no answer'})")
    raise Unavailable(
        f"no node of the cluster answered: {', '.join(failures)}",
        hint="check that holdfastd runs there and that the join port is not blocked, then join again",
    )


class _Refusal(HoldfastError):
    """What a node of the cluster answered; its code is the remote one."""

    code = "join-refused"


async def _call(endpoint: Endpoint, context: ssl.SSLContext, method: str, params: Mapping[str, Any]) -> object:
    async with asyncio.timeout(ANSWER_WAIT_S):
        async with asyncio.timeout(3.0):
            reader, writer = await asyncio.open_connection(
                endpoint.address, endpoint.port, ssl=context, limit=4 * 1024 * 1024
            )
        try:
            writer.write(json.dumps({"method": method, "params": params}).encode() + b"\n")
            answer = json.loads(await reader.readline() or b"{}")
        finally:
            writer.close()
    if "error" in answer:
        raise _Refusal(answer["error"]["message"], hint=answer["error"]["hint"])
    if "result" not in answer:
        raise TimeoutError("the connection was closed")
    result: object = answer["result"]
    return result


def _checked_directories(directories: tuple[str, ...]) -> tuple[str, ...]:
    for directory in directories:
        path = Path(directory)
        if not path.is_absolute() or not path.is_dir():
            raise InvalidInput(
                f"shared directory {directory!r} is not an absolute path of a directory on this machine",
                hint="mount the shared storage at the same path on every node first",
            )
    return tuple(str(Path(directory)) for directory in directories)


def _require_own_addresses(addresses: Mapping[str, str]) -> None:
    for network, address in addresses.items():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError as error:
                raise InvalidInput(
                    f"address {address} of network {network} is not on this machine ({error.strerror})",
                    hint="see `ip address` for this machine's addresses",
                ) from error
