"""The simulated networks misbehave exactly as they are told."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.port import DatagramReceived, LinkChanged, LinkState, PeerUnreachable, TransportEvent
from holdfast.membership.simulated_transport import SimulatedNetworks, SimulatedTransport, Weather, clear_weather
from holdfast.model.ids import NetworkName

NET = NetworkName("cluster-a")
ONE, TWO, THREE = (Endpoint(address=f"10.0.0.{number}", port=7405) for number in (1, 2, 3))


class World:
    """Two nodes on one network, and what each was told."""

    def __init__(self, weather: Weather = clear_weather) -> None:
        self.networks = SimulatedNetworks(weather)
        self.events: dict[Endpoint, list[TransportEvent]] = {ONE: [], TWO: []}
        self.transports: dict[Endpoint, SimulatedTransport] = {}

    async def open(self) -> World:
        for endpoint, events in self.events.items():
            self.transports[endpoint] = self.networks.transport({NET: endpoint})
            await self.transports[endpoint].open(events.append)
            events.clear()
        return self

    async def send(self, *datagrams: bytes, to: Endpoint = TWO) -> list[bytes]:
        source = TWO if to == ONE else ONE
        for datagram in datagrams:
            self.transports[source].send(NET, [to], datagram)
        await asyncio.sleep(0.03)
        return [event.datagram for event in self.events.get(to, []) if isinstance(event, DatagramReceived)]


@pytest.mark.parametrize(
    ("delays_ms", "arrived"),
    [
        ({b"1": (), b"2": (0,)}, [b"2"]),
        ({b"1": (0, 0), b"2": (0,)}, [b"1", b"1", b"2"]),
        ({b"1": (15,), b"2": (0,)}, [b"2", b"1"]),
    ],
    ids=["loss", "duplication", "reordering"],
)
async def test_weather(delays_ms: dict[bytes, tuple[int, ...]], arrived: list[bytes]) -> None:
    world = await World(lambda _network, _source, _target, datagram: delays_ms[datagram]).open()
    assert await world.send(b"1", b"2") == arrived


async def test_a_cut_is_silent_and_one_way_until_it_heals() -> None:
    world = await World().open()
    world.networks.cut(NET, ONE.address, TWO.address)
    assert await world.send(b"lost") == []
    assert await world.send(b"back", to=ONE) == [b"back"]
    world.networks.heal(NET, ONE.address, TWO.address)
    assert await world.send(b"again") == [b"again"]


async def test_a_datagram_on_its_way_is_lost_when_the_cable_is_pulled() -> None:
    world = await World(lambda *_: (10,)).open()
    world.transports[ONE].send(NET, [TWO], b"late")
    world.networks.unplug(NET, TWO.address)
    assert await world.send() == []


async def test_an_unplugged_node_sees_its_carrier_go_and_the_other_sees_nothing() -> None:
    world = await World().open()
    world.networks.unplug(NET, TWO.address)
    assert await world.send(b"lost") == []
    assert world.events[ONE] == []
    world.networks.plug(NET, TWO.address)
    states = [event.state for event in world.events[TWO] if isinstance(event, LinkChanged)]
    assert states == [LinkState.NO_CARRIER, LinkState.UP]
    assert await world.send(b"again") == [b"again"]


async def test_a_dead_machine_is_silent_where_a_stopped_daemon_is_answered_for() -> None:
    world = await World().open()
    await world.send(b"?", to=THREE)
    assert [type(event) for event in world.events[ONE]] == [PeerUnreachable]
    world.networks.unplug(NET, THREE.address)
    await world.send(b"?", to=THREE)
    assert len(world.events[ONE]) == 1
