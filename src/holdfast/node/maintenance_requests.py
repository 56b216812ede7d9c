"""What a person asks to have roles elsewhere: move, drain, resume, freeze.

Rule of the file: what cannot be done is refused with all reasons before anything is written; what was begun is carried
on by the coordinator, whether anybody waits for it or not. Source: DESIGN sections 4 and 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from holdfast.decide.evacuation import Shortage, shortage
from holdfast.decide.moves import Move
from holdfast.decide.orders import Drain, cancel_move, discard_memory, left_on, order_move, preview_drain
from holdfast.model.errors import HoldfastError, Refused
from holdfast.model.events import EventCode
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import Return
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import MoveMethod
from holdfast.model.snapshot import Freeze, Snapshot
from holdfast.model.status import DrainReport, Progress, RoleState, RoleStatus
from holdfast.node.commits import Commits, wait_change
from holdfast.node.documents import node_status, words
from holdfast.node.line_protocol import Result
from holdfast.node.record_changes import find_node, find_role
from holdfast.node.request_params import (
    DiscardParams,
    DrainParams,
    FreezeParams,
    MoveParams,
    NoParams,
    ResumeParams,
    RoleParams,
)
from holdfast.node.spec_transactions import as_all_nodes_are, set_cluster, set_node
from holdfast.node.transactions import order_moves, take_back_move
from holdfast.store.port import Txn

MOVE_WAIT_S: Final = 3600.0
DRAIN_WAIT_S: Final = 3600.0
ROLES_NAMED: Final = 8
Answers = AsyncGenerator[object, None]


class NotMoved(HoldfastError):
    """A move was begun and has not taken the role anywhere."""

    code = "not-moved"


class MaintenanceRequests:
    """Answers the requests that change where roles run."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._events = commits.events
        answers: dict[str, Callable[[dict[str, Any]], Awaitable[object]]] = {
            "role.cancel": self._cancel,
            "role.discard-saved-state": self._discard,
            "node.resume": self._resume,
            "cluster.freeze": self._freeze,
            "cluster.unfreeze": self._unfreeze,
        }
        streams: dict[str, Callable[[dict[str, Any]], Answers]] = {"role.move": self._move, "node.drain": self._drain}
        self._answers = answers
        self._streams = streams
        self.methods: Final = frozenset((*answers, *streams))

    async def handle(self, method: str, params: dict[str, Any]) -> Answers:
        """Answer one request: items first, a `Result` last."""
        if method in self._answers:
            yield Result(await self._answers[method](params))
            return
        async for item in self._streams[method](params):
            yield item

    async def _move(self, params: dict[str, Any]) -> Answers:
        wanted = MoveParams.model_validate(params)

        def attempt(snapshot: Snapshot) -> tuple[Txn, Move]:
            name = find_role(snapshot, wanted.role).value.name
            to = None if wanted.to is None else find_node(snapshot, wanted.to).value.name
            order = order_move(snapshot, name, to, self._now_ms, method=wanted.method)
            if not order.moves:
                raise _refused(
                    f"role {name} cannot move{f' to {to}' if to else ''} now", order.against, _way(snapshot, name)
                )
            events = [
                self._events.event(
                    EventCode.ROLE_MOVING,
                    move.after.role,
                    *move.after.reasons,
                    epoch=move.after.epoch,
                    target=move.target,
                    record=move.after,
                )
                for move in order.moves
            ]
            txn = order_moves(order.moves, snapshot=snapshot, events=self._events.operations(*events))
            return txn, order.moves[0]

        move = await self._commits.change(attempt)
        how = move.after.method or MoveMethod.RESTART
        yield Progress(text=f"{wanted.role} moves to {move.target} ({how})")
        if not wanted.wait:
            yield Result(await self._commits.role_document(RoleName(wanted.role)))
            return
        async for item in self._follow_move(move, wanted.timeout_s):
            yield item

    async def _follow_move(self, move: Move, timeout_s: int | None) -> Answers:
        """Tell of a move until it is over; one that takes too long is taken back. Raises: NotMoved."""
        role, source = move.after.role, move.after.source
        status: RoleStatus | None = None
        async for item in self._commits.follow_role(role, _is_over, timeout_s or MOVE_WAIT_S):
            if isinstance(item, Progress):
                yield item
            else:
                status = item
        assert status is not None, "the document of the role comes last"
        if timeout_s is not None and not _is_over(status):
            status = await self._give_up(role, timeout_s)
        if status.state is RoleState.ONLINE and status.target is None and status.owner == source:
            raise NotMoved(
                f"role {role} did not move: it runs on {source}: {'; '.join(status.reasons) or 'no reason is known'}",
                hint=f"holdfast role history {role} shows how it went",
            )
        yield Result(status)

    async def _give_up(self, role: RoleName, timeout_s: int) -> RoleStatus:
        """Take a move back that was not over in time, as far as it can be. Raises: NotMoved when it goes on."""
        try:
            await self._take_back(role)
        except Refused as refused:
            raise NotMoved(
                f"the move of {role} is not over after {timeout_s} s and goes on: {refused.message}",
                hint=f"holdfast vm show {role}",
            ) from refused
        settled: RoleStatus | None = None
        async for item in self._commits.follow_role(role, _is_over, MOVE_WAIT_S):
            settled = item if isinstance(item, RoleStatus) else settled
        assert settled is not None, "the document of the role comes last"
        return settled

    async def _discard(self, params: dict[str, Any]) -> object:
        wanted = DiscardParams.model_validate(params)

        def attempt(snapshot: Snapshot) -> tuple[Txn, RoleName]:
            name = find_role(snapshot, wanted.role).value.name
            after = discard_memory(snapshot, name, wanted.person)
            if after is None:
                raise Refused(
                    f"role {name} has no saved memory at rest, so nothing was discarded",
                    hint=f"holdfast vm show {name} shows how it stands",
                )
            event = self._events.event(EventCode.ROLE_CHANGED, name, *after.reasons, epoch=after.epoch)
            before = snapshot.ownerships[name]
            return take_back_move(after, before=before, events=self._events.operations(event)), name

        return await self._commits.role_document(await self._commits.change(attempt))

    async def _cancel(self, params: dict[str, Any]) -> object:
        return await self._take_back(RoleName(RoleParams.model_validate(params).role))

    async def _take_back(self, role: RoleName) -> RoleStatus:
        def attempt(snapshot: Snapshot) -> tuple[Txn, RoleName]:
            name = find_role(snapshot, role).value.name
            after = cancel_move(snapshot, name)
            if after is None:
                raise Refused(
                    f"role {role} is on no move that could be cancelled",
                    hint=f"holdfast vm show {role} shows where it is",
                )
            home = snapshot.nodes.get(after.source or after.owner or NodeName(""))
            if home is not None and home.value.is_draining:
                raise Refused(
                    f"role {role} leaves {home.value.name}, which is being drained, and would leave it again",
                    hint=f"end the drain first: holdfast node resume {home.value.name}",
                )
            before = snapshot.ownerships[name]
            event = self._events.event(EventCode.ROLE_CHANGED, name, *after.reasons, epoch=after.epoch, record=after)
            return take_back_move(after, before=before, events=self._events.operations(event)), name

        return await self._commits.role_document(await self._commits.change(attempt))

    async def _drain(self, params: dict[str, Any]) -> Answers:
        wanted = DrainParams.model_validate(params)
        snapshot = await self._commits.snapshot()
        node = find_node(snapshot, wanted.node).value.name
        if wanted.dry_run:
            short = shortage(snapshot, node, self._now_ms)
            drain = preview_drain(snapshot, node, self._now_ms, method=wanted.method)
            yield Result(_report(node, drain, is_dry_run=True, refused=_shortage_words(short) if short else ""))
            return

        def attempt(snapshot: Snapshot) -> tuple[Txn, Drain]:
            before = find_node(snapshot, node)
            if not wanted.force and (short := shortage(snapshot, node, self._now_ms)) is not None:
                raise Refused(f"node {node} is not drained: {_shortage_words(short)}", hint=_shortage_way(short, node))
            after = replace(before.value, is_paused=True, is_draining=True, returns=Return.POLICY, shutting_down=None)
            after = replace(after, drain_method=wanted.method)
            event = self._events.event(EventCode.NODE_DRAINING, node)
            txn = set_node(after, before=before, events=self._events.operations(event))
            return as_all_nodes_are(txn, snapshot), preview_drain(snapshot, node, self._now_ms, method=wanted.method)

        drain = await self._commits.change(attempt)
        if wanted.wait:
            for role, reasons in drain.staying.items():
                yield Progress(text=f"{role} stays on {node}: {'; '.join(words(reasons))}")
            async for progress in self._follow_drain(node):
                yield progress
            drain = preview_drain(await self._commits.snapshot(), node, self._now_ms)
        yield Result(_report(node, drain, is_dry_run=False))

    async def _follow_drain(self, node: NodeName) -> AsyncGenerator[Progress, None]:
        """Tell which roles are left until none is that will go, or a person ends the drain."""
        until = asyncio.get_running_loop().time() + DRAIN_WAIT_S
        changed = self._commits.life.mirror.subscribe()
        told: tuple[RoleName, ...] = ()
        while asyncio.get_running_loop().time() < until:
            snapshot = await self._commits.snapshot()
            if node not in snapshot.nodes or not snapshot.nodes[node].value.is_draining:
                return
            left = left_on(snapshot, node, preview_drain(snapshot, node, self._now_ms))
            if not left:
                return
            if told != left:
                told = left
                yield Progress(text=f"{len(left)} still to leave {node}: {', '.join(left[:ROLES_NAMED])}")
            await wait_change(changed)

    async def _resume(self, params: dict[str, Any]) -> object:
        wanted = ResumeParams.model_validate(params)

        def attempt(snapshot: Snapshot) -> tuple[Txn, NodeName]:
            before = find_node(snapshot, wanted.node)
            taken_back = replace(before.value, is_paused=False, is_draining=False, is_leaving=False, shutting_down=None)
            taken_back = replace(taken_back, drain_method=None)
            after = replace(taken_back, returns=wanted.failback)
            event = self._events.event(EventCode.NODE_RESUMED, before.value.name)
            return set_node(after, before=before, events=self._events.operations(event)), before.value.name

        name = await self._commits.change(attempt)
        snapshot = await self._commits.snapshot()
        return node_status(name, snapshot, await self._commits.view(snapshot))

    async def _freeze(self, params: dict[str, Any]) -> object:
        wanted = FreezeParams.model_validate(params)
        freeze = Freeze(by=wanted.person, reason=wanted.reason, at_ms=self._now_ms)
        reason = because(ReasonCode.FROZEN_BY_PERSON, "the cluster", person=wanted.person, detail=wanted.reason or "-")
        return await self._set_frozen(freeze, EventCode.CLUSTER_FROZEN, reason)

    async def _unfreeze(self, params: dict[str, Any]) -> object:
        NoParams.model_validate(params)
        return await self._set_frozen(None, EventCode.CLUSTER_UNFROZEN)

    async def _set_frozen(self, freeze: Freeze | None, code: EventCode, *reasons: Reason) -> object:
        def attempt(snapshot: Snapshot) -> tuple[Txn, object]:
            cluster = snapshot.cluster
            assert cluster is not None, "a snapshot is handed out only with the cluster's record"
            event = self._events.event(code, cluster.value.name, *reasons)
            record = replace(cluster.value, frozen=freeze)
            txn = set_cluster(record, before=cluster, events=self._events.operations(event))
            return txn, {"cluster": cluster.value.name, "is_frozen": freeze is not None}

        return await self._commits.change(attempt)

    @property
    def _now_ms(self) -> int:
        return self._commits.life.clock.wall_ms()


def _way(snapshot: Snapshot, role: RoleName) -> str:
    """What a person does next whose order was refused."""
    found = snapshot.ownerships.get(role)
    if found is not None and found.value.target is not None:
        return f"it is on the move; take that back with: holdfast role move {role} --cancel"
    return "remove one of the reasons, or choose another node"


def _refused(what: str, reasons: tuple[Reason, ...], hint: str) -> Refused:
    return Refused(f"{what}: {'; '.join(words(reasons))}", hint=hint)


def _is_over(status: RoleStatus) -> bool:
    arrived = status.target is None and status.state is RoleState.ONLINE
    return arrived or status.state in (RoleState.BLOCKED, RoleState.OFFLINE)


def _shortage_words(short: Shortage) -> str:
    """What drains want and what there is, in numbers."""
    left, gone = ", ".join(short.remaining) or "no node", ", ".join(short.nodes)
    return (
        f"{len(short.homeless)} of {len(short.leaving)} roles on {gone} would find no room: "
        f"{', '.join(short.homeless[:ROLES_NAMED])}; they all want {_size(short.wanted_bytes)} and "
        f"{short.wanted_vcpus} vCPUs, free are {_size(short.free_bytes)} and {short.free_vcpus} vCPUs on {left}"
    )


def _shortage_way(short: Shortage, node: NodeName) -> str:
    others = [other for other in short.nodes if other != node]
    first = f"resume another node (holdfast node resume {others[0]}), or stop roles" if others else "stop roles"
    return f"{first}; or leave them running on {node}: holdfast node drain {node} --force"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 or not count else f"{count / 2**20:.0f} MiB"


def _report(node: NodeName, drain: Drain, *, is_dry_run: bool, refused: str = "") -> DrainReport:
    moves = {str(role): str(target) for role, target in sorted(drain.moves.items())}
    staying = {str(role): words(reasons) for role, reasons in sorted(drain.staying.items())}
    methods = {str(role): str(method) for role, method in sorted(drain.methods.items())}
    return DrainReport(node=node, is_dry_run=is_dry_run, moves=moves, staying=staying, refused=refused, methods=methods)
