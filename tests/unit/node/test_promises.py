"""What a proof rests on: the deadline stays within what is promised, and a verdict carries the promise on. SAFE-2."""

from __future__ import annotations

import asyncio

from tests.unit.decide.made_up import cluster, incarnation, node_spec, put, session, up
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.test_session import Node, set_timings
from tests.unit.node.virtual_time import virtual

from holdfast.decide.detection import Assessment, Standing
from holdfast.fencing.simulated_guard import SimulatedGuard
from holdfast.model.ids import NodeName
from holdfast.node.detector import verdict_on
from holdfast.node.entitlement import Entitlement
from holdfast.node.hearing import Hearing

A = NodeName("a")


def entitlement(node: Node, guard: SimulatedGuard) -> Entitlement:
    """Of the only voter, which needs nobody's acknowledgement."""
    return Entitlement(
        me=A,
        incarnation=incarnation(A),
        voters=frozenset({A}),
        hearing=Hearing(A, ()),
        mirror=node.mirror,
        guard=guard,
    )


def new_guard() -> SimulatedGuard:
    guard = SimulatedGuard(alive=frozenset, kill=lambda _: None, watchdog=None)
    guard.start()
    return guard


async def ahead_s(guard: SimulatedGuard) -> float:
    """How far ahead the guard's deadline lies."""
    return ((await guard.state()).until or 0.0) - asyncio.get_running_loop().time()


@virtual
async def test_safe_2_a_longer_deadline_waits_until_it_is_promised() -> None:
    node, guard = Node(SmallDatabase()), new_guard()
    assert await node.keeper.register() is None
    one = entitlement(node, guard)
    one.session = node.keeper
    extending = asyncio.create_task(one.run())
    set_timings(node.database, guard_deadline_ms=20_000, patience_ms=30_000, session_ttl_s=40)
    await asyncio.sleep(5)
    assert await ahead_s(guard) <= 4
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(15)
    assert node.written().guard_deadline_ms == 20_000
    assert await ahead_s(guard) > 18
    set_timings(node.database, guard_deadline_ms=1000)
    await asyncio.sleep(0.5)
    set_timings(node.database, guard_deadline_ms=15_000)
    await asyncio.sleep(0.5)
    assert node.written().guard_deadline_ms == 20_000
    await asyncio.sleep(21)
    assert node.written().guard_deadline_ms == 15_000
    assert await ahead_s(guard) <= 15
    extending.cancel()
    keeping.cancel()


@virtual
async def test_safe_2_no_deadline_goes_beyond_what_a_session_that_is_being_registered_will_promise() -> None:
    """The settings are raised after the promise was worked out, and before the session is there."""
    node, guard = Node(SmallDatabase()), new_guard()
    await asyncio.sleep(0.1)
    one = entitlement(node, guard)
    one.at_most_ms = 4000
    extending = asyncio.create_task(one.run())
    set_timings(node.database, guard_deadline_ms=20_000, patience_ms=30_000, session_ttl_s=40)
    await asyncio.sleep(5)
    assert await ahead_s(guard) <= 4
    one.at_most_ms = None
    await asyncio.sleep(5)
    assert await ahead_s(guard) > 18
    extending.cancel()


@virtual
async def test_safe_6_a_short_deadline_is_extended_in_time_whatever_the_settings_say() -> None:
    """The others use longer times already, and the way to the database is slow: this node still promises 1000 ms."""
    database = SmallDatabase()
    set_timings(database, guard_deadline_ms=1000, patience_ms=1500)
    node, guard = Node(database, session(A, guard_deadline_ms=1000)), new_guard()
    assert await node.keeper.register() is None
    one = entitlement(node, guard)
    one.session = node.keeper
    extending = asyncio.create_task(one.run())
    await asyncio.sleep(1)
    set_timings(database, guard_deadline_ms=4000, patience_ms=5000)
    for _ in range(300):
        await asyncio.sleep(0.01)
        assert await ahead_s(guard) > 0.5
    extending.cancel()


def test_safe_2_a_verdict_carries_all_that_the_lost_node_promised() -> None:
    promised = session(
        A, guard_deadline_ms=7000, watchdog_timeout_ms=9000, guard_kill_ms=900, voters=(A, NodeName("b"))
    )
    snapshot = cluster(up("b"), put("nodes", A, node_spec(A)), put("sessions", A, promised))
    judged = Assessment(node=A, incarnation=promised.incarnation, standing=Standing.LOST)
    found = verdict_on(judged, snapshot, by=NodeName("b"), now_ms=1)
    assert (found.guard_deadline_ms, found.watchdog_timeout_ms, found.guard_kill_ms) == (7000, 9000, 900)
    assert found.voters == (A, NodeName("b"))
