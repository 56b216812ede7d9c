"""A node in its cluster, on this machine: the life of a node with the real things behind its ports.

Rule of the file: composition only; what is decided and done is in `life` and what it is made of.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from holdfast.fencing.agent import FenceAgentDevice, FenceDeviceConfig
from holdfast.fencing.guard_client import GuardClient
from holdfast.fencing.port import FenceDevice
from holdfast.hypervisor.copy_connections import LIBVIRT_PORT
from holdfast.hypervisor.libvirt_host import LibvirtHost
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.cluster_key import read_cluster_key
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.identity import IncarnationFile, NodeIdentity, read_boot_id, write_identity
from holdfast.membership.replay import Sequences
from holdfast.membership.seat_file import SeatFile
from holdfast.membership.udp_transport import UdpTransport
from holdfast.model.disks import DiskSpec
from holdfast.model.errors import HoldfastError
from holdfast.model.nodes import Condition, FenceSpec, Seat
from holdfast.node.backups import Backups
from holdfast.node.certificates import CertificateKeeper, ensure_list
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import Database, member_addresses, open_database
from holdfast.node.enrolment import Enrolment, peers_of
from holdfast.node.heartbeat_keys import KeyRing
from holdfast.node.join_port import JoinPort
from holdfast.node.libvirt_certificates import memory_target
from holdfast.node.libvirt_copies import LibvirtCopies
from holdfast.node.life import Life
from holdfast.node.line_protocol import answer
from holdfast.node.member_calls import MemberCalls, listens
from holdfast.node.member_process import EtcdProcess
from holdfast.node.open_connections import cut
from holdfast.node.ports import Ports
from holdfast.node.residence import known_nodes
from holdfast.node.seat import SeatKeeper
from holdfast.storage.port import Lun
from holdfast.storage.ways import open_lun, parse_way

log = logging.getLogger(__name__)


class Member:
    """This node, running. Made once per daemon, while the event loop runs."""

    def __init__(self, config: DaemonConfig, identity: NodeIdentity, clock: Clock) -> None:
        renew_certificate(config, identity)
        self.identity = identity
        self._config = config
        codec = HeartbeatCodec(
            cluster_id=identity.cluster_id,
            cluster_key=read_cluster_key(config.cluster_key),
            networks=identity.addresses,
        )
        files = CertificateFiles(config.keys)
        self._join_context = files.server_context(requires_client=False)
        self._join_port = JoinPort(port=identity.ports.join, context=self._join_context, answer=self._answer_joiner)
        self.database: Database = open_database(config, identity)
        self._process = EtcdProcess(config, identity)
        self._hypervisor = LibvirtHost(uri=config.libvirt_uri)
        self.life = Life(
            cluster_id=identity.cluster_id,
            me=identity.node,
            peers=known_nodes(identity),
            ports=Ports(
                store=self.database.store,
                hypervisor=self._hypervisor,
                guard=GuardClient(config.guard_socket),
                transport=_transport(identity),
                codec=codec,
                sequences=Sequences(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000),
                incarnations=IncarnationFile(read_boot_id(), config.run_directory / "incarnation"),
                device_of=device_of,
                open_lun=open_disk,
                clock=clock,
                on_silent=lambda node: self.database.connections.silent(node.addresses.values()),
                admin=self.database.admin,
                memory_target=lambda: memory_target(config.keys, self.identity),
            ),
            more_conditions=self._conditions,
            seat=self._seat,
            heartbeat_keys=lambda: self.keys.ids,
            generation=identity.generation,
        )
        self.keys = KeyRing(codec=codec, file=config.cluster_key, mirror=self.life.mirror)
        self.backups = Backups(
            config=config, identity=identity, store=self.database.store, mirror=self.life.mirror, clock=clock
        )
        self.seat = SeatKeeper(
            me=identity.node,
            store=self.database.store,
            admin=self.database.admin,
            mirror=self.life.mirror,
            process=self._process,
            note=SeatFile(config.seat),
            shortage=self._process.shortage,
        )
        self.member_calls = MemberCalls(
            me=identity.node,
            store=self.database.store,
            mirror=self.life.mirror,
            members=self.database.admin,
            listens=listens,
            restart=self._process.restart,
        )
        self.certificates = CertificateKeeper(
            identity=identity,
            files=files,
            store=self.database.store,
            mirror=self.life.mirror,
            clock=clock,
            show=self._show_certificate,
            cut=lambda peers: cut(peers, (identity.ports.etcd_client, identity.ports.etcd_peer, LIBVIRT_PORT)),
            copy=LibvirtCopies(config.keys).follow,
        )
        self.enrolment = Enrolment(
            identity=identity,
            files=files,
            cluster_key=lambda: self.keys.used,
            store=self.database.store,
            mirror=self.life.mirror,
            clock=clock,
            events=self.life.events,
            members=self.database.admin,
        )

    async def run(self) -> None:
        """Run until cancelled."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.database.store.close)
            stack.push_async_callback(self._process.close)
            stack.callback(self._join_port.close)
            await self._join_port.listen_at(tuple(self.identity.addresses.values()))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.seat.run())
                tasks.create_task(self.member_calls.run())
                tasks.create_task(self._hypervisor.run())
                tasks.create_task(self.life.run())
                tasks.create_task(self.backups.run())
                tasks.create_task(self.certificates.run())
                tasks.create_task(self.keys.run())
                tasks.create_task(self._remember_peers())

    def _show_certificate(self) -> None:
        """Show the certificate that is on disk from the next handshake on: connections that are open stay so."""
        files = CertificateFiles(self._config.keys)
        self._join_context.load_cert_chain(files.certificate, files.key)
        self.database.connections.use_new_certificate()
        self._process.use_new_certificate()

    def _conditions(self) -> tuple[Condition, ...]:
        votes = self.life.voters.conditions() if self.life.voters is not None else ()
        return (*self.seat.conditions(), *self.backups.conditions(), *votes)

    def _seat(self) -> Seat | None:
        return self.seat.seat

    async def _answer_joiner(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str((writer.get_extra_info("peername") or ("an address that is gone",))[0])
        await answer(reader, writer, partial(self.enrolment.handle, source=source))

    async def _remember_peers(self) -> None:
        """Keep on disk who else there is, and speak to the database members that there are now."""
        changed = self.life.mirror.subscribe()
        searching = True
        while True:
            await changed.wait()
            changed.clear()
            snapshot = self.life.mirror.snapshot
            if snapshot is None or self.identity.node not in snapshot.nodes:
                continue
            own = snapshot.nodes[self.identity.node].value
            known = {
                "peers": peers_of(snapshot, without=self.identity.node),
                "is_voter": own.is_voter,
                "addresses": dict(own.addresses),
            }
            is_news = any(getattr(self.identity, name) != value for name, value in known.items())
            if not is_news and not searching:
                continue
            searching = False
            has_moved = self.identity.addresses != own.addresses
            self.identity = self.identity.model_copy(update=known)
            if has_moved:
                self.enrolment.use_identity(self.identity)
                self._process.use_addresses(self.identity)
                await self._join_port.listen_at(tuple(own.addresses.values()))
            peers = self.identity.peers
            self.database.connections.use_members(member_addresses(self.identity, peers))
            if not is_news:
                continue
            try:
                await asyncio.to_thread(write_identity, self.identity, self._config.identity)
            except HoldfastError as error:
                log.error("%s", error)


def open_disk(disk: DiskSpec) -> Lun:
    """The way from this node to a disk, as its record says. Raises: InvalidInput."""
    return open_lun(parse_way(disk.reservations.replace("{designator}", disk.designator)))


def renew_certificate(config: DaemonConfig, identity: NodeIdentity) -> None:
    """Issue this node's certificate anew in good time. Trouble is logged: with heartbeats alone guests still run on."""
    files = CertificateFiles(config.keys)
    try:
        ensure_list(files, datetime.now(UTC))
        if files.renew_node(node=identity.node, addresses=identity.addresses.values(), now=datetime.now(UTC)):
            log.info("the certificate of %s was renewed", identity.node)
    except HoldfastError as error:
        log.error("the certificate of %s cannot be renewed: %s", identity.node, error)


def device_of(spec: FenceSpec) -> FenceDevice:
    """The fence device that a node's record describes."""
    return FenceAgentDevice(FenceDeviceConfig(agent=spec.agent, options=spec.options))


def _transport(identity: NodeIdentity) -> UdpTransport:
    port = identity.ports.heartbeat
    return UdpTransport({name: Endpoint(address=ip, port=port) for name, ip in identity.addresses.items()})
