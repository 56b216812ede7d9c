"""A witness in one cluster: it votes, listens, and says what it hears. It runs no guests and decides nothing.

Rule of the file: what a node does to keep its session and its voice, and nothing of what a host does. Source: DESIGN 6.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import Final

from holdfast import __version__
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.cluster_key import read_cluster_key
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.identity import IncarnationFile, NodeIdentity, read_boot_id
from holdfast.membership.replay import Sequences
from holdfast.membership.udp_transport import UdpTransport
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.nodes import Capacity, NodeReport, Session
from holdfast.model.snapshot import Snapshot
from holdfast.node.certificates import CertificateKeeper
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import member_addresses, open_database
from holdfast.node.enrolment import peers_of
from holdfast.node.event_log import EventLog
from holdfast.node.hearing import Hearing
from holdfast.node.heartbeat_keys import KeyRing
from holdfast.node.heartbeats import Heartbeats
from holdfast.node.member_process import EtcdProcess
from holdfast.node.mirror import Mirror
from holdfast.node.open_connections import cut
from holdfast.node.residence import known_nodes
from holdfast.node.seat import SeatKeeper
from holdfast.node.session import SessionEnd, SessionKeeper
from holdfast.node.transactions import revision_of
from holdfast.store.port import ModRevision, Put, Txn
from holdfast.store.records import encode, report_key

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0


class Witness:
    """One cluster's witness on this machine. `run` ends when the witness was removed from the cluster."""

    def __init__(self, config: DaemonConfig, identity: NodeIdentity, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock
        self._database = open_database(config, identity)
        self._mirror = Mirror()
        self._events = EventLog(identity.node, clock)
        self._hearing = Hearing(identity.node, tuple(identity.addresses))
        self._incarnations = IncarnationFile(read_boot_id(), config.run_directory / "incarnation")
        self._process = EtcdProcess(config, identity)
        self._seat = SeatKeeper(
            me=identity.node,
            store=self._database.store,
            admin=self._database.admin,
            mirror=self._mirror,
            process=self._process,
            file=config.seat,
        )
        self._certificates = CertificateKeeper(
            identity=identity,
            files=CertificateFiles(config.keys),
            store=self._database.store,
            mirror=self._mirror,
            clock=clock,
            show=self._show_certificate,
            cut=lambda peers: cut(peers, (identity.ports.etcd_client, identity.ports.etcd_peer)),
        )
        port = identity.ports.heartbeat
        codec = HeartbeatCodec(
            cluster_id=identity.cluster_id,
            cluster_key=read_cluster_key(config.cluster_key),
            networks=identity.addresses,
        )
        self._keys = KeyRing(codec=codec, file=config.cluster_key, mirror=self._mirror)
        self._heartbeats = Heartbeats(
            cluster_id=identity.cluster_id,
            me=identity.node,
            incarnation=self._incarnations.load_or_create(),
            hearing=self._hearing,
            codec=codec,
            transport=UdpTransport({n: Endpoint(address=ip, port=port) for n, ip in identity.addresses.items()}),
            sequences=Sequences(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000),
            mirror=self._mirror,
            clock=clock,
            peers=known_nodes(identity),
            generation=identity.generation,
        )

    async def run(self) -> None:
        """Run until cancelled, until removed from the cluster, or until left behind by a restore of its database."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._database.store.close)
            stack.push_async_callback(self._process.close)
            works = (
                self._seat.run(),
                self._heartbeats.run(),
                self._mirror.run(self._database.store),
                self._events.run(self._database.store),
                self._follow_peers(),
                self._certificates.run(),
                self._keys.run(),
            )
            async with asyncio.TaskGroup() as tasks:
                working: list[asyncio.Task[object]] = [tasks.create_task(work) for work in works]
                working += [tasks.create_task(self._live()), tasks.create_task(self._heartbeats.superseded.wait())]
                await asyncio.wait(working[-2:], return_when=asyncio.FIRST_COMPLETED)
                for task in working:
                    task.cancel()

    def _show_certificate(self) -> None:
        self._database.connections.use_new_certificate()
        self._process.use_new_certificate()

    async def _live(self) -> None:
        """Keep a session until evicted; after a verdict as another incarnation, for nothing here could do harm."""
        while True:
            incarnation = self._incarnations.load_or_create()
            self._heartbeats.incarnation = incarnation
            self._heartbeats.registered_at = None
            snapshot = await self._snapshot()
            keeper = SessionKeeper(
                self._database.store, self._mirror, self._clock, self._events, self._session(incarnation, snapshot)
            )
            end = await keeper.register()
            if end is None:
                end = await self._serve(keeper)
            log.warning("the session of witness %s ended: %s", self._identity.node, end)
            if end is SessionEnd.EVICTED:
                return
            if end is SessionEnd.LOST:
                self._incarnations.replace()

    async def _serve(self, keeper: SessionKeeper) -> SessionEnd:
        self._heartbeats.registered_at = keeper.registered_at
        async with asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(self._report(keeper))
            end = await keeper.keep()
            reporting.cancel()
        return end

    async def _report(self, keeper: SessionKeeper) -> None:
        """Say what is heard and how the member is, when it changes."""
        while keeper.me is not None:
            me = keeper.me
            written = (await self._snapshot()).reports.get(me.node)
            report = self._observe(keeper.session.incarnation)
            if written is None or written.value != report:
                unchanged = ModRevision(report_key(me.node), equals=revision_of(written))
                put = Put(report_key(me.node), encode(report), lease=me.lease)
                try:
                    await self._database.store.txn(Txn(compares=(me.holds_session, unchanged), then=(put,)))
                except HoldfastError as error:
                    log.warning("report not written: %s", error)
            await asyncio.sleep(LOOK_S)

    def _observe(self, incarnation: Incarnation) -> NodeReport:
        snapshot = self._mirror.snapshot or Snapshot()
        now_ms, limit_ms = self._clock.monotonic_ms(), snapshot.settings.timings.suspect_after_ms
        hears: dict[NodeName, tuple[str, ...]] = {}
        for name, session in sorted(snapshot.sessions.items()):
            ages = self._hearing.silent_ms(name, session.value.incarnation, now_ms)
            hears[name] = tuple(sorted(network for network, age_ms in ages.items() if age_ms < limit_ms))
        return NodeReport(
            node=self._identity.node,
            incarnation=incarnation,
            capacity=Capacity(memory_bytes=0, vcpus=0),
            hears=hears,
            conditions=(*self._heartbeats.conditions(), *self._seat.conditions()),
            seat=self._seat.seat,
            heartbeat_keys=self._keys.ids,
        )

    def _session(self, incarnation: Incarnation, snapshot: Snapshot) -> Session:
        return Session(
            node=self._identity.node,
            incarnation=incarnation,
            version=__version__,
            started_at_ms=self._clock.wall_ms(),
            guard_deadline_ms=snapshot.settings.timings.guard_deadline_ms,
            watchdog_timeout_ms=None,
            voters=tuple(sorted(snapshot.voters())),
        )

    async def _follow_peers(self) -> None:
        """Speak to the database members that there are now, and expect the heartbeats of those who are up."""
        changed = self._mirror.subscribe()
        while True:
            await changed.wait()
            changed.clear()
            snapshot = self._mirror.snapshot
            if snapshot is None or self._identity.node not in snapshot.nodes:
                continue
            up = {(name, session.value.incarnation) for name, session in sorted(snapshot.sessions.items())}
            self._hearing.expect(sorted(up), self._clock.monotonic_ms())
            peers = peers_of(snapshot, without=self._identity.node)
            is_voter = snapshot.nodes[self._identity.node].value.is_voter
            self._identity = self._identity.model_copy(update={"peers": peers, "is_voter": is_voter})
            self._database.connections.use_members(member_addresses(self._identity, peers))

    async def _snapshot(self) -> Snapshot:
        changed = self._mirror.subscribe()
        while self._mirror.snapshot is None:
            await changed.wait()
            changed.clear()
        return self._mirror.snapshot
