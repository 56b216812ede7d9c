"""What a person is told and what is written when they move roles, empty nodes and freeze the cluster.

Nothing carries the orders out here: the record that an order leaves is all that it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.decide.made_up import GIB, incarnation, node_spec, owned, role_spec, session
from tests.unit.node.one_machine import LoopClock
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.fencing.port import FenceDevice
from holdfast.fencing.simulated_guard import SimulatedGuard
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.replay import Sequences
from holdfast.membership.simulated_transport import SimulatedNetworks
from holdfast.model.disks import DiskSpec
from holdfast.model.errors import NotFound, Refused
from holdfast.model.ids import ClusterId, Incarnation, NodeName, RoleName
from holdfast.model.nodes import Capacity, FenceSpec, NodeReport, NodeSpec, Return
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.roles import Memory, MemoryKind, MoveMethod, Ownership, Phase, Wanted
from holdfast.model.status import DrainReport, Progress
from holdfast.model.transfers import Transfer
from holdfast.node.commits import Commits
from holdfast.node.life import Life
from holdfast.node.line_protocol import Result
from holdfast.node.maintenance_requests import MaintenanceRequests, NotMoved
from holdfast.node.ports import Ports
from holdfast.storage.port import Lun
from holdfast.store.memory import MemoryStore
from holdfast.store.records import report_key

A, B, C = (NodeName(name) for name in "abc")
ID = ClusterId("id")


class OneStart:
    """A machine that was started once."""

    def load_or_create(self) -> Incarnation:
        return incarnation("a")

    def replace(self) -> Incarnation:
        raise AssertionError("nobody declared it lost")


def no_device(_: FenceSpec) -> FenceDevice:
    raise AssertionError("nobody is fenced here")


def no_disk(_: DiskSpec) -> Lun:
    raise AssertionError("there is no shared disk here")


class Desk:
    """Where a person asks: node a of a database in memory, whose mirror runs and nothing else."""

    def __init__(self, **gib: int) -> None:
        self.database = SmallDatabase()
        for name, size in gib.items():
            self.database.node(node_spec(name))
            self.database.up(session(name))
            capacity = Capacity(memory_bytes=size * GIB, vcpus=8)
            report = NodeReport(node=NodeName(name), incarnation=incarnation(name), capacity=capacity, hears={})
            self.database.put(report_key(NodeName(name)), report)
        store, codec = (
            MemoryStore(self.database.database),
            HeartbeatCodec(cluster_id=ID, cluster_key=bytes(32), networks=[]),
        )
        ports = Ports(
            store=store,
            hypervisor=SimulatedHypervisor(),
            guard=SimulatedGuard(alive=frozenset, kill=lambda _: None, watchdog=None),
            transport=SimulatedNetworks().transport({}),
            codec=codec,
            sequences=Sequences(lambda: 1),
            incarnations=OneStart(),
            device_of=no_device,
            open_lun=no_disk,
            clock=LoopClock(),
        )
        self.life = Life(cluster_id=ID, me=A, peers={A: node_spec("a")}, ports=ports)
        self.store = store
        self.commits = Commits(self.life, store)
        self.requests = MaintenanceRequests(self.commits)

    def role(self, name: str, owner: str | None, gib: int = 1, *, ends: bool = False, **record: Any) -> None:
        """A role; `ends`: a person wants it offline."""
        wanted = Wanted.OFFLINE if ends else Wanted.ONLINE
        self.database.role(role_spec(name, memory_bytes=gib * GIB, wanted=wanted), owned(name, owner, **record))

    def node(self, name: str, **changes: Any) -> None:
        """Set a node."""
        self.database.node(node_spec(name, **changes))

    async def answers(self, method: str, /, **params: object) -> list[object]:
        """All that comes back."""
        return [item async for item in self.requests.handle(method, params)]

    async def ask(self, method: str, /, **params: object) -> Any:
        """Ask, and return the result."""
        *_, last = await self.answers(method, **params)
        assert isinstance(last, Result)
        return last.value

    def record(self, name: str = "web") -> Ownership:
        """Who owns a role, as the database says."""
        return self.database.snapshot().ownerships[RoleName(name)].value

    def spec(self, name: NodeName) -> NodeSpec:
        """A node, as the database has it."""
        return self.database.snapshot().nodes[name].value


@asynccontextmanager
async def desk(**gib: int) -> AsyncIterator[Desk]:
    """A desk whose mirror is current. `gib`: the nodes that are up, and their memory."""
    made = Desk(**gib)
    following = asyncio.create_task(made.life.mirror.run(made.store))
    await asyncio.sleep(1)
    try:
        yield made
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@virtual
async def test_a_move_is_refused_with_the_reasons_of_every_node_and_nothing_is_written() -> None:
    async with desk(a=8, b=8, c=1) as here:
        here.role("web", "a", gib=4)
        here.node("b", is_paused=True)
        await asyncio.sleep(1)
        before = here.database.snapshot().revision
        with pytest.raises(Refused) as refused:
            await here.ask("role.move", role="web")
        assert "role web cannot move now" in refused.value.message
        assert "b is paused" in refused.value.message
        assert f"c has {GIB} bytes of memory free, {4 * GIB} needed" in refused.value.message
        with pytest.raises(Refused, match=r"role web cannot move to b now: .*b is paused"):
            await here.ask("role.move", role="web", to="b")
        assert here.database.snapshot().revision == before


@virtual
async def test_what_nobody_knows_is_named() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        unknown: list[tuple[str, dict[str, object], str]] = [
            ("role.move", {"role": "www"}, "no role 'www'"),
            ("role.move", {"role": "web", "to": "x"}, "no node 'x'"),
            ("role.cancel", {"role": "www"}, "no role 'www'"),
            ("node.drain", {"node": "x"}, "no node 'x'"),
            ("node.drain", {"node": "x", "dry_run": True}, "no node 'x'"),
            ("node.resume", {"node": "x"}, "no node 'x'"),
        ]
        for method, params, words in unknown:
            with pytest.raises(NotFound, match=words):
                await here.ask(method, **params)


@virtual
async def test_two_people_move_a_role_and_both_orders_leave_one_whole_record() -> None:
    async with desk(a=8, b=8, c=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        said = await asyncio.gather(
            here.answers("role.move", role="web", to="b"), here.answers("role.move", role="web", to="c")
        )
        assert [first[0] for first in said] == [Progress(text=f"web moves to {node} (restart)") for node in "bc"]
        after = here.record()
        assert after.target in (B, C)
        assert (after.owner, after.source, after.epoch, after.phase) == (A, A, 1, Phase.ONLINE)
        events = [
            one for one in here.database.database.listing("holdfast/events/").items if b"role-moving" in one.value
        ]
        assert len(events) == 2


@virtual
async def test_a_move_is_cancelled_where_it_can_be() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        with pytest.raises(Refused, match="on no move that could be cancelled"):
            await here.ask("role.cancel", role="web")
        await here.ask("role.move", role="web", to="b")
        with pytest.raises(Refused, match="a already") as refused:
            await here.ask("role.move", role="web", to="a")
        assert refused.value.hint.endswith("holdfast role move web --cancel")
        assert (await here.ask("role.cancel", role="web")).target is None
        assert (here.record().owner, here.record().target) == (A, None)
        await here.ask("node.drain", node="a")
        here.role("web", "a", target=B, source=A, drained_from=A)
        await asyncio.sleep(1)
        with pytest.raises(Refused, match="leaves a, which is being drained"):
            await here.ask("role.cancel", role="web")
        assert here.record().target == B


@virtual
async def test_a_dry_run_names_the_plan_and_changes_nothing() -> None:
    async with desk(a=8, b=2) as here:
        here.role("small", "a", gib=1)
        here.role("large", "a", gib=4)
        await asyncio.sleep(1)
        before = here.database.snapshot().revision
        report: DrainReport = await here.ask("node.drain", node="a", dry_run=True)
        assert (report.is_dry_run, report.moves, list(report.staying)) == (True, {"small": "b"}, ["large"])
        assert f"b has {2 * GIB} bytes of memory free, {4 * GIB} needed" in "; ".join(report.staying["large"])
        assert here.database.snapshot().revision == before


@pytest.mark.parametrize("arrived", [False, True])
def test_the_second_of_two_drains_says_what_stays_for_want_of_room(arrived: bool) -> None:
    @virtual
    async def drained_both() -> None:
        async with desk(a=8, b=8, c=6) as here:
            here.role("web", "a", gib=4)
            here.role("db", "b", gib=4)
            await asyncio.sleep(1)
            first: DrainReport = await here.ask("node.drain", node="a")
            assert (first.moves, first.staying) == ({"web": "c"}, {})
            on_its_way: dict[str, Any] = {"target": C, "source": A, "drained_from": A}
            here.role("web", "c" if arrived else "a", gib=4, **({} if arrived else on_its_way))
            await asyncio.sleep(1)
            short = (
                "1 of 1 roles on a, b would find no room: db; they all want 4.0 GiB and 1 vCPUs, "
                "free are 2.0 GiB and 31 vCPUs on c"
            )
            with pytest.raises(Refused) as refused:
                await here.ask("node.drain", node="b")
            assert refused.value.message == f"node b is not drained: {short}"
            assert "holdfast node resume a" in refused.value.hint
            assert refused.value.hint.endswith("holdfast node drain b --force")
            assert not here.spec(B).is_draining
            for dry_run in (True, False):
                second: DrainReport = await here.ask("node.drain", node="b", dry_run=dry_run, force=True)
                assert second.refused == (short if dry_run else "")
                assert (second.moves, list(second.staying)) == ({}, ["db"])
                why = "; ".join(second.staying["db"])
                assert "a is paused" in why
                assert f"c has {2 * GIB} bytes of memory free, {4 * GIB} needed" in why
            assert (here.record("db").owner, here.record("db").target) == (B, None)
            assert (here.spec(B).is_draining, here.spec(B).is_paused) == (True, True)

    drained_both()


ON_B: dict[str, dict[str, Any]] = {
    "leaves": {"target": A, "source": B},
    "ends": {"ends": True, "phase": Phase.STOPPING},
    "arrives": {"phase": Phase.STARTING, "target": B, "source": A},
}


@pytest.mark.parametrize("what", ON_B)
def test_waiting_for_a_drain_ends_when_the_node_is_rid_of_what_will_leave_it(what: str) -> None:
    @virtual
    async def waited() -> None:
        async with desk(a=8, b=8) as here:
            here.role("web", "b", **ON_B[what])
            here.role("stays", "b", gib=64)
            await asyncio.sleep(1)
            waiting = asyncio.create_task(here.answers("node.drain", node="b", wait=True, force=True))
            await asyncio.sleep(60)
            assert not waiting.done(), waiting.result()
            here.role("web", None if what == "ends" else "a", ends=what == "ends")
            *said, last = await asyncio.wait_for(waiting, 5)
            assert [one.text[:9] for one in said if isinstance(one, Progress)] == ["stays sta", "1 still t"]
            assert isinstance(last, Result)
            assert isinstance(last.value, DrainReport)
            assert (last.value.moves, list(last.value.staying)) == ({}, ["stays"])

    waited()


@virtual
async def test_waiting_for_a_drain_ends_when_a_person_ends_the_drain() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "b")
        await asyncio.sleep(1)
        waiting = asyncio.create_task(here.answers("node.drain", node="b", wait=True))
        await asyncio.sleep(10)
        assert here.spec(B).is_draining
        await here.ask("node.resume", node="b", failback="now")
        await asyncio.wait_for(waiting, 5)
        assert here.spec(B) == replace(node_spec("b"), returns=Return.NOW)


@virtual
async def test_a_drain_forgets_how_the_last_one_ended() -> None:
    async with desk(a=8, b=8) as here:
        here.node("b", returns=Return.NOW)
        await asyncio.sleep(1)
        await here.ask("node.drain", node="b")
        assert here.spec(B).returns is Return.POLICY


@virtual
async def test_a_freeze_says_who_and_why_until_it_ends() -> None:
    async with desk(a=8) as here:
        answer = await here.ask("cluster.freeze", person="Ada", reason="switches")
        assert answer == {"cluster": "test", "is_frozen": True}
        cluster = here.database.snapshot().cluster
        assert cluster is not None
        assert cluster.value.frozen is not None
        assert (cluster.value.frozen.by, cluster.value.frozen.reason) == ("Ada", "switches")
        with pytest.raises(ValidationError):
            await here.ask("cluster.freeze", person="")
        await here.ask("cluster.unfreeze")
        assert not here.database.snapshot().is_frozen


@virtual
async def test_what_is_on_its_way_to_a_node_that_is_to_be_drained_too_needs_room_elsewhere() -> None:
    async with desk(a=8, b=8, c=4) as here:
        here.role("web", "a", gib=4, target=B, source=A, drained_from=A, method=MoveMethod.RESTART)
        here.role("db", "b", gib=4)
        here.database.node(replace(here.spec(A), is_paused=True, is_draining=True))
        await asyncio.sleep(1)
        with pytest.raises(Refused, match=r"1 of 2 roles on a, b would find no room: .*; they all want 8\.0 GiB"):
            await here.ask("node.drain", node="b")


@virtual
async def test_a_drain_without_room_is_refused_with_the_numbers_unless_it_is_forced() -> None:
    async with desk(a=8, b=4) as here:
        for number in range(3):
            here.role(f"web{number}", "a", gib=2)
        here.node("b")
        await asyncio.sleep(1)
        with pytest.raises(Refused, match=r"1 of 3 roles on a would find no room: web2; they all want 6\.0 GiB") as no:
            await here.ask("node.drain", node="a")
        assert "free are 4.0 GiB and 32 vCPUs on b" in no.value.message
        assert not here.spec(A).is_draining
        forced: DrainReport = await here.ask("node.drain", node="a", force=True)
        assert (sorted(forced.moves), sorted(forced.staying)) == (["web0", "web1"], ["web2"])
        assert here.spec(A).is_draining


@virtual
async def test_what_stays_for_another_reason_than_room_keeps_no_drain_back() -> None:
    async with desk(a=8, b=8) as here:
        here.database.role(role_spec("web", possible_owners=(A,)), owned("web", "a"))
        await asyncio.sleep(1)
        report: DrainReport = await here.ask("node.drain", node="a")
        assert (list(report.staying), here.spec(A).is_draining) == (["web"], True)


@virtual
async def test_a_person_is_told_how_far_the_memory_is_and_where_it_ended() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        moving = asyncio.create_task(here.answers("role.move", role="web", to="b", wait=True))
        await asyncio.sleep(5)
        here.role("web", "a", phase=Phase.MIGRATING, target=B, source=A, method=MoveMethod.LIVE)
        report = here.database.snapshot().reports[A].value
        half = Transfer(bytes_total=100, bytes_processed=60, bytes_remaining=50, bytes_per_s=10)
        here.database.put(report_key(A), replace(report, transfers={RoleName("web"): half}))
        await asyncio.sleep(5)
        here.role("web", "b")
        *steps, last = await asyncio.wait_for(moving, 10)
        assert Progress(text="web is migrating on a", transfer=half) in steps
        assert isinstance(last, Result)
        assert last.value == await here.commits.role_document(RoleName("web"))


@virtual
async def test_a_move_that_left_the_role_where_it_was_is_no_success() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        moving = asyncio.create_task(here.answers("role.move", role="web", to="b", wait=True))
        await asyncio.sleep(5)
        here.role("web", "a", reasons=(because(ReasonCode.NODE_ABSENT, "b"),))
        with pytest.raises(NotMoved, match="role web did not move: it runs on a: b is not up"):
            await asyncio.wait_for(moving, 10)


@virtual
async def test_a_move_that_takes_too_long_is_taken_back() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        moving = asyncio.create_task(here.answers("role.move", role="web", to="b", wait=True, timeout_s=30))
        await asyncio.sleep(25)
        assert here.record().target == B
        await asyncio.sleep(10)
        assert here.record().target is None
        with pytest.raises(NotMoved, match="its move was cancelled"):
            await asyncio.wait_for(moving, 10)


@virtual
async def test_a_drain_moves_as_it_is_told_to() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        report: DrainReport = await here.ask("node.drain", node="a", method="restart")
        assert (report.methods, here.spec(A).drain_method) == ({"web": "restart"}, MoveMethod.RESTART)
        await here.ask("node.resume", node="a")
        assert here.spec(A).drain_method is None


@virtual
async def test_saved_memory_is_given_up_only_while_it_is_at_rest() -> None:
    async with desk(a=8, b=8) as here:
        here.role("web", "a")
        await asyncio.sleep(1)
        with pytest.raises(Refused, match="has no saved memory at rest"):
            await here.ask("role.discard-saved-state", role="web", person="Ada")
        memory = Memory(kind=MemoryKind.SAVED, id="1", disk_generation=1, path="/srv/web.1.state")
        here.role("web", None, memory=memory, failed_on=(A,), ends=True)
        await asyncio.sleep(1)
        assert (await here.commits.role_document(RoleName("web"))).has_saved_memory
        answer = await here.ask("role.discard-saved-state", role="web", person="Ada")
        assert (here.record().memory, here.record().failed_on, answer.has_saved_memory) == (None, (), False)


@virtual
async def test_of_two_drains_at_the_same_moment_the_one_without_room_is_refused() -> None:
    async with desk(a=8, b=8, c=6) as here:
        here.role("web", "a", gib=4)
        here.role("db", "b", gib=4)
        await asyncio.sleep(1)
        both = await asyncio.gather(
            here.ask("node.drain", node="a"), here.ask("node.drain", node="b"), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in both) == ["DrainReport", "Refused"]
        assert [here.spec(node).is_draining for node in (A, B)].count(True) == 1
