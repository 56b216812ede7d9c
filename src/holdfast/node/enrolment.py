"""Letting a machine into the cluster: what a node of the cluster answers on its join port.

Rule of the file: the database's vote is prepared first (a learner has none yet), then one transaction uses the token
and adds the node; whatever fails before that leaves the cluster as it was. Source: DESIGN section 6.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from holdfast import __version__
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import fingerprint, sign_request
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.identity import IpText, NodeIdentity, Peer, Ports
from holdfast.membership.tokens import TokenRecord, check_token, create_token, decode_token
from holdfast.model.errors import Conflict, NotFound, Refused, Unavailable
from holdfast.model.events import EventCode
from holdfast.model.ids import NetworkName, NodeName
from holdfast.model.nodes import NodeSpec
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.model.versions import can_run_together
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.line_protocol import Result
from holdfast.node.mirror import Mirror
from holdfast.node.transactions import set_node
from holdfast.store.errors import MemberChangeRefused
from holdfast.store.etcd.member_config import joining_cluster
from holdfast.store.port import Member, ModRevision, Put, Store, StoreAdmin, Txn
from holdfast.store.records import TOKENS, decode, encode

log = logging.getLogger(__name__)

VOTERS_AT_MOST: Final = 5
CLOCK_TOLERANCE_MS: Final = 60_000
LEARNER_WAIT_S: Final = 30.0


class JoinRequest(BaseModel):
    """What a joining machine says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str
    node: str
    addresses: dict[str, IpText]
    ports: Ports
    version: str
    wall_clock_ms: int
    request_pem: str


class Admission(BaseModel):
    """What an admitted machine gets. `initial_cluster` is empty for a node without a vote."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str
    cluster_name: str
    cluster_key_hex: str
    authority_pem: str
    authority_key_pem: str
    certificate_pem: str
    shared_directories: tuple[str, ...]
    initial_cluster: tuple[tuple[str, str], ...]
    member_id: int | None
    peers: tuple[Peer, ...]


class Enrolment:
    """Makes join tokens and admits those who bring one."""

    def __init__(
        self,
        *,
        identity: NodeIdentity,
        files: CertificateFiles,
        cluster_key: bytes,
        store: Store,
        admin: StoreAdmin,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
    ) -> None:
        self._identity = identity
        self._files = files
        self._cluster_key = cluster_key
        self._store = store
        self._admin = admin
        self._mirror = mirror
        self._clock = clock
        self._events = events

    async def create_token(self, ttl_ms: int) -> tuple[str, int]:
        """Make a one-time token; returns it with its expiry in wall-clock ms."""
        snapshot = self._snapshot()
        endpoints = [
            Endpoint(address=address, port=node.value.join_port)
            for node in snapshot.nodes.values()
            for address in node.value.addresses.values()
        ]
        own = [Endpoint(address=a, port=self._identity.ports.join) for a in self._identity.addresses.values()]
        text, record = create_token(
            authority_fingerprint=fingerprint(self._files.authority.read_bytes()),
            endpoints=[*own, *(endpoint for endpoint in endpoints if endpoint not in own)][:6],
            now_ms=self._clock.wall_ms(),
            ttl_ms=ttl_ms,
        )
        await self._store.txn(Txn(then=(Put(TOKENS + record.token_id, encode(record)),)))
        return text, record.expires_at_ms

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer on the join port."""
        if method == "authority":
            yield Result(self._files.authority.read_text())
        elif method == "join":
            yield Result(await self._admit(JoinRequest.model_validate(params)))
        else:
            raise NotFound(f"the join port knows no method {method!r}", hint="use: holdfast node join TOKEN")

    async def _admit(self, request: JoinRequest) -> Admission:
        token = decode_token(request.token)
        now_ms = self._clock.wall_ms()
        key = TOKENS + token.token_id
        stored = await self._store.get(key)
        record = decode(TokenRecord, key, stored.value) if stored is not None else None
        own_fingerprint = fingerprint(self._files.authority.read_bytes())
        check_token(token, record, authority_fingerprint=own_fingerprint, now_ms=now_ms)
        snapshot = self._snapshot()
        before = check_joiner(request, snapshot, now_ms=now_ms)
        certificate = sign_request(
            self._files.read_authority(datetime.now(UTC)),
            request.request_pem.encode(),
            node=NodeName(request.node),
            addresses=request.addresses.values(),
            now=datetime.now(UTC),
        )
        member = await self._add_learner(request) if len(snapshot.voters()) < VOTERS_AT_MOST else None
        node = NodeSpec(
            name=NodeName(request.node),
            addresses={NetworkName(name): address for name, address in request.addresses.items()},
            is_voter=False,
            etcd_client_port=request.ports.etcd_client,
            etcd_peer_port=request.ports.etcd_peer,
            heartbeat_port=request.ports.heartbeat,
            join_port=request.ports.join,
            joined_at_ms=now_ms,
        )
        assert record is not None
        assert stored is not None
        event = self._events.event(EventCode.NODE_JOINED, node.name)
        add = set_node(node, before=before, events=self._events.operations(event))
        use = Put(key, encode(record.used(node.name, now_ms)))
        txn = Txn(compares=(*add.compares, ModRevision(key, equals=stored.mod_revision)), then=(*add.then, use))
        try:
            succeeded = (await self._store.txn(txn)).succeeded
        except Unavailable:
            await self._withdraw(member)
            raise
        if not succeeded:
            await self._withdraw(member)
            raise Conflict(f"node {node.name} or its token was used by another request just now", hint="try again")
        return await self._admission(certificate, member, node, snapshot)

    async def _admission(
        self, certificate: bytes, member: Member | None, node: NodeSpec, snapshot: Snapshot
    ) -> Admission:
        members = await self._admin.members() if member is not None else ()
        return Admission(
            cluster_id=self._identity.cluster_id,
            cluster_name=self._identity.cluster_name,
            cluster_key_hex=self._cluster_key.hex(),
            authority_pem=self._files.authority.read_text(),
            authority_key_pem=self._files.authority_key.read_text(),
            certificate_pem=certificate.decode(),
            shared_directories=snapshot.settings.shared_directories,
            initial_cluster=joining_cluster(members, node.name),
            member_id=member.id if member is not None else None,
            peers=peers_of(snapshot, without=node.name),
        )

    async def _add_learner(self, request: JoinRequest) -> Member:
        """Prepare the vote; waits while another machine is joining, and replaces what an aborted join left."""
        urls = tuple(f"https://{Endpoint(address=a, port=request.ports.etcd_peer)}" for a in request.addresses.values())
        until = asyncio.get_running_loop().time() + LEARNER_WAIT_S
        while True:
            try:
                return await self._admin.add_learner(urls)
            except Conflict:
                await self._withdraw(await self._abandoned(urls))
            except MemberChangeRefused as refusal:
                if asyncio.get_running_loop().time() > until:
                    raise Refused(
                        f"another machine has been joining for over {LEARNER_WAIT_S:.0f} s: {refusal.message}",
                        hint="let it finish, or run its join again; then run this one again",
                    ) from refusal
            await asyncio.sleep(0.5)

    async def _abandoned(self, urls: tuple[str, ...]) -> Member:
        for member in await self._admin.members():
            if set(member.peer_urls) & set(urls):
                return member
        raise Conflict(f"the database refuses a member at {', '.join(urls)}", hint="choose other addresses or ports")

    async def _withdraw(self, member: Member | None) -> None:
        if member is not None:
            await self._admin.remove(member.id)

    def _snapshot(self) -> Snapshot:
        if self._mirror.snapshot is None:
            raise Unavailable("this node has not reached the cluster database yet", hint="try again in a moment")
        return self._mirror.snapshot


def check_joiner(request: JoinRequest, snapshot: Snapshot, *, now_ms: int) -> Versioned[NodeSpec] | None:
    """Refuse a machine that would not fit; returns the record that an aborted join of the same node left."""
    versions = {__version__, *(session.value.version for session in snapshot.sessions.values())}
    far = sorted(version for version in versions if not can_run_together(request.version, version))
    if far:
        raise Refused(
            f"node {request.node} runs Holdfast {request.version}, this cluster {', '.join(far)}",
            hint="install the same version on all; one release of difference is allowed, as during an upgrade",
        )
    off_ms = request.wall_clock_ms - now_ms
    if abs(off_ms) > CLOCK_TOLERANCE_MS:
        raise Refused(
            f"the clock of {request.node} is {off_ms / 1000:+.0f} s off against this cluster "
            f"(tolerated: {CLOCK_TOLERANCE_MS // 1000} s)",
            hint="set up time synchronisation (chrony) on it and join again",
        )
    before = snapshot.nodes.get(NodeName(request.node))
    if before is not None and (before.value.is_voter or has_been_up(request.node, snapshot)):
        raise Conflict(f"a node named {request.node} is in the cluster already", hint="choose another name with --node")
    wanted = {frozenset(node.value.addresses) for node in snapshot.nodes.values()}
    if frozenset(request.addresses) not in {frozenset(map(str, names)) for names in wanted}:
        names = ", ".join(sorted(map(str, next(iter(wanted), ()))))
        raise Refused(
            f"node {request.node} brings networks {', '.join(sorted(request.addresses))}, the cluster has {names}",
            hint="give one --address NETWORK=IP for each network of the cluster",
        )
    taken = {ip: node.value.name for node in snapshot.nodes.values() for ip in node.value.addresses.values()}
    for ip in request.addresses.values():
        if taken.get(ip, request.node) != request.node:
            raise Conflict(f"address {ip} belongs to node {taken[ip]}", hint="give this node an address of its own")
    return before


def has_been_up(node: str, snapshot: Snapshot) -> bool:
    """Whether a node ever came up, as far as the database knows."""
    name = NodeName(node)
    owned = any(o.value.owner == name for o in snapshot.ownerships.values())
    return name in snapshot.sessions or name in snapshot.verdicts or owned


def peers_of(snapshot: Snapshot, *, without: NodeName) -> tuple[Peer, ...]:
    """The other nodes as a node keeps them on its own disk."""
    return tuple(
        Peer(
            node=name,
            addresses=node.value.addresses,
            ports=Ports(
                heartbeat=node.value.heartbeat_port,
                join=node.value.join_port,
                etcd_client=node.value.etcd_client_port,
                etcd_peer=node.value.etcd_peer_port,
            ),
            is_voter=node.value.is_voter,
        )
        for name, node in sorted(snapshot.nodes.items())
        if name != without
    )
