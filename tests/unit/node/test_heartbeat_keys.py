"""Another secret for the heartbeats: everybody understands everybody at every moment, whoever is killed when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest
from tests.unit.decide.made_up import incarnation, node_spec, session
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.test_maintenance_requests import Desk, desk
from tests.unit.node.virtual_time import virtual

from holdfast.decide.heartbeat_keys import is_changing, next_keys
from holdfast.membership.cluster_key import read_cluster_keys, write_cluster_key
from holdfast.membership.heartbeat import Heartbeat
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.model.certificates import HeartbeatKeys
from holdfast.model.errors import Unavailable
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName
from holdfast.model.nodes import Capacity, NodeReport
from holdfast.model.snapshot import Snapshot
from holdfast.node.commits import Commits
from holdfast.node.heartbeat_keys import KeyRing, named
from holdfast.node.key_requests import KeyRequests
from holdfast.node.line_protocol import Result
from holdfast.node.mirror import Mirror
from holdfast.node.transactions import change_keys
from holdfast.store.records import HEARTBEAT_KEYS, report_key

OLD, NEW = bytes(32), bytes([7]) * 32
NET = NetworkName("cluster-a")
CLUSTER = ClusterId("5b0d4fd3-6d4b-4a55-9f3e-0a6f3f6f3a01")


class Voice:
    """A node's codec and key file. `restart`: the daemon was killed, and reads what is on disk."""

    def __init__(self, folder: Path, number: int) -> None:
        self.name = NodeName("abc"[number])
        self.file = folder / f"{self.name}.key"
        self.incarnation = Incarnation(f"00000000-0000-4000-8000-00000000000{number}")
        self.sequence = count(1)
        write_cluster_key(OLD, self.file)
        self.restart()

    def restart(self) -> None:
        self.codec = HeartbeatCodec(cluster_id=CLUSTER, cluster_key=bytes([9]) * 32, networks=[NET])
        self.ring = KeyRing(codec=self.codec, file=self.file, mirror=Mirror())

    def says(self) -> bytes:
        message = Heartbeat(
            cluster_id=CLUSTER,
            node=self.name,
            incarnation=self.incarnation,
            sequence=next(self.sequence),
            sent_at_ms=0,
            wall_clock_ms=0,
        )
        return self.codec.encode(message, NET)

    def understands(self, other: Voice) -> bool:
        return isinstance(self.codec.decode(other.says(), NET), Heartbeat)


class Change:
    """Three nodes and the record; what anybody does next is up to chance."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = Random(seed)
        self.database = SmallDatabase()
        self.voices = [Voice(folder, number) for number in range(3)]
        for voice in self.voices:
            self.database.node(node_spec(voice.name))
            self.database.up(session(voice.name))
            self.report(voice)
        self.database.put(HEARTBEAT_KEYS, HeartbeatKeys(accepted=(named(OLD), named(NEW)), used=named(OLD).id))

    @property
    def snapshot(self) -> Snapshot:
        return self.database.snapshot()

    @property
    def keys(self) -> HeartbeatKeys:
        assert self.snapshot.heartbeat_keys is not None
        return self.snapshot.heartbeat_keys.value

    def report(self, voice: Voice) -> None:
        report = NodeReport(
            node=voice.name,
            incarnation=incarnation(voice.name),
            capacity=Capacity(memory_bytes=0, vcpus=0),
            hears={},
            heartbeat_keys=voice.ring.ids,
        )
        self.database.put(report_key(voice.name), report)

    async def happen(self) -> None:
        voice = self.random.choice(self.voices)
        match self.random.choice(["follow", "report", "coordinate", "restart"]):
            case "follow":
                await voice.ring.follow(self.keys)
            case "report":
                self.report(voice)
            case "restart":
                voice.restart()
            case "coordinate":
                snapshot = self.snapshot
                if (after := next_keys(snapshot)) is not None:
                    assert self.database.commit(change_keys(after, snapshot=snapshot))


@pytest.mark.parametrize("seed", range(20))
async def test_at_every_moment_all_understand_all(tmp_path: Path, seed: int) -> None:
    change = Change(tmp_path, seed)
    for _ in range(400):
        await change.happen()
        for one in change.voices:
            for other in change.voices:
                assert one.understands(other), f"{one.name} does not understand {other.name}: {change.keys}"
        if not is_changing(change.snapshot) and all(read_cluster_keys(one.file) == (NEW,) for one in change.voices):
            break
    assert [read_cluster_keys(one.file) for one in change.voices] == [(NEW,)] * 3
    stranger = Voice(tmp_path / "..", 0)
    assert not change.voices[1].understands(stranger), "the old key is worth nothing"
    stranger.file.unlink()


async def test_the_loop_goes_on_while_the_disk_works_and_a_broken_off_change_is_repeated(tmp_path: Path) -> None:
    voice = Voice(tmp_path, 0)
    wanted = HeartbeatKeys(accepted=(named(OLD), named(NEW)), used=named(NEW).id)
    following = asyncio.create_task(voice.ring.follow(wanted))
    await asyncio.sleep(0)
    assert not following.done(), "the disk was waited for in the loop"
    assert voice.ring.used == OLD
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert voice.ring.used == OLD
    await voice.ring.follow(wanted)
    assert (voice.ring.used, read_cluster_keys(voice.file)) == (NEW, (NEW, OLD))


async def test_who_registers_meanwhile_holds_the_step_up(tmp_path: Path) -> None:
    change = Change(tmp_path, 0)
    change.database.node(node_spec("d"))
    for voice in change.voices:
        await voice.ring.follow(change.keys)
        change.report(voice)
    before = change.snapshot
    after = next_keys(before)
    assert after is not None
    change.database.up(session("d"))
    assert not change.database.commit(change_keys(after, snapshot=before))


async def answers(here: Desk) -> list[object]:
    requests = KeyRequests(Commits(here.life, here.store))
    items: AsyncGenerator[object, None] = requests.handle("cluster.rotate-key", {})
    return [item async for item in items]


@virtual
async def test_a_person_asks_once_or_twice_and_one_change_is_made() -> None:
    async with desk(a=8) as here:
        asking = [asyncio.create_task(answers(here)) for _ in range(2)]
        await asyncio.sleep(2)
        found = here.database.snapshot().heartbeat_keys
        assert found is not None
        old, new = found.value.accepted
        assert (old, found.value.used) == (named(bytes(32)), old.id)
        here.database.put(HEARTBEAT_KEYS, replace(found.value, used=new.id))
        await asyncio.sleep(2)
        here.database.put(HEARTBEAT_KEYS, HeartbeatKeys(accepted=(new,), used=new.id))
        for one in asking:
            steps = await asyncio.wait_for(one, 5)
            assert steps[-1] == Result({"id": new.id})
            assert "not yet done: a" in str(steps[0])


@virtual
async def test_a_node_that_does_not_follow_is_named_and_both_keys_stay_good() -> None:
    async with desk(a=8) as here:
        with pytest.raises(Unavailable, match="one to accept; not yet done: a"):
            await answers(here)
        found = here.database.snapshot().heartbeat_keys
        assert found is not None
        assert len(found.value.accepted) == 2
