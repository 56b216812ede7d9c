"""The other members call a node's member at every address at which it listens, and at no other. Source: SAFE-4."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.decide.made_up import cluster, known, put, up
from tests.unit.node.simulated_members import SimulatedMembers
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.membership.endpoint import Endpoint
from holdfast.model.errors import Unavailable
from holdfast.model.ids import NetworkName, NodeName
from holdfast.model.nodes import Seat, SeatState
from holdfast.model.snapshot import Snapshot
from holdfast.node.member_calls import MemberCalls, listens
from holdfast.node.mirror import Mirror
from holdfast.node.voters import peer_urls
from holdfast.store.memory import MemoryStore

A = NodeName("a")
ADDRESSES = {NetworkName("cluster-b"): "10.0.1.1", NetworkName("storage"): "10.0.2.1"}


class Place:
    """Node a, whose member began on cluster-b and listens where the test says."""

    def __init__(self) -> None:
        self.members = SimulatedMembers()
        self.listening: set[str] = set()
        self.after_restart, self.restarts = tuple(ADDRESSES.values()), 0
        self.spec = cluster(known(A, addresses=ADDRESSES)).nodes[A].value
        self.id = self.members.found(peer_urls(self.spec)[:1])
        self.spec = replace(self.spec, seat=int(self.id))
        self.database = SmallDatabase()
        self.database.node(self.spec)
        self.calls = MemberCalls(
            me=A,
            store=MemoryStore(self.database.database),
            mirror=Mirror(),
            members=self.members,
            listens=self._listens,
            restart=self._restart,
        )

    async def _restart(self) -> None:
        self.restarts += 1
        self.listening = set(self.after_restart)

    async def _listens(self, end: Endpoint) -> bool:
        assert end.port == self.spec.etcd_peer_port
        return end.address in self.listening

    def snapshot(self, state: SeatState = SeatState.RUNNING, member: int | None = None) -> Snapshot:
        seat = Seat(member=int(self.id) if member is None else member, state=state)
        return cluster(known(A), put("nodes", A, self.spec), up(A, seat=seat))

    def urls(self) -> tuple[str, ...]:
        return self.members.known[self.id].peer_urls


async def test_a_member_is_called_at_a_new_address_once_it_listens_there() -> None:
    place = Place()
    began = place.urls()
    await place.calls.round(place.snapshot())
    assert place.urls() == began
    place.listening = set(ADDRESSES.values())
    for state in (SeatState.DOWN, SeatState.LOST, SeatState.BEGINNING):
        await place.calls.round(place.snapshot(state))
    await place.calls.round(place.snapshot(member=77))
    assert place.urls() == began
    await place.calls.round(place.snapshot())
    assert place.urls() == peer_urls(place.spec)
    await place.calls.round(place.snapshot())
    assert place.urls() == peer_urls(place.spec)


async def test_a_member_starts_again_only_if_it_does_not_listen_everywhere_and_is_called_there_then() -> None:
    place = Place()
    assert await place.calls.restart(int(place.id), place.spec)
    assert place.urls() == peer_urls(place.spec)
    await place.members.use_peer_urls(place.id, place.urls()[:1])
    assert not await place.calls.restart(int(place.id), place.spec)
    assert (place.urls(), place.restarts) == (peer_urls(place.spec), 1)


@virtual
async def test_a_member_that_does_not_come_up_everywhere_is_told() -> None:
    place = Place()
    place.after_restart = place.after_restart[:1]
    began = place.urls()
    with pytest.raises(Unavailable, match="does not listen everywhere after 30 s"):
        await place.calls.restart(int(place.id), place.spec)
    assert place.urls() == began


async def test_safe_4_an_address_that_the_record_gave_up_is_called_no_more_and_one_always_is() -> None:
    """As when it was added again between the request that took it away and the record."""
    place = Place()
    gone = "https://10.0.0.1:2380"
    await place.members.use_peer_urls(place.id, (gone, *place.urls()))
    await place.calls.round(place.snapshot())
    assert place.urls() == peer_urls(place.spec)[:1]
    await place.members.use_peer_urls(place.id, (gone,))
    await place.calls.round(place.snapshot())
    assert place.urls() == (gone,)


async def test_safe_4_what_the_record_has_given_up_does_not_come_back_by_a_mirror_that_is_behind() -> None:
    place = Place()
    place.listening = set(ADDRESSES.values())
    behind = place.snapshot()
    storage = NetworkName("storage")
    place.database.node(replace(place.spec, addresses={storage: ADDRESSES[storage]}))
    await place.calls.round(behind)
    assert place.urls() == ("https://10.0.2.1:2380",)


async def test_what_listens_is_tried() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await listens(Endpoint(address="127.0.0.1", port=port))
    server.close()
    await server.wait_closed()
    assert not await listens(Endpoint(address="127.0.0.1", port=port))


async def test_what_listens_is_tried_from_the_address_itself_which_only_this_machine_can() -> None:
    callers: list[str] = []

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.2", 0)
    assert await listens(Endpoint(address="127.0.0.2", port=server.sockets[0].getsockname()[1]))
    await asyncio.sleep(0.05)
    assert callers == ["127.0.0.2"]
    server.close()
    await server.wait_closed()
