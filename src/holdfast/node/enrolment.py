"""Letting a machine into the cluster: what a node of the cluster answers on its join port.

Rule of the file: one transaction uses the token and adds the node, without a vote; whatever fails before that leaves
the cluster as it was. Source: DESIGN section 6.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from holdfast import __version__
from holdfast.decide.certificates import revoked_without
from holdfast.membership.attempts import REFUSED_AT_MOST, WITHIN_MS, Attempts
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import fingerprint, sign_request
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.identity import IpText, NodeIdentity, Peer, Ports
from holdfast.membership.revocation import issued, sign_revocations
from holdfast.membership.tokens import TokenRecord, check_token, create_token, decode_token
from holdfast.model.certificates import NodeCertificates, Revocations
from holdfast.model.errors import Conflict, HoldfastError, InvalidInput, NotFound, Refused, Unavailable
from holdfast.model.events import EventCode
from holdfast.model.ids import NetworkName, NodeName
from holdfast.model.nodes import NodeSpec
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.model.versions import can_run_together
from holdfast.node.address_requests import MemberAddresses
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.line_protocol import Result
from holdfast.node.mirror import Mirror
from holdfast.node.request_params import FaultDomainText
from holdfast.node.spec_transactions import as_all_nodes_are, set_node
from holdfast.node.voters import peer_urls, seated
from holdfast.store.port import Member, ModRevision, Operation, Put, Store, Txn
from holdfast.store.records import REVOCATIONS, TOKENS, certificates_key, decode, encode

log = logging.getLogger(__name__)

CLOCK_TOLERANCE_MS: Final = 60_000
MEMBERS_S: Final = 2.0
ATTEMPTS: Final = 5


class JoinRequest(BaseModel):
    """What a joining machine says of itself.

    addresses   per network of the cluster; a witness may leave them out and say instead
    reached     per address of a node that it reached, its own address on the way there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str
    node: str
    addresses: dict[str, IpText]
    ports: Ports
    version: str
    wall_clock_ms: int
    request_pem: str
    reached: dict[str, IpText] = {}
    is_witness: bool = False
    machine_id: str = ""
    product_uuid: str = ""
    fault_domains: tuple[FaultDomainText, ...] = ()


class Admission(BaseModel):
    """What an admitted machine gets. `authority_key_pem` is empty for a witness, which admits nobody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str
    cluster_name: str
    cluster_key_hex: str
    authority_pem: str
    authority_key_pem: str
    certificate_pem: str
    shared_directories: tuple[str, ...]
    addresses: dict[str, IpText]
    peers: tuple[Peer, ...]
    generation: int = 1
    revocations_pem: str = ""


class Enrolment:
    """Makes join tokens and admits those who bring one."""

    def __init__(
        self,
        *,
        identity: NodeIdentity,
        files: CertificateFiles,
        cluster_key: Callable[[], bytes],
        store: Store,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
        members: MemberAddresses,
    ) -> None:
        self._identity = identity
        self._files = files
        self._cluster_key = cluster_key
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._members = members
        self._attempts = Attempts()

    def use_identity(self, identity: NodeIdentity) -> None:
        """Name this node's present addresses in tokens from now on."""
        self._identity = identity

    async def create_token(self, ttl_ms: int) -> tuple[str, int]:
        """Make a one-time token; returns it with its expiry in wall-clock ms."""
        snapshot = self._snapshot()
        endpoints = [
            Endpoint(address=address, port=node.value.join_port)
            for node in snapshot.nodes.values()
            if not node.value.is_witness
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

    async def handle(self, method: str, params: dict[str, Any], *, source: str) -> AsyncGenerator[object, None]:
        """Answer on the join port; `source` is the address that asks."""
        if method == "authority":
            yield Result(self._files.authority.read_text())
        elif method == "join":
            self._require_patience(source)
            try:
                admission = await self._admit(JoinRequest.model_validate(params))
            except HoldfastError:
                self._attempts.refused(source, self._clock.monotonic_ms())
                raise
            yield Result(admission)
        else:
            raise NotFound(f"the join port knows no method {method!r}", hint="use: holdfast node join TOKEN")

    def _require_patience(self, source: str) -> None:
        """Raises: Refused when this address was refused too often."""
        wait_ms = self._attempts.wait_ms(source, self._clock.monotonic_ms())
        if wait_ms:
            raise Refused(
                f"{source} was refused {REFUSED_AT_MOST} times within {WITHIN_MS // 1000} s",
                hint=f"wait {wait_ms // 1000 + 1} s; make a new token meanwhile: holdfast token create",
            )

    async def _admit(self, request: JoinRequest) -> Admission:
        """Decide it on the nodes as they are known, and anew when one was written meanwhile: two never get one address.

        Source: SAFE-4.
        """
        for _ in range(ATTEMPTS):
            txn, admission = await self._decide(request)
            result = await self._store.txn(txn)
            if result.succeeded:
                return admission
            await self._mirror.wait_revision(result.revision)
        raise Conflict("nodes were changed by others all the time", hint="try again")

    async def _decide(self, request: JoinRequest) -> tuple[Txn, Admission]:
        """What lets the machine in, and what it gets."""
        token = decode_token(request.token)
        now_ms = self._clock.wall_ms()
        key = TOKENS + token.token_id
        stored = await self._store.get(key)
        record = decode(TokenRecord, key, stored.value) if stored is not None else None
        own_fingerprint = fingerprint(self._files.authority.read_bytes())
        check_token(token, record, authority_fingerprint=own_fingerprint, now_ms=now_ms)
        snapshot = self._snapshot()
        if request.is_witness and not request.addresses:
            request = request.model_copy(update={"addresses": addresses_on_the_way(request.reached, snapshot)})
        before = check_joiner(request, snapshot, now_ms=now_ms)
        await self._require_uncalled(request, snapshot)
        certificate = sign_request(
            self._files.read_authority(datetime.now(UTC)),
            request.request_pem.encode(),
            node=NodeName(request.node),
            addresses=request.addresses.values(),
            now=datetime.now(UTC),
        )
        node = _new_node(request, now_ms)
        if before is not None:
            node = replace(
                node,
                fence=before.value.fence,
                capacity=before.value.capacity,
                site=before.value.site,
                fault_domains=node.fault_domains or before.value.fault_domains,
            )
        assert record is not None
        assert stored is not None
        event = self._events.event(EventCode.NODE_JOINED, node.name)
        add = set_node(node, before=before, events=self._events.operations(event))
        use = Put(key, encode(record.used(node.name, now_ms)))
        known = NodeCertificates(
            node=node.name,
            issued=(issued(certificate, "the new certificate"),),
            request_pem=request.request_pem if node.is_witness else "",
        )
        then = (*add.then, use, Put(certificates_key(node.name), encode(known)))
        txn = Txn(compares=(*add.compares, ModRevision(key, equals=stored.mod_revision)), then=then)
        return as_all_nodes_are(txn, snapshot), self._admission(certificate, node, snapshot)

    async def _require_uncalled(self, request: JoinRequest, snapshot: Snapshot) -> None:
        """Refuse addresses at which a member of another node is called yet, as far as the members are known."""
        try:
            members = await self._members.members(timeout_s=MEMBERS_S)
        except HoldfastError as error:
            log.info("the members of the database are not known while %s joins: %s", request.node, error.message)
            return
        check_uncalled(_new_node(request, 0), snapshot, members)

    def _admission(self, certificate: bytes, node: NodeSpec, snapshot: Snapshot) -> Admission:
        return Admission(
            cluster_id=self._identity.cluster_id,
            cluster_name=self._identity.cluster_name,
            cluster_key_hex=self._cluster_key().hex(),
            authority_pem=self._files.authority.read_text(),
            authority_key_pem="" if node.is_witness else self._files.authority_key.read_text(),
            certificate_pem=certificate.decode(),
            shared_directories=snapshot.settings.shared_directories,
            addresses={str(network): address for network, address in node.addresses.items()},
            peers=peers_of(snapshot, without=node.name),
            generation=self._identity.generation,
            revocations_pem=self._listed(snapshot),
        )

    def _listed(self, snapshot: Snapshot) -> str:
        """The list of what is revoked, which may be nothing."""
        if snapshot.revocations is not None:
            return snapshot.revocations.value.list_pem
        now = datetime.now(UTC)
        return sign_revocations(self._files.read_authority(now), (), now).decode()

    def revoke(self, snapshot: Snapshot, node: NodeName) -> tuple[Operation, ...]:
        """What makes the certificates of a node that goes worth nothing. Raises: CertificateInvalid."""
        revoked = revoked_without(snapshot, node, self._clock.wall_ms())
        now = datetime.now(UTC)
        listed = sign_revocations(self._files.read_authority(now), revoked, now)
        return (Put(REVOCATIONS, encode(Revocations(revoked=revoked, list_pem=listed.decode()))),)

    def _snapshot(self) -> Snapshot:
        if self._mirror.snapshot is None:
            raise Unavailable("this node has not reached the cluster database yet", hint="try again in a moment")
        return self._mirror.snapshot


def addresses_on_the_way(reached: Mapping[str, str], snapshot: Snapshot) -> dict[str, str]:
    """A witness's own address per network of the cluster on which it reached a node. Raises: InvalidInput."""
    networks = {ip: net for node in snapshot.nodes.values() for net, ip in node.value.addresses.items()}
    found = {str(networks[ip]): own for ip, own in sorted(reached.items()) if ip in networks}
    if not found:
        raise InvalidInput(
            f"the witness reached {', '.join(sorted(reached)) or 'no address'}, which no node has",
            hint="make a new token, so that it names the nodes' present addresses",
        )
    return found


def _new_node(request: JoinRequest, now_ms: int) -> NodeSpec:
    return NodeSpec(
        name=NodeName(request.node),
        addresses={NetworkName(name): address for name, address in request.addresses.items()},
        is_voter=False,
        etcd_client_port=request.ports.etcd_client,
        etcd_peer_port=request.ports.etcd_peer,
        heartbeat_port=request.ports.heartbeat,
        join_port=request.ports.join,
        joined_at_ms=now_ms,
        is_witness=request.is_witness,
        machine_id=request.machine_id,
        product_uuid=request.product_uuid,
        fault_domains=tuple(sorted(set(request.fault_domains))),
    )


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
    if (
        before is not None
        and not is_left_behind(request, snapshot)
        and (before.value.is_voter or has_been_up(request.node, snapshot))
    ):
        raise Conflict(f"a node named {request.node} is in the cluster already", hint="choose another name with --node")
    wanted = {frozenset(node.value.addresses) for node in snapshot.nodes.values() if not node.value.is_witness}
    known = {frozenset(map(str, names)) for names in wanted}
    if not (request.is_witness and frozenset(request.addresses) <= frozenset().union(*known)) and (
        frozenset(request.addresses) not in known
    ):
        names = ", ".join(sorted(map(str, next(iter(wanted), ()))))
        raise Refused(
            f"node {request.node} brings networks {', '.join(sorted(request.addresses))}, the cluster has {names}",
            hint="give one --address NETWORK=IP for each network of the cluster",
        )
    taken = {ip: node.value.name for node in snapshot.nodes.values() for ip in node.value.addresses.values()}
    for ip in request.addresses.values():
        if taken.get(ip, request.node) != request.node and not request.is_witness:
            raise Conflict(f"address {ip} belongs to node {taken[ip]}", hint="give this node an address of its own")
    return before


def check_uncalled(joiner: NodeSpec, snapshot: Snapshot, members: Iterable[Member]) -> None:
    """Refuse who would be taken for the home of a member that is not its own. Raises: Conflict. Source: SAFE-4."""
    homes = {one.id: one.node for one in seated(snapshot, members)}
    for member in members:
        taken = sorted(set(member.peer_urls).intersection(peer_urls(joiner)))
        if taken and homes[int(member.id)] != joiner.name:
            raise Conflict(
                f"{taken[0]} is where the cluster database still calls the member of "
                f"{homes[int(member.id)] or 'no node'}",
                hint="give this node an address of its own, or try again once that one is given up",
            )


def is_left_behind(request: JoinRequest, snapshot: Snapshot) -> bool:
    """Whether the machine is a node of before the restore that was not seen since: it may come back as itself.

    Another machine may not take that name: its being clean says nothing of the one that had it. Source: SAFE-2.
    """
    verdict = snapshot.verdicts.get(NodeName(request.node))
    if verdict is None or verdict.value.before_generation is None or request.node in snapshot.sessions:
        return False
    known = snapshot.nodes[NodeName(request.node)].value.machine_id
    return bool(known) and known == request.machine_id


def has_been_up(node: str, snapshot: Snapshot) -> bool:
    """Whether a node ever came up, as far as the database knows."""
    name = NodeName(node)
    owned = any(o.value.owner == name for o in snapshot.ownerships.values())
    return name in snapshot.sessions or name in snapshot.verdicts or owned


def peers_of(snapshot: Snapshot, *, without: NodeName) -> tuple[Peer, ...]:
    """The other nodes as a node keeps them on its own disk."""
    return tuple(peer_of(node.value) for name, node in sorted(snapshot.nodes.items()) if name != without)


def peer_of(node: NodeSpec) -> Peer:
    """A node as the others keep it on their own disks."""
    return Peer(
        node=node.name,
        addresses=node.addresses,
        ports=Ports(
            heartbeat=node.heartbeat_port,
            join=node.join_port,
            etcd_client=node.etcd_client_port,
            etcd_peer=node.etcd_peer_port,
        ),
        is_voter=node.is_voter,
    )
