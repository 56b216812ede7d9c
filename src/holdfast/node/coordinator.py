"""The coordinator: elected by one transaction, decides placement, and tidies the database.

Rule of the file: every node runs this; it acts only while the database says that this node coordinates, and each of its
decisions is a transaction that fails as soon as that is no longer so. Source: SAFE-4.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from holdfast.decide.coordination import Change, plan
from holdfast.decide.heartbeat_keys import next_keys
from holdfast.decide.timing_change import settled_timings
from holdfast.model.certificates import HeartbeatKeys
from holdfast.model.errors import HoldfastError
from holdfast.model.events import EventCode
from holdfast.model.ids import Incarnation, RoleName
from holdfast.model.reasons import Reason
from holdfast.model.roles import Phase
from holdfast.model.snapshot import ClusterRecord, Coordinator, Snapshot
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.fence_check import FenceCheck
from holdfast.node.fencer import Fencer
from holdfast.node.mirror import Mirror
from holdfast.node.transactions import Self, campaign, change_keys, change_owner, settle_timings
from holdfast.node.voters import VoterKeeper
from holdfast.store.port import Delete, LeaseId, ModRevision, Put, Store, Txn
from holdfast.store.records import COORDINATOR, EVENTS, encode, proof_key

log = logging.getLogger(__name__)

DECISION_TIMEOUT_S: Final = 0.5
LOOK_AGAIN_S: Final = 5.0
LEAST_WAIT_S: Final = 0.05
RETRY_S: Final = 0.1
COMMITS_AT_ONCE: Final = 64
"""What the database takes well within the time-out of one. Source: about 1,000 small writes a second on two cores."""
TIDY_INTERVAL_S: Final = 60.0


class Coordination:
    """Runs for office with this node's session, and decides while elected."""

    def __init__(
        self,
        *,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
        fencer: Fencer,
        fence_check: FenceCheck,
        incarnation: Incarnation,
        voters: VoterKeeper | None = None,
    ) -> None:
        """`voters` None: the members of the database are somebody else's business."""
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._fencer = fencer
        self._fence_check = fence_check
        self._voters = voters
        self._incarnation = incarnation
        self._elected_with: LeaseId | None = None
        self._committed = 0
        """Revision of the last decision that was committed."""
        self._look_again_s = LOOK_AGAIN_S
        self._shown_blocked: dict[RoleName, frozenset[str]] = {}

    async def run(self, me: Self) -> None:
        """Campaign and coordinate until cancelled."""
        changed = self._mirror.subscribe()
        async with asyncio.TaskGroup() as tasks:
            duties: asyncio.Task[None] | None = None
            while True:
                snapshot = self._mirror.snapshot
                settled = True
                elected = snapshot is not None and self._is_coordinator(snapshot, me)
                if snapshot is not None and elected:
                    if duties is None or duties.done():
                        duties = tasks.create_task(self._duties())
                    settled = await self._decide(snapshot)
                    if (keys := next_keys(snapshot)) is not None:
                        await self._change_keys(keys, snapshot)
                    if (record := settled_timings(snapshot)) is not None:
                        await self._settle_timings(record, snapshot)
                elif duties is not None:
                    duties.cancel()
                    duties = None
                if snapshot is not None and not elected:
                    settled = await self._campaign(snapshot, me)
                await self._wait(changed, self._look_again_s if settled else RETRY_S)

    def _is_coordinator(self, snapshot: Snapshot, me: Self) -> bool:
        """Whether this very session was elected: one of an earlier daemon is taken over by campaigning."""
        current = snapshot.coordinator
        return (
            current is not None
            and current.value == Coordinator(node=me.node, incarnation=self._incarnation)
            and self._elected_with == me.lease
        )

    async def _campaign(self, snapshot: Snapshot, me: Self) -> bool:
        candidate = Coordinator(node=me.node, incarnation=self._incarnation)
        current = snapshot.coordinator
        own = snapshot.sessions.get(me.node)
        if (current is not None and current.value != candidate) or (own is not None and own.value.stopping):
            return True
        event = self._events.event(EventCode.COORDINATOR_ELECTED, me.node)
        txn = campaign(candidate, me, events=self._events.operations(event))
        if current is not None:
            unchanged = ModRevision(COORDINATOR, equals=current.revision)
            txn = Txn(
                compares=(unchanged, me.holds_session), then=(Put(COORDINATOR, encode(candidate), lease=me.lease),)
            )
        try:
            if (await self._store.txn(txn, timeout_s=DECISION_TIMEOUT_S)).succeeded:
                self._elected_with = me.lease
                log.info("%s is the coordinator now", me.node)
        except HoldfastError as error:
            log.warning("election: %s", error)
            return False
        return True

    async def _duties(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fencer.run())
            tasks.create_task(self._fence_check.run())
            tasks.create_task(self._tidy())
            if self._voters is not None:
                tasks.create_task(self._voters.run())

    async def _decide(self, snapshot: Snapshot) -> bool:
        """Commit the plan's changes side by side; returns whether all were settled."""
        decided = plan(snapshot, self._clock.wall_ms())
        self._look_again_s = LOOK_AGAIN_S
        if decided.look_again_ms is not None:
            self._look_again_s = min(LOOK_AGAIN_S, max(LEAST_WAIT_S, decided.look_again_ms / 1000))
        self._show_blocked(decided.blocked)
        if not decided.changes:
            return True
        urgent = decided.changes[:COMMITS_AT_ONCE]
        async with asyncio.TaskGroup() as tasks:
            commits = [tasks.create_task(self._commit(change, snapshot)) for change in urgent]
        return all(commit.result() for commit in commits)

    async def _commit(self, change: Change, snapshot: Snapshot) -> bool:
        after = change.after
        code = EventCode.ROLE_ASSIGNED if after.phase is Phase.ASSIGNED else EventCode.ROLE_OFFLINE
        if after.is_leaving or after.phase is Phase.ONLINE:
            code = EventCode.ROLE_MOVING
        target = after.target or after.owner
        event = self._events.event(code, change.role, *after.reasons, epoch=after.epoch, target=target, record=after)
        txn = change_owner(change, snapshot=snapshot, events=self._events.operations(event))
        try:
            result = await self._store.txn(txn, timeout_s=DECISION_TIMEOUT_S)
        except HoldfastError as error:
            log.warning("decision on role %s not committed: %s", change.role, error)
            return False
        self._committed = max(self._committed, result.revision)
        return result.succeeded

    async def _change_keys(self, keys: HeartbeatKeys, snapshot: Snapshot) -> None:
        """Take the next step of a change of the heartbeats' secret; the news of it leads to the one after."""
        try:
            await self._store.txn(change_keys(keys, snapshot=snapshot), timeout_s=DECISION_TIMEOUT_S)
        except HoldfastError as error:
            log.warning("the key of the heartbeats is not changed yet: %s", error)

    async def _settle_timings(self, record: ClusterRecord, snapshot: Snapshot) -> None:
        """Drop the times that nobody uses any more; every node then uses the new ones alone."""
        try:
            await self._store.txn(settle_timings(record, snapshot=snapshot), timeout_s=DECISION_TIMEOUT_S)
        except HoldfastError as error:
            log.warning("the change of the times is not over yet: %s", error)

    async def _wait(self, changed: asyncio.Event, timeout_s: float) -> None:
        """Wait for news that has this node's own decisions in it: before, each would only be decided once more."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await changed.wait()
                    changed.clear()
                    if self._mirror.snapshot is not None and self._mirror.snapshot.revision >= self._committed:
                        return
        except TimeoutError:
            return

    def _show_blocked(self, blocked: dict[RoleName, tuple[Reason, ...]]) -> None:
        """Record once per cause that a role is blocked. Source: SAFE-5."""
        codes = {role: frozenset(f"{reason.code}/{reason.subject}" for reason in why) for role, why in blocked.items()}
        for role, why in blocked.items():
            if self._shown_blocked.get(role) != codes[role]:
                self._events.record(self._events.event(EventCode.ROLE_BLOCKED, role, *why))
        self._shown_blocked = codes

    async def _tidy(self) -> None:
        """Bound what the database keeps: old events, and proofs that nothing rests on any more."""
        while True:
            await asyncio.sleep(TIDY_INTERVAL_S)
            try:
                await self._drop_old_events()
                await self._drop_old_proofs()
            except HoldfastError as error:
                log.warning("tidying the cluster database: %s", error)

    async def _drop_old_events(self) -> None:
        kept = (self._mirror.snapshot or Snapshot()).settings.events_kept
        keys = [item.key for item in (await self._store.list(EVENTS)).items]
        surplus = keys[: max(0, len(keys) - kept)]
        for start in range(0, len(surplus), 100):
            await self._store.txn(Txn(then=tuple(Delete(key) for key in surplus[start : start + 100])))

    async def _drop_old_proofs(self) -> None:
        snapshot = self._mirror.snapshot or Snapshot()
        needed = {ownership.value.incarnation for ownership in snapshot.ownerships.values()}
        needed |= {verdict.value.incarnation for verdict in snapshot.verdicts.values()}
        for incarnation in sorted(snapshot.proofs.keys() - needed):
            await self._store.txn(Txn(then=(Delete(proof_key(incarnation)),)))
