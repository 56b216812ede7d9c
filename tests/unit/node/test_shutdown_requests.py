"""The operating system of a node goes down, and comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.unit.decide.made_up import incarnation, node_spec, session
from tests.unit.node.one_machine import LoopClock
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.test_maintenance_requests import A, Desk, desk
from tests.unit.node.virtual_time import virtual

from holdfast.model.ids import NodeName
from holdfast.model.settings import Settings, ShutdownPolicy
from holdfast.model.status import DrainReport, Progress
from holdfast.node.commits import Commits
from holdfast.node.event_log import EventLog
from holdfast.node.homecoming import Homecoming, came_back
from holdfast.node.line_protocol import Result
from holdfast.node.mirror import Mirror
from holdfast.node.shutdown_requests import ShutdownRequests
from holdfast.store.memory import MemoryStore
from holdfast.store.records import CLUSTER


def prepare(here: Desk) -> asyncio.Task[list[object]]:
    requests = ShutdownRequests(Commits(here.life, here.store))

    async def all_answers() -> list[object]:
        return [item async for item in requests.handle("node.prepare-shutdown", {})]

    return asyncio.create_task(all_answers())


def use(here: Desk, settings: Settings) -> None:
    cluster = here.database.snapshot().cluster
    assert cluster is not None
    here.database.put(CLUSTER, replace(cluster.value, settings=settings))


def report_in(answers: list[object]) -> DrainReport:
    last = answers[-1]
    assert isinstance(last, Result)
    assert isinstance(last.value, DrainReport)
    return last.value


@virtual
async def test_the_system_waits_until_the_node_is_empty_and_no_longer() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        going = prepare(here)
        await asyncio.sleep(30)
        assert not going.done()
        spec = here.spec(A)
        assert (spec.is_draining, spec.is_paused, spec.shutting_down) == (True, True, incarnation("a"))
        here.role("web", "b")
        assert report_in(await asyncio.wait_for(going, 5)).staying == {}


@virtual
async def test_the_system_goes_down_in_time_whatever_is_left() -> None:
    async with desk(a=8, b=8) as here:
        use(here, Settings(shutdown_timeout_s=60))
        here.role("web", "a")
        here.role("large", "a", gib=64)
        await asyncio.sleep(1)
        answers = await asyncio.wait_for(prepare(here), 65)
        assert Progress(text="60 s are over: what is left is left to the system") in answers
        assert (list(report_in(answers).moves), list(report_in(answers).staying)) == (["web"], ["large"])


@virtual
async def test_what_no_node_can_take_does_not_keep_the_system() -> None:
    async with desk(a=8, b=8) as here:
        here.role("large", "a", gib=64)
        await asyncio.sleep(1)
        assert list(report_in(await asyncio.wait_for(prepare(here), 5)).staying) == ["large"]


@virtual
async def test_a_cluster_that_leaves_its_roles_to_the_system_does_nothing() -> None:
    async with desk(a=8, b=8) as here:
        use(here, Settings(shutdown_policy=ShutdownPolicy.LEAVE))
        here.role("web", "a")
        await asyncio.sleep(1)
        before = here.database.snapshot().revision
        await asyncio.wait_for(prepare(here), 5)
        assert here.database.snapshot().revision == before


@virtual
async def test_what_a_person_ordered_for_the_node_outlives_its_restart() -> None:
    async with desk(a=8, b=8) as here:
        here.node("a", is_paused=True)
        await asyncio.sleep(1)
        await asyncio.wait_for(prepare(here), 5)
        assert (here.spec(A).is_draining, here.spec(A).shutting_down) == (True, None)


def test_only_another_start_of_the_machine_takes_the_drain_back() -> None:
    emptied = node_spec("a", is_paused=True, is_draining=True, shutting_down=incarnation("a", 1))
    assert came_back(emptied, incarnation("a", 1)) is None
    assert came_back(emptied, incarnation("a", 2)) == node_spec("a")
    assert came_back(node_spec("a", is_paused=True), incarnation("a", 2)) is None


@virtual
async def test_a_node_that_has_started_again_takes_roles_again() -> None:
    database, clock, mirror = SmallDatabase(), LoopClock(), Mirror()
    database.node(node_spec("a", is_paused=True, is_draining=True, shutting_down=incarnation("a", 1)))
    me = database.up(session("a", 2))
    store = MemoryStore(database.database)
    following = asyncio.create_task(mirror.run(store))
    events = EventLog(NodeName("a"), clock)
    home = Homecoming(store=store, mirror=mirror, events=events, incarnation=incarnation("a", 2))
    await asyncio.wait_for(home.run(me), 10)
    assert database.snapshot().nodes[A].value == node_spec("a")
    following.cancel()
