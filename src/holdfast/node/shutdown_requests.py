"""`node.prepare-shutdown`: the operating system of the answering node goes down.

Rule of the file: a shutdown is never held up for longer than the settings say; what a person ordered for the node
before, a pause or a drain, outlives it. How the node comes back: `homecoming`. Source: DESIGN section 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final

from holdfast.decide.orders import Drain, left_on, preview_drain
from holdfast.model.events import EventCode
from holdfast.model.nodes import Return
from holdfast.model.settings import ShutdownPolicy
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import DrainReport, Progress
from holdfast.node.commits import Commits, wait_change
from holdfast.node.documents import words
from holdfast.node.line_protocol import Result
from holdfast.node.record_changes import find_node
from holdfast.node.request_params import NoParams
from holdfast.node.spec_transactions import set_node
from holdfast.store.port import Txn


class ShutdownRequests:
    """Empties the answering node in time."""

    methods: Final = frozenset(("node.prepare-shutdown",))

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._events = commits.events
        self._me = commits.life.me

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer: a step whenever a role has left, then what is left."""
        assert method in self.methods
        NoParams.model_validate(params)
        snapshot = await self._commits.snapshot()
        if snapshot.settings.shutdown_policy is ShutdownPolicy.LEAVE:
            yield Progress(text="shutdown_policy is leave: roles are left to the system")
            yield Result(DrainReport(node=self._me, is_dry_run=False, moves={}, staying={}))
            return
        await self._commits.change(self._drain)
        async for step in self._follow(snapshot.settings.shutdown_timeout_s):
            yield step
        drain = self._preview(await self._commits.snapshot())
        moves = {str(role): str(target) for role, target in sorted(drain.moves.items())}
        staying = {str(role): words(reasons) for role, reasons in sorted(drain.staying.items())}
        yield Result(DrainReport(node=self._me, is_dry_run=False, moves=moves, staying=staying))

    def _drain(self, snapshot: Snapshot) -> tuple[Txn, None]:
        before, session = find_node(snapshot, self._me), snapshot.sessions.get(self._me)
        if before.value.is_paused or session is None:
            after = replace(before.value, is_paused=True, is_draining=True)
        else:
            going = session.value.incarnation
            after = replace(before.value, is_paused=True, is_draining=True, returns=Return.POLICY, shutting_down=going)
        event = self._events.event(EventCode.NODE_DRAINING, self._me)
        return set_node(after, before=before, events=self._events.operations(event)), None

    async def _follow(self, timeout_s: int) -> AsyncGenerator[Progress, None]:
        until = asyncio.get_running_loop().time() + timeout_s
        changed = self._commits.life.mirror.subscribe()
        told = None
        while asyncio.get_running_loop().time() < until:
            snapshot = await self._commits.snapshot()
            left = left_on(snapshot, self._me, self._preview(snapshot))
            if not left:
                return
            if told != left:
                told = left
                yield Progress(text=f"{len(left)} roles still to leave {self._me}")
            await wait_change(changed)
        yield Progress(text=f"{timeout_s} s are over: what is left is left to the system")

    def _preview(self, snapshot: Snapshot) -> Drain:
        return preview_drain(snapshot, self._me, self._commits.life.clock.wall_ms())
