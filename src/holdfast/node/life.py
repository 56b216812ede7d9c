"""The life of a node in its cluster: everything that decides and acts, on ports that are given.

Rule of the file: what belongs to the machine (heartbeats, mirror, detector) runs all the time; what belongs to one
incarnation (session, executor, coordination) runs from registration until its session ends. Nothing here knows what is
behind a port. Source: DESIGN sections 3 and 13.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from holdfast import __version__
from holdfast.hypervisor.port import ConnectionEvent, ConnectionState
from holdfast.model.errors import HoldfastError, Unavailable
from holdfast.model.ids import ClusterId, Incarnation, NodeName
from holdfast.model.nodes import Condition, NodeSpec, Seat, Session
from holdfast.model.snapshot import Snapshot
from holdfast.node.clean_machine import end_guests
from holdfast.node.coordinator import Coordination
from holdfast.node.detector import Detector
from holdfast.node.disks import DiskKeeper
from holdfast.node.entitlement import Entitlement
from holdfast.node.event_log import EventLog
from holdfast.node.executor import Executor
from holdfast.node.fence_check import FenceCheck
from holdfast.node.fencer import Fencer
from holdfast.node.guard_promise import GuardPromise, read_promise
from holdfast.node.hearing import Hearing
from holdfast.node.heartbeats import Heartbeats
from holdfast.node.homecoming import Homecoming
from holdfast.node.mirror import Mirror
from holdfast.node.ports import Ports
from holdfast.node.power import PowerWatch
from holdfast.node.reporter import Reporter
from holdfast.node.saved_memory import SavedMemory
from holdfast.node.session import SessionEnd, SessionKeeper
from holdfast.node.storage_heartbeat import StorageHeartbeat
from holdfast.node.transactions import Self, resign
from holdfast.node.voters import VoterKeeper

log = logging.getLogger(__name__)

CLEAN_AGAIN_S: Final = 0.5
STOP_ANNOUNCE_S: Final = 1.0
NO_ANSWER_S: Final = 10.0
NO_ANSWER: Final = (
    "the cluster database has not answered it since it started: no majority of voters answers here, or this node was "
    "evicted or has left, which holdfast status on another node shows; then: holdfast node forget"
)


class Life:
    """One node, deciding and acting until cancelled.

    peers             every node as last known, this one included: what counts before the database answers.
    more_conditions   warnings of parts that are no port of this.
    seat              how this node's member of the database is.
    heartbeat_keys    ids of the secrets that this node's heartbeats are understood with, the one in use first.
    generation        of the cluster that this node is in.
    """

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        me: NodeName,
        peers: Mapping[NodeName, NodeSpec],
        ports: Ports,
        more_conditions: Callable[[], tuple[Condition, ...]] = lambda: (),
        seat: Callable[[], Seat | None] = lambda: None,
        heartbeat_keys: Callable[[], tuple[str, ...]] = lambda: (),
        generation: int = 1,
    ) -> None:
        self.me = me
        self._seat = seat
        self._heartbeat_keys = heartbeat_keys
        self.codec = ports.codec
        self._peers = peers
        self._ports = ports
        self._more_conditions = more_conditions
        self.clock, self.guard, self.hypervisor = ports.clock, ports.guard, ports.hypervisor
        self.mirror = Mirror()
        self.events = EventLog(me, ports.clock)
        self.hearing = Hearing(me, tuple(peers[me].addresses))
        self.heartbeats = Heartbeats(
            cluster_id=cluster_id,
            me=me,
            incarnation=ports.incarnations.load_or_create(),
            hearing=self.hearing,
            codec=ports.codec,
            transport=ports.transport,
            sequences=ports.sequences,
            mirror=self.mirror,
            clock=ports.clock,
            peers=peers,
            generation=generation,
        )
        self.storage_heartbeat = StorageHeartbeat(
            cluster_id=cluster_id,
            me=me,
            store=ports.store,
            mirror=self.mirror,
            clock=ports.clock,
            sequences=ports.sequences,
            open_lun=ports.open_lun,
            disks=lambda: self.disks.health,
            is_urgent=lambda: bool(self.detector.suspects),
        )
        self.detector = Detector(
            me=me,
            store=ports.store,
            mirror=self.mirror,
            clock=ports.clock,
            events=self.events,
            hearing=self.hearing,
            power=PowerWatch(ports.device_of),
            storage=self.storage_heartbeat.evidence,
            on_silent=ports.on_silent,
        )
        self.disks = DiskKeeper(
            cluster_id=cluster_id,
            me=me,
            mirror=self.mirror,
            hypervisor=ports.hypervisor,
            open_lun=ports.open_lun,
        )
        self.fencer = Fencer(
            me=me,
            store=ports.store,
            mirror=self.mirror,
            clock=ports.clock,
            events=self.events,
            hearing=self.hearing,
            device_of=ports.device_of,
            expel=self.disks.expel,
            suspects=lambda: self.detector.suspects,
        )
        self.fence_check = FenceCheck(self.mirror, ports.device_of, is_heard=self._is_heard)
        self.saved_memory = SavedMemory(
            me=me,
            store=ports.store,
            mirror=self.mirror,
            hypervisor=ports.hypervisor,
            left_over_kept_s=ports.left_over_kept_s,
        )
        self.voters = (
            VoterKeeper(
                me=me,
                store=ports.store,
                admin=ports.admin,
                mirror=self.mirror,
                clock=ports.clock,
                events=self.events,
                is_heard=self._is_heard,
            )
            if ports.admin is not None
            else None
        )
        self.obstacle: str | None = None
        """Why this node is not up; None once it has a session."""
        self.evicted = asyncio.Event()
        """Set when this machine is no node of the cluster any more and runs nothing of it."""
        self._keeper: SessionKeeper | None = None
        self._up = asyncio.Event()

    async def run(self) -> None:
        """Live until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.heartbeats.run())
            tasks.create_task(self.mirror.run(self._ports.store))
            tasks.create_task(self.detector.run())
            tasks.create_task(self.events.run(self._ports.store))
            tasks.create_task(self._warm_hypervisor())
            tasks.create_task(self._live())

    @property
    def is_up(self) -> bool:
        """Whether this node has a session, as far as it knows."""
        return self._keeper is not None

    @property
    def session(self) -> Self | None:
        """What this node's transactions prove themselves by; None while it is not up."""
        return self._keeper.me if self._keeper is not None else None

    async def announce_stop(self) -> None:
        """Before an orderly end: give this node's guests time until holdfastd is back, and coordination to another.

        Who has just started waits for its session first: the deadline that an earlier holdfastd left, which may have
        been killed, is running out. Source: SAFE-6.
        """
        self.heartbeats.stopping = True
        try:
            async with asyncio.timeout(STOP_ANNOUNCE_S):
                await self._up.wait()
            grace_ms = (self.mirror.snapshot or Snapshot()).timings.restart_grace_ms
            until = asyncio.get_running_loop().time() + grace_ms / 1000
            if self._keeper is not None and await self._keeper.announce_stop(grace_ms, STOP_ANNOUNCE_S):
                await self.guard.extend(until)
                await self._resign()
        except TimeoutError:
            log.warning("the others could not be told of this stop: this node is not up")
        except HoldfastError as error:
            log.warning("the others could not be told of this stop: %s", error)

    async def _resign(self) -> None:
        coordinator = (self.mirror.snapshot or Snapshot()).coordinator
        if coordinator is not None and coordinator.value.node == self.me:
            await self._ports.store.txn(resign(coordinator), timeout_s=STOP_ANNOUNCE_S)

    def _is_heard(self, node: NodeName) -> bool:
        """Whether a node is heard now; this one is."""
        return node == self.me or bool(self.heard_on(self.mirror.snapshot or Snapshot()).get(node))

    def heard_on(self, snapshot: Snapshot) -> dict[NodeName, tuple[str, ...]]:
        """Per node that is up, the networks on which this node hears it now."""
        now_ms = self.clock.monotonic_ms()
        limit_ms = snapshot.timings.suspect_after_ms
        heard: dict[NodeName, tuple[str, ...]] = {}
        for name, session in snapshot.sessions.items():
            ages = self.hearing.silent_ms(name, session.value.incarnation, now_ms)
            heard[name] = tuple(sorted(network for network, age_ms in ages.items() if age_ms < limit_ms))
        return heard

    def _conditions(self) -> tuple[Condition, ...]:
        found = (*self.heartbeats.conditions(), *self.fence_check.conditions, *self.disks.conditions)
        found = (*found, *self.saved_memory.conditions)
        return (*found, *self.storage_heartbeat.conditions(self.detector.heard), *self._more_conditions())

    async def _live(self) -> None:
        """One incarnation after the other."""
        while True:
            incarnation = self._ports.incarnations.load_or_create()
            self.heartbeats.incarnation = incarnation
            self.heartbeats.registered_at = None
            end = await self._live_as(incarnation)
            if end is SessionEnd.LOST:
                log.warning("this node was declared lost; it stops what it may still run and comes back as new")
                await self._clean()
                self._ports.incarnations.replace()
            elif end is SessionEnd.EVICTED:
                log.warning("this node was evicted; it stops what it may still run and is no node any more")
                await self._clean()
                self.evicted.set()
                return

    async def _live_as(self, incarnation: Incarnation) -> SessionEnd:
        """Live as one incarnation until it ends. One that the database does not know begins clean. Source: SAFE-1."""
        entitlement = self._make_entitlement(incarnation)
        async with asyncio.TaskGroup() as tasks:
            extending = tasks.create_task(entitlement.run())
            snapshot = await self._wait_snapshot()
            if not is_known(incarnation, self.me, snapshot):
                await self._clean()
            end: SessionEnd | None = SessionEnd.EXPIRED
            while end is SessionEnd.EXPIRED:
                keeper = await self._make_keeper(incarnation, entitlement)
                end = await keeper.register()
                if end is None:
                    end = await self._serve(incarnation, keeper, entitlement)
                    log.warning("this node's session ended: %s", end)
            extending.cancel()
        return end or SessionEnd.LOST

    async def _serve(self, incarnation: Incarnation, keeper: SessionKeeper, entitlement: Entitlement) -> SessionEnd:
        """Execute and, if elected, coordinate while the session lasts."""
        store, mirror, clock, events = self._ports.store, self.mirror, self.clock, self.events
        assert keeper.me is not None
        me = keeper.me
        executor = Executor(
            store=store,
            mirror=mirror,
            clock=clock,
            events=events,
            hypervisor=self.hypervisor,
            guard=self.guard,
            disks=self.disks,
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
            voters=self.voters,
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
            disks=self.disks,
            incarnation=incarnation,
            seat=self._seat,
            heartbeat_keys=self._heartbeat_keys,
            timings_generation=lambda: self.heartbeats.timings_generation,
            memory_target=self._ports.memory_target,
        )
        entitlement.session = self._keeper = keeper
        self._up.set()
        entitlement.at_most_ms = None
        self.obstacle = None
        self.heartbeats.registered_at = keeper.registered_at
        try:
            async with asyncio.TaskGroup() as tasks:
                homecoming = Homecoming(store=store, mirror=mirror, events=events, incarnation=incarnation)
                working = [tasks.create_task(work.run(me)) for work in (executor, coordination, reporter, homecoming)]
                working.append(tasks.create_task(self.disks.run(incarnation, keeper.touch)))
                working.append(tasks.create_task(self.storage_heartbeat.run(me, incarnation)))
                working.append(tasks.create_task(self.saved_memory.run()))
                end = await keeper.keep()
                for task in working:
                    task.cancel()
        finally:
            entitlement.session = self._keeper = None
            self._up.clear()
        return end

    def _make_entitlement(self, incarnation: Incarnation) -> Entitlement:
        return Entitlement(
            me=self.me,
            incarnation=incarnation,
            voters=frozenset(name for name, peer in self._peers.items() if peer.is_voter),
            hearing=self.hearing,
            mirror=self.mirror,
            guard=self.guard,
        )

    async def _make_keeper(self, incarnation: Incarnation, entitlement: Entitlement) -> SessionKeeper:
        snapshot = await self._wait_snapshot()
        entitlement.at_most_ms = snapshot.timings.guard_deadline_ms
        try:
            promise = await read_promise(self.guard, snapshot.timings)
        except Unavailable as error:
            log.error("%s", error)
            promise = GuardPromise()
        session = Session(
            node=self.me,
            incarnation=incarnation,
            version=__version__,
            started_at_ms=self.clock.wall_ms(),
            guard_deadline_ms=max(snapshot.timings.guard_deadline_ms, promise.ahead_ms),
            watchdog_timeout_ms=promise.watchdog_ms,
            guard_kill_ms=promise.kill_ms,
            voters=tuple(sorted(snapshot.voters())),
        )
        return SessionKeeper(
            self._ports.store,
            self.mirror,
            self.clock,
            self.events,
            session,
            guard=lambda: read_promise(self.guard, (self.mirror.snapshot or Snapshot()).timings),
            machine_id=self._peers[self.me].machine_id,
        )

    async def _clean(self) -> None:
        """End every guest of a role that runs here, and do not return before that is certain. Source: SAFE-1."""
        while True:
            snapshot = await self._wait_snapshot()
            ours = {spec.value.uuid for spec in snapshot.specs.values()}
            try:
                await end_guests(self.hypervisor, self.guard, ours)
            except HoldfastError as error:
                self.obstacle = f"it cannot come up before it is certain that nothing runs here: {error.message}"
                log.warning("%s: %s", self.me, self.obstacle)
                await asyncio.sleep(CLEAN_AGAIN_S)
                continue
            return

    async def _wait_snapshot(self) -> Snapshot:
        """The cluster as this node knows it; says after a while why that may never come."""
        changed = self.mirror.subscribe()
        while self.mirror.snapshot is None:
            try:
                async with asyncio.timeout(None if self.obstacle == NO_ANSWER else NO_ANSWER_S):
                    await changed.wait()
            except TimeoutError:
                self.obstacle = NO_ANSWER
                log.warning("%s: %s", self.me, self.obstacle)
            changed.clear()
        if self.obstacle == NO_ANSWER:
            self.obstacle = None
        return self.mirror.snapshot

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
