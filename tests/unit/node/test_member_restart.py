"""A member of the database starts again by a person's word: one at a time, and while the others decide without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.unit.decide.made_up import incarnation, node_spec
from tests.unit.node.simulated_members import SimulatedMembers
from tests.unit.node.test_maintenance_requests import A, B, Desk, desk
from tests.unit.node.virtual_time import virtual

from holdfast.membership.endpoint import Endpoint
from holdfast.model.errors import Conflict, HoldfastError, NotFound, Refused
from holdfast.model.ids import NetworkName, NodeName
from holdfast.model.nodes import Capacity, NodeReport, Seat, SeatState
from holdfast.node.line_protocol import Result
from holdfast.node.member_calls import MemberCalls
from holdfast.node.member_restart import MemberRestart
from holdfast.node.transactions import Self
from holdfast.node.voters import peer_urls
from holdfast.store.records import MEMBER_RESTART, report_key, session_key

OLD, NEW = NetworkName("cluster-a"), NetworkName("storage")


class Place:
    """Three voters, each with a new address; the member of the first began before that."""

    def __init__(self, here: Desk) -> None:
        self.here, self.members = here, SimulatedMembers()
        self.listening, self.restarts, self.takes_s = {"10.0.0.1"}, 0, 1.0
        for number, name in enumerate("abc", 1):
            spec = node_spec(name, addresses={OLD: f"10.0.0.{number}", NEW: f"10.0.2.{number}"})
            member = int(self.members.found(peer_urls(spec)[:1]))
            here.node(name, addresses=spec.addresses, seat=member)
            self.says(NodeName(name), Seat(member=member, state=SeatState.RUNNING))
        self.calls = MemberCalls(
            me=A,
            store=here.store,
            mirror=here.life.mirror,
            members=self.members,
            listens=self._listens,
            restart=self._restart,
        )

    def says(self, name: NodeName, seat: Seat) -> None:
        """What a node reports of its member."""
        capacity = Capacity(memory_bytes=0, vcpus=0)
        report = NodeReport(node=name, incarnation=incarnation(name), capacity=capacity, hears={}, seat=seat)
        self.here.database.put(report_key(name), report)

    def session(self) -> Self:
        """That of the first node."""
        held = self.here.database.database.get(session_key(A))
        assert held is not None
        return Self(node=A, created=held.create_revision, lease=held.lease)  # type: ignore[arg-type]

    async def ask(self, name: str = "a") -> Any:
        """A person asks on the first node."""
        requests = MemberRestart(self.here.commits, self.calls, self.session)
        (answer,) = [item async for item in requests.handle("quorum.restart", {"node": name})]
        assert isinstance(answer, Result)
        return answer.value

    def is_taken(self) -> bool:
        """Whether the database says that a member starts again."""
        return self.here.database.database.get(MEMBER_RESTART) is not None

    async def _listens(self, end: Endpoint) -> bool:
        return end.address in self.listening

    async def _restart(self) -> None:
        assert self.is_taken(), "others could do the same"
        self.restarts += 1
        await asyncio.sleep(self.takes_s)
        self.listening = {"10.0.0.1", "10.0.2.1"}


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    async with desk(a=8, b=8, c=8) as here:
        made = Place(here)
        await asyncio.sleep(0.1)
        yield made


@virtual
async def test_the_member_listens_at_the_new_address_too_and_is_called_there() -> None:
    async with place() as found:
        answer = await found.ask()
        assert answer["text"] == (
            "the member of the cluster database on a started again, and listens at 10.0.0.1, 10.0.2.1"
        )
        spec = found.here.spec(A)
        assert found.members.known[next(iter(found.members.known))].peer_urls == peer_urls(spec)
        assert "listens already at" in (await found.ask())["text"]
        assert (found.restarts, found.is_taken()) == (1, False)


@virtual
async def test_two_members_never_start_again_at_once() -> None:
    async with place() as found:
        asking = asyncio.create_task(found.ask())
        await asyncio.sleep(0.5)
        with pytest.raises(Conflict, match="starts again just now"):
            await found.ask()
        await asking
        assert (found.restarts, found.is_taken()) == (1, False)


@virtual
async def test_it_is_refused_with_the_arithmetic_while_the_others_could_not_decide() -> None:
    async with place() as found:
        found.says(B, Seat(member=2, state=SeatState.DOWN))
        await asyncio.sleep(0.1)
        with pytest.raises(Refused, match=r"of 3 votes 2 are needed .* without the member on a 1 are there \(c\)"):
            await found.ask()
        assert (found.restarts, found.is_taken()) == (0, False)


@virtual
async def test_a_member_that_has_just_started_again_is_waited_for() -> None:
    async with place() as found:
        found.says(B, Seat(member=2, state=SeatState.DOWN))
        await asyncio.sleep(0.1)
        asking = asyncio.create_task(found.ask())
        await asyncio.sleep(5)
        assert found.restarts == 0
        found.says(B, Seat(member=2, state=SeatState.RUNNING))
        await asking
        assert found.restarts == 1


REFUSED: list[tuple[str, type[HoldfastError], str]] = [
    ("b", Refused, "runs on that machine"),
    ("d", NotFound, "no node 'd'"),
]


@virtual
async def test_what_is_not_this_nodes_is_refused() -> None:
    async with place() as found:
        for name, kind, words in REFUSED:
            with pytest.raises(kind, match=words):
                await found.ask(name)
        found.members.known.clear()
        with pytest.raises(NotFound, match="a has no member"):
            await found.ask()
        assert (found.restarts, found.is_taken()) == (0, False)
