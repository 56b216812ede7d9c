"""`cluster.balance`: decided, shown, and carried out in parts.

Rule of the file: a part is begun only when no role of the part before it is on the move, and is decided anew from what
is there then; so nothing is left to do when whoever asked goes away. Source: DESIGN section 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from holdfast.decide.balance import Balance, balance, begin_balance
from holdfast.decide.moves import Move
from holdfast.model.errors import Refused
from holdfast.model.events import EventCode
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import BalanceMove, BalanceReport, Progress
from holdfast.node.commits import Commits, wait_change
from holdfast.node.line_protocol import Result
from holdfast.node.request_params import BalanceParams
from holdfast.node.transactions import order_moves
from holdfast.store.port import Txn

PART_WAIT_S: Final = 1800.0
"""So long the moves of one part may take; past it nothing more is begun, and what was begun goes on."""


class BalanceRequests:
    """Balances the nodes when a person asks for it."""

    methods: Final = frozenset(("cluster.balance",))

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._events = commits.events

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer: a step per role that moves, the report last. Raises: Refused in a frozen cluster."""
        assert method in self.methods
        wanted = BalanceParams.model_validate(params)
        snapshot = await self._commits.snapshot()
        threshold = wanted.threshold_percent or snapshot.settings.balance_threshold_percent
        decided = balance(snapshot, self._now_ms, threshold)
        if wanted.dry_run:
            yield Result(_preview(decided, threshold))
            return
        done: list[BalanceMove] = []
        while begun := await self._begin(threshold):
            for move in begun:
                one = _move(move, await self._commits.snapshot())
                done.append(one)
                yield Progress(text=f"{one.role} moves from {one.source} to {one.target}")
            if not await self._arrived(begun):
                break
        reached = balance(await self._commits.snapshot(), self._now_ms, threshold)
        yield Result(
            BalanceReport(
                is_dry_run=False,
                threshold_percent=threshold,
                moves=tuple(done),
                before=_percent(decided.before),
                after=_percent(reached.before),
                is_within=not reached.shifts and reached.is_within(threshold),
            )
        )

    async def _begin(self, threshold: int) -> tuple[Move, ...]:
        def attempt(snapshot: Snapshot) -> tuple[Txn, tuple[Move, ...]]:
            if snapshot.is_frozen:
                raise Refused("the cluster is frozen, so nothing is balanced", hint="holdfast cluster unfreeze")
            moves = begin_balance(snapshot, self._now_ms, threshold, snapshot.settings.moves_at_once)
            events = [
                self._events.event(
                    EventCode.ROLE_MOVING,
                    move.after.role,
                    *move.after.reasons,
                    epoch=move.after.epoch,
                    target=move.target,
                    record=move.after,
                )
                for move in moves
            ]
            return order_moves(moves, snapshot=snapshot, events=self._events.operations(*events)), moves

        return await self._commits.change(attempt)

    async def _arrived(self, begun: tuple[Move, ...]) -> bool:
        """Wait until none of the roles is on the move; returns whether each is where it was sent."""
        until = asyncio.get_running_loop().time() + PART_WAIT_S
        changed = self._commits.life.mirror.subscribe()
        while asyncio.get_running_loop().time() < until:
            snapshot = await self._commits.snapshot()
            if not any(_is_moving(snapshot, move.after.role) for move in begun):
                return all(_owner(snapshot, move.after.role) == move.target for move in begun)
            await wait_change(changed)
        return False

    @property
    def _now_ms(self) -> int:
        return self._commits.life.clock.wall_ms()


def _is_moving(snapshot: Snapshot, role: RoleName) -> bool:
    found = snapshot.ownerships.get(role)
    return found is not None and found.value.target is not None


def _owner(snapshot: Snapshot, role: RoleName) -> NodeName | None:
    found = snapshot.ownerships.get(role)
    return found.value.owner if found is not None else None


def _move(move: Move, snapshot: Snapshot) -> BalanceMove:
    role, spec = move.after.role, snapshot.specs.get(move.after.role)
    memory_bytes = spec.value.memory_bytes if spec is not None else 0
    return BalanceMove(role=role, source=move.after.source or "", target=move.target, memory_bytes=memory_bytes)


def _moves(decided: Balance) -> tuple[BalanceMove, ...]:
    return tuple(
        BalanceMove(
            role=one.spec.name,
            source=one.ownership.owner or "",
            target=shift.target,
            memory_bytes=one.spec.memory_bytes,
        )
        for shift in decided.shifts
        for one in shift.unit
    )


def _percent(loads: Mapping[NodeName, int]) -> dict[str, float]:
    return {str(node): full / 100 for node, full in loads.items()}


def _preview(decided: Balance, threshold: int) -> BalanceReport:
    return BalanceReport(
        is_dry_run=True,
        threshold_percent=threshold,
        moves=_moves(decided),
        before=_percent(decided.before),
        after=_percent(decided.after),
        is_within=decided.is_within(threshold),
    )
