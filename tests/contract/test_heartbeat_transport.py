"""What every `HeartbeatTransport` promises, on the simulated networks and on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import pytest

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.errors import PortTaken
from holdfast.membership.port import (
    DatagramReceived,
    HeartbeatTransport,
    LinkChanged,
    LinkState,
    PeerUnreachable,
    TransportEvent,
    Unreachable,
)
from holdfast.membership.simulated_transport import SimulatedNetworks
from holdfast.membership.udp_transport import UdpTransport
from holdfast.model.ids import NetworkName

A, B = NetworkName("cluster-a"), NetworkName("cluster-b")
NETWORKS = (A, B)
Endpoints = Mapping[NetworkName, Endpoint]
T = TypeVar("T")


class Node:
    """A transport with what it delivered."""

    def __init__(self, transport: HeartbeatTransport, endpoints: Endpoints) -> None:
        self.transport = transport
        self.endpoints = endpoints
        self.events: list[TransportEvent] = []
        self._arrived = asyncio.Event()

    def handle(self, event: TransportEvent) -> None:
        self.events.append(event)
        self._arrived.set()

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()


class World:
    """Three nodes that can be opened, with two networks each."""

    def __init__(self, make: Callable[[Endpoints], HeartbeatTransport]) -> None:
        self._make = make
        self._port = free_port()
        self.opened: list[HeartbeatTransport] = []

    def endpoints(self, number: int) -> Endpoints:
        return {
            network: Endpoint(address=f"127.{10 + index}.0.{number}", port=self._port)
            for index, network in enumerate(NETWORKS)
        }

    async def open(self, number: int, *, only: NetworkName | None = None) -> Node:
        endpoints = {network: e for network, e in self.endpoints(number).items() if only in {None, network}}
        node = Node(self._make(endpoints), endpoints)
        self.opened.append(node.transport)
        await node.transport.open(node.handle)
        return node


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(params=["simulated", "udp"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made = World(SimulatedNetworks().transport if request.param == "simulated" else UdpTransport)
    yield made
    for transport in made.opened:
        await transport.close()


async def test_the_state_of_each_network_is_told_first(world: World) -> None:
    node = await world.open(1)
    links = node.of(LinkChanged)
    assert [(link.network, link.state) for link in links] == [(A, LinkState.UP), (B, LinkState.UP)]
    assert all(link.interface for link in links)


async def test_datagrams_arrive_whole_on_their_network_with_their_source(world: World) -> None:
    one, two = await world.open(1), await world.open(2)
    sent = {A: bytes(range(256)) * 4, B: b"x"}
    for network, datagram in sent.items():
        one.transport.send(network, [two.endpoints[network]], datagram)
    await two.wait(lambda: len(two.of(DatagramReceived)) == 2)
    for got in two.of(DatagramReceived):
        assert got.datagram == sent[got.network]
        assert got.source == one.endpoints[got.network]
    assert one.of(DatagramReceived) == []


async def test_a_closed_port_is_reported_with_the_peer_it_belongs_to(world: World) -> None:
    one = await world.open(1)
    absent = world.endpoints(3)[B]
    one.transport.send(B, [absent], b"are you there?")
    await one.wait(lambda: bool(one.of(PeerUnreachable)))
    assert one.of(PeerUnreachable) == [
        PeerUnreachable(network=B, peer=absent, answer=Unreachable.PORT, reported_by=absent.address)
    ]


async def test_an_unreachable_peer_costs_no_other_peer_its_heartbeats(world: World) -> None:
    one, two = await world.open(1), await world.open(2)
    absent = world.endpoints(3)[A]
    for number in range(20):
        one.transport.send(A, [absent], b"lost")
        one.transport.send(A, [two.endpoints[A]], bytes([number]))
        await asyncio.sleep(0.002)
    await two.wait(lambda: len(two.of(DatagramReceived)) == 20)
    await one.wait(lambda: len(one.of(PeerUnreachable)) == 20)


async def test_a_burst_is_taken_in_order(world: World) -> None:
    one, two = await world.open(1), await world.open(2)
    for number in range(100):
        one.transport.send(A, [two.endpoints[A]], number.to_bytes(2))
    await two.wait(lambda: len(two.of(DatagramReceived)) == 100)
    assert [int.from_bytes(got.datagram) for got in two.of(DatagramReceived)] == list(range(100))


async def test_a_taken_port_is_refused_by_name_and_nothing_stays_open(world: World) -> None:
    on_b = await world.open(1, only=B)
    with pytest.raises(PortTaken, match=str(world.endpoints(1)[B])):
        await world.open(1)
    await world.open(1, only=A)
    await on_b.transport.close()
    await world.open(1, only=B)


async def test_nothing_is_delivered_after_close_and_closing_twice_is_allowed(world: World) -> None:
    one, two = await world.open(1), await world.open(2)
    one.transport.send(A, [two.endpoints[A]], b"on its way")
    await two.transport.close()
    await two.transport.close()
    before = list(two.events)
    two.transport.send(A, [one.endpoints[A]], b"dropped")
    await asyncio.sleep(0.05)
    assert two.events == before
    assert one.of(DatagramReceived) == []


async def test_what_waited_while_the_loop_was_held_up_arrives_before_timers_fire(world: World) -> None:
    one, two = await world.open(1), await world.open(2)
    known_at_timer: list[int] = []
    one.transport.send(A, [two.endpoints[A]], b"in time")
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, lambda: known_at_timer.append(len(two.of(DatagramReceived))))
    time.sleep(0.05)  # noqa: ASYNC251  # holding up the loop is the point
    await two.wait(lambda: bool(two.of(DatagramReceived)))
    await asyncio.sleep(0)
    assert known_at_timer == [1]


async def test_a_network_comes_and_goes_while_the_other_one_goes_on(world: World) -> None:
    one, two = await world.open(1), await world.open(2, only=A)
    two.transport.use(world.endpoints(2))
    assert [(link.network, link.state) for link in two.of(LinkChanged)] == [(A, LinkState.UP), (B, LinkState.UP)]
    for network in NETWORKS:
        one.transport.send(network, [world.endpoints(2)[network]], str(network).encode())
    await two.wait(lambda: len(two.of(DatagramReceived)) == 2)
    two.transport.use({B: world.endpoints(2)[B]})
    one.transport.send(A, [world.endpoints(2)[A]], b"nobody is there")
    await one.wait(lambda: bool(one.of(PeerUnreachable)))
    two.transport.send(B, [one.endpoints[B]], b"still here")
    await one.wait(lambda: [got.datagram for got in one.of(DatagramReceived)] == [b"still here"])
    assert len(two.of(DatagramReceived)) == 2


async def test_an_address_changes_on_its_network(world: World) -> None:
    one, two = await world.open(1), await world.open(2)
    two.transport.use({A: two.endpoints[A], B: world.endpoints(3)[B]})
    one.transport.send(B, [world.endpoints(3)[B]], b"there")
    await two.wait(lambda: [got.datagram for got in two.of(DatagramReceived)] == [b"there"])
    two.transport.send(B, [one.endpoints[B]], b"from there")
    await one.wait(lambda: bool(one.of(DatagramReceived)))
    assert one.of(DatagramReceived)[0].source == world.endpoints(3)[B]


async def test_a_new_address_that_somebody_has_is_told_and_is_no_error(world: World) -> None:
    await world.open(3, only=B)
    two = await world.open(2, only=A)
    two.transport.use({A: two.endpoints[A], B: world.endpoints(3)[B]})
    assert two.of(LinkChanged)[-1].state is LinkState.PORT_TAKEN
    two.transport.send(B, [world.endpoints(1)[B]], b"from nowhere")
