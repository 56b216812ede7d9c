"""Nodes of two generations of one cluster: the earlier one is told, and neither counts what the other says."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from tests.unit.decide.made_up import NOW_MS, node_spec, verdict
from tests.unit.node.one_machine import LoopClock
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.test_enrolment import ADDRESSES, request
from tests.unit.node.test_fencer import GONE, desk, with_disks
from tests.unit.node.virtual_time import virtual

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.replay import Sequences
from holdfast.membership.simulated_transport import SimulatedNetworks
from holdfast.model.errors import Conflict
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName
from holdfast.node.enrolment import check_joiner
from holdfast.node.hearing import Hearing
from holdfast.node.heartbeats import Heartbeats
from holdfast.node.mirror import Mirror

NETWORK = NetworkName("cluster-a")
PLACES = {NodeName("a"): "192.0.2.1", NodeName("b"): "192.0.2.2"}
PEERS = {name: node_spec(name, addresses={NETWORK: ip}) for name, ip in PLACES.items()}
ID = ClusterId("6a3f0f5e-0000-4000-8000-000000000001")


def voice(networks: SimulatedNetworks, name: str, generation: int) -> tuple[Heartbeats, Hearing]:
    """A node of the cluster as it was, or as it is after a restore; both have the key."""
    me = NodeName(name)
    hearing = Hearing(me, (NETWORK,))
    number = 1 if name == "a" else 2
    place = Endpoint(address=PLACES[me], port=PEERS[me].heartbeat_port)
    return (
        Heartbeats(
            cluster_id=ID,
            me=me,
            incarnation=Incarnation(str(UUID(int=number))),
            hearing=hearing,
            codec=HeartbeatCodec(cluster_id=ID, cluster_key=bytes(32), networks=[NETWORK]),
            transport=networks.transport({NETWORK: place}),
            sequences=Sequences(LoopClock().monotonic_ms),
            mirror=Mirror(),
            clock=LoopClock(),
            peers=PEERS,
            generation=generation,
        ),
        hearing,
    )


def _hears(hearing: Hearing, node: NodeName, number: int) -> bool:
    ages = hearing.silent_ms(node, Incarnation(str(UUID(int=number))), LoopClock().monotonic_ms())
    return any(age < 1000 for age in ages.values())


async def heard_after(generations: tuple[int, int]) -> tuple[list[bool], list[bool], list[set[str]]]:
    """Per node: whether it was left behind, whether it hears the other one, and its conditions."""
    networks = SimulatedNetworks()
    voices = [voice(networks, name, generation) for name, generation in zip("ab", generations, strict=True)]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(heartbeats.run()) for heartbeats, _ in voices]
        await asyncio.sleep(1)
        for task in running:
            task.cancel()
    others = [(NodeName("b"), 2), (NodeName("a"), 1)]
    hears = [_hears(hearing, *other) for (_, hearing), other in zip(voices, others, strict=True)]
    left = [heartbeats.superseded.is_set() for heartbeats, _ in voices]
    return left, hears, [{one.code for one in heartbeats.conditions()} for heartbeats, _ in voices]


@virtual
async def test_nodes_of_one_generation_hear_each_other() -> None:
    assert await heard_after((5, 5)) == ([False, False], [True, True], [set(), set()])


@virtual
async def test_safe_3_of_two_generations_the_earlier_is_left_behind_and_neither_counts_the_other() -> None:
    left, hears, conditions = await heard_after((5, 1))
    assert left == [False, True]
    assert hears == [False, False]
    assert conditions == [{"node-left-behind"}, set()]


@pytest.mark.parametrize("machine", ["the same", "another", ""])
async def test_safe_2_a_node_of_before_the_restore_comes_back_only_as_the_same_machine(machine: str) -> None:
    database = SmallDatabase()
    database.node(node_spec("d", addresses=dict(ADDRESSES), is_voter=False, machine_id="the same"))
    database.lose(verdict("d", before_generation=5))
    asked = request(machine_id=machine)
    if machine == "the same":
        assert check_joiner(asked, database.snapshot(), now_ms=NOW_MS) is not None
        database.lose(verdict("d"))
    with pytest.raises(Conflict, match="already"):
        check_joiner(asked, database.snapshot(), now_ms=NOW_MS)


@virtual
async def test_safe_2_nobody_is_expelled_for_what_a_node_ran_before_a_restore() -> None:
    async with desk(fence=None, before_generation=5) as found:
        with_disks(found, GONE, GONE)
        await asyncio.sleep(5)
        assert found.asked == []
        assert found.proof_kind() is None
