"""A guest's memory on planned moves: whatever is killed or fails at whatever moment, it is used once and not lost.

An eye watches every few milliseconds: at most one process of the guest executes, and what executes has the memory of
the guest that was started first, never older than the last that executed. Source: SAFE-1, SAFE-7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from tests.unit.decide.made_up import GIB, incarnation, owned
from tests.unit.node.one_machine import WEB, LoopClock, Machine
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.decide.coordination import plan
from holdfast.decide.orders import order_move
from holdfast.hypervisor.port import GuestState
from holdfast.hypervisor.simulated_guest import MoveAct, MoveFault, Neighbourhood
from holdfast.model.ids import ClusterId, NodeName
from holdfast.model.nodes import Capacity, MemoryTarget, NodeReport
from holdfast.model.roles import MoveMethod, Ownership, Phase
from holdfast.model.settings import Settings
from holdfast.model.snapshot import ClusterRecord
from holdfast.node.transactions import change_owner, order_moves
from holdfast.store.records import CLUSTER, report_key

STEP_S = 0.002
A, B = NodeName("a"), NodeName("b")
QUICK, LIVE = MoveMethod.QUICK, MoveMethod.LIVE


class Pair:
    """Nodes a and b, a coordinator that never dies, and an eye on the guest."""

    def __init__(self) -> None:
        self.database = SmallDatabase()
        settings = Settings(saved_state_directory="/saved")
        self.database.put(CLUSTER, ClusterRecord(id=ClusterId("id"), name="test", created_at_ms=0, settings=settings))
        self.near = Neighbourhood()
        self.a, self.b = (Machine(self.database, name, neighbourhood=self.near) for name in "ab")
        self.phases: set[Phase] = set()
        self.age = 0
        self.may_start_fresh = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Have the role web run on a."""
        self.database.role(replace(self.a.web(), shutdown_timeout_ms=60), owned("web", "a", Phase.ASSIGNED))
        for one in (self.a, self.b):
            one.hypervisor.moves.save_ms = one.hypervisor.moves.restore_ms = 20
            one.hypervisor.moves.copy_ms = 30
            one.hypervisor.moves.keep_alive_ms = 1000
            await one.entitle()
            await one.start_daemon()
            self.report(one)
        assert self.a.keeper is not None
        assert self.a.keeper.me is not None
        self.database.elect(self.a.keeper.me, incarnation("a"))
        await self.a.wait_phase(Phase.ONLINE)
        self._tasks = [asyncio.create_task(self._coordinate()), asyncio.create_task(self._watch())]

    def report(self, one: Machine) -> None:
        """What its reporter would write."""
        report = NodeReport(
            node=one.name,
            incarnation=incarnation(one.name),
            capacity=Capacity(memory_bytes=8 * GIB, vcpus=4),
            hears={},
            takes_memory=MemoryTarget(uri=f"sim://{one.name}", cpu="simulated"),
        )
        self.database.put(report_key(one.name), report)

    async def end(self) -> None:
        """End everything; an error of a part that watched is an error here."""
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in (self.a, self.b):
            await one.kill_daemon()
            one.guard.crash()
        assert [error for error in done if isinstance(error, Exception)] == []

    def order(self, method: MoveMethod) -> None:
        """Order the role to b."""
        snapshot = self.database.snapshot()
        order = order_move(snapshot, WEB, B, LoopClock().wall_ms(), method=method)
        assert self.database.commit(order_moves(order.moves, snapshot=snapshot, events=())), order.against

    async def rests(self, time_s: float = 150) -> Ownership:
        """The record as soon as the role is online and on no move."""
        async with asyncio.timeout(time_s):
            while True:
                found = self.a.ownership()
                if found.phase is Phase.ONLINE and found.target is None:
                    return found
                await self.database.database.changes_within(1.0)

    def executing(self) -> list[Machine]:
        """The machines on which the guest executes."""
        return [
            one
            for one in (self.a, self.b)
            for item in one.hypervisor._running.values()
            if item.guest.state is GuestState.RUNNING
        ]

    async def _coordinate(self) -> None:
        while True:
            snapshot = self.database.snapshot()
            for change in plan(snapshot, LoopClock().wall_ms()).changes:
                self.database.commit(change_owner(change, snapshot=snapshot, events=()))
            await asyncio.sleep(0.02)

    async def _watch(self) -> None:
        first = None
        while True:
            record = self.a.ownership()
            self.phases.add(record.phase)
            there = self.executing()
            assert len(there) < 2, "it executes twice at once"
            for one in there:
                memory = next(iter(one.hypervisor._running.values())).memory
                first = memory.boot if first is None or self.may_start_fresh else first
                assert memory.boot == first, f"it lost its memory: {record}"
                assert memory.age >= self.age or self.may_start_fresh, "it went back in time"
                self.age = memory.age
            await asyncio.sleep(STEP_S)


async def moved(
    method: MoveMethod,
    *,
    at_ms: int | None = None,
    victim: str = "a",
    faults: Mapping[str, tuple[MoveAct, MoveFault]] = MappingProxyType({}),
) -> tuple[Ownership, Pair]:
    """Move the role, with holdfastd killed at that moment, and wait until it rests."""
    pair = Pair()
    await pair.start()
    for name, fault in faults.items():
        (pair.a if name == "a" else pair.b).hypervisor.moves.fail_next(*fault)
    pair.order(method)
    if at_ms is not None:
        await asyncio.sleep(at_ms / 1000)
        killed = pair.a if victim == "a" else pair.b
        await killed.kill_daemon()
        await asyncio.sleep(0.1)
        await killed.start_daemon()
        pair.report(killed)
    after = await pair.rests()
    await asyncio.sleep(1)
    assert [one.name for one in pair.executing()] == [after.owner]
    assert [one.name for one in (pair.a, pair.b) if one._processes()] == [after.owner], "something is left over"
    await pair.end()
    return after, pair


@pytest.mark.parametrize("method", [QUICK, LIVE])
def test_a_move_takes_the_memory_along(method: MoveMethod) -> None:
    @virtual
    async def go() -> None:
        after, pair = await moved(method)
        assert (after.owner, after.memory, after.making, after.receiving, after.method) == (B, None, None, None, None)
        assert pair.near.files == {}

    go()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("victim", ["a", "b"])
@pytest.mark.parametrize("method", [QUICK, LIVE])
def test_safe_7_holdfastd_killed_at_any_moment_of_a_move_at_either_end(method: MoveMethod, victim: str) -> None:
    seen: set[Phase] = set()
    ends: set[str] = set()

    @virtual
    async def every_moment() -> None:
        for moment_ms in range(0, 200, 8):
            after, pair = await moved(method, at_ms=moment_ms, victim=victim)
            seen.update(pair.phases)
            ends.add(str(after.owner))

    every_moment()
    assert seen >= {Phase.ONLINE, Phase.SAVING if method is QUICK else Phase.MIGRATING}
    assert "b" in ends


@pytest.mark.parametrize(
    ("method", "at", "act", "how", "end"),
    [
        (QUICK, "a", MoveAct.SAVE, MoveFault.FAILS, A),
        (QUICK, "a", MoveAct.SAVE, MoveFault.UNANSWERED, B),
        (QUICK, "b", MoveAct.RESTORE, MoveFault.FAILS, A),
        (LIVE, "a", MoveAct.MIGRATE, MoveFault.FAILS, A),
        (LIVE, "a", MoveAct.MIGRATE, MoveFault.FINISH_REPLY_LOST, A),
        (LIVE, "a", MoveAct.MIGRATE, MoveFault.NETWORK_DIES_AT_CONFIRM, B),
    ],
)
def test_safe_7_a_move_that_fails_keeps_the_memory(
    method: MoveMethod, at: str, act: MoveAct, how: MoveFault, end: NodeName
) -> None:
    @virtual
    async def go() -> None:
        after, _ = await moved(method, faults={at: (act, how)})
        assert after.owner == end

    go()
