"""The coordinator's hands on lost nodes: a proof for each, by power, by reservations or by the watchdog's time.

Rule of the file: `decide.fencing` says what to do next; only a committed proof lets a role go. Source: SAFE-2, SAFE-8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from holdfast.decide.detection import PowerEvidence
from holdfast.decide.fencing import FenceAct, FenceStep, Refusal, lost_without_proof, next_fence_step, storm_guard
from holdfast.model.errors import Unavailable
from holdfast.model.events import EventCode
from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.nodes import FenceOrder, Proof, ProofKind, Verdict
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.expulsion import Expel, Expulsion, unproven_disks
from holdfast.node.hearing import Hearing
from holdfast.node.mirror import Mirror
from holdfast.node.power import DeviceOf, switch_off
from holdfast.node.transactions import order_off, record_proof
from holdfast.store.port import Store

log = logging.getLogger(__name__)

TICK_S: Final = 0.1
ORDER_AGAIN_S: Final = 5.0
ASK_AGAIN_S: Final = 0.5


@dataclass(slots=True)
class _Case:
    """One lost incarnation on its way to a proof."""

    power: PowerEvidence | None = None
    refused_since_ms: int | None = None
    order: asyncio.Task[None] | None = None
    order_again_at: float = 0.0
    coming_back_since_ms: int | None = None
    expulsion: asyncio.Task[None] | None = None
    expel_again_at: float = 0.0
    not_expelled: tuple[Reason, ...] = ()


class Fencer:
    """Works on all nodes that are lost without proof. `progress` says per node what it waits for."""

    def __init__(
        self,
        *,
        me: NodeName,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
        hearing: Hearing,
        device_of: DeviceOf,
        expel: Expel,
        suspects: Callable[[], Collection[NodeName]],
    ) -> None:
        self._me = me
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._hearing = hearing
        self._device_of = device_of
        self._suspects = suspects
        self._expulsion = Expulsion(me=me, store=store, mirror=mirror, clock=clock, events=events, expel=expel)
        self._cases: dict[Incarnation, _Case] = {}
        self._storm_seen_at_ms: int | None = None
        self.progress: dict[NodeName, tuple[Reason, ...]] = {}

    async def run(self) -> None:
        """Work until cancelled: when this node stops being the coordinator."""
        changed = self._mirror.subscribe()
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    snapshot = self._mirror.snapshot
                    lost = lost_without_proof(snapshot) if snapshot is not None else {}
                    self._drop_closed(lost.values())
                    for node, verdict in lost.items():
                        await self._work_on(node, verdict, snapshot or Snapshot(), tasks)
                    if lost:
                        await asyncio.sleep(TICK_S)
                    else:
                        await changed.wait()
                        changed.clear()
        finally:
            self._cases.clear()
            self.progress = {}

    def _drop_closed(self, open_verdicts: Iterable[Verdict]) -> None:
        still = {verdict.incarnation for verdict in open_verdicts}
        for incarnation in self._cases.keys() - still:
            del self._cases[incarnation]

    async def _work_on(self, node: NodeName, verdict: Verdict, snapshot: Snapshot, tasks: asyncio.TaskGroup) -> None:
        case = self._cases.setdefault(verdict.incarnation, _Case())
        storm = self._storm(node, snapshot)
        if storm is None and verdict.before_generation is None:
            self._expel(verdict, case, snapshot, tasks)
        step = next_fence_step(
            spec=snapshot.nodes[node].value,
            verdict=verdict,
            power=case.power,
            refusal=self._refusal(case, verdict, snapshot),
            storm=storm,
            timings=snapshot.timings,
        )
        self.progress[node] = (*step.reasons, *case.not_expelled)
        if step.act is FenceAct.ORDER_OFF and self._is_coming_back(node, verdict, case, snapshot):
            self.progress[node] = (because(ReasonCode.NODE_COMING_BACK, node),)
        elif step.act is FenceAct.ORDER_OFF:
            self._order(node, case, snapshot, tasks)
        elif step.act is not FenceAct.WAIT:
            await self._prove(step, verdict, snapshot)

    def _storm(self, node: NodeName, snapshot: Snapshot) -> Reason | None:
        """Why nobody may be ordered off now.

        Those who vanished together come back one by one, and with the first few of them the others are no storm any
        more: they get as long as patience lasts. Nodes that were only silent need not come back. Source: SAFE-8.
        """
        now_ms = self._clock.monotonic_ms()
        of_lost = storm_guard(snapshot, node)
        if of_lost is not None and of_lost.code is ReasonCode.STORM_GUARD:
            self._storm_seen_at_ms = now_ms
        storm = storm_guard(snapshot, node, suspects=self._suspects())
        if storm is not None or self._storm_seen_at_ms is None:
            return storm
        remaining_ms = self._storm_seen_at_ms + snapshot.timings.patience_ms - now_ms
        return because(ReasonCode.STORM_OVER, node, remaining_ms=remaining_ms) if remaining_ms > 0 else None

    def _refusal(self, case: _Case, verdict: Verdict, snapshot: Snapshot) -> Refusal:
        """How many voters said that they refuse it; this node does since its mirror has the verdict.

        A majority of those who vote now, and of those whom the lost node knew as voters, has to.
        """
        refusing = self._hearing.refusing(verdict.incarnation) | {self._me}
        known_to_it = frozenset(verdict.voters) or snapshot.voters()
        majorities = [len(voters & refusing) * 2 > len(voters) for voters in (snapshot.voters(), known_to_it)]
        now_ms = self._clock.monotonic_ms()
        if all(majorities) and case.refused_since_ms is None:
            case.refused_since_ms = now_ms
        since_ms = None if case.refused_since_ms is None else now_ms - case.refused_since_ms
        return Refusal(refusing_voters=len(snapshot.voters() & refusing), majority_since_ms=since_ms)

    def _is_coming_back(self, node: NodeName, verdict: Verdict, case: _Case, snapshot: Snapshot) -> bool:
        """Whether a newer incarnation is heard, which proves by registering that nothing of the lost one runs.

        To switch it off would cost a healthy node. It gets as long as patience lasts.
        """
        now_ms = self._clock.monotonic_ms()
        timings = snapshot.timings
        if not self._hearing.hears_another(node, verdict.incarnation, now_ms, timings.suspect_after_ms):
            return False
        if case.coming_back_since_ms is None:
            case.coming_back_since_ms = now_ms
        return now_ms - case.coming_back_since_ms < timings.patience_ms

    def _expel(self, verdict: Verdict, case: _Case, snapshot: Snapshot, tasks: asyncio.TaskGroup) -> None:
        """Beside everything else, take the shared disks from it. Source: SAFE-2."""
        running = case.expulsion is not None and not case.expulsion.done()
        is_due = asyncio.get_running_loop().time() >= case.expel_again_at
        if is_due and not running and unproven_disks(verdict.incarnation, snapshot):
            case.expulsion = tasks.create_task(self._expel_once(snapshot.verdicts[verdict.node], case, snapshot))

    async def _expel_once(self, verdict: Versioned[Verdict], case: _Case, snapshot: Snapshot) -> None:
        case.not_expelled = await self._expulsion.run(verdict, snapshot)
        case.expel_again_at = asyncio.get_running_loop().time() + ASK_AGAIN_S

    def _order(self, node: NodeName, case: _Case, snapshot: Snapshot, tasks: asyncio.TaskGroup) -> None:
        now = asyncio.get_running_loop().time()
        running = case.order is not None and not case.order.done()
        if running or now < case.order_again_at:
            return
        case.order = tasks.create_task(self._switch_off(node, case, snapshot))

    async def _switch_off(self, node: NodeName, case: _Case, snapshot: Snapshot) -> None:
        spec = snapshot.nodes[node].value.fence
        time = asyncio.get_running_loop().time
        case.order_again_at = time() + ASK_AGAIN_S
        if spec is None or not await self._may_order(node, snapshot):
            return
        before = case.power
        if before is None:
            self._events.record(self._events.event(EventCode.FENCE_ORDERED, node, *self.progress[node]))
        case.power = await switch_off(self._device_of, spec)
        case.order_again_at = time() + ORDER_AGAIN_S
        still_open = snapshot.verdicts[node].value.incarnation in self._cases
        if not case.power.is_off and still_open and (before is None or before.detail != case.power.detail):
            reason = because(ReasonCode.FENCE_FAILED, node, detail=case.power.detail)
            self._events.record(self._events.event(EventCode.FENCE_FAILED, node, reason))

    async def _may_order(self, node: NodeName, snapshot: Snapshot) -> bool:
        """Whether the database, asked by a write, has this node coordinate and the other one lost. Source: SAFE-4."""
        verdict = snapshot.verdicts[node]
        order = FenceOrder(incarnation=verdict.value.incarnation, by=self._me, at_ms=self._clock.wall_ms())
        try:
            return (await self._store.txn(order_off(node, order, snapshot=snapshot, verdict=verdict))).succeeded
        except Unavailable as error:
            log.warning("%s is not ordered off while the database is silent: %s", node, error)
            return False

    async def _prove(self, step: FenceStep, verdict: Verdict, snapshot: Snapshot) -> None:
        kind = ProofKind.POWER if step.act is FenceAct.PROVE_BY_POWER else ProofKind.WATCHDOG
        proof = Proof(
            node=verdict.node,
            incarnation=verdict.incarnation,
            kind=kind,
            at_ms=self._clock.wall_ms(),
            by=self._me,
            reasons=step.reasons,
        )
        event = self._events.event(EventCode.NODE_FENCED, verdict.node, *step.reasons)
        txn = record_proof(
            proof,
            verdict=snapshot.verdicts[verdict.node],
            before=snapshot.proofs.get(verdict.incarnation),
            events=self._events.operations(event),
        )
        try:
            await self._store.txn(txn)
        except Unavailable as error:
            log.warning("proof for %s not committed yet: %s", verdict.node, error)
