"""`node.evict`: a node leaves the cluster for good.

Rule of the file: first its vote, then its name in the roles, last its own records in one transaction; so an eviction
that is broken off has taken nothing that its repetition does not find. Source: SAFE-2, SAFE-3, docs/maintenance.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final

from holdfast.decide.eviction import against_eviction, without_owner
from holdfast.model.errors import Refused
from holdfast.model.events import EventCode
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import NodeSpec
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.model.status import Progress
from holdfast.node.commits import Commits, wait_change
from holdfast.node.documents import words
from holdfast.node.line_protocol import Result
from holdfast.node.record_changes import find_node
from holdfast.node.request_params import NodeParams
from holdfast.node.transactions import revision_of, set_node, set_role
from holdfast.store.port import Compare, Delete, ModRevision, Operation, Txn
from holdfast.store.records import (
    COORDINATOR,
    node_key,
    order_key,
    report_key,
    session_key,
    verdict_key,
)

VOTE_WAIT_S: Final = 120.0
"""So long the coordinator may take to take back a vote: a learner in its place has to catch up first."""


class EvictionRequests:
    """Takes nodes out of the cluster."""

    methods: Final = frozenset(("node.evict",))

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._events = commits.events

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer: steps, then the name. Raises: Refused with every reason against it."""
        assert method in self.methods
        node = find_node(await self._commits.snapshot(), NodeParams.model_validate(params).node).value.name
        if node == self._commits.life.me:
            raise Refused(f"node {node} cannot evict itself", hint="run this on another node")
        await self._commits.change(lambda snapshot: self._leave(snapshot, node))
        async for step in self._follow_vote(node):
            yield step
        for role in sorted((await self._commits.snapshot()).specs):
            await self._forget_owner(role, node)
        was_up = await self._commits.change(lambda snapshot: self._remove(snapshot, node))
        yield Result({"node": node, "was_up": was_up})

    def _leave(self, snapshot: Snapshot, node: NodeName) -> tuple[Txn, None]:
        """Have it take nothing more: no roles, no vote."""
        before = self._checked(snapshot, node)
        after = replace(before.value, is_paused=True, is_leaving=True)
        return set_node(after, before=before, events=()), None

    async def _follow_vote(self, node: NodeName) -> AsyncGenerator[Progress, None]:
        """Wait until the coordinator has taken its vote back. Raises: Refused when that takes too long."""
        until = asyncio.get_running_loop().time() + VOTE_WAIT_S
        changed = self._commits.life.mirror.subscribe()
        told = False
        while _has_vote(await self._commits.snapshot(), node):
            if not told:
                yield Progress(text=f"the vote of {node} is being taken back")
                told = True
            if asyncio.get_running_loop().time() > until:
                raise Refused(
                    f"the vote of {node} could not be taken back within {VOTE_WAIT_S:.0f} s",
                    hint=f"holdfast status shows what it waits for; then evict it again, or: "
                    f"holdfast node resume {node}",
                )
            await wait_change(changed)

    async def _forget_owner(self, role: RoleName, node: NodeName) -> None:
        """Take its name out of what is set for a role."""

        def attempt(snapshot: Snapshot) -> tuple[Txn, None]:
            before = snapshot.specs.get(role)
            if before is None or node not in (*before.value.preferred_owners, *before.value.possible_owners):
                return Txn(), None
            self._checked(snapshot, node)
            event = self._events.event(EventCode.ROLE_CHANGED, role)
            after = without_owner(before.value, node)
            return set_role(after, before=before, events=self._events.operations(event)), None

        await self._commits.change(attempt)

    def _remove(self, snapshot: Snapshot, node: NodeName) -> tuple[Txn, bool]:
        """Remove its records, all at once: fails when anything that this rests on has changed. Source: SAFE-3."""
        before = self._checked(snapshot, node)
        session = snapshot.sessions.get(node)
        compares: list[Compare] = [
            ModRevision(node_key(node), equals=before.revision),
            ModRevision(session_key(node), equals=revision_of(session)),
            ModRevision(verdict_key(node), equals=revision_of(snapshot.verdicts.get(node))),
        ]
        keys = [node_key(node), session_key(node), verdict_key(node), report_key(node), order_key(node)]
        coordinator = snapshot.coordinator
        if coordinator is not None and coordinator.value.node == node:
            compares.append(ModRevision(COORDINATOR, equals=coordinator.revision))
            keys.append(COORDINATOR)
        deletes: list[Operation] = [Delete(key) for key in keys]
        event = self._events.event(EventCode.NODE_EVICTED, node)
        return Txn(compares=tuple(compares), then=(*deletes, *self._events.operations(event))), session is not None

    def _checked(self, snapshot: Snapshot, node: NodeName) -> Versioned[NodeSpec]:
        """The node's record. Raises: Refused."""
        before = find_node(snapshot, node)
        if against := against_eviction(snapshot, node):
            raise Refused(
                f"node {node} cannot be evicted: {'; '.join(words(against))}", hint="remove each reason, then try again"
            )
        return before


def _has_vote(snapshot: Snapshot, node: NodeName) -> bool:
    found = snapshot.nodes.get(node)
    return found is not None and (found.value.is_voter or found.value.seat is not None)
