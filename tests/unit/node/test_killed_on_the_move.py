"""holdfastd is killed at any moment of a planned move, at either end: the guest ends up at the target, and never twice.

The moments are those of virtual time, a few milliseconds apart; they meet every phase that lasts.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.decide.made_up import GIB, incarnation, owned
from tests.unit.node.one_machine import WEB, LoopClock, Machine
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.decide.coordination import plan
from holdfast.decide.orders import cancel_move, order_move
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Capacity, NodeReport
from holdfast.model.roles import Ownership, Phase
from holdfast.node.transactions import change_owner, order_moves, take_back_move
from holdfast.store.records import report_key

STEP_S = 0.002
MOMENTS_MS = (*range(0, 112, 12), *range(112, 160, 3), *range(160, 220, 12))
"""Closest where the role changes hands."""
B = NodeName("b")


class Pair:
    """Nodes a and b, a coordinator that never dies, and an eye on both. The guest ends only when it is made to."""

    def __init__(self) -> None:
        self.database = SmallDatabase()
        self.a, self.b = (Machine(self.database, name) for name in "ab")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Have the role web run on a."""
        self.database.role(replace(self.a.web(), shutdown_timeout_ms=60), owned("web", "a", Phase.ASSIGNED))
        for one in (self.a, self.b):
            one.hypervisor.heeds_power_button = False
            await one.entitle()
            await one.start_daemon()
            capacity = Capacity(memory_bytes=8 * GIB, vcpus=4)
            report = NodeReport(node=one.name, incarnation=incarnation(one.name), capacity=capacity, hears={})
            self.database.put(report_key(one.name), report)
        assert self.a.keeper is not None
        assert self.a.keeper.me is not None
        self.database.elect(self.a.keeper.me, incarnation("a"))
        await self.a.wait_phase(Phase.ONLINE)
        self._tasks = [asyncio.create_task(self._coordinate()), asyncio.create_task(self._watch())]

    async def end(self) -> None:
        """End everything; an error of a part that watched is an error here."""
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in (self.a, self.b):
            await one.kill_daemon()
            one.guard.crash()
        assert [error for error in done if isinstance(error, Exception)] == []

    async def move(self, moment_ms: int) -> None:
        """Order the role to b, and let so much time pass."""
        snapshot = self.database.snapshot()
        order = order_move(snapshot, WEB, B, LoopClock().wall_ms())
        assert self.database.commit(order_moves(order.moves, snapshot=snapshot, events=()))
        await asyncio.sleep(moment_ms / 1000)

    async def arrived(self) -> Ownership:
        """The record as soon as the role is online and on no move."""
        async with asyncio.timeout(60):
            while True:
                found = self.a.ownership()
                if found.phase is Phase.ONLINE and found.target is None:
                    return found
                await self.database.database.changes_within(1.0)

    async def _coordinate(self) -> None:
        while True:
            snapshot = self.database.snapshot()
            for change in plan(snapshot, LoopClock().wall_ms()).changes:
                self.database.commit(change_owner(change, snapshot=snapshot, events=()))
            await asyncio.sleep(0.05)

    async def _watch(self) -> None:
        """Source: SAFE-1, SAFE-2."""
        while True:
            there = [one.name for one in (self.a, self.b) if one._processes()]
            assert len(there) < 2, "it runs twice at once"
            assert self.a.ownership().phase is not Phase.VACANT or not there, f"released while it runs on {there}"
            await asyncio.sleep(STEP_S)


@pytest.mark.parametrize("victim", ["a", "b"])
def test_safe_1_holdfastd_killed_at_any_moment_of_a_move_at_either_end(victim: str) -> None:
    seen: set[Phase] = set()

    @virtual
    async def every_moment() -> None:
        for moment_ms in MOMENTS_MS:
            pair = Pair()
            await pair.start()
            await pair.move(moment_ms)
            killed = pair.a if victim == "a" else pair.b
            seen.add(pair.a.ownership().phase)
            await killed.kill_daemon()
            await asyncio.sleep(0.1)
            await killed.start_daemon()
            after = await pair.arrived()
            assert (after.owner, after.epoch) == (B, 2)
            assert [bool(one._processes()) for one in (pair.a, pair.b)] == [False, True]
            await pair.end()

    every_moment()
    assert seen >= {Phase.ONLINE, Phase.STOPPING, Phase.VACANT, Phase.STARTING}, (
        "the moments miss a phase (assigned takes no time here)"
    )


@virtual
async def test_a_move_that_is_cancelled_at_any_moment_ends_online_at_one_end() -> None:
    ends = set()
    for moment_ms in MOMENTS_MS:
        pair = Pair()
        await pair.start()
        await pair.move(moment_ms)
        snapshot = pair.database.snapshot()
        after = cancel_move(snapshot, WEB)
        if after is not None:
            assert pair.database.commit(take_back_move(after, before=snapshot.ownerships[WEB], events=()))
        ended = await pair.arrived()
        assert ended.owner == ("b" if after is None else "a")
        ends.add(ended.owner)
        await pair.end()
    assert ends == {"a", "b"}
