"""`node.evict` and `node.leave`: a node leaves the cluster for good, put out by another one or by its own wish.

Rule of the file: first its vote, then its name in the roles, last its own records in one transaction; so an eviction
that is broken off has taken nothing that its repetition does not find. Source: SAFE-2, SAFE-3, docs/maintenance.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from holdfast.decide.eviction import against_eviction, against_leaving, without_owner
from holdfast.model.errors import Refused
from holdfast.model.events import EventCode
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import NodeSpec
from holdfast.model.reasons import Reason
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.model.status import Progress
from holdfast.node.commits import Commits, wait_change
from holdfast.node.documents import words
from holdfast.node.line_protocol import Result
from holdfast.node.record_changes import find_node
from holdfast.node.request_params import NodeParams
from holdfast.node.spec_transactions import set_node, set_role
from holdfast.node.transactions import revision_of
from holdfast.node.voters import why_vote_stays
from holdfast.store.port import Compare, Delete, ModRevision, Operation, Txn
from holdfast.store.records import (
    COORDINATOR,
    REVOCATIONS,
    certificates_key,
    node_key,
    order_key,
    report_key,
    session_key,
    verdict_key,
)

VOTE_WAIT_S: Final = 120.0
"""So long the coordinator may take to take back a vote: a learner in its place has to catch up first."""


Revoke = Callable[[Snapshot, NodeName], tuple[Operation, ...]]
"""What makes the certificates of a node that goes worth nothing."""


def revokes_nothing(_snapshot: Snapshot, _node: NodeName) -> tuple[Operation, ...]:
    """Of a world without certificates."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """The way in which a node goes: what may stand against it, and how it is told."""

    against: Callable[[Snapshot, NodeName], tuple[Reason, ...]]
    event: EventCode
    words: str


class EvictionRequests:
    """Takes nodes out of the cluster."""

    methods: Final = frozenset(("node.evict", "node.leave"))

    def __init__(self, commits: Commits, revoke: Revoke = revokes_nothing) -> None:
        self._commits = commits
        self._revoke = revoke
        self._events = commits.events

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer: steps, then the name. Raises: Refused with every reason against it."""
        assert method in self.methods
        node = find_node(await self._commits.snapshot(), NodeParams.model_validate(params).node).value.name
        if method == "node.leave":
            departure = Departure(against=against_leaving, event=EventCode.NODE_LEFT, words="leave")
        elif node == self._commits.life.me:
            raise Refused(f"node {node} cannot evict itself", hint="use: holdfast node leave; or run it elsewhere")
        else:
            departure = Departure(against=against_eviction, event=EventCode.NODE_EVICTED, words="be evicted")
        async for item in self._take_out(node, departure):
            yield item

    async def _take_out(self, node: NodeName, departure: Departure) -> AsyncGenerator[object, None]:
        await self._commits.change(lambda snapshot: self._leave(snapshot, node, departure))
        async for step in self._follow_vote(node):
            yield step
        departure = replace(departure, against=against_eviction)
        for role in sorted((await self._commits.snapshot()).specs):
            await self._forget_owner(role, node, departure)
        was_up = await self._commits.change(lambda snapshot: self._remove(snapshot, node, departure))
        yield Result({"node": node, "was_up": was_up})

    def _leave(self, snapshot: Snapshot, node: NodeName, departure: Departure) -> tuple[Txn, None]:
        """Have it take nothing more: no roles, no vote."""
        before = _checked(snapshot, node, departure)
        if snapshot.is_frozen and _has_vote(snapshot, node):
            raise Refused(
                f"node {node} cannot {departure.words}: votes do not move while the cluster is frozen",
                hint="holdfast cluster unfreeze, then try again",
            )
        after = replace(before.value, is_paused=True, is_leaving=True)
        return set_node(after, before=before, events=()), None

    async def _follow_vote(self, node: NodeName) -> AsyncGenerator[Progress, None]:
        """Wait until the coordinator has taken its vote back. Raises: Refused when that takes too long."""
        until = asyncio.get_running_loop().time() + VOTE_WAIT_S
        changed = self._commits.life.mirror.subscribe()
        told = False
        while _has_vote(snapshot := await self._commits.snapshot(), node):
            if not told:
                yield Progress(text=f"the vote of {node} is being taken back")
                told = True
            if asyncio.get_running_loop().time() > until:
                why = why_vote_stays(snapshot, node) or "the coordinator has named no reason"
                raise Refused(
                    f"the vote of {node} could not be taken back within {VOTE_WAIT_S:.0f} s ({why}); {node} is paused "
                    "and still leaves: its vote goes by itself as soon as it can",
                    hint=f"try again then (holdfast quorum show); or keep the node: holdfast node resume {node}",
                )
            await wait_change(changed)

    async def _forget_owner(self, role: RoleName, node: NodeName, departure: Departure) -> None:
        """Take its name out of what is set for a role."""

        def attempt(snapshot: Snapshot) -> tuple[Txn, None]:
            before = snapshot.specs.get(role)
            if before is None or node not in (*before.value.preferred_owners, *before.value.possible_owners):
                return Txn(), None
            _checked(snapshot, node, departure)
            event = self._events.event(EventCode.ROLE_CHANGED, role)
            after = without_owner(before.value, node)
            return set_role(after, before=before, events=self._events.operations(event)), None

        await self._commits.change(attempt)

    def _remove(self, snapshot: Snapshot, node: NodeName, departure: Departure) -> tuple[Txn, bool]:
        """Remove its records, all at once: fails when anything that this rests on has changed. Source: SAFE-3."""
        before = _checked(snapshot, node, departure)
        session = snapshot.sessions.get(node)
        compares: list[Compare] = [
            ModRevision(node_key(node), equals=before.revision),
            ModRevision(session_key(node), equals=revision_of(session)),
            ModRevision(verdict_key(node), equals=revision_of(snapshot.verdicts.get(node))),
        ]
        keys = [node_key(node), session_key(node), verdict_key(node), report_key(node), order_key(node)]
        keys.append(certificates_key(node))
        listed = snapshot.revocations
        compares.append(ModRevision(REVOCATIONS, equals=revision_of(listed)))
        compares.append(ModRevision(certificates_key(node), equals=revision_of(snapshot.certificates.get(node))))
        coordinator = snapshot.coordinator
        if coordinator is not None and coordinator.value.node == node:
            compares.append(ModRevision(COORDINATOR, equals=coordinator.revision))
            keys.append(COORDINATOR)
        deletes: list[Operation] = [Delete(key) for key in keys]
        event = self._events.event(departure.event, node)
        then = (*deletes, *self._revoke(snapshot, node), *self._events.operations(event))
        return Txn(compares=tuple(compares), then=then), session is not None


def _checked(snapshot: Snapshot, node: NodeName, departure: Departure) -> Versioned[NodeSpec]:
    """The node's record. Raises: Refused."""
    before = find_node(snapshot, node)
    if against := departure.against(snapshot, node):
        raise Refused(
            f"node {node} cannot {departure.words}: {'; '.join(words(against))}",
            hint="remove each reason, then try again",
        )
    return before


def _has_vote(snapshot: Snapshot, node: NodeName) -> bool:
    found = snapshot.nodes.get(node)
    return found is not None and (found.value.is_voter or found.value.seat is not None)
