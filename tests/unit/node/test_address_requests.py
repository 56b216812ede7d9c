"""Addresses of a node as a person changes them: tried on the machine, forgotten by the members, then recorded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.unit.decide.made_up import node_spec
from tests.unit.node.simulated_members import SimulatedMembers
from tests.unit.node.test_join_port import join_port
from tests.unit.node.test_maintenance_requests import A, B, Desk, desk
from tests.unit.node.virtual_time import virtual

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat import Heartbeat
from holdfast.model.errors import Conflict, HoldfastError, InvalidInput, NotFound, Refused
from holdfast.model.ids import ClusterId, NetworkName, NodeName, Revision
from holdfast.model.nodes import Capacity, NodeReport, NodeSpec, Seat, SeatState
from holdfast.model.snapshot import Versioned
from holdfast.node.address_requests import AddressRequests, try_addresses
from holdfast.node.line_protocol import Result
from holdfast.node.member_calls import MemberCalls
from holdfast.node.voters import peer_urls
from holdfast.store.port import MemberId

X, Y, S = (NetworkName(name) for name in ("cluster-a", "cluster-b", "storage"))
PORT = node_spec("a").heartbeat_port


class SlowMembers(SimulatedMembers):
    """Members whose answer to a change takes a moment."""

    async def use_peer_urls(
        self, member: MemberId, peer_urls: tuple[str, ...], *, timeout_s: float | None = None
    ) -> None:
        """Changed at once, and told later."""
        await super().use_peer_urls(member, peer_urls, timeout_s=timeout_s)
        await asyncio.sleep(0.2)


class Place:
    """Node a with its member of the database, and b, which is heard on both networks."""

    def __init__(self, here: Desk) -> None:
        self.here = here
        self.members = SlowMembers()
        self.tried: list[Mapping[str, str]] = []
        self.missing = ""
        self.meanwhile: Callable[[], object] = lambda: None
        """What another node commits and this one's mirror does not show yet."""
        own, other = spec("a", 1), spec("b", 2)
        self.seat = self.members.found(peer_urls(own))
        here.database.node(spec("a", 1, seat=int(self.seat)))
        here.database.node(other)
        self.heard(1, X, Y)
        self.calls = MemberCalls(
            me=A,
            store=here.commits.store,
            mirror=here.life.mirror,
            members=self.members,
            listens=self._listens,
            restart=self._restart,
        )

    async def _listens(self, end: Endpoint) -> bool:
        return True

    async def _restart(self) -> None:
        raise AssertionError("a change of addresses restarts nothing")

    async def look_at_calls(self) -> None:
        """What `MemberCalls` does now and then, on a node that says that its member runs."""
        report = NodeReport(
            node=A,
            incarnation=self.here.database.snapshot().sessions[A].value.incarnation,
            capacity=Capacity(memory_bytes=0, vcpus=0),
            hears={},
            seat=Seat(member=int(self.seat), state=SeatState.RUNNING),
        )
        told = Versioned(value=report, revision=Revision(1), created=Revision(1))
        snapshot = self.here.database.snapshot()
        await self.calls.round(replace(snapshot, reports={**snapshot.reports, A: told}))

    def heard(self, sequence: int, *networks: NetworkName) -> None:
        incarnation = self.here.database.snapshot().sessions[B].value.incarnation
        now_ms = self.here.life.clock.monotonic_ms()
        beat = Heartbeat(
            cluster_id=ClusterId("id"),
            node=B,
            incarnation=incarnation,
            sequence=sequence,
            sent_at_ms=0,
            wall_clock_ms=0,
            quorate=True,
        )
        for network in networks:
            self.here.life.hearing.received(beat, network, now_ms)

    async def ask(self, name: str = "a", **changes: str | None) -> Any:
        requests = AddressRequests(self.here.commits, self.members, self._try, self.calls.changing)
        wanted = {network.replace("_", "-"): ip for network, ip in changes.items()}
        items = requests.handle("node.addresses", {"node": name, "addresses": wanted})
        (answer,) = [item async for item in items]
        assert isinstance(answer, Result)
        return answer.value

    def _try(self, addresses: Mapping[str, str], port: int) -> None:
        self.tried.append(dict(addresses))
        assert port == PORT
        self.meanwhile()
        if self.missing in addresses.values():
            raise InvalidInput(f"address {self.missing} is not on this machine")

    def urls(self) -> tuple[str, ...]:
        return self.members.known[self.seat].peer_urls

    def addresses(self, name: NodeName = A) -> dict[NetworkName, str]:
        return self.here.database.snapshot().nodes[name].value.addresses


def spec(name: str, number: int, **changes: Any) -> NodeSpec:
    return node_spec(name, addresses={X: f"10.0.0.{number}", Y: f"10.0.1.{number}"}, **changes)


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    async with desk(a=8, b=8) as here:
        made = Place(here)
        await asyncio.sleep(0.1)
        yield made


@virtual
async def test_a_network_is_added_and_what_follows_is_said() -> None:
    async with place() as found:
        answer = await found.ask(storage="10.0.2.1")
        assert answer["text"] == "a: heartbeats on cluster-a, cluster-b, storage (was: cluster-a, cluster-b)"
        assert found.addresses() == {X: "10.0.0.1", Y: "10.0.1.1", S: "10.0.2.1"}
        assert found.tried == [{"storage": "10.0.2.1"}]
        assert found.urls() == ("https://10.0.0.1:2380", "https://10.0.1.1:2380")


@virtual
async def test_safe_4_the_members_forget_an_address_before_the_record_gives_it_up() -> None:
    async with place() as found:
        await found.ask(cluster_a=None)
        assert (found.urls(), found.addresses()) == (("https://10.0.1.1:2380",), {Y: "10.0.1.1"})
        with pytest.raises(Refused, match="no network left"):
            await found.ask(cluster_b=None)
        await found.ask(storage="10.0.2.1")
        with pytest.raises(Refused, match="no common network"):
            await found.ask(cluster_b=None)


@virtual
async def test_safe_4_what_the_members_were_told_to_forget_does_not_come_back_before_the_record_follows() -> None:
    async with place() as found:
        asking = asyncio.create_task(found.ask(cluster_a=None))
        await asyncio.sleep(0.1)
        assert (len(found.urls()), len(found.addresses())) == (1, 2), "not between the two"
        await found.look_at_calls()
        await asking
        assert (found.urls(), found.addresses()) == (("https://10.0.1.1:2380",), {Y: "10.0.1.1"})


@virtual
async def test_nothing_changes_while_nobody_can_say_whose_a_member_is() -> None:
    async with place() as found:
        found.here.database.node(spec("a", 1))
        found.members.found(("https://10.0.0.1:2380", "https://10.0.1.2:2380"))
        await asyncio.sleep(0.1)
        with pytest.raises(Refused, match=r"addresses of two nodes: 2 \(a and b\)"):
            await found.ask(cluster_a=None)


@virtual
async def test_an_address_that_this_machine_does_not_have_changes_nothing() -> None:
    async with place() as found:
        found.missing = "10.0.2.1"
        before = found.here.database.snapshot().revision
        with pytest.raises(InvalidInput, match="not on this machine"):
            await found.ask(storage="10.0.2.1", cluster_a=None)
        assert (found.here.database.snapshot().revision, len(found.urls())) == (before, 2)


@virtual
async def test_who_is_not_heard_on_what_stays_keeps_the_network_that_works() -> None:
    async with place() as found:
        await asyncio.sleep(2)
        found.heard(2, X)
        with pytest.raises(Refused, match="a hears b on cluster-a now"):
            await found.ask(cluster_a=None)
        assert len(found.urls()) == 2


@virtual
async def test_two_nodes_that_each_drop_another_network_at_once_keep_a_common_one() -> None:
    async with place() as found:
        found.meanwhile = lambda: found.here.database.node(node_spec("b", addresses={X: "10.0.0.2"}))
        with pytest.raises(Refused, match="no common network"):
            await found.ask(cluster_a=None, storage="10.0.2.1")
        assert found.addresses() == {X: "10.0.0.1", Y: "10.0.1.1"}
        assert found.addresses(B) == {X: "10.0.0.2"}


async def later(pause_s: float, asked: Awaitable[object]) -> object:
    await asyncio.sleep(pause_s)
    return await asked


@virtual
async def test_safe_4_a_change_and_a_join_at_once_never_give_one_address_to_two_nodes() -> None:
    """Whichever of the two is sooner, by however little: the other one is refused."""
    refused = []
    with TemporaryDirectory() as folder:
        async with place() as found, join_port(Path(folder), found.here.database) as port:
            found.here.store.faults.delay_s = 0.015
            for last in range(100, 140):
                found.heard(last, X, Y)
                token, _ = await port.enrolment.create_token(3_600_000)
                address, sooner_s = f"192.0.2.{last}", (last - 120) / 200
                change = later(sooner_s, found.ask(cluster_a=address))
                join = later(-sooner_s, port.join(token, f"n{last}", last))
                both = await asyncio.gather(change, join, return_exceptions=True)
                nodes = found.here.database.snapshot().nodes.values()
                assert [address in node.value.addresses.values() for node in nodes].count(True) == 1, both
                refused += [index for index, outcome in enumerate(both) if isinstance(outcome, Conflict)]
    assert (len(refused), set(refused)) == (40, {0, 1})


REFUSED: list[tuple[str, dict[str, str | None], type[HoldfastError], str]] = [
    ("b", {"storage": "10.0.2.2"}, Refused, "only b itself can say"),
    ("c", {"storage": "10.0.2.3"}, NotFound, "no node 'c'"),
    ("a", {"storage": "10.0.1.2"}, Conflict, "belongs to node b"),
    ("a", {"storage": None}, NotFound, "no address on network storage"),
]


@virtual
async def test_what_is_refused_changes_nothing() -> None:
    async with place() as found:
        before = found.here.database.snapshot().revision
        for name, changes, kind, words in REFUSED:
            with pytest.raises(kind, match=words):
                await found.ask(name, **changes)
        assert (found.here.database.snapshot().revision, found.tried) == (before, [])


def test_the_machine_tries_the_address_and_the_port() -> None:
    try_addresses({"cluster-a": "127.0.0.1"}, 0)
    with pytest.raises(InvalidInput, match=r"192\.0\.2\.77"):
        try_addresses({"cluster-a": "192.0.2.77"}, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Conflict, match="another process has it"):
            try_addresses({"cluster-a": "127.0.0.1"}, taken.getsockname()[1])
