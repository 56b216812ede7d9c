"""The executor: carries out what the database says this node owns, and nothing else.

Rule of the file: the record first, then the act. A guest starts only after the claim is committed (SAFE-3) and the
guard has it on its list (SAFE-1); a role is released only when it is certain that nothing of it runs (SAFE-2).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from holdfast.decide.lifecycle import after_failed_start, after_refusal, next_step
from holdfast.decide.memory_steps import after_failed_restore, is_to_receive, not_received, received, receives
from holdfast.decide.saved_memory import attempt_of
from holdfast.decide.steps import STARTING_ACTS, Act, Situation, Step
from holdfast.fencing.port import Guard
from holdfast.hypervisor.port import Guest, Hypervisor
from holdfast.model.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.model.events import EventCode
from holdfast.model.ids import Incarnation, NodeName, RoleName
from holdfast.model.nodes import GuestObservation
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.roles import Ownership, Phase, Receiver, RoleSpec, StorageLoss
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.clock import Clock
from holdfast.node.disks import DiskKeeper
from holdfast.node.event_log import EventLog
from holdfast.node.guest_listing import GuestListing
from holdfast.node.guest_starts import GuestStarts
from holdfast.node.memory_moves import MemoryMoves
from holdfast.node.mirror import Mirror
from holdfast.node.newest_records import NewestRecords
from holdfast.node.role_changes import at_revision, event_of, gives_up, needless
from holdfast.node.stalled_guests import StalledGuests
from holdfast.node.transactions import Self, advance, hand_over
from holdfast.resources.port import OutcomeKind
from holdfast.store.port import Store

log = logging.getLogger(__name__)

LOOKS_ALIVE_INTERVAL_S: Final = 5.0
RETRY_S: Final = 0.5


class Executor:
    """Brings every role of this node's incarnation to where the database wants it."""

    def __init__(
        self,
        *,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
        hypervisor: Hypervisor,
        guard: Guard,
        disks: DiskKeeper,
        incarnation: Incarnation,
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._hypervisor = hypervisor
        self._guard = guard
        self._disks = disks
        self._incarnation = incarnation
        self._records = NewestRecords(mirror)
        self._working: dict[RoleName, asyncio.Task[None]] = {}
        self._look = asyncio.Event()
        self.stalled = StalledGuests(disks)
        self._listing = GuestListing(hypervisor, on_listed=self.stalled.listed)
        self._refused_since: dict[RoleName, float] = {}
        self._starts = GuestStarts(hypervisor=hypervisor, guard=guard, disks=disks, mirror=mirror)
        self._moves = MemoryMoves(hypervisor, mirror)
        self._taking_in: dict[RoleName, str] = {}
        """Uuids of guests whose copies this node said that it takes in."""

    @property
    def guests(self) -> Mapping[str, Guest] | None:
        """The guests of this node by their uuids, as they were listed last; None: nothing is known of them."""
        return self._listing.guests

    @property
    def not_ready(self) -> str | None:
        """Why this node cannot start guests now; None when it can."""
        return self._listing.silent or self._starts.not_entitled

    async def run(self, me: Self) -> None:
        """Work until cancelled, with the session `me`."""
        changed = self._mirror.subscribe()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_hypervisor())
            tasks.create_task(self._look_regularly(me))
            tasks.create_task(self._look_at_stalled())
            tasks.create_task(self._watch_records(changed, me.node))
            while True:
                await self._look.wait()
                self._look.clear()
                if self._mirror.snapshot is not None:
                    await self._look_around(self._mirror.snapshot, me, tasks)

    async def _look_around(self, snapshot: Snapshot, me: Self, tasks: asyncio.TaskGroup) -> None:
        """Give every role that needs a step a worker of its own.

        The last listing is good enough to begin with: hypervisor events renew it, and every step looks again.
        """
        if self.guests is None:
            await self._listing.renew()
        for role, spec in self._concerned(snapshot, me.node).items():
            if role in self._working and not self._working[role].done():
                continue
            if self._needs_step(role, spec, me.node):
                self._working[role] = tasks.create_task(self._settle(role, me))

    def _concerned(self, snapshot: Snapshot, node: NodeName) -> dict[RoleName, RoleSpec]:
        """The roles that this node owns, and those whose guest was last seen here."""
        index = self._mirror.roles
        roles = dict.fromkeys((*index.owned_by(node), *index.heading_to(node), *self._taking_in))
        roles |= {role: None for uuid in self.guests or () if (role := index.of_guest(uuid)) is not None}
        return {role: snapshot.specs[role].value for role in roles if role in snapshot.specs}

    def _needs_step(self, role: RoleName, spec: RoleSpec, node: NodeName) -> bool:
        observed = self._listing.observed(spec.uuid)
        ownership = self._records.of(role)
        if ownership is not None and self._is_mine(ownership, node):
            return self._next(ownership, spec) != Step()
        if ownership is not None and receives(ownership.value, self._incarnation):
            return False
        is_asked = ownership is not None and is_to_receive(ownership.value, node, self._incarnation)
        is_seen = observed not in (GuestObservation.ABSENT, GuestObservation.UNKNOWN)
        return is_asked or is_seen or role in self._taking_in

    def _next(self, ownership: Versioned[Ownership], spec: RoleSpec) -> Step:
        now = self._situation(ownership, spec)
        return next_step(
            now.ownership,
            spec,
            self._listing.observed(spec.uuid),
            now.now_ms,
            is_frozen=now.is_frozen,
            memory_id=now.memory_id,
            attempt=now.attempt,
            can_go_on=now.can_go_on,
            is_cut_off=now.is_cut_off,
            can_write=now.can_write,
        )

    def _situation(self, ownership: Versioned[Ownership], spec: RoleSpec) -> Situation:
        return Situation(
            ownership=ownership.value,
            spec=spec,
            now_ms=self._clock.wall_ms(),
            is_frozen=self._is_frozen,
            memory_id=self._listing.memory_id(spec.uuid),
            attempt=attempt_of(self._incarnation, ownership.revision, self._mirror.snapshot or Snapshot()),
            can_go_on=self.stalled.can_go_on(spec),
            is_cut_off=spec.on_storage_loss is StorageLoss.MOVE and self._disks.has_lost(spec.disks),
            can_write=self._disks.problem(spec.disks) is None,
        )

    @property
    def _is_frozen(self) -> bool:
        return self._mirror.snapshot is not None and self._mirror.snapshot.is_frozen

    async def _settle(self, role: RoleName, me: Self) -> None:
        """Take steps until the role needs none. Trouble is shown, waited out and tried again."""
        while True:
            try:
                if not await self._take_step(role, me):
                    return
                await self._listing.renew()
            except HoldfastError as error:
                log.warning("role %s: %s", role, error)
                await asyncio.sleep(RETRY_S)
                self._look.set()
                return

    async def _take_step(self, role: RoleName, me: Self) -> bool:
        """Take one step; returns whether another may be due."""
        snapshot = self._mirror.snapshot
        spec = snapshot.specs.get(role) if snapshot is not None else None
        if spec is None:
            return False
        ownership = self._records.of(role)
        if ownership is None or not self._is_mine(ownership, me.node):
            return await self._mind_what_is_not_ours(ownership, spec.value, me)
        self._taking_in.pop(role, None)
        step = self._next(ownership, spec.value)
        if gives_up(step, ownership.value):
            await self._listing.renew()
            step = self._next(ownership, spec.value)
        if step == Step():
            return False
        if step.act is Act.WAIT:
            raise Unavailable(f"role {role}: it cannot go on here now: {self._disks.problem(spec.value.disks)}")
        if step.act in STARTING_ACTS and (refusal := await self._starts.refusal(spec.value)) is not None:
            return await self._wait_or_give_up(ownership, spec.value, refusal, me)
        self._refused_since.pop(role, None)
        if step.record is not None:
            committed = await self._commit(step.record, ownership, spec.value, me)
            if committed is None:
                return False
            ownership = committed
        await self._act(step.act, ownership, spec.value, me)
        return True

    async def _act(self, act: Act, ownership: Versioned[Ownership], spec: RoleSpec, me: Self) -> None:
        now = self._situation(ownership, spec)
        after: Ownership | None = None
        match act:
            case Act.BRING_ONLINE | Act.RESTORE | Act.RESUME:
                after = await self._begin(act, ownership, spec, me)
            case Act.TAKE_OFFLINE:
                await self._starts.agent(spec).offline()
            case Act.DESTROY:
                await self._hypervisor.destroy(spec.uuid)
            case Act.SAVE:
                after = await self._moves.save(now, partial(self._is_leaving, spec.name))
            case Act.SETTLE_SAVE:
                after = await self._moves.settle_save(now)
            case Act.MIGRATE:
                after = await self._moves.copy(now, partial(self._is_leaving, spec.name))
            case Act.SETTLE_MIGRATION:
                after = await self._moves.settle_copy(now)
            case Act.NOTHING:
                return
        newest = self._records.of(spec.name)
        if after is not None and newest is not None and newest.revision == ownership.revision:
            await self._commit(after, ownership, spec, me)

    def _is_leaving(self, role: RoleName) -> bool:
        """Whether a move that is under way is still wanted."""
        ownership = self._records.of(role)
        return ownership is not None and ownership.value.is_leaving

    async def _wait_or_give_up(self, ownership: Versioned[Ownership], spec: RoleSpec, refusal: str, me: Self) -> bool:
        """A role of which nothing runs waits for its node only as long as one that was not taken up. Source: SAFE-5."""
        now = asyncio.get_running_loop().time()
        waited_s = now - self._refused_since.setdefault(spec.name, now)
        claim_after_ms = (self._mirror.snapshot or Snapshot()).timings.claim_after_ms
        is_absent = self._listing.observed(spec.uuid) is GuestObservation.ABSENT
        if ownership.value.phase is not Phase.ASSIGNED and is_absent and waited_s >= claim_after_ms / 1000:
            del self._refused_since[spec.name]
            after = after_refusal(ownership.value, spec, refusal, self._clock.wall_ms())
            return await self._commit(after, ownership, spec, me) is not None
        raise Unavailable(f"role {spec.name}: it cannot start here now: {refusal}")

    async def _commit(
        self, after: Ownership, before: Versioned[Ownership], spec: RoleSpec, me: Self
    ) -> Versioned[Ownership] | None:
        """Commit a step; None: it was too late.

        A role is given away only when it is certain that nothing of it runs here. Source: SAFE-2.
        """
        leaves = after.owner != before.value.owner
        if leaves:
            await self._hypervisor.destroy(spec.uuid)
        event = self._events.event(
            event_of(after, before.value),
            after.role,
            *after.reasons,
            epoch=after.epoch,
            target=after.target,
            record=after,
        )
        events = self._events.operations(event)
        if leaves and after.owner is not None:
            snapshot = self._mirror.snapshot or Snapshot()
            receiver = snapshot.session_of(after.owner, after.incarnation)
            if receiver is None:
                raise Unavailable(f"role {spec.name}: {after.owner}, which has its copy, is not up now")
            txn = hand_over(after, before=before, me=me, receiver=receiver, events=events)
        else:
            txn = advance(after, before=before, me=me, events=events)
        result = await self._store.txn(txn)
        if not result.succeeded:
            self._records.refused(after.role)
            return None
        committed = at_revision(after, result.revision, before)
        self._records.committed(committed)
        if leaves:
            await self._guard.unprotect(spec.uuid)
        for path in needless(before.value, after):
            await self._moves.discard(path)
        return committed

    async def _begin(self, act: Act, ownership: Versioned[Ownership], spec: RoleSpec, me: Self) -> Ownership | None:
        """Have the guest begin. What certainly failed is recorded; what is unknown is looked at again."""
        was_stalled = self.stalled.let_go_on(spec.uuid)
        outcome = await self._starts.begin(act, spec, ownership.value)
        if outcome.kind is OutcomeKind.UNKNOWN:
            raise OutcomeUnknown(f"role {spec.name}: {outcome.detail}", hint=outcome.hint)
        if outcome.kind is OutcomeKind.DONE:
            if was_stalled:
                reason = because(ReasonCode.STORAGE_BACK, spec.name)
                self._events.record(self._events.event(EventCode.ROLE_RESUMED, spec.name, reason))
            return None
        await self._listing.renew()
        newest = self._records.of(spec.name)
        if self.guests is None or newest is None or not self._is_mine(newest, me.node):
            raise Unavailable(f"role {spec.name}: {outcome.detail}", hint=outcome.hint)
        if act is Act.RESTORE:
            after = after_failed_restore(self._situation(newest, spec), outcome.detail)
        else:
            after = after_failed_start(
                newest.value, spec, outcome.detail, self._clock.wall_ms(), is_frozen=self._is_frozen
            )
        await self._commit(after, newest, spec, me)
        await asyncio.sleep(RETRY_S)
        return None

    async def _mind_what_is_not_ours(self, ownership: Versioned[Ownership] | None, spec: RoleSpec, me: Self) -> bool:
        """Spare the copy that this node receives, end anything else, and say whether a new copy may come."""
        if ownership is not None and receives(ownership.value, self._incarnation):
            return False
        if self._listing.observed(spec.uuid) is GuestObservation.UNKNOWN:
            return False
        if await self._remove_stray(spec, self._listing.observed(spec.uuid)):
            return True
        if self._taking_in.pop(spec.name, None) is not None:
            await self._guard.unprotect(spec.uuid)
        if ownership is None or not is_to_receive(ownership.value, me.node, self._incarnation):
            return False
        return await self._take_in(ownership, spec, me)

    async def _take_in(self, ownership: Versioned[Ownership], spec: RoleSpec, me: Self) -> bool:
        """Say that this node takes a guest's copy in, or why not; the guard lists it before. Source: SAFE-1."""
        if (refusal := await self._starts.refusal(spec)) is not None:
            raise Unavailable(f"role {spec.name}: its copy cannot come here now: {refusal}")
        now = self._situation(ownership, spec)
        against = await self._moves.why_not_received(ownership.value, spec)
        if (problem := self._disks.problem(spec.disks)) is not None:
            against = (*against, problem)
        if against:
            await self._commit(not_received(now, "; ".join(against)), ownership, spec, me)
            await self._guard.unprotect(spec.uuid)
            return False
        self._taking_in[spec.name] = spec.uuid
        receiver = Receiver(node=me.node, incarnation=self._incarnation)
        await self._commit(received(ownership.value, receiver, now.attempt), ownership, spec, me)
        return False

    async def _remove_stray(self, spec: RoleSpec, observed: GuestObservation) -> bool:
        """End a guest that runs here although this node does not own its role. Source: SAFE-1."""
        if observed in (GuestObservation.ABSENT, GuestObservation.UNKNOWN):
            return False
        log.warning("guest %s of role %s runs here without being owned by this node; ending it", spec.uuid, spec.name)
        await self._hypervisor.destroy(spec.uuid)
        await self._guard.unprotect(spec.uuid)
        reason = because(ReasonCode.NOT_OURS, spec.name, owner="another node")
        self._events.record(self._events.event(EventCode.ROLE_STOPPING, spec.name, reason))
        return True

    def _is_mine(self, ownership: Versioned[Ownership] | None, node: NodeName) -> bool:
        return (
            ownership is not None and ownership.value.owner == node and ownership.value.incarnation == self._incarnation
        )

    async def _watch_hypervisor(self) -> None:
        async for _ in self._hypervisor.events():
            await self._listing.renew()
            self._look.set()

    async def _watch_records(self, changed: asyncio.Event, node: NodeName) -> None:
        """Look when there is news for this node; most of what changes in a large cluster is about others."""
        seen = None
        while True:
            await changed.wait()
            changed.clear()
            news = (self._mirror.roles.news_for(node), self._is_frozen)
            if news != seen:
                seen = news
                self._look.set()

    async def _look_regularly(self, me: Self) -> None:
        while True:
            await self._listing.renew()
            self._look.set()
            try:
                await self._starts.list_with_guard(self._own_guests(me.node))
            except Unavailable as error:
                log.warning("%s", error)
            await asyncio.sleep(LOOKS_ALIVE_INTERVAL_S)

    async def _look_at_stalled(self) -> None:
        """Look often while storage keeps a guest from going on: no event tells of a disk that is back."""
        while True:
            await asyncio.sleep(RETRY_S)
            if self.stalled:
                self._look.set()

    def _own_guests(self, node: NodeName) -> Iterator[str]:
        for uuid in self.guests or ():
            role = self._mirror.roles.of_guest(uuid)
            if role is not None and self._is_mine(self._records.of(role), node):
                yield uuid
