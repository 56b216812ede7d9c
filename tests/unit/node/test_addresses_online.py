"""Heartbeats of three nodes whose networks change under way: nobody is silent for longer than between two of them."""

from __future__ import annotations

import asyncio
from uuid import UUID

from tests.unit.decide.made_up import node_spec
from tests.unit.node.one_machine import LoopClock
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.replay import Sequences
from holdfast.membership.simulated_transport import SimulatedNetworks
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName
from holdfast.model.nodes import NodeSpec
from holdfast.node.hearing import Hearing
from holdfast.node.heartbeats import Heartbeats
from holdfast.node.mirror import Mirror
from holdfast.store.memory import MemoryStore

A, B, S = (NetworkName(name) for name in ("cluster-a", "cluster-b", "storage"))
ID = ClusterId("6a3f0f5e-0000-4000-8000-000000000001")
NAMES = [NodeName(name) for name in "abc"]


def ip(name: NodeName, network: NetworkName) -> str:
    return f"10.0.{(A, B, S).index(network)}.{NAMES.index(name) + 1}"


def spec(name: NodeName, *networks: NetworkName) -> NodeSpec:
    return node_spec(name, addresses={network: ip(name, network) for network in networks})


class Cluster:
    """Three voices on one database."""

    def __init__(self) -> None:
        self.database = SmallDatabase()
        self.networks = SimulatedNetworks()
        peers = {name: spec(name, A, B) for name in NAMES}
        for one in peers.values():
            self.database.node(one)
        self.hearing = {name: Hearing(name, (A, B)) for name in NAMES}
        self.longest_ms = 0
        self.mirrors = {name: Mirror() for name in NAMES}
        self.voices = {name: self._voice(name, peers) for name in NAMES}

    def _voice(self, me: NodeName, peers: dict[NodeName, NodeSpec]) -> Heartbeats:
        own = {net: Endpoint(address=ip(me, net), port=peers[me].heartbeat_port) for net in (A, B)}
        return Heartbeats(
            cluster_id=ID,
            me=me,
            incarnation=incarnation(me),
            hearing=self.hearing[me],
            codec=HeartbeatCodec(cluster_id=ID, cluster_key=bytes(32), networks=[A, B]),
            transport=self.networks.transport(own),
            sequences=Sequences(LoopClock().monotonic_ms),
            mirror=self.mirrors[me],
            clock=LoopClock(),
            peers=peers,
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name in NAMES:
                tasks.create_task(self.mirrors[name].run(MemoryStore(self.database.database)))
                tasks.create_task(self.voices[name].run())

    async def watch(self, time_s: float) -> None:
        """Let time pass, and keep the longest silence of any node to any other, on whatever networks they share."""
        until = asyncio.get_running_loop().time() + time_s
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
            for me in NAMES:
                for other in NAMES:
                    if me != other:
                        self.longest_ms = max(self.longest_ms, min(self.silent(me, other).values()))

    def silent(self, me: NodeName, other: NodeName) -> dict[NetworkName, int]:
        return self.hearing[me].silent_ms(other, incarnation(other), LoopClock().monotonic_ms())


def incarnation(name: NodeName) -> Incarnation:
    return Incarnation(str(UUID(int=NAMES.index(name) + 1)))


@virtual
async def test_a_network_is_added_and_another_removed_node_by_node_without_a_silence() -> None:
    cluster = Cluster()
    running = asyncio.create_task(cluster.run())
    now_ms = LoopClock().monotonic_ms()
    for me in NAMES:
        cluster.hearing[me].expect([(other, incarnation(other)) for other in NAMES if other != me], now_ms)
    await cluster.watch(1)
    for name in NAMES:
        cluster.database.node(spec(name, A, B, S))
        await cluster.watch(0.7)
    assert all(set(cluster.silent(me, other)) == {A, B, S} for me in NAMES for other in NAMES if me != other)
    for name in NAMES:
        cluster.database.node(spec(name, B, S))
        await cluster.watch(0.7)
    assert cluster.longest_ms <= 220
    for me in NAMES:
        for other in NAMES:
            if me != other:
                assert set(cluster.silent(me, other)) == {B, S}
                assert max(cluster.silent(me, other).values()) <= 220
        assert cluster.voices[me].conditions() == ()
    running.cancel()


@virtual
async def test_a_new_address_is_sent_to_and_from_as_soon_as_each_node_knows_it() -> None:
    cluster = Cluster()
    running = asyncio.create_task(cluster.run())
    for me in NAMES:
        cluster.hearing[me].expect([(other, incarnation(other)) for other in NAMES if other != me], 0)
    await cluster.watch(1)
    moved = node_spec("a", addresses={A: "10.9.0.1", B: ip(NAMES[0], B)})
    cluster.database.node(moved)
    await cluster.watch(1)
    cluster.networks.unplug(B, ip(NAMES[0], B))
    await asyncio.sleep(1)
    assert cluster.silent(NAMES[1], NAMES[0])[A] <= 220
    assert cluster.silent(NAMES[0], NAMES[1])[A] <= 220
    assert cluster.longest_ms <= 220
    running.cancel()
