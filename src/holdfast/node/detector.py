"""Watches the peers, searches evidence about the silent ones, and proposes verdicts.

Rule of the file: judges with `decide.detection`, acts with one transaction. Any node may propose; the database takes
the first. Source: DESIGN section 5, SAFE-4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from holdfast.decide.detection import (
    Assessment,
    PeerView,
    Standing,
    StorageEvidence,
    assess,
    heard_directly,
    is_together,
)
from holdfast.model.errors import Unavailable
from holdfast.model.events import EventCode
from holdfast.model.ids import Incarnation, NetworkName, NodeName
from holdfast.model.nodes import NodeSpec, Proof, ProofKind, Verdict
from holdfast.model.roles import Phase
from holdfast.model.settings import Timings
from holdfast.model.snapshot import Snapshot
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.hearing import Hearing
from holdfast.node.mirror import Mirror
from holdfast.node.power import PowerWatch
from holdfast.node.transactions import convict
from holdfast.store.port import Store

log = logging.getLogger(__name__)

CALM_TICK_S: Final = 0.3
ALERT_TICK_S: Final = 0.025
VERDICT_TIMEOUT_S: Final = 0.2
STAGGER_S: Final = 0.1

Peer = tuple[NodeName, Incarnation]
StorageEvidenceOf = Callable[[Incarnation], StorageEvidence | None]
"""What the heartbeat disks tell of a peer now."""
OnSilent = Callable[[NodeSpec], None]
"""Told once when a peer falls silent, so that nothing waits for an answer of it."""


class Detector:
    """Judges all peers of one node. `standing` is the newest judgement per peer, for status and reports."""

    def __init__(
        self,
        *,
        me: NodeName,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
        hearing: Hearing,
        power: PowerWatch,
        storage: StorageEvidenceOf,
        on_silent: OnSilent,
    ) -> None:
        self._me = me
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._hearing = hearing
        self._power = power
        self._storage = storage
        self._on_silent = on_silent
        self._suspected: set[Peer] = set()
        self._proposing: dict[Peer, asyncio.Task[None]] = {}
        self._seen: Snapshot | None = None
        self._peers: dict[NodeName, Incarnation] = {}
        self._voters: frozenset[NodeName] = frozenset()
        self._together_since_ms: int | None = None
        self.standing: dict[NodeName, Assessment] = {}

    @property
    def suspects(self) -> frozenset[NodeName]:
        """The peers that are silent to this node and to all whom it hears."""
        silent = (Standing.SUSPECT, Standing.LOST)
        return frozenset(node for node, judged in self.standing.items() if judged.standing in silent)

    @property
    def heard(self) -> dict[NodeName, Incarnation]:
        """The peers that somebody hears, this node or one that it hears."""
        suspects = self.suspects
        return {node: judged.incarnation for node, judged in self.standing.items() if node not in suspects}

    async def run(self) -> None:
        """Judge until cancelled; often while anybody is late, rarely while all is calm."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                late = self._judge_all(tasks)
                await asyncio.sleep(ALERT_TICK_S if late else CALM_TICK_S)

    def _judge_all(self, tasks: asyncio.TaskGroup) -> bool:
        """Judge every peer; returns whether one is late enough to look closely."""
        snapshot = self._mirror.snapshot
        if snapshot is None or self._me not in snapshot.sessions:
            return False
        if snapshot is not self._seen:
            self._seen, self._peers, self._voters = snapshot, peers_to_judge(snapshot, self._me), snapshot.voters()
        now_ms = self._clock.monotonic_ms()
        timings = snapshot.timings
        peers = self._peers
        self._hearing.expect(peers.items(), now_ms)
        together_ms = self._together_ms(timings, now_ms)
        late, late_ms = False, 2 * timings.heartbeat_interval_ms
        standing: dict[NodeName, Assessment] = {}
        for peer in peers.items():
            silent_ms = self._hearing.silent_ms(*peer, now_ms)
            judged = self._judge_heard(peer, silent_ms, timings)
            if judged is None:
                view = self._view(peer, silent_ms, snapshot, now_ms)
                judged = assess(view, me=self._me, voters=self._voters, timings=timings, together_ms=together_ms)
            standing[peer[0]] = judged
            late |= bool(silent_ms) and min(silent_ms.values()) > late_ms
            if judged.standing is not Standing.HEARD or self._suspected:
                self._react(peer, judged, snapshot, tasks)
        self.standing = standing
        for gone in self._suspected.difference(peers.items()):
            self._suspected.discard(gone)
            self._power.forget(gone)
        return late

    def _together_ms(self, timings: Timings, now_ms: int) -> int:
        """For how long this node has heard a majority of voters, itself included."""
        heard = self._hearing.heard_within(timings.suspect_after_ms, now_ms)
        if not is_together(self._me, heard, self._voters):
            self._together_since_ms = None
        elif self._together_since_ms is None:
            self._together_since_ms = now_ms
        return 0 if self._together_since_ms is None else now_ms - self._together_since_ms

    def _judge_heard(self, peer: Peer, silent_ms: Mapping[NetworkName, int], timings: Timings) -> Assessment | None:
        """The judgement of a peer that is heard, mostly the same as before; None for one that needs a closer look."""
        heard = heard_directly(silent_ms, timings.suspect_after_ms)
        if heard is None:
            return None
        node, incarnation = peer
        before = self.standing.get(node)
        if before is not None and before.standing is heard and before.incarnation == incarnation and not before.reasons:
            return before
        return Assessment(node=node, incarnation=incarnation, standing=heard)

    def _view(self, peer: Peer, silent_ms: Mapping[NetworkName, int], snapshot: Snapshot, now_ms: int) -> PeerView:
        node, incarnation = peer
        last = self._hearing.last(node, incarnation)
        session = snapshot.session_of(node, incarnation)
        return PeerView(
            node=node,
            incarnation=incarnation,
            silent_ms=silent_ms,
            unheard_ms=self._hearing.unheard_ms(node, incarnation, now_ms),
            reported_ms=self._hearing.reported_ms(peer, self._peers, now_ms, snapshot.timings.suspect_after_ms),
            power=self._power.evidence(peer),
            storage=self._storage(incarnation),
            answered_ms=self._hearing.answered_ms(node, now_ms),
            stopping=(last is not None and last.stopping) or (session is not None and session.value.stopping),
        )

    def _react(self, peer: Peer, judged: Assessment, snapshot: Snapshot, tasks: asyncio.TaskGroup) -> None:
        suspicious = judged.standing in (Standing.SUSPECT, Standing.LOST)
        if suspicious and peer not in self._suspected:
            self._suspected.add(peer)
            if peer[0] in snapshot.nodes:
                self._on_silent(snapshot.nodes[peer[0]].value)
            rank = self._rank(snapshot)
            if rank == 0:
                self._events.record(self._events.event(EventCode.NODE_SUSPECT, peer[0], *judged.reasons))
            self._power.ask(peer, snapshot, delay_s=rank * STAGGER_S, tasks=tasks)
        elif not suspicious and peer in self._suspected:
            self._suspected.discard(peer)
            self._power.forget(peer)
            self._events.record(self._events.event(EventCode.NODE_CLEARED, peer[0], *judged.reasons))
        if judged.standing is Standing.LOST and (peer not in self._proposing or self._proposing[peer].done()):
            self._proposing[peer] = tasks.create_task(self._propose(judged, snapshot))

    def _rank(self, snapshot: Snapshot) -> int:
        """Who asks fence devices first: the coordinator, then by name, among those who are not suspected."""
        coordinator = snapshot.coordinator.value.node if snapshot.coordinator is not None else None
        suspected = {node for node, _ in self._suspected}
        alive = sorted(snapshot.sessions.keys() - suspected, key=lambda node: (node != coordinator, node))
        return alive.index(self._me) if self._me in alive else len(alive)

    async def _propose(self, judged: Assessment, snapshot: Snapshot) -> None:
        """Propose a verdict on what was judged; an unknown outcome shows in the mirror or is tried again."""
        now_ms = self._clock.wall_ms()
        verdict = verdict_on(judged, snapshot, by=self._me, now_ms=now_ms)
        events = [self._events.event(EventCode.NODE_LOST, judged.node, *judged.reasons)]
        proof = None
        if judged.proven_off:
            proof = Proof(
                node=judged.node,
                incarnation=judged.incarnation,
                kind=ProofKind.POWER,
                at_ms=now_ms,
                by=self._me,
                reasons=judged.reasons,
            )
            events.append(self._events.event(EventCode.NODE_FENCED, judged.node, *judged.reasons))
        txn = convict(verdict, proof, snapshot=snapshot, events=self._events.operations(*events))
        try:
            result = await self._store.txn(txn, timeout_s=VERDICT_TIMEOUT_S)
        except Unavailable as error:
            log.warning("verdict on %s not committed yet: %s", judged.node, error)
            return
        if result.succeeded:
            log.warning("%s is lost: %s", judged.node, "; ".join(map(str, judged.reasons)))


def peers_to_judge(snapshot: Snapshot, me: NodeName) -> dict[NodeName, Incarnation]:
    """The incarnations that may be doing something: those with a session, and those that own a role without one."""
    peers = {name: session.value.incarnation for name, session in snapshot.sessions.items() if name != me}
    for ownership in snapshot.ownerships.values():
        owner, incarnation = ownership.value.owner, ownership.value.incarnation
        if owner is None or incarnation is None or owner == me or owner in peers:
            continue
        settled = snapshot.is_lost(owner, incarnation) or incarnation in snapshot.proofs
        if ownership.value.phase is not Phase.ASSIGNED and not settled:
            peers[owner] = incarnation
    return peers


def verdict_on(judged: Assessment, snapshot: Snapshot, *, by: NodeName, now_ms: int) -> Verdict:
    """The verdict to propose; what its watchdog proof will have to wait for is copied from the session."""
    session = snapshot.session_of(judged.node, judged.incarnation)
    before = snapshot.verdicts.get(judged.node)
    timings = snapshot.timings
    return Verdict(
        node=judged.node,
        incarnation=judged.incarnation,
        at_ms=now_ms,
        proposed_by=by,
        guard_deadline_ms=session.value.guard_deadline_ms if session is not None else timings.guard_deadline_ms,
        watchdog_timeout_ms=session.value.watchdog_timeout_ms if session is not None else None,
        reasons=judged.reasons,
        guard_kill_ms=session.value.guard_kill_ms if session is not None else 0,
        voters=session.value.voters if session is not None else (),
        losses=_recent((*(before.value.losses if before is not None else ()), now_ms), snapshot, now_ms),
    )


def _recent(losses: Iterable[int], snapshot: Snapshot, now_ms: int) -> tuple[int, ...]:
    since_ms = now_ms - snapshot.settings.quarantine_period_s * 1000
    return tuple(at_ms for at_ms in losses if at_ms >= since_ms)
