"""Guests move with their memory, and plugs are pulled meanwhile.

None is lost, none runs twice, and memory is lost only with the node that held it: the source, until the record says
that it has given it away. A guest whose kernel panicked has lost its memory to the emulator (`Guest.has_panicked`).

`HOLDFAST_MOVES=50 ./dev test tests/lab/test_moves_with_memory.py -k random` makes more of them; HOLDFAST_MOVES_SEED
repeats a sequence, as far as a real machine repeats anything, and HOLDFAST_MOVES_VICTIMS names who suffers in turn.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, hold, node_in

from holdfast.client import requests
from holdfast.lab.guests import Guest
from holdfast.lab.layout import SHARED_MOUNT
from holdfast.lab.pauses import giving_time, talking
from holdfast.lab.provision import SAVED, wait_nodes_up
from holdfast.model.errors import HoldfastError
from holdfast.model.roles import MoveMethod
from holdfast.model.status import NodeState, RoleState

MOVES = int(os.environ.get("HOLDFAST_MOVES", "5"))
SEED = int(os.environ.get("HOLDFAST_MOVES_SEED", random.randrange(10**6)))
LATEST_S = 2.0
"""Plugs are pulled within so many seconds of a move's order: a move takes about as long."""
STILL_THERE_S = 0.5
"""An original that lives so long after its target's plug was not on its way out, and nothing else was started yet."""
GUESTS = int(os.environ.get("HOLDFAST_DRAINED", "3"))
VICTIMS = tuple(os.environ.get("HOLDFAST_MOVES_VICTIMS", "source target coordinator storage nobody").split())
READ_ONLY_S = 4.0
SAVED_AT = str(SHARED_MOUNT / SAVED)
MEMORY_METHODS = (MoveMethod.LIVE, MoveMethod.QUICK)

pytestmark = pytest.mark.timeout(300 + 90 * MOVES)


@pytest.mark.parametrize("method", MEMORY_METHODS)
async def test_memory_and_connections_survive_a_move(three: ClusterUnderTest, method: MoveMethod) -> None:
    guest = await three.start_guest(on="node2")
    async with talking(guest) as talk, giving_time(guest) as pauses:
        boot, first = await talk.say()
        moved = await three.ask("node1", requests.move_role(guest.name, to="node3", wait=True, method=method))
        assert (moved.state, moved.owner) == (RoleState.ONLINE, "node3")
        assert await talk.say() == (boot, first + 1)
        answer = await pauses.wait_answer()
    assert answer.boot_id == boot
    assert 0 < answer.longest_gap_ms < 60_000
    assert [one.node for one in three.instances.of(guest.name)] == ["node2", "node3"]
    three.assert_ran_once_at_a_time(guest, boots=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfortune:
    """One move and the plug that is pulled in the middle of it."""

    method: MoveMethod
    victim: str
    """source, target, coordinator, nobody, or storage: the saved memory's directory is read-only on one of the two."""
    after_s: float
    """After the move was ordered; of storage: so long before it."""


async def test_memory_is_lost_only_with_its_node_in_random_moves(three: ClusterUnderTest) -> None:
    chance = random.Random(SEED)
    guest = await three.start_guest(on="node2")
    for number in range(MOVES):
        victim, method = VICTIMS[number % len(VICTIMS)], chance.choice(MEMORY_METHODS)
        misfortune = Misfortune(
            method=MoveMethod.QUICK if victim == "storage" else method,
            victim=victim,
            after_s=chance.uniform(0, LATEST_S),
        )
        await _move_and_pull(three, guest, chance, misfortune)


async def _move_and_pull(three: ClusterUnderTest, guest: Guest, chance: random.Random, what: Misfortune) -> None:
    said = f"seed {SEED}: {what}"
    before = await guest.wait_answer()
    source = await three.wait_online(guest, asked="node1")
    originals = {one.pid for one in three.instances.living(guest.name)}
    target = chance.choice(three.others(source))
    nodes = {"source": source, "target": target, "coordinator": await three.coordinator()}
    victim = nodes.get(what.victim)
    asked = next(node for node in three.nodes if node not in (victim, source))
    order = requests.move_role(guest.name, to=target, wait=False, method=what.method)
    if what.victim == "storage":
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_be_read_only(three, chance.choice((source, target))))
            await asyncio.sleep(what.after_s)
            await three.ask(asked, order)
    else:
        await three.ask(asked, order)
        await asyncio.sleep(what.after_s)
    held_by = {one.node for one in three.instances.living(guest.name)}
    has_memory = True
    if victim is not None:
        await three.lab.power_off(victim)
        owner = (await three.role(guest, asked)).owner
        await asyncio.sleep(STILL_THERE_S)
        is_original_there = bool(originals & {one.pid for one in three.instances.living(guest.name)})
        has_memory = owner != source if victim == source else victim not in held_by or is_original_there
        await three.wait(said, lambda seen: node_in(seen, victim).state is not NodeState.UP, asked=asked)
    await _wait_at_rest(three, guest, asked, said)
    for move in await three.ask(asked, requests.role_history(guest.name, limit=1)):
        print(f"{said}: {move.source} to {move.target}, {move.outcome} on {move.owner}; {'; '.join(move.trouble)}")
    after = await guest.wait_answer(timeout_s=120)
    three.assert_ran_once_at_a_time(guest)
    if has_memory and not guest.has_panicked:
        hold(after.boot_id == before.boot_id, f"its memory was lost though it was not only on {victim}; {said}")
    if victim is not None:
        await three.lab.power_on(victim)
        await wait_nodes_up(three.lab, asked)


async def _be_read_only(three: ClusterUnderTest, node: str) -> None:
    """Let a node write nothing to the directory of saved memory for some seconds."""
    for command in (("mount", "--bind", SAVED_AT, SAVED_AT), ("mount", "-o", "remount,ro,bind", SAVED_AT)):
        await three.lab.execute(node, *command)
    await asyncio.sleep(READ_ONLY_S)
    await three.lab.execute(node, "umount", "--lazy", SAVED_AT)


async def _wait_at_rest(three: ClusterUnderTest, guest: Guest, asked: str, said: str) -> None:
    """Return when the guest is online and nothing is to be done with it."""

    async def is_at_rest() -> bool:
        try:
            role = await three.role(guest, asked)
        except HoldfastError:
            return False
        return role.state is RoleState.ONLINE and role.target is None

    async with asyncio.timeout(120):
        while not await is_at_rest():  # noqa: ASYNC110 - the cluster tells nobody
            await asyncio.sleep(0.1)
    assert await is_at_rest(), said


async def test_a_node_is_drained_while_another_dies(three: ClusterUnderTest) -> None:
    guests = [await three.start_guest(on="node2", is_booted=False) for _ in range(GUESTS)]
    boots = await three.boot_ids(guests)
    drain = requests.drain_node("node2", dry_run=False, wait=False, force=True, method=MoveMethod.LIVE)
    await three.ask("node1", drain)
    await asyncio.sleep(1)
    await three.lab.power_off("node3")
    await three.wait("node2 empty", lambda seen: not node_in(seen, "node2").roles, asked="node1", timeout_s=120)
    for guest in guests:
        await _wait_at_rest(three, guest, "node1", "drained")
    after = await three.boot_ids(guests)
    on_dead = {guest.name for guest in guests if any(one.node == "node3" for one in three.instances.of(guest.name))}
    pairs = zip(guests, boots, after, strict=True)
    lost = {guest.name for guest, old, new in pairs if old != new and not guest.has_panicked}
    hold(lost <= on_dead, "memory was lost that never was on the node that died")
    for guest in guests:
        three.assert_ran_once_at_a_time(guest)
