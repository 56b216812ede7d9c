"""A witness in one cluster, on this machine: its life with the real things behind its ports.

Rule of the file: composition only. It votes, listens, and says what it hears; it runs no guests and decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.cluster_key import read_cluster_key
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.identity import IncarnationFile, NodeIdentity, read_boot_id
from holdfast.membership.replay import Sequences
from holdfast.membership.seat_file import SeatFile
from holdfast.membership.udp_transport import UdpTransport
from holdfast.model.nodes import Condition
from holdfast.node.certificates import CertificateKeeper
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import member_addresses, open_database
from holdfast.node.enrolment import peers_of
from holdfast.node.heartbeat_keys import KeyRing
from holdfast.node.member_process import EtcdProcess
from holdfast.node.open_connections import cut
from holdfast.node.residence import known_nodes
from holdfast.node.seat import SeatKeeper
from holdfast.node.witness_life import WitnessLife, WitnessPorts


class Witness:
    """One cluster's witness on this machine. `run` ends when the witness was removed from the cluster."""

    def __init__(self, config: DaemonConfig, identity: NodeIdentity, clock: Clock) -> None:
        self._identity = identity
        self._database = open_database(config, identity)
        self._process = EtcdProcess(config, identity)
        port = identity.ports.heartbeat
        codec = HeartbeatCodec(
            cluster_id=identity.cluster_id,
            cluster_key=read_cluster_key(config.cluster_key),
            networks=identity.addresses,
        )
        self._life = WitnessLife(
            cluster_id=identity.cluster_id,
            me=identity.node,
            peers=known_nodes(identity),
            ports=WitnessPorts(
                store=self._database.store,
                transport=UdpTransport({n: Endpoint(address=ip, port=port) for n, ip in identity.addresses.items()}),
                codec=codec,
                sequences=Sequences(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000),
                incarnations=IncarnationFile(read_boot_id(), config.run_directory / "incarnation"),
                clock=clock,
            ),
            seat=lambda: self._seat.seat,
            more_conditions=self._conditions,
            heartbeat_keys=lambda: self._keys.ids,
            generation=identity.generation,
        )
        self._keys = KeyRing(codec=codec, file=config.cluster_key, mirror=self._life.mirror)
        self._seat = SeatKeeper(
            me=identity.node,
            store=self._database.store,
            admin=self._database.admin,
            mirror=self._life.mirror,
            process=self._process,
            note=SeatFile(config.seat),
            shortage=self._process.shortage,
        )
        self._certificates = CertificateKeeper(
            identity=identity,
            files=CertificateFiles(config.keys),
            store=self._database.store,
            mirror=self._life.mirror,
            clock=clock,
            show=self._show_certificate,
            cut=lambda peers: cut(peers, (identity.ports.etcd_client, identity.ports.etcd_peer)),
        )

    async def run(self) -> None:
        """Run until cancelled, until removed from the cluster, or until left behind by a restore of its database."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._database.store.close)
            stack.push_async_callback(self._process.close)
            works = (self._seat.run(), self._certificates.run(), self._keys.run(), self._follow_peers())
            async with asyncio.TaskGroup() as tasks:
                working: list[asyncio.Task[None]] = [tasks.create_task(work) for work in works]
                await self._life.run()
                for task in working:
                    task.cancel()

    def _conditions(self) -> tuple[Condition, ...]:
        return self._seat.conditions()

    def _show_certificate(self) -> None:
        self._database.connections.use_new_certificate()
        self._process.use_new_certificate()

    async def _follow_peers(self) -> None:
        """Speak to the database members that there are now."""
        changed = self._life.mirror.subscribe()
        while True:
            await changed.wait()
            changed.clear()
            snapshot = self._life.mirror.snapshot
            if snapshot is None or self._identity.node not in snapshot.nodes:
                continue
            peers = peers_of(snapshot, without=self._identity.node)
            is_voter = snapshot.nodes[self._identity.node].value.is_voter
            self._identity = self._identity.model_copy(update={"peers": peers, "is_voter": is_voter})
            self._database.connections.use_members(member_addresses(self._identity, peers))
