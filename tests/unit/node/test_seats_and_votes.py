"""Votes come and go while everybody who moves them is killed, once, between any two steps.

The world is driven round by round: every node attends to its seat and reports, then the coordinator makes at most one
change. Whoever is killed starts again and knows only what lies on disk and in the database.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import pytest
from tests.unit.decide.made_up import incarnation, node_spec, session
from tests.unit.node.dying import Killed, Killer
from tests.unit.node.simulated_members import SimulatedMembers, SimulatedProcess
from tests.unit.node.small_database import SmallDatabase

from holdfast.decide.voters import SETTLE_MS
from holdfast.membership.seat_file import SeatFile
from holdfast.model.events import Event, EventCode
from holdfast.model.ids import NetworkName, NodeName
from holdfast.model.nodes import Capacity, NodeReport, Seat, SeatState
from holdfast.model.reasons import ReasonCode
from holdfast.model.snapshot import Freeze, Snapshot
from holdfast.node.event_log import EventLog
from holdfast.node.mirror import Mirror
from holdfast.node.seat import SeatKeeper
from holdfast.node.voters import VoterKeeper, peer_urls, seated, why_vote_stays
from holdfast.sim.loop import VirtualLoop
from holdfast.store.errors import DiskFull, MemberChangeRefused, MemberExited
from holdfast.store.memory import MemoryStore
from holdfast.store.port import Member, MemberId
from holdfast.store.records import CLUSTER, EVENTS, decode, report_key

ROUND_MS = 1_000
ROUNDS = 40
A, B = NodeName("a"), NodeName("b")


class Clock:
    """Moves a second per round."""

    def __init__(self) -> None:
        self.now_ms = 0

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms


class World:
    """Nodes that are all up; `a` has founded the database and coordinates."""

    def __init__(self, folder: Path, names: str) -> None:
        self.folder, self.clock = folder, Clock()
        self.database, self.members = SmallDatabase(), SimulatedMembers()
        self.mirrors: dict[NodeName, Mirror] = {}
        self.processes: dict[NodeName, SimulatedProcess] = {}
        self.seats: dict[NodeName, SeatKeeper] = {}
        self.silent: set[NodeName] = set()
        self.shortages: dict[NodeName, DiskFull | OSError] = {}
        for number, name in enumerate(map(NodeName, names), 1):
            spec = node_spec(name, is_voter=False, addresses={NetworkName("net"): f"192.0.2.{number}"})
            self.database.node(spec)
            me = self.database.up(session(name))
            if name == A:
                self.database.elect(me, incarnation("a"))
            self.mirrors[name] = Mirror()
            self.processes[name] = SimulatedProcess(self.members, peer_urls(spec), folder / name)
            if name == A:
                self.processes[A].begin_as(self.members.found(peer_urls(spec)))
            self.start_seat(name)
        self.voters = self.new_voter_keeper()

    @property
    def killer(self) -> Killer | None:
        return self.members.killer

    def start_seat(self, name: NodeName) -> None:
        """The daemon of this node starts."""
        self.seats[name] = SeatKeeper(
            me=name,
            store=MemoryStore(self.database.database),
            admin=self.members,
            mirror=self.mirrors[name],
            process=self.processes[name],
            note=SeatFile(self.folder / f"{name}.seat"),
            shortage=lambda: self._shortage(name),
        )

    def _shortage(self, name: NodeName) -> DiskFull | None:
        found = self.shortages.get(name)
        if isinstance(found, OSError):
            raise found
        return found

    def new_voter_keeper(self) -> VoterKeeper:
        """Somebody begins to coordinate."""
        store = MemoryStore(self.database.database)
        return VoterKeeper(
            me=A,
            store=store if self.killer is None else self.killer.around(store),
            admin=self.members,
            mirror=self.mirrors[A],
            clock=self.clock,
            events=EventLog(A, self.clock),
            is_heard=lambda node: node not in self.silent,
        )

    def snapshot(self) -> Snapshot:
        """The database as it is."""
        return self.database.snapshot()

    async def round(self) -> None:
        """One round of everybody."""
        self.clock.now_ms += ROUND_MS
        for name, seat in list(self.seats.items()):
            self.mirrors[name].snapshot = self.snapshot()
            try:
                await seat._round()
            except Killed:
                self.start_seat(name)
            self.members.check()
            self.report(name)
        self.mirrors[A].snapshot = self.snapshot()
        try:
            await self.voters._round()
        except Killed:
            self.voters = self.new_voter_keeper()
        self.members.check()

    def report(self, name: NodeName) -> None:
        """What a node says of its seat."""
        report = NodeReport(
            node=name,
            incarnation=incarnation(name),
            capacity=Capacity(memory_bytes=0, vcpus=0),
            hears={},
            seat=self.seats[name].seat,
        )
        self.database.put(report_key(name), report)

    async def settle(self) -> None:
        """Rounds until nothing has changed for twice as long as a learner waits for its vote."""
        quiet, before = 0, None
        for _ in range(ROUNDS):
            await self.round()
            now = dict(self.members.known), [(seat.seat, name) for name, seat in self.seats.items()]
            quiet, before = (quiet + 1 if now == before else 0), now
            if quiet * ROUND_MS > 2 * (SETTLE_MS + ROUND_MS):
                return

    def leave(self, name: NodeName) -> None:
        """Have a node leave."""
        self.database.node(replace(self.snapshot().nodes[name].value, is_leaving=True))

    def votes(self) -> str:
        """Who votes, as the records say; each must be what the members say, and its member must run."""
        nodes = self.snapshot().nodes
        assert {node.value.seat for node in nodes.values() if node.value.is_voter} == set(self.members.voters)
        assert set(self.members.voters) == set(self.members.known)
        voting = [name for name in sorted(nodes) if nodes[name].value.is_voter]
        for name in voting:
            member = nodes[name].value.seat
            assert member is not None
            assert self.seats[name].seat == Seat(member=member, state=SeatState.RUNNING)
        for name in nodes.keys() - set(voting):
            assert self.seats[name].seat is None
            assert not (self.folder / name).exists(), "what was given up is cleared"
        return "".join(voting)

    def told(self) -> list[tuple[EventCode, str, str]]:
        """What happened to votes, as the events say: what, whose, and why."""
        items = self.database.database.listing(EVENTS).items
        events = (decode(Event, item.key, item.value) for item in items)
        return [(event.code, event.subject, event.reasons[0].code) for event in events]


KILLS, FEWER = range(41), range(34)


@pytest.mark.parametrize("at", KILLS)
async def test_one_voter_becomes_three_whoever_is_killed_when(tmp_path: Path, at: int) -> None:
    world = World(tmp_path, "abc")
    world.members.killer = Killer(at)
    world.voters = world.new_voter_keeper()
    await world.settle()
    assert world.votes() == "abc"
    assert world.told() == [(EventCode.VOTE_GIVEN, name, ReasonCode.VOTES_TO_SPREAD) for name in "bc"]


@pytest.mark.parametrize("at", FEWER)
async def test_the_only_voter_hands_its_vote_on_and_leaves_whoever_is_killed_when(tmp_path: Path, at: int) -> None:
    world = World(tmp_path, "ab")
    await world.settle()
    assert world.votes() == "a"
    world.leave(A)
    world.members.killer = Killer(at)
    world.voters = world.new_voter_keeper()
    await world.settle()
    assert world.votes() == "b"


@pytest.mark.parametrize("at", FEWER)
async def test_one_of_three_voters_is_replaced_before_it_leaves_whoever_is_killed_when(tmp_path: Path, at: int) -> None:
    world = World(tmp_path, "abcd")
    await world.settle()
    assert world.votes() == "abc"
    world.leave(A)
    world.members.killer = Killer(at)
    world.voters = world.new_voter_keeper()
    least = 3
    for _ in range(ROUNDS):
        await world.round()
        least = min(least, len(world.members.voters))
    assert world.votes() == "bcd"
    assert least == 3, "another one votes before it goes"
    assert world.told()[2:] == [
        (EventCode.VOTE_GIVEN, "d", ReasonCode.VOTES_TO_SPREAD),
        (EventCode.VOTE_TAKEN, "a", ReasonCode.VOTER_LEAVES),
    ], "once each, also when the answer never came or the next coordinator finds it"


@pytest.mark.parametrize("at", FEWER)
async def test_a_node_that_comes_back_gets_another_member_whoever_is_killed_when(tmp_path: Path, at: int) -> None:
    world = World(tmp_path, "ab")
    world.leave(A)
    await world.settle()
    assert world.votes() == "b"
    world.database.node(replace(world.snapshot().nodes[A].value, is_leaving=False))
    world.leave(B)
    world.members.killer = Killer(at)
    world.voters = world.new_voter_keeper()
    await world.settle()
    assert world.votes() == "a"
    assert world.snapshot().nodes[A].value.seat == 3


async def test_what_holds_up_the_vote_of_a_node_that_leaves_is_said_until_it_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path, "abc")
    await world.settle()
    world.database.end_session(B)
    world.database.end_session(NodeName("c"))
    world.leave(A)
    assert world.voters.conditions() == ()
    await world.settle()
    (condition,) = world.voters.conditions()
    assert (condition.code, condition.subject) == ("vote-stays", A)
    assert "of those who would vote without a 2 are needed to decide and 0 are up (down: b, c)" in condition.text
    world.report(A)
    report = replace(world.snapshot().reports[A].value, conditions=(condition,))
    world.database.put(report_key(A), report)
    assert why_vote_stays(world.snapshot(), A) == condition.text
    assert why_vote_stays(world.snapshot(), B) is None
    world.database.up(session("b"))
    world.database.up(session("c"))
    await world.settle()
    assert "a" not in world.votes()
    assert world.voters.conditions() == ()


async def test_a_vote_that_waits_for_a_learner_or_for_the_end_of_a_freeze_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, "ab")
    await world.settle()
    world.seats.pop(B)
    world.leave(A)
    found = set()
    for _ in range(10):
        await world.round()
        found |= {condition.text for condition in world.voters.conditions()}
    assert found == {"the vote of a stays for now: b has to catch up with the database before it votes in its place"}
    before = world.snapshot().cluster
    assert before is not None
    world.database.put(CLUSTER, replace(before.value, frozen=Freeze(by="Ada", reason="switches", at_ms=1)))
    await world.round()
    assert [condition.text for condition in world.voters.conditions()] == [
        "the vote of a stays for now: the cluster is frozen, and votes do not move then"
    ]


async def test_safe_4_no_vote_is_taken_back_in_reliance_on_a_member_that_has_just_died(tmp_path: Path) -> None:
    """Its node still reports it as running, and etcd would remove the other one: of two it lets one be enough."""
    world = World(tmp_path, "abc")
    await world.settle()
    seats = {name: world.snapshot().nodes[name].value.seat for name in (A, B)}
    world.leave(B)
    world.mirrors[A].snapshot = world.snapshot()
    died = next(one for one in world.members.voters if one not in seats.values())
    world.members.running.discard(died)
    await world.voters._round()
    assert len(world.members.voters) == 3
    assert world.voters.waits_for is not None
    assert "of the 2 members of the cluster database that would vote then, 1 answer now" in world.voters.waits_for
    world.members.running.add(died)
    await world.settle()
    assert "b" not in world.votes()


async def test_safe_4_what_is_decided_on_is_read_after_the_database_was_asked(tmp_path: Path) -> None:
    """Without a leader it answers late, and what the nodes say of their members is another by then."""
    world = World(tmp_path, "abc")
    await world.settle()
    world.leave(B)
    world.mirrors[A].snapshot = world.snapshot()
    members = world.members.members

    async def late(*, timeout_s: float | None = None) -> tuple[Member, ...]:
        died = NodeName("c")
        report = world.snapshot().reports[died].value
        assert report.seat is not None
        world.database.put(report_key(died), replace(report, seat=replace(report.seat, state=SeatState.DOWN)))
        world.mirrors[A].snapshot = world.snapshot()
        return await members(timeout_s=timeout_s)

    world.members.members = late  # type: ignore[method-assign]  # the answer takes its time
    await world.voters._round()
    assert world.snapshot().nodes[B].value.seat in world.members.voters


class Refusing(SimulatedMembers):
    """A database that lets nobody go, and counts who asks."""

    asked = 0

    async def remove(self, member: MemberId, *, timeout_s: float | None = None) -> None:
        """Never."""
        self.asked += 1
        raise MemberChangeRefused("unhealthy cluster", hint="")


def test_a_change_that_is_refused_is_tried_once_a_second_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    VirtualLoop().run_until_complete(ask_in_vain(tmp_path, seconds=10))  # type: ignore[abstract]  # as in the world


async def ask_in_vain(folder: Path, *, seconds: float) -> None:
    world = World(folder, "abc")
    await world.settle()
    world.members.__class__ = Refusing
    assert isinstance(world.members, Refusing)
    world.leave(B)
    async with asyncio.TaskGroup() as tasks:
        working = [
            tasks.create_task(world.mirrors[A].run(MemoryStore(world.database.database))),
            tasks.create_task(world.voters.run()),
        ]
        await asyncio.sleep(seconds)
        for task in working:
            task.cancel()
    assert seconds / 2 <= world.members.asked <= seconds


async def test_a_voter_whose_disk_fills_warns_before_its_member_ends(tmp_path: Path) -> None:
    world = World(tmp_path, "abc")
    await world.settle()
    seat = world.seats[B]
    assert seat.conditions() == ()
    world.shortages[B] = DiskFull("3 bytes free")
    (condition,) = seat.conditions()
    assert (condition.code, condition.subject) == ("database-disk-full", B)
    assert condition.text.endswith("database runs and would not start again: 3 bytes free")
    world.shortages[B] = OSError(errno.EIO, "Input/output error")
    (condition,) = seat.conditions()
    assert condition.text.endswith("would not start again: its disk does not say how full it is: Input/output error")
    world.processes[B].problem = DiskFull("2 bytes free")
    (condition,) = seat.conditions()
    assert condition.code == "database-disk-full"
    assert condition.text.endswith("database does not run: 2 bytes free")
    world.processes[B].problem = MemberExited("it crashed")
    assert [one.code for one in seat.conditions()] == ["database-member-down"]


@pytest.mark.parametrize("is_seat_gone", [False, True])
async def test_safe_4_a_voter_without_its_data_never_runs_again(tmp_path: Path, *, is_seat_gone: bool) -> None:
    world = World(tmp_path, "abc")
    await world.settle()
    lost = world.snapshot().nodes[B].value.seat
    await world.processes[B].stop()
    rmtree(tmp_path / B)
    if is_seat_gone:
        (tmp_path / "b.seat").unlink()
    world.start_seat(B)
    await world.settle()
    assert world.votes() == "abc"
    assert world.snapshot().nodes[B].value.seat not in (lost, None)


async def test_safe_4_a_voter_on_an_older_copy_of_its_data_never_runs_again(tmp_path: Path) -> None:
    world = World(tmp_path, "abc")
    await world.settle()
    lost = world.snapshot().nodes[B].value.seat
    await world.processes[B].stop()
    world.processes[B].is_older = True
    world.start_seat(B)
    await world.settle()
    assert world.votes() == "abc"
    assert world.snapshot().nodes[B].value.seat not in (lost, None)


async def test_the_kills_reach_every_step(tmp_path: Path) -> None:
    world = World(tmp_path, "abc")
    world.members.killer = Killer(KILLS[-1])
    world.voters = world.new_voter_keeper()
    await world.settle()
    assert not world.members.killer.has_killed, "more steps than kills: raise KILLS"


async def test_safe_4_a_member_that_is_called_at_an_address_of_another_node_keeps_its_seat(tmp_path: Path) -> None:
    world = World(tmp_path, "abc")
    await world.settle()
    snapshot = world.snapshot()
    b, member = snapshot.nodes[B].value, MemberId(snapshot.nodes[B].value.seat or 0)
    world.database.node(node_spec("0", is_voter=False, addresses={NetworkName("net"): "192.0.2.9"}))
    await world.members.use_peer_urls(member, ("https://192.0.2.9:2380", *peer_urls(b)))
    (found,) = (one for one in seated(world.snapshot(), world.members.known.values()) if one.id == member)
    assert found.node == B
    world.database.node(replace(b, seat=None))
    (found,) = (one for one in seated(world.snapshot(), world.members.known.values()) if one.id == member)
    assert found.node is None
    before = world.snapshot().nodes, dict(world.members.known)
    for _ in range(3):
        await world.round()
    assert (world.snapshot().nodes, world.members.known) == before, "a seat or a vote moved"
    (told,) = world.voters.conditions()
    assert (told.code, told.subject) == ("member-of-two-nodes", f"{member:x}")
    await world.members.use_peer_urls(member, peer_urls(b))
    await world.round()
    assert world.voters.conditions() == ()
    assert world.snapshot().nodes[B].value.seat == member
