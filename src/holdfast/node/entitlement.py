"""Keeps the guard's deadline where this node's entitlement is.

Rule of the file: what the peers acknowledged counts from when it was sent; a write to the own session counts from when
it was sent; nothing else counts. Source: DESIGN section 4 (self-protection), SAFE-1, SAFE-6.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from holdfast.decide.entitlement import entitled_until
from holdfast.fencing.errors import GuardUnavailable
from holdfast.fencing.port import Guard
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.nodes import Session
from holdfast.model.settings import Timings
from holdfast.model.snapshot import Snapshot
from holdfast.node.hearing import Hearing
from holdfast.node.mirror import Mirror
from holdfast.node.session import SessionKeeper

log = logging.getLogger(__name__)

EXTEND_INTERVAL_S: Final = 1.0
"""The longest; a short deadline is extended four times before it passes, or it would pass between two extensions."""
FIRST_INTERVAL_S: Final = 0.1
"""Until the first extension after a start: the deadline that the last holdfastd left runs out. Source: SAFE-6."""


class Entitlement:
    """Moves the guard's deadline forward for one incarnation. `until` is in seconds of the event loop's clock."""

    def __init__(
        self,
        *,
        me: NodeName,
        incarnation: Incarnation,
        voters: frozenset[NodeName],
        hearing: Hearing,
        mirror: Mirror,
        guard: Guard,
    ) -> None:
        self._me = me
        self._incarnation = incarnation
        self._voters = voters
        self._hearing = hearing
        self._mirror = mirror
        self._guard = guard
        self.session: SessionKeeper | None = None
        self.at_most_ms: int | None = None
        """While a session is being registered: the deadline that it will promise, at least."""
        self._deadline_ms = Timings().guard_deadline_ms
        """How far ahead the deadline was moved last, at most, whatever the settings say."""
        self.until = float("-inf")
        self.guard_silent: str | None = None

    async def run(self) -> None:
        """Extend until cancelled."""
        while True:
            await self._extend()
            await asyncio.sleep(FIRST_INTERVAL_S if self.until == float("-inf") else self._interval_s())

    def _interval_s(self) -> float:
        return min(EXTEND_INTERVAL_S, self._deadline_ms / 4000)

    async def _extend(self) -> None:
        snapshot = self._mirror.snapshot
        if snapshot is not None:
            self._voters = snapshot.voters()
            if snapshot.is_lost(self._me, self._incarnation):
                return
        promise = self._promise(snapshot)
        deadline_ms = (snapshot.timings if snapshot is not None else Timings()).guard_deadline_ms
        if self.session is not None:
            deadline_ms = min(deadline_ms, self.session.deadline_at_most_ms)
        elif promise is not None:
            deadline_ms = min(deadline_ms, promise.guard_deadline_ms)
        if self.at_most_ms is not None:
            deadline_ms = min(deadline_ms, self.at_most_ms)
        self._deadline_ms = deadline_ms
        now = asyncio.get_running_loop().time()
        acknowledged_at_ms = self._hearing.acknowledged_at_ms(self._incarnation)
        acknowledged_at = {node: at_ms / 1000 for node, at_ms in acknowledged_at_ms.items()}
        promised: tuple[frozenset[NodeName], ...] = ()
        if self.session is not None:
            promised = self.session.promised_voters
        elif promise is not None and promise.voters:
            promised = (frozenset(promise.voters),)
        by_peers = min(
            entitled_until(
                me=self._me,
                voters=voters,
                acknowledged_at=acknowledged_at,
                now=now,
                deadline_s=deadline_ms / 1000,
            )
            for voters in (self._voters, *promised)
        )
        if by_peers < now + deadline_ms / 2000:
            by_peers = max(by_peers, await self._by_session(deadline_ms, now))
        if by_peers > self.until:
            await self._move(by_peers)

    def _promise(self, snapshot: Snapshot | None) -> Session | None:
        """What this incarnation promised in its session: a watchdog proof rests on it, so nothing may go beyond it."""
        if self.session is not None:
            return self.session.session
        written = snapshot.session_of(self._me, self._incarnation) if snapshot is not None else None
        return written.value if written is not None else None

    async def _by_session(self, deadline_ms: int, now: float) -> float:
        """When the peers are silent: a write to the own session shows that no verdict was committed before it."""
        try:
            if self.session is not None and await self.session.touch(deadline_ms / 4000):
                return now + deadline_ms / 1000
        except HoldfastError as error:
            log.warning("few peers answer, and neither does the cluster database: %s", error)
        return float("-inf")

    async def _move(self, until: float) -> None:
        try:
            moved = await self._guard.extend(until)
        except GuardUnavailable as error:
            self.guard_silent = error.message
            log.error("%s", error)
            return
        self.guard_silent = None
        if moved:
            self.until = until
