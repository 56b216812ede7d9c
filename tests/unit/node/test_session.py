"""This node's session: registered, kept, touched, and how it ends. Source: SAFE-3, SAFE-4, docs/safety.md."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.decide.made_up import incarnation, node_spec, owned, proof, role_spec, session, verdict
from tests.unit.node.one_machine import LoopClock
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.model.errors import OutcomeUnknown, Unavailable
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import ProofKind, Session
from holdfast.model.roles import Phase
from holdfast.node.event_log import EventLog
from holdfast.node.guard_promise import GuardPromise
from holdfast.node.mirror import Mirror
from holdfast.node.session import GuardOf, SessionEnd, SessionKeeper
from holdfast.node.transactions import advance, convict
from holdfast.store.memory import MemoryStore
from holdfast.store.port import Delete, Txn
from holdfast.store.records import CLUSTER, node_key, session_key

A = NodeName("a")
WEB = RoleName("web")


class Node:
    """A mirror and a session keeper on a database of their own."""

    def __init__(
        self,
        database: SmallDatabase,
        made: Session | None = None,
        guard: GuardOf | None = None,
        machine_id: str = "",
    ) -> None:
        self.database = database
        if A not in database.snapshot().nodes:
            database.node(node_spec(A))
        self.store = MemoryStore(database.database)
        self.mirror = Mirror()
        clock = LoopClock()
        self.events = EventLog(A, clock)
        self.keeper = SessionKeeper(
            self.store,
            self.mirror,
            clock,
            self.events,
            made or session(A),
            guard=guard,
            machine_id=machine_id,
        )
        self.following = asyncio.create_task(self.mirror.run(self.store))

    def again(self) -> SessionKeeper:
        """What registers once the session has ended."""
        return SessionKeeper(self.store, self.mirror, LoopClock(), self.events, session(A))

    def written(self) -> Session:
        return self.database.snapshot().sessions[A].value


async def registered() -> Node:
    node = Node(SmallDatabase())
    assert await node.keeper.register() is None
    return node


@virtual
async def test_safe_3_an_incarnation_that_is_lost_does_not_register_again() -> None:
    database = SmallDatabase()
    database.lose(verdict(A, 1))
    assert await Node(database).keeper.register() is SessionEnd.LOST
    assert A not in database.snapshot().sessions


@virtual
async def test_safe_3_a_fresh_incarnation_proves_that_its_predecessors_are_over() -> None:
    database = SmallDatabase()
    database.lose(verdict(A, 1))
    database.role(role_spec("web"), owned("web", A, number=1))
    database.role(role_spec("db"), owned("db", A, number=2))
    database.role(role_spec("mail"), owned("mail", "b", number=1))
    assert await Node(database, session(A, 3)).keeper.register() is None
    proofs = database.snapshot().proofs
    assert {key: found.value.kind for key, found in proofs.items()} == {
        incarnation(A, 1): ProofKind.RESTARTED,
        incarnation(A, 2): ProofKind.RESTARTED,
    }


@virtual
async def test_an_incarnation_that_registers_again_proves_nothing_about_itself() -> None:
    database = SmallDatabase()
    database.role(role_spec("web"), owned("web", A, number=1))
    assert await Node(database, session(A, 1)).keeper.register() is None
    assert database.snapshot().proofs == {}


@virtual
async def test_a_proof_that_is_there_is_not_written_again() -> None:
    database = SmallDatabase()
    database.lose(verdict(A, 1))
    database.put("holdfast/proofs/a-1", proof(A, 1, ProofKind.POWER))
    assert await Node(database, session(A, 2)).keeper.register() is None
    assert database.snapshot().proofs[incarnation(A, 1)].value.kind is ProofKind.POWER


@virtual
async def test_registration_goes_on_until_the_database_answers_and_survives_a_lost_reply() -> None:
    node = Node(SmallDatabase())
    node.store.faults.lost_requests, node.store.faults.lost_replies = 2, 1
    assert await node.keeper.register() is None
    assert node.written().incarnation == incarnation(A)


@virtual
async def test_the_session_outlives_its_lease_time_while_it_is_kept() -> None:
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(100)
    assert not keeping.done()
    assert A in node.database.snapshot().sessions
    keeping.cancel()


@virtual
async def test_a_session_whose_lease_ran_out_has_expired() -> None:
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(1)
    node.database.end_session(A)
    assert await keeping is SessionEnd.EXPIRED
    assert not await node.keeper.touch(1.0)


@virtual
async def test_a_session_ended_by_a_verdict_is_lost() -> None:
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(1)
    node.database.lose(verdict(A))
    assert await keeping is SessionEnd.LOST


@virtual
async def test_safe_4_touching_succeeds_only_while_no_verdict_is_committed() -> None:
    node = await registered()
    assert await node.keeper.touch(1.0)
    node.database.lose(verdict(A))
    assert not await node.keeper.touch(1.0)


@virtual
async def test_safe_4_a_verdict_that_was_judged_before_a_touch_fails() -> None:
    node = await registered()
    late = convict(verdict(A), None, snapshot=node.database.snapshot(), events=())
    assert await node.keeper.touch(1.0)
    assert not node.database.commit(late)


@virtual
async def test_safe_4_an_unknown_answer_is_no_yes() -> None:
    node = await registered()
    for fault in ("lost_requests", "lost_replies"):
        setattr(node.store.faults, fault, 1)
        with pytest.raises(OutcomeUnknown):
            await node.keeper.touch(1.0)
    node.store.faults.is_cut = True
    with pytest.raises(Unavailable):
        await node.keeper.touch(1.0)


@virtual
async def test_safe_2_an_announced_stop_promises_the_farther_deadline_in_the_session() -> None:
    node = await registered()
    assert await node.keeper.announce_stop(30_000, 1.0)
    assert (node.written().guard_deadline_ms, node.written().stopping) == (30_000, True)


@virtual
async def test_safe_6_an_announced_session_outlives_the_absence_that_it_announces() -> None:
    """Nobody renews its lease meanwhile, and a session that ran out would be taken for the node's end."""
    node = await registered()
    assert await node.keeper.announce_stop(30_000, 1.0)
    await asyncio.sleep(35)
    assert node.written().stopping


@virtual
async def test_safe_2_a_touch_under_way_does_not_take_the_announced_deadline_back() -> None:
    """The touch is slow and is committed after the announcement; the guard's deadline lies 30 s ahead then."""
    node = await registered()
    node.store.faults.delay_s = 0.2
    touching = asyncio.create_task(node.keeper.touch(1.0))
    await asyncio.sleep(0.1)
    node.store.faults.delay_s = 0.0
    announced = await node.keeper.announce_stop(30_000, 1.0)
    await asyncio.gather(touching, return_exceptions=True)
    if announced:
        assert node.written().guard_deadline_ms == 30_000


@virtual
async def test_safe_2_the_promise_is_lowered_only_after_the_farther_deadline_has_passed() -> None:
    node = Node(SmallDatabase(), session(A, guard_deadline_ms=30_000))
    assert await node.keeper.register() is None
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(29)
    assert node.written().guard_deadline_ms == 30_000
    await asyncio.sleep(10)
    assert node.written().guard_deadline_ms == 4000
    keeping.cancel()


@virtual
async def test_safe_2_a_shorter_setting_is_promised_only_once_the_longer_deadline_has_passed() -> None:
    """`guard_deadline_ms` is lowered from 20 to 4 s: the guard may hold a deadline up to 20 s ahead at that moment."""
    database = SmallDatabase()
    found = database.snapshot().cluster
    assert found is not None
    timings = replace(found.value.settings.timings, guard_deadline_ms=20_000, patience_ms=30_000, session_ttl_s=40)
    database.put("holdfast/cluster", replace(found.value, settings=replace(found.value.settings, timings=timings)))
    node = Node(database, session(A, guard_deadline_ms=20_000))
    assert await node.keeper.register() is None
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(60)
    database.put("holdfast/cluster", found.value)
    await asyncio.sleep(19)
    assert node.written().guard_deadline_ms == 20_000
    await asyncio.sleep(20)  # the lowered setting is first seen at the next renewal, a third of 40 s away
    assert node.written().guard_deadline_ms == 4000
    keeping.cancel()


@virtual
async def test_safe_2_a_session_says_by_whom_it_counts_itself_entitled_and_withdraws_a_watchdog_that_failed() -> None:
    database = SmallDatabase()
    for name in "abc":
        database.node(node_spec(name))
    usable = [10_000]

    async def guard() -> GuardPromise:
        return GuardPromise(ahead_ms=4000, watchdog_ms=usable[0] if usable else None, kill_ms=500)

    node = Node(database, session(A, watchdog_timeout_ms=10_000), guard=guard)
    assert await node.keeper.register() is None
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(5)
    assert (node.written().voters, node.written().watchdog_timeout_ms) == (("a", "b", "c"), 10_000)
    usable.clear()
    await asyncio.sleep(5)
    assert node.written().watchdog_timeout_ms is None
    keeping.cancel()


@virtual
async def test_safe_2_no_watchdog_is_promised_while_the_deadline_lies_farther_ahead_than_promised() -> None:
    """The guard was silent when the session was made, so nobody knew how far the daemon before had moved it."""
    database = SmallDatabase()
    until = asyncio.get_running_loop().time() + 30

    async def guard() -> GuardPromise:
        ahead_s = max(until - asyncio.get_running_loop().time(), 3.5)
        return GuardPromise(ahead_ms=int(ahead_s * 1000), watchdog_ms=10_000, kill_ms=500)

    node = Node(database, session(A, watchdog_timeout_ms=None, guard_deadline_ms=4000), guard=guard)
    assert await node.keeper.register() is None
    keeping = asyncio.create_task(node.keeper.keep())
    for _ in range(40):
        await asyncio.sleep(1)
        if asyncio.get_running_loop().time() < until - 4:
            assert node.written().watchdog_timeout_ms is None
    assert node.written().watchdog_timeout_ms == 10_000
    keeping.cancel()


@virtual
async def test_safe_6_a_session_whose_former_lease_ended_is_registered_anew_at_once() -> None:
    """What hangs on the former lease is gone; a session that was left to end by and by would end a minute later."""
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(5)
    set_timings(node.database, session_ttl_s=60)
    await asyncio.sleep(1)
    node.store.faults.is_cut = True
    await asyncio.sleep(15)
    node.store.faults.is_cut = False
    assert await asyncio.wait_for(keeping, 5) is SessionEnd.EXPIRED
    assert await node.again().register() is None


@virtual
async def test_safe_6_times_that_change_during_a_round_are_followed_after_it() -> None:
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(0.6)
    node.store.faults.delay_s = 0.3
    await asyncio.sleep(3.3)
    set_timings(node.database, guard_deadline_ms=20_000, patience_ms=30_000, session_ttl_s=40)
    await asyncio.sleep(2.5)
    assert node.written().guard_deadline_ms == 20_000
    keeping.cancel()


@virtual
async def test_safe_2_every_write_that_may_yet_arrive_counts_as_promised() -> None:
    node = await registered()
    voters = [(A,), (A, NodeName("b"))]
    for other in voters:
        node.store.faults.lost_requests = 1
        with pytest.raises(Unavailable):
            await node.keeper._update(lambda session, other=other: replace(session, voters=other), 1.0)  # type: ignore[misc]
    assert set(map(frozenset, voters)) <= set(node.keeper.promised_voters)
    assert await node.keeper.touch(1.0)
    assert not set(map(frozenset, voters)) & set(node.keeper.promised_voters)


@virtual
async def test_safe_5_a_claim_of_the_former_incarnation_that_came_late_is_proven_void() -> None:
    """It was committed while this incarnation registered; nobody else could ever prove anything of it."""
    database = SmallDatabase()
    node = Node(database, session(A, 2))
    assert await node.keeper.register() is None
    keeping = asyncio.create_task(node.keeper.keep())
    database.role(role_spec("web"), owned("web", A, Phase.STARTING, 1))
    await asyncio.sleep(5)
    found = database.snapshot().proofs.get(incarnation(A, 1))
    assert found is not None
    assert found.value.kind is ProofKind.RESTARTED
    keeping.cancel()


@virtual
async def test_safe_3_nothing_that_an_earlier_incarnation_still_had_under_way_passes_for_the_new_one() -> None:
    """A machine that starts again before its session ran out does not write over that session, which would count on."""
    database = SmallDatabase()
    database.role(role_spec("web"), owned("web", A, number=1))
    earlier = database.up(session(A, 1))
    assert await Node(database, session(A, 2)).keeper.register() is None
    before = database.snapshot().ownerships[WEB]
    late = advance(owned("web", A, Phase.STARTING, number=1), before=before, me=earlier, events=())
    assert not database.database.txn(late).succeeded
    assert database.snapshot().proofs.keys() == {incarnation(A, 1)}


def evict(database: SmallDatabase) -> None:
    database.database.txn(Txn(then=(Delete(node_key(A)), Delete(session_key(A)))))


@virtual
async def test_an_evicted_node_that_is_up_does_not_come_back() -> None:
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(1)
    evict(node.database)
    assert await asyncio.wait_for(keeping, 10) is SessionEnd.EXPIRED
    assert await asyncio.wait_for(node.again().register(), 10) is SessionEnd.EVICTED


@virtual
async def test_a_machine_that_was_evicted_while_it_was_off_is_refused_when_it_starts() -> None:
    database = SmallDatabase()
    node = Node(database)
    evict(database)
    assert await asyncio.wait_for(node.keeper.register(), 10) is SessionEnd.EVICTED
    assert A not in database.snapshot().sessions


@virtual
async def test_an_older_picture_of_the_cluster_evicts_nobody() -> None:
    """A machine that just joined may see the cluster as it was before; the database itself says that it is a node."""
    database = SmallDatabase()
    node = Node(database)
    node.following.cancel()
    before = database.snapshot()
    node.mirror.snapshot = replace(before, nodes={})
    registering = asyncio.create_task(node.keeper.register())
    await asyncio.sleep(5)
    assert not registering.done()
    registering.cancel()


@virtual
async def test_another_machine_of_the_same_name_is_another_node() -> None:
    database = SmallDatabase()
    database.node(node_spec(A, machine_id="new"))
    assert await Node(database, machine_id="old").keeper.register() is SessionEnd.EVICTED
    assert await Node(database, machine_id="new").keeper.register() is None


@virtual
async def test_an_eviction_between_look_and_registration_wins() -> None:
    database = SmallDatabase()
    node = Node(database)
    await asyncio.sleep(1)
    seen = node.mirror.snapshot
    assert seen is not None
    evict(database)
    assert not await node.keeper._try_register(seen)
    assert A not in database.snapshot().sessions


def set_timings(database: SmallDatabase, **changes: int) -> None:
    """A person changes times, and no node is left that uses those of before."""
    found = database.snapshot().cluster
    assert found is not None
    timings = replace(found.value.settings.timings, **changes)
    settings = replace(found.value.settings, timings=timings)
    generation = found.value.timings_generation + 1
    database.put(CLUSTER, replace(found.value, settings=settings, timings_generation=generation))


@virtual
async def test_safe_2_a_promise_that_is_lowered_twice_waits_for_the_deadlines_of_the_first_time() -> None:
    """At 3.9 s a deadline may have been moved 3900 ms ahead; 1000 ms are no promise before that has passed."""
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(5)
    set_timings(node.database, guard_deadline_ms=3900)
    await asyncio.sleep(3.9)
    assert node.keeper.deadline_at_most_ms == 3900
    set_timings(node.database, guard_deadline_ms=1000, patience_ms=1500)
    await asyncio.sleep(3.8)
    assert node.written().guard_deadline_ms > 1000
    await asyncio.sleep(1)
    assert node.written().guard_deadline_ms == 1000
    keeping.cancel()


@virtual
async def test_safe_2_no_deadline_goes_beyond_what_is_about_to_be_promised_whatever_the_settings_say() -> None:
    """While the lower promise is on its way to the database, its answer lost, the settings go back up."""
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(5)
    set_timings(node.database, guard_deadline_ms=1000)
    await asyncio.sleep(0.1)
    assert node.keeper.deadline_at_most_ms == 1000
    node.store.faults.lost_replies = 1
    for _ in range(800):
        if node.written().guard_deadline_ms == 1000:
            break
        await asyncio.sleep(0.01)
    assert node.keeper.session.guard_deadline_ms == 4000
    assert node.keeper.deadline_at_most_ms == 1000
    set_timings(node.database, guard_deadline_ms=4000)
    await asyncio.sleep(0.01)
    assert node.keeper.deadline_at_most_ms == 1000
    keeping.cancel()


@virtual
async def test_safe_6_a_session_outlives_that_the_settings_make_its_lease_longer() -> None:
    """It is renewed at the pace of the lease that it has, and then bound to a longer one."""
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(5)
    set_timings(node.database, session_ttl_s=60)
    await asyncio.sleep(1)
    assert node.written().ttl_s == 60
    await asyncio.sleep(60)
    assert node.keeper.me is not None
    keeping.cancel()
    await asyncio.sleep(50)
    assert A in node.database.snapshot().sessions
    await asyncio.sleep(30)
    assert A not in node.database.snapshot().sessions


@virtual
async def test_safe_2_a_lower_promise_that_is_late_does_not_replace_that_of_an_announced_stop() -> None:
    node = await registered()
    keeping = asyncio.create_task(node.keeper.keep())
    await asyncio.sleep(5)
    set_timings(node.database, guard_deadline_ms=1000)
    await asyncio.sleep(3.9)
    node.store.faults.delay_s = 0.3
    assert await node.keeper.announce_stop(30_000, 2.0)
    node.store.faults.delay_s = 0.0
    await asyncio.sleep(5)
    assert node.written().guard_deadline_ms == 30_000
    keeping.cancel()
