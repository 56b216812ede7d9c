"""This node's session: the record that says that it is up, the lease below it, and how it ends.

Rule of the file: a session is registered only by an incarnation that is clean, that is, when nothing of an earlier
incarnation runs here. Source: SAFE-1, SAFE-3.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from typing import Final

from holdfast.decide.fencing import is_proven_dead
from holdfast.model.errors import Unavailable
from holdfast.model.events import EventCode
from holdfast.model.ids import Incarnation, NodeName, Revision
from holdfast.model.nodes import NodeSpec, Proof, ProofKind, Session
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.guard_promise import GuardPromise
from holdfast.node.mirror import Mirror
from holdfast.node.transactions import Self, end_earlier_session, record_restarts, register_session, update_session
from holdfast.store.errors import LeaseNotFound
from holdfast.store.port import CreateRevision, LeaseId, Store
from holdfast.store.records import decode, node_key, session_key

log = logging.getLogger(__name__)

RETRY_S: Final = 0.2
RENEW_AGAIN_S: Final = 0.5
"""After a renewal that failed: what is left of the lease when the database answers again may be short."""

GuardOf = Callable[[], Awaitable[GuardPromise]]


Promise = tuple[int, tuple[NodeName, ...]]
"""What the guard's deadline depends on: how far it may lie ahead, in ms, and whose acknowledgements move it."""


class SessionEnd(StrEnum):
    """How a session ended."""

    LOST = "lost"
    """A verdict on this incarnation is committed: it must clean up and come back as another one."""
    EXPIRED = "expired"
    """The lease ran out without a verdict: this incarnation may register again."""
    EVICTED = "evicted"
    """This machine is no node of the cluster any more: it must clean up and forget the cluster."""


class SessionKeeper:
    """Registers the session of one incarnation, keeps it, and tells how it ended."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
        session: Session,
        *,
        guard: GuardOf | None = None,
        machine_id: str = "",
    ) -> None:
        """What else it rests on.

        guard         asks how the guard and its watchdog are now; None: what the session says stays.
        machine_id    of this machine; empty: unknown. A node of the same name on another machine is another node.
        """
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._session = session
        self._writing = asyncio.Lock()
        self._revision: int | None = None
        self._lowering: tuple[int, int] | None = None
        """The deadline that is about to be promised instead of a farther one, and when it can be."""
        self._earlier_leases: list[LeaseId] = []
        self._guard = guard
        self._machine_id = machine_id
        self._unanswered: dict[Promise, None] = {}
        """What writes say that may yet arrive, for their answers were lost."""
        self.registered_at = 0
        self.me: Self | None = None

    @property
    def session(self) -> Session:
        """The session as last written."""
        return self._session

    @property
    def promised_voters(self) -> tuple[frozenset[NodeName], ...]:
        """Whose acknowledgements a verdict may count: as last written, and as a write asked for that may yet arrive."""
        return tuple(frozenset(voters) for _, voters in (_promise(self._session), *self._unanswered) if voters)

    @property
    def deadline_at_most_ms(self) -> int:
        """How far ahead the guard's deadline may be moved: no farther than anything that a verdict may find promised.

        That is what is written, what a write that may yet arrive says, and what will be said as soon as it is true.
        """
        promised = [deadline_ms for deadline_ms, _ in (_promise(self._session), *self._unanswered)]
        return min(promised if self._lowering is None else (*promised, self._lowering[0]))

    async def register(self) -> SessionEnd | None:
        """Register until done; returns LOST or EVICTED when that is committed instead."""
        changed = self._mirror.subscribe()
        while True:
            snapshot = self._mirror.snapshot
            if snapshot is None:
                await changed.wait()
                continue
            if snapshot.is_lost(self._session.node, self._session.incarnation):
                return SessionEnd.LOST
            try:
                if not self._is_node(snapshot.nodes.get(self._session.node)) and await self._is_evicted():
                    return SessionEnd.EVICTED
                if await self._try_register(snapshot):
                    return None
            except (Unavailable, LeaseNotFound) as error:
                log.warning("session of %s not registered yet: %s", self._session.node, error)
            changed.clear()
            try:
                async with asyncio.timeout(RETRY_S):
                    await changed.wait()
            except TimeoutError:
                pass

    def _is_node(self, record: Versioned[NodeSpec] | None) -> bool:
        """Whether the record is of the node that this machine is."""
        if record is None:
            return False
        known = record.value.machine_id
        return not known or not self._machine_id or known == self._machine_id

    async def _is_evicted(self) -> bool:
        """Ask the database itself: the mirror of a machine that just joined may be older than its record."""
        key = node_key(self._session.node)
        found = await self._store.get(key)
        if found is None:
            return True
        spec = decode(NodeSpec, key, found.value)
        return not self._is_node(Versioned(value=spec, revision=Revision(0), created=Revision(0)))

    async def _try_register(self, snapshot: Snapshot) -> bool:
        proofs = _restarted(snapshot, self._session, self._clock.wall_ms())
        events = [self._events.event(EventCode.NODE_FENCED, proof.node, *proof.reasons) for proof in proofs]
        before = snapshot.sessions.get(self._session.node)
        if before is not None and before.value.incarnation != self._session.incarnation:
            fenced = self._events.operations(*events)
            await self._store.txn(end_earlier_session(before, restarted=proofs, events=fenced))
            return False
        ttl_s = snapshot.timings.session_ttl_s
        lease = await self._store.grant(ttl_s)
        self._session, self._earlier_leases = replace(self._session, ttl_s=ttl_s), []
        events.insert(0, self._events.event(EventCode.NODE_UP, self._session.node))
        txn = register_session(
            self._session,
            lease=lease,
            snapshot=snapshot,
            restarted=proofs,
            events=self._events.operations(*events),
        )
        node = snapshot.nodes.get(self._session.node)
        is_known = CreateRevision(node_key(self._session.node), equals=0 if node is None else node.created)
        txn = replace(txn, compares=(*txn.compares, is_known))
        if not (await self._store.txn(txn)).succeeded:
            await self._store.revoke(lease)
            return False
        written = await self._store.get(session_key(self._session.node))
        if written is None or written.lease != lease:
            return False
        self._revision = self.registered_at = written.mod_revision
        self.me = Self(node=self._session.node, created=written.create_revision, lease=lease)
        return True

    async def keep(self) -> SessionEnd:
        """Keep the session alive until it ends; returns how."""
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(self._renew())
            end = await self._wait_end()
            renewing.cancel()
        self.me = None
        return end

    async def touch(self, timeout_s: float) -> bool:
        """Write to the session: True proves that no verdict was committed before. Raises: Unavailable."""
        return await self._update(lambda session: replace(session, touched=session.touched + 1), timeout_s)

    async def announce_stop(self, grace_ms: int, timeout_s: float) -> bool:
        """Tell the others that holdfastd stops in an orderly way and will be back within `grace_ms`.

        The session moves to a lease that outlives this, or its end would look like this node's. Only after True may the
        guard's deadline be moved so far ahead. Raises: Unavailable.
        """
        ttl_s = (self._mirror.snapshot or Snapshot()).timings.session_ttl_s
        lease = await self._store.grant(ttl_s + -(-grace_ms // 1000), timeout_s=timeout_s)
        if self.me is None:
            return False
        self.me = replace(self.me, lease=lease)
        return await self._update(
            lambda session: replace(session, stopping=True, guard_deadline_ms=max(grace_ms, session.guard_deadline_ms)),
            timeout_s,
        )

    async def _update(self, change: Callable[[Session], Session], timeout_s: float | None) -> bool:
        """Write the session, one write after the other, each on exactly the one before it.

        A write whose answer was lost can still arrive, until another one has: then it fails.
        """
        async with self._writing:
            for _ in range(2):
                revision = self._revision or await self._read_revision(timeout_s)
                if self.me is None or revision is None:
                    return False
                session = change(self._session)
                self._revision, self._unanswered[_promise(session)] = None, None
                result = await self._store.txn(update_session(session, self.me, revision=revision), timeout_s=timeout_s)
                if result.succeeded:
                    self._session, self._revision = session, result.revision
                    self._unanswered.clear()
                    return True
        return False

    async def _read_revision(self, timeout_s: float | None) -> int | None:
        """What the session is now, after a write with an unknown outcome; None when it has ended."""
        key = session_key(self._session.node)
        found = await self._store.get(key, timeout_s=timeout_s)
        if found is None or self.me is None or found.create_revision != self.me.created:
            return None
        self._session = decode(Session, key, found.value)
        return found.mod_revision

    async def _renew(self) -> None:
        """Renew the lease three times within its life. Its end shows in the mirror, so errors are only logged."""
        pause_s, renewed_each_s = RENEW_AGAIN_S, self._session.ttl_s / 3
        snapshot = self._mirror.snapshot or Snapshot()
        while self.me is not None:
            await self._pause(pause_s, _generation(snapshot))
            snapshot = self._mirror.snapshot or Snapshot()
            pause_s = RENEW_AGAIN_S
            try:
                if not await self._keep_leases():
                    await self._store.revoke(self.me.lease)
                    continue
                await self._adjust_promise(snapshot.timings.guard_deadline_ms)
                await self._lengthen_lease(snapshot.timings.session_ttl_s)
                await self._correct(snapshot)
                await self._free_late_claims(snapshot)
                pause_s = renewed_each_s if self._lowering is None else min(renewed_each_s, self._until_lowered_s())
            except (Unavailable, LeaseNotFound) as error:
                log.warning("lease of this node's session not renewed: %s", error)

    async def _keep_leases(self) -> bool:
        """Renew this session's lease and those that it had; False: one has ended, and with it half of what is written.

        Then the whole is better registered anew than left to end by and by.
        """
        assert self.me is not None
        try:
            for lease in (self.me.lease, *self._earlier_leases):
                await self._store.keep_alive(lease)
        except LeaseNotFound as error:
            log.warning("session of %s is registered anew: %s", self.me.node, error)
            return False
        return True

    async def _pause(self, pause_s: float, generation: tuple[int, bool]) -> None:
        """Wait, but no longer than until the times are others than those of this generation."""
        changed = self._mirror.subscribe()
        try:
            async with asyncio.timeout(pause_s):
                while _generation(self._mirror.snapshot) == generation:
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return

    async def _adjust_promise(self, wanted_ms: int) -> None:
        """Promise what the settings say: more at once, less only when no farther deadline can lie ahead any more.

        From the moment on from which the wait for that counts, no deadline is moved farther than what will be promised,
        whatever the settings say meanwhile: `deadline_at_most_ms`. Another wish begins another wait.
        """
        now_ms, promised_ms = self._clock.monotonic_ms(), self._session.guard_deadline_ms
        if wanted_ms >= promised_ms or self._session.stopping:
            self._lowering = None
        elif self._lowering is None or self._lowering[0] != wanted_ms:
            self._lowering = wanted_ms, now_ms + promised_ms
        if wanted_ms > promised_ms or (self._lowering is not None and now_ms >= self._lowering[1]):
            await self._update(lambda session: _promising(session, wanted_ms), None)
            self._lowering = None

    def _until_lowered_s(self) -> float:
        """How long it takes until the lower promise can be made."""
        due_ms = 0 if self._lowering is None else self._lowering[1] - self._clock.monotonic_ms()
        return max(due_ms / 1000, 0.0)

    async def _lengthen_lease(self, ttl_s: int) -> None:
        """Bind the session to a longer lease when the settings want one; a shorter one counts from the next start on.

        What else hangs on the lease of before stays there, so that one is kept alive, too.
        """
        if ttl_s <= self._session.ttl_s or self.me is None or self._session.stopping:
            return
        lease = await self._store.grant(ttl_s)
        self._earlier_leases.append(self.me.lease)
        self.me = replace(self.me, lease=lease)
        await self._update(lambda session: replace(session, ttl_s=ttl_s), None)

    async def _correct(self, snapshot: Snapshot) -> None:
        """Say what has changed of what a watchdog proof rests on: who votes, and whether there is a watchdog.

        None counts as long as the guard's deadline lies farther ahead than promised, as after a start that could not
        ask the guard how far the daemon before had moved it. Source: SAFE-2.
        """
        voters = tuple(sorted(snapshot.voters()))
        guard = None if self._guard is None else await self._guard()

        def correct(session: Session) -> Session:
            session = replace(session, voters=voters)
            if guard is None:
                return session
            watchdog_ms = guard.watchdog_ms if guard.ahead_ms <= session.guard_deadline_ms else None
            return replace(session, watchdog_timeout_ms=watchdog_ms, guard_kill_ms=guard.kill_ms)

        if correct(self._session) != self._session:
            await self._update(correct, None)

    async def _free_late_claims(self, snapshot: Snapshot) -> None:
        """Prove of earlier incarnations whose claim was committed while this one registered that they are gone."""
        proofs = _restarted(snapshot, self._session, self._clock.wall_ms())
        if proofs and self.me is not None:
            await self._store.txn(record_restarts(proofs, self.me, snapshot))

    async def _wait_end(self) -> SessionEnd:
        changed = self._mirror.subscribe()
        me, incarnation = self.me, self._session.incarnation
        while True:
            await changed.wait()
            changed.clear()
            snapshot = self._mirror.snapshot
            if snapshot is None or me is None:
                continue
            if snapshot.is_lost(me.node, incarnation):
                return SessionEnd.LOST
            session = snapshot.sessions.get(me.node)
            if snapshot.revision >= me.created and (session is None or session.created != me.created):
                return SessionEnd.EXPIRED


def _generation(snapshot: Snapshot | None) -> tuple[int, bool]:
    """Which times are used now."""
    if snapshot is None or snapshot.cluster is None:
        return 0, False
    return snapshot.cluster.value.timings_generation, snapshot.cluster.value.timings_before is None


def _promise(session: Session) -> Promise:
    return session.guard_deadline_ms, session.voters


def _promising(session: Session, deadline_ms: int) -> Session:
    """Return the session with another promise; one of a stop that was announced meanwhile stays."""
    return session if session.stopping else replace(session, guard_deadline_ms=deadline_ms)


def _restarted(snapshot: Snapshot, session: Session, now_ms: int) -> tuple[Proof, ...]:
    """Proofs for the incarnations that this clean one replaces: those of its node that still own roles."""
    earlier: set[Incarnation] = set()
    for ownership in snapshot.ownerships.values():
        incarnation = ownership.value.incarnation
        if ownership.value.owner == session.node and incarnation not in (None, session.incarnation):
            earlier.add(incarnation)
    verdict = snapshot.verdicts.get(session.node)
    if verdict is not None and verdict.value.incarnation != session.incarnation:
        earlier.add(verdict.value.incarnation)
    return tuple(
        Proof(
            node=session.node,
            incarnation=incarnation,
            kind=ProofKind.RESTARTED,
            at_ms=now_ms,
            by=session.node,
            reasons=(because(ReasonCode.NODE_RESTARTED, session.node),),
        )
        for incarnation in sorted(earlier)
        if not is_proven_dead(incarnation, snapshot)
    )
