"""The life of a witness in its cluster: it listens, is heard, and says what it hears, on ports that are given.

Rule of the file: what a node does to keep its session and its voice, and nothing of what a host does. Nothing here
knows what is behind a port. Source: DESIGN section 6.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from holdfast import __version__
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.port import HeartbeatTransport
from holdfast.membership.replay import Sequences
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import ClusterId, Incarnation, NodeName
from holdfast.model.nodes import Capacity, Condition, NodeReport, NodeSpec, Seat, Session
from holdfast.model.snapshot import Snapshot
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.hearing import Hearing
from holdfast.node.heartbeats import Heartbeats
from holdfast.node.mirror import Mirror
from holdfast.node.ports import Incarnations
from holdfast.node.session import SessionEnd, SessionKeeper
from holdfast.node.transactions import revision_of
from holdfast.store.port import ModRevision, Put, Store, Txn
from holdfast.store.records import encode, report_key

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessPorts:
    """Everything outside that a witness depends on; each has a real and a simulated side."""

    store: Store
    transport: HeartbeatTransport
    codec: HeartbeatCodec
    sequences: Sequences
    incarnations: Incarnations
    clock: Clock


class WitnessLife:
    """One witness, until it was removed from its cluster or left behind by a restore of the database.

    peers             every node as last known, this one included: what counts before the database answers.
    more_conditions   warnings of parts that are no port of this.
    seat              how its member of the database is.
    heartbeat_keys    ids of the secrets that its heartbeats are understood with, the one in use first.
    generation        of the cluster that it is in.
    """

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        me: NodeName,
        peers: Mapping[NodeName, NodeSpec],
        ports: WitnessPorts,
        seat: Callable[[], Seat | None],
        more_conditions: Callable[[], tuple[Condition, ...]] = lambda: (),
        heartbeat_keys: Callable[[], tuple[str, ...]] = lambda: (),
        generation: int = 1,
    ) -> None:
        self._me = me
        self._ports = ports
        self._seat = seat
        self._more_conditions = more_conditions
        self._heartbeat_keys = heartbeat_keys
        self.mirror = Mirror()
        self._events = EventLog(me, ports.clock)
        self._hearing = Hearing(me, tuple(peers[me].addresses))
        self._heartbeats = Heartbeats(
            cluster_id=cluster_id,
            me=me,
            incarnation=ports.incarnations.load_or_create(),
            hearing=self._hearing,
            codec=ports.codec,
            transport=ports.transport,
            sequences=ports.sequences,
            mirror=self.mirror,
            clock=ports.clock,
            peers=peers,
            generation=generation,
        )

    async def run(self) -> None:
        """Live until cancelled, until removed from the cluster, or until left behind by a restore of its database."""
        works = (
            self._heartbeats.run(),
            self.mirror.run(self._ports.store),
            self._events.run(self._ports.store),
            self._expect_peers(),
        )
        async with asyncio.TaskGroup() as tasks:
            working: list[asyncio.Task[object]] = [tasks.create_task(work) for work in works]
            working += [tasks.create_task(self._live()), tasks.create_task(self._heartbeats.superseded.wait())]
            await asyncio.wait(working[-2:], return_when=asyncio.FIRST_COMPLETED)
            for task in working:
                task.cancel()

    async def _live(self) -> None:
        """Keep a session until evicted; after a verdict as another incarnation, for nothing here could do harm."""
        while True:
            incarnation = self._ports.incarnations.load_or_create()
            self._heartbeats.incarnation = incarnation
            self._heartbeats.registered_at = None
            snapshot = await self._snapshot()
            keeper = SessionKeeper(
                self._ports.store, self.mirror, self._ports.clock, self._events, self._session(incarnation, snapshot)
            )
            end = await keeper.register()
            if end is None:
                end = await self._serve(keeper)
            log.warning("the session of witness %s ended: %s", self._me, end)
            if end is SessionEnd.EVICTED:
                return
            if end is SessionEnd.LOST:
                self._ports.incarnations.replace()

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
                    await self._ports.store.txn(Txn(compares=(me.holds_session, unchanged), then=(put,)))
                except HoldfastError as error:
                    log.warning("report not written: %s", error)
            await asyncio.sleep(LOOK_S)

    def _observe(self, incarnation: Incarnation) -> NodeReport:
        snapshot = self.mirror.snapshot or Snapshot()
        now_ms, limit_ms = self._ports.clock.monotonic_ms(), snapshot.timings.suspect_after_ms
        hears: dict[NodeName, tuple[str, ...]] = {}
        for name, session in sorted(snapshot.sessions.items()):
            ages = self._hearing.silent_ms(name, session.value.incarnation, now_ms)
            hears[name] = tuple(sorted(network for network, age_ms in ages.items() if age_ms < limit_ms))
        return NodeReport(
            node=self._me,
            incarnation=incarnation,
            capacity=Capacity(memory_bytes=0, vcpus=0),
            hears=hears,
            conditions=(*self._heartbeats.conditions(), *self._more_conditions()),
            seat=self._seat(),
            heartbeat_keys=self._heartbeat_keys(),
            timings_generation=self._heartbeats.timings_generation,
        )

    def _session(self, incarnation: Incarnation, snapshot: Snapshot) -> Session:
        return Session(
            node=self._me,
            incarnation=incarnation,
            version=__version__,
            started_at_ms=self._ports.clock.wall_ms(),
            guard_deadline_ms=snapshot.timings.guard_deadline_ms,
            watchdog_timeout_ms=None,
            voters=tuple(sorted(snapshot.voters())),
        )

    async def _expect_peers(self) -> None:
        """Expect the heartbeats of those who are up."""
        changed = self.mirror.subscribe()
        while True:
            await changed.wait()
            changed.clear()
            snapshot = self.mirror.snapshot
            if snapshot is not None and self._me in snapshot.nodes:
                up = {(name, session.value.incarnation) for name, session in sorted(snapshot.sessions.items())}
                self._hearing.expect(sorted(up), self._ports.clock.monotonic_ms())

    async def _snapshot(self) -> Snapshot:
        changed = self.mirror.subscribe()
        while self.mirror.snapshot is None:
            await changed.wait()
            changed.clear()
        return self.mirror.snapshot
