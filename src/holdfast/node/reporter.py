"""What this node observes, written to the database when it changes, for placement and for status on other nodes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from holdfast.decide.detection import Standing
from holdfast.fencing.port import Guard
from holdfast.hypervisor.port import Hypervisor
from holdfast.model.errors import HoldfastError
from holdfast.model.events import EventCode
from holdfast.model.ids import Incarnation, NodeName, RoleName
from holdfast.model.nodes import Capacity, Condition, MemoryTarget, NodeReport, Seat
from holdfast.model.reasons import Reason
from holdfast.model.roles import Phase
from holdfast.model.snapshot import Snapshot
from holdfast.model.transfers import Transfer
from holdfast.node.clock import Clock
from holdfast.node.detector import Detector
from holdfast.node.disks import DiskKeeper
from holdfast.node.entitlement import Entitlement
from holdfast.node.event_log import EventLog
from holdfast.node.executor import Executor
from holdfast.node.fencer import Fencer
from holdfast.node.mirror import Mirror
from holdfast.node.role_changes import observation_of
from holdfast.node.transactions import Self, revision_of
from holdfast.store.port import ModRevision, Put, Store, Txn
from holdfast.store.records import encode, report_key

log = logging.getLogger(__name__)

LOOK_INTERVAL_S: Final = 1.0
GUARD_INTERVAL_S: Final = 5.0


class Reporter:
    """Publishes one `NodeReport` per change."""

    def __init__(
        self,
        *,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
        heard_on: Callable[[Snapshot], dict[NodeName, tuple[str, ...]]],
        conditions_seen: Callable[[], tuple[Condition, ...]],
        detector: Detector,
        fencer: Fencer,
        executor: Executor,
        entitlement: Entitlement,
        hypervisor: Hypervisor,
        guard: Guard,
        disks: DiskKeeper,
        incarnation: Incarnation,
        seat: Callable[[], Seat | None] = lambda: None,
        memory_target: Callable[[], MemoryTarget | None] = lambda: None,
        heartbeat_keys: Callable[[], tuple[str, ...]] = lambda: (),
        timings_generation: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._heard_on = heard_on
        self._conditions_seen = conditions_seen
        self._detector = detector
        self._fencer = fencer
        self._executor = executor
        self._entitlement = entitlement
        self._hypervisor = hypervisor
        self._guard = guard
        self._disks = disks
        self._incarnation = incarnation
        self._seat = seat
        self._capacity: Capacity | None = None
        self._memory_target = memory_target
        self._heartbeat_keys = heartbeat_keys
        self._timings_generation = timings_generation
        self._cpu = ""
        self._guard_condition: Condition | None = None
        self._guard_due = float("-inf")
        self._warned: frozenset[Condition] = frozenset()

    async def run(self, me: Self) -> None:
        """Look once a second, write what differs from what the database has, until cancelled.

        Each write replaces exactly the report that was seen there: one that arrives late must not undo a newer one.
        """
        while True:
            try:
                report = await self._observe(me.node)
                written = (self._mirror.snapshot or Snapshot()).reports.get(me.node)
                if report is not None and _essence(report) != _essence(written.value if written else None):
                    unchanged = ModRevision(report_key(me.node), equals=revision_of(written))
                    put = Put(report_key(me.node), encode(report), lease=me.lease)
                    if (await self._store.txn(Txn(compares=(me.holds_session, unchanged), then=(put,)))).succeeded:
                        self._record_conditions(frozenset(report.conditions))
            except HoldfastError as error:
                log.warning("report not written: %s", error)
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _observe(self, me: NodeName) -> NodeReport | None:
        if self._capacity is None:
            self._capacity = await self._hypervisor.capacity()
        snapshot, target = self._mirror.snapshot, self._memory_target()
        if snapshot is None:
            return None
        if target is not None and not self._cpu:
            self._cpu = await self._hypervisor.cpu()
        guests = self._executor.guests or {}
        return NodeReport(
            node=me,
            incarnation=self._incarnation,
            capacity=self._capacity,
            hears=self._heard_on(snapshot),
            not_ready=self._executor.not_ready or self._entitlement.guard_silent,
            conditions=(*self._conditions_seen(), *await self._own_conditions(me)),
            transfers=await self._transfers(snapshot, me),
            guests={uuid: observation_of(guest) for uuid, guest in sorted(guests.items())},
            fencing=dict(self._fencer.progress),
            disks=self._disks.health,
            takes_memory=None if target is None else replace(target, cpu=self._cpu),
            seat=self._seat(),
            heartbeat_keys=self._heartbeat_keys(),
            timings_generation=self._timings_generation(),
        )

    async def _transfers(self, snapshot: Snapshot, me: NodeName) -> dict[RoleName, Transfer]:
        """How far the memory is that leaves this node; asked only while some does."""
        found = {}
        for role, ownership in sorted(snapshot.ownerships.items()):
            if ownership.value.owner != me or ownership.value.phase not in (Phase.SAVING, Phase.MIGRATING):
                continue
            spec = snapshot.specs.get(role)
            progress = None
            with contextlib.suppress(HoldfastError):  # what is told to people holds no report up
                progress = await self._hypervisor.progress(spec.value.uuid) if spec is not None else None
            if progress is not None:
                found[role] = Transfer(
                    bytes_total=progress.bytes_total,
                    bytes_processed=progress.bytes_processed,
                    bytes_remaining=progress.bytes_remaining,
                    bytes_per_s=progress.bytes_per_s,
                    dirty_bytes_per_s=progress.dirty_bytes_per_s,
                    time_left_ms=progress.time_left_ms,
                )
        return found

    async def _own_conditions(self, me: NodeName) -> tuple[Condition, ...]:
        found = [
            Condition(code="badly-connected", subject=name, text=f"{me} does not hear {name} on every network")
            for name, judged in sorted(self._detector.standing.items())
            if judged.standing is Standing.BADLY_CONNECTED
        ]
        now = asyncio.get_running_loop().time()
        if now >= self._guard_due:
            self._guard_condition = await self._ask_guard(me)
            self._guard_due = now + GUARD_INTERVAL_S
        found += self._executor.stalled.conditions(me)
        return tuple(found) if self._guard_condition is None else (*found, self._guard_condition)

    async def _ask_guard(self, me: NodeName) -> Condition | None:
        try:
            watchdog = (await self._guard.state()).watchdog
        except HoldfastError as error:
            text = f"{me}: {error.message}; it cannot start guests until holdfast-guard answers"
            return Condition(code="guard-silent", subject=me, text=text)
        if watchdog is None or not watchdog.error:
            return None
        text = f"{me}: watchdog {watchdog.device}: {watchdog.error}"
        return Condition(code="watchdog-failed", subject=me, text=text)

    def _record_conditions(self, now: frozenset[Condition]) -> None:
        for code, changed in (
            (EventCode.CONDITION_RAISED, now - self._warned),
            (EventCode.CONDITION_CLEARED, self._warned - now),
        ):
            for condition in sorted(changed, key=lambda c: c.text):
                self._events.record(self._events.event(code, f"{condition.code}: {condition.text}"))
        self._warned = now


def _essence(report: NodeReport | None) -> object:
    """What counts as a change: the words of a fencing reason and a disk's latency may tick without being news."""
    if report is None:
        return None
    fencing = {node: tuple(_kind(reason) for reason in reasons) for node, reasons in report.fencing.items()}
    disks = {name: replace(health, latency_ms=None) for name, health in report.disks.items()}
    return replace(report, fencing={}, disks=disks), fencing


def _kind(reason: Reason) -> tuple[str, str]:
    return reason.code, reason.subject
