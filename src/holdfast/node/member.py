"""A node in its cluster: everything that runs from the moment it knows who it is.

Rule of the file: what belongs to the machine (heartbeats, mirror, detector) runs all the time; what belongs to one
incarnation (session, executor, coordination) runs from registration until its session ends. Source: DESIGN section 3.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final

from holdfast import __version__
from holdfast.fencing.agent import FenceAgentDevice, FenceDeviceConfig
from holdfast.fencing.guard_client import GuardClient
from holdfast.fencing.port import FenceDevice
from holdfast.hypervisor.libvirt_host import LibvirtHost
from holdfast.hypervisor.port import ConnectionEvent, ConnectionState
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.cluster_key import read_cluster_key
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.identity import IncarnationFile, NodeIdentity, read_boot_id, write_identity
from holdfast.membership.replay import Sequences
from holdfast.membership.udp_transport import UdpTransport
from holdfast.model.errors import HoldfastError, Unavailable
from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.nodes import Condition, FenceSpec, NodeSpec, Session
from holdfast.model.settings import Timings
from holdfast.model.snapshot import Snapshot
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.coordinator import Coordination
from holdfast.node.database import Database, database_member, member_addresses, open_database
from holdfast.node.detector import Detector
from holdfast.node.enrolment import Enrolment, peers_of
from holdfast.node.entitlement import Entitlement
from holdfast.node.event_log import EventLog
from holdfast.node.executor import Executor
from holdfast.node.fence_check import FenceCheck
from holdfast.node.fencer import Fencer
from holdfast.node.founding import node_spec
from holdfast.node.hearing import Hearing
from holdfast.node.heartbeats import Heartbeats
from holdfast.node.line_protocol import answer
from holdfast.node.mirror import Mirror
from holdfast.node.power import PowerWatch
from holdfast.node.reporter import Reporter
from holdfast.node.session import SessionEnd, SessionKeeper
from holdfast.store.etcd.member_config import InitialState
from holdfast.store.etcd.supervisor import EtcdSupervisor

log = logging.getLogger(__name__)

CLEAN_AGAIN_S: Final = 0.5
STOP_ANNOUNCE_S: Final = 1.0


class Member:
    """This node, running. Made once per daemon, while the event loop runs."""

    def __init__(self, config: DaemonConfig, identity: NodeIdentity, clock: Clock) -> None:
        renew_certificate(config, identity)
        self.config = config
        self.identity = identity
        self.clock = clock
        self.me = identity.node
        self.database: Database = open_database(config, identity)
        self.mirror = Mirror()
        self.events = EventLog(self.me, clock)
        self.guard = GuardClient(config.guard_socket)
        self.hypervisor = LibvirtHost(uri=config.libvirt_uri)
        self.supervisor = EtcdSupervisor(database_member(config, identity, InitialState.EXISTING, ()))
        self._incarnations = IncarnationFile(read_boot_id(), config.run_directory / "incarnation")
        self.hearing = Hearing(self.me, tuple(identity.addresses))
        self._heartbeats = self._make_heartbeats(self._incarnations.load_or_create())
        self._power = PowerWatch(device_of)
        store = self.database.store
        self.detector = Detector(
            me=self.me,
            store=store,
            mirror=self.mirror,
            clock=clock,
            events=self.events,
            hearing=self.hearing,
            power=self._power,
        )
        self.fencer = Fencer(
            me=self.me,
            store=store,
            mirror=self.mirror,
            clock=clock,
            events=self.events,
            hearing=self.hearing,
            device_of=device_of,
        )
        self.fence_check = FenceCheck(self.mirror, device_of)
        files = CertificateFiles(config.keys)
        self.enrolment = Enrolment(
            identity=identity,
            files=files,
            cluster_key=read_cluster_key(config.cluster_key),
            store=store,
            admin=self.database.admin,
            mirror=self.mirror,
            clock=clock,
            events=self.events,
        )
        self._join_context = files.server_context(requires_client=False)
        self.entitlement: Entitlement | None = None
        self._keeper: SessionKeeper | None = None

    def _make_heartbeats(self, incarnation: Incarnation) -> Heartbeats:
        identity = self.identity
        peers = {peer.node: _known_peer(peer.node, identity) for peer in identity.peers}
        return Heartbeats(
            cluster_id=identity.cluster_id,
            me=self.me,
            incarnation=incarnation,
            hearing=self.hearing,
            codec=HeartbeatCodec(
                cluster_id=identity.cluster_id,
                cluster_key=read_cluster_key(self.config.cluster_key),
                networks=identity.addresses,
            ),
            transport=UdpTransport(
                {
                    network: Endpoint(address=address, port=identity.ports.heartbeat)
                    for network, address in identity.addresses.items()
                }
            ),
            sequences=Sequences(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000),
            mirror=self.mirror,
            clock=self.clock,
            peers={**peers, self.me: node_spec(identity, is_voter=identity.is_voter, joined_at_ms=0)},
        )

    async def run(self) -> None:
        """Run until cancelled."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.database.store.close)
            stack.callback(self.supervisor.release)
            servers = await self._open_join_port(stack)
            async with asyncio.TaskGroup() as tasks:
                if self.identity.is_voter:
                    tasks.create_task(self.supervisor.run())
                tasks.create_task(self._heartbeats.run())
                tasks.create_task(self.mirror.run(self.database.store))
                tasks.create_task(self.hypervisor.run())
                tasks.create_task(self.detector.run())
                tasks.create_task(self.events.run(self.database.store))
                tasks.create_task(self._remember_peers())
                tasks.create_task(self._warm_hypervisor())
                tasks.create_task(self._live())
                for server in servers:
                    tasks.create_task(server.serve_forever())

    def heard_on(self, snapshot: Snapshot) -> dict[NodeName, tuple[str, ...]]:
        """Per node that is up, the networks on which this node hears it now."""
        now_ms = self.clock.monotonic_ms()
        limit_ms = snapshot.settings.timings.suspect_after_ms
        heard: dict[NodeName, tuple[str, ...]] = {}
        for name, session in snapshot.sessions.items():
            ages = self.hearing.silent_ms(name, session.value.incarnation, now_ms)
            heard[name] = tuple(sorted(network for network, age_ms in ages.items() if age_ms < limit_ms))
        return heard

    def _conditions(self) -> tuple[Condition, ...]:
        """What the parts of this node warn about."""
        found = (*self._heartbeats.conditions(), *self.fence_check.conditions)
        problem = self.supervisor.problem
        if problem is None:
            return found
        text = f"{self.me}: its member of the cluster database does not run: {problem.message}"
        return (*found, Condition(code="database-member-down", subject=self.me, text=text))

    async def announce_stop(self) -> None:
        """Before an orderly end: give this node's guests time until holdfastd is back. Source: SAFE-6."""
        grace_ms = (self.mirror.snapshot or Snapshot()).settings.timings.restart_grace_ms
        until = asyncio.get_running_loop().time() + grace_ms / 1000
        self._heartbeats.stopping = True
        try:
            if self._keeper is not None and await self._keeper.announce_stop(grace_ms, STOP_ANNOUNCE_S):
                await self.guard.extend(until)
        except HoldfastError as error:
            log.warning("the others could not be told of this stop: %s", error)

    async def _open_join_port(self, stack: AsyncExitStack) -> list[asyncio.Server]:
        servers = []
        for address in self.identity.addresses.values():
            try:
                server = await asyncio.start_server(
                    lambda reader, writer: answer(reader, writer, self.enrolment.handle),
                    address,
                    self.identity.ports.join,
                    ssl=self._join_context,
                )
            except OSError as error:
                log.error("join port %s:%d: %s", address, self.identity.ports.join, error)
                continue
            stack.callback(server.close)
            servers.append(server)
        return servers

    async def _live(self) -> None:
        """One incarnation after the other."""
        while True:
            incarnation = self._incarnations.load_or_create()
            self._heartbeats.incarnation = incarnation
            if await self._live_as(incarnation) is SessionEnd.LOST:
                log.warning("this node was declared lost; it stops what it may still run and comes back as new")
                await self._clean()
                self._incarnations.replace()

    async def _live_as(self, incarnation: Incarnation) -> SessionEnd:
        """Live as one incarnation until it ends. One that the database does not know begins clean. Source: SAFE-1."""
        entitlement = self.entitlement = self._make_entitlement(incarnation)
        async with asyncio.TaskGroup() as tasks:
            extending = tasks.create_task(entitlement.run())
            snapshot = await self._wait_snapshot()
            if not is_known(incarnation, self.me, snapshot):
                await self._clean()
            end: SessionEnd | None = SessionEnd.EXPIRED
            while end is SessionEnd.EXPIRED:
                keeper = await self._make_keeper(incarnation)
                end = await keeper.register()
                if end is None:
                    end = await self._serve(incarnation, keeper, entitlement)
                    log.warning("this node's session ended: %s", end)
            extending.cancel()
        return end or SessionEnd.LOST

    async def _serve(self, incarnation: Incarnation, keeper: SessionKeeper, entitlement: Entitlement) -> SessionEnd:
        """Execute and, if elected, coordinate while the session lasts."""
        store, mirror, clock, events = self.database.store, self.mirror, self.clock, self.events
        assert keeper.me is not None
        me = keeper.me
        executor = Executor(
            store=store,
            mirror=mirror,
            clock=clock,
            events=events,
            hypervisor=self.hypervisor,
            guard=self.guard,
            incarnation=incarnation,
        )
        coordination = Coordination(
            store=store,
            mirror=mirror,
            clock=clock,
            events=events,
            fencer=self.fencer,
            fence_check=self.fence_check,
            incarnation=incarnation,
        )
        reporter = Reporter(
            store=store,
            mirror=mirror,
            clock=clock,
            events=events,
            heard_on=self.heard_on,
            conditions_seen=self._conditions,
            detector=self.detector,
            fencer=self.fencer,
            executor=executor,
            entitlement=entitlement,
            hypervisor=self.hypervisor,
            guard=self.guard,
            incarnation=incarnation,
        )
        entitlement.session = self._keeper = keeper
        try:
            async with asyncio.TaskGroup() as tasks:
                working = [tasks.create_task(work.run(me)) for work in (executor, coordination, reporter)]
                end = await keeper.keep()
                for task in working:
                    task.cancel()
        finally:
            entitlement.session = self._keeper = None
        return end

    def _make_entitlement(self, incarnation: Incarnation) -> Entitlement:
        voters = {peer.node for peer in self.identity.peers if peer.is_voter}
        if self.identity.is_voter:
            voters.add(self.me)
        return Entitlement(
            me=self.me,
            incarnation=incarnation,
            voters=frozenset(voters),
            hearing=self.hearing,
            mirror=self.mirror,
            guard=self.guard,
        )

    async def _make_keeper(self, incarnation: Incarnation) -> SessionKeeper:
        snapshot = await self._wait_snapshot()
        deadline_ms, watchdog_ms = await self._guard_promise(snapshot.settings.timings)
        session = Session(
            node=self.me,
            incarnation=incarnation,
            version=__version__,
            started_at_ms=self.clock.wall_ms(),
            guard_deadline_ms=deadline_ms,
            watchdog_timeout_ms=watchdog_ms,
        )
        return SessionKeeper(self.database.store, self.mirror, self.clock, self.events, session)

    async def _guard_promise(self, timings: Timings) -> tuple[int, int | None]:
        """What a watchdog proof may rest on: how far the deadline may lie ahead, and the watchdog behind it."""
        try:
            reading = await self.guard.state()
        except Unavailable as error:
            log.error("%s", error)
            return timings.guard_deadline_ms, None
        ahead_s = (reading.until or float("-inf")) - asyncio.get_running_loop().time()
        deadline_ms = max(timings.guard_deadline_ms, int(max(0.0, ahead_s) * 1000) + 1)
        watchdog = reading.watchdog
        if watchdog is None or watchdog.error or reading.kill_bound_ms > timings.guard_kill_ms:
            return deadline_ms, None
        return deadline_ms, watchdog.timeout_s * 1000

    async def _clean(self) -> None:
        """End every guest of a role that runs here, and do not return before that is certain. Source: SAFE-1."""
        while True:
            snapshot = await self._wait_snapshot()
            ours = {spec.value.uuid for spec in snapshot.specs.values()}
            try:
                ours |= (await self.guard.state()).guests
                for guest in await self.hypervisor.guests():
                    if guest.uuid in ours and guest.is_present:
                        log.warning("ending guest %s: this incarnation does not own it", guest.name)
                        await self.hypervisor.destroy(guest.uuid)
                for uuid in ours:
                    await self.hypervisor.destroy(uuid)
                    await self.guard.unprotect(uuid)
            except HoldfastError as error:
                log.warning("this node cannot come up before it is certain that nothing runs here: %s", error)
                await asyncio.sleep(CLEAN_AGAIN_S)
                continue
            return

    async def _wait_snapshot(self) -> Snapshot:
        changed = self.mirror.subscribe()
        while self.mirror.snapshot is None:
            await changed.wait()
            changed.clear()
        return self.mirror.snapshot

    async def _remember_peers(self) -> None:
        """Keep on disk who else there is, and speak to the database members that there are now."""
        changed = self.mirror.subscribe()
        while True:
            await changed.wait()
            changed.clear()
            snapshot = self.mirror.snapshot
            if snapshot is None or self.me not in snapshot.nodes:
                continue
            peers = peers_of(snapshot, without=self.me)
            if peers == self.identity.peers:
                continue
            self.identity = self.identity.model_copy(update={"peers": peers})
            self.database.connections.use_members(member_addresses(self.identity, peers))
            try:
                await asyncio.to_thread(write_identity, self.identity, self.config.identity)
            except HoldfastError as error:
                log.error("%s", error)

    async def _warm_hypervisor(self) -> None:
        """Let libvirt probe QEMU as soon as it is there, so that no failover pays for it. Source: DESIGN section 8."""
        async for event in self.hypervisor.events():
            if not isinstance(event, ConnectionEvent) or event.state is not ConnectionState.CONNECTED:
                continue
            try:
                await self.hypervisor.warm()
            except HoldfastError as error:
                log.warning("hypervisor not warmed: %s", error)


def is_known(incarnation: Incarnation, me: NodeName, snapshot: Snapshot) -> bool:
    """Whether the database has seen this incarnation alive, so that what runs here may be its own."""
    session = snapshot.sessions.get(me)
    owns = any(o.value.incarnation == incarnation for o in snapshot.ownerships.values())
    return owns or (session is not None and session.value.incarnation == incarnation)


def renew_certificate(config: DaemonConfig, identity: NodeIdentity) -> None:
    """Issue this node's certificate anew in good time. Trouble is logged: with heartbeats alone guests still run on."""
    files = CertificateFiles(config.keys)
    try:
        if files.renew_node(node=identity.node, addresses=identity.addresses.values(), now=datetime.now(UTC)):
            log.info("the certificate of %s was renewed", identity.node)
    except HoldfastError as error:
        log.error("the certificate of %s cannot be renewed: %s", identity.node, error)


def device_of(spec: FenceSpec) -> FenceDevice:
    """The fence device that a node's record describes."""
    return FenceAgentDevice(FenceDeviceConfig(agent=spec.agent, options=spec.options))


def _known_peer(name: NodeName, identity: NodeIdentity) -> NodeSpec:
    peer = next(peer for peer in identity.peers if peer.node == name)
    return NodeSpec(
        name=name,
        addresses=dict(peer.addresses),
        is_voter=peer.is_voter,
        etcd_client_port=peer.ports.etcd_client,
        etcd_peer_port=peer.ports.etcd_peer,
        heartbeat_port=peer.ports.heartbeat,
        join_port=peer.ports.join,
    )
