"""A node's stamps: which slot, on which disk, and what a disk that hangs costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from tests.unit.decide.made_up import node_spec, session
from tests.unit.node.one_machine import LoopClock
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.membership.replay import Sequences
from holdfast.model.disks import DiskHealth, DiskSpec, DiskState, Slot
from holdfast.model.ids import ClusterId, DiskName, Incarnation, NodeName
from holdfast.node.mirror import Mirror
from holdfast.node.storage_heartbeat import StorageHeartbeat
from holdfast.node.transactions import take_slot
from holdfast.storage.scsi.command import OperationCode
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import Exchange, Fate, SimulatedTarget
from holdfast.storage.simulated_disk import SimulatedDisk
from holdfast.storage.slots import decode_stamp
from holdfast.store.memory import MemoryStore
from holdfast.store.records import disk_key, slot_key

CLUSTER, BEAT = ClusterId("id"), DiskName("beat")
A, B, C = (NodeName(name) for name in "abc")
INCARNATIONS = {node: Incarnation(f"5eed0000-0000-4000-8000-00000000000{node}") for node in (A, B, C)}
READY = DiskHealth(state=DiskState.READY)


class Stage:
    """A database and a heartbeat disk for some nodes."""

    def __init__(self) -> None:
        self.database = SmallDatabase()
        self.disk = SimulatedDisk(1)
        self.target = SimulatedTarget([self.disk])
        self.health = {BEAT: READY}
        self.spec = DiskSpec(
            name=BEAT, designator=self.disk.name, size_bytes=1, guest_source="", reservations="sg:/x", is_heartbeat=True
        )

    @asynccontextmanager
    async def beating(self, node: NodeName) -> AsyncIterator[StorageHeartbeat]:
        """One node at work."""
        self.database.node(node_spec(node))
        proves = self.database.up(session(node))
        store, mirror = MemoryStore(self.database.database), Mirror()
        heartbeat = StorageHeartbeat(
            cluster_id=CLUSTER,
            me=node,
            store=store,
            mirror=mirror,
            clock=LoopClock(),
            sequences=Sequences(lambda: 0),
            open_lun=lambda spec: ScsiLun(self.target.connect(node, self.disk.name)),
            disks=lambda: self.health,
            is_urgent=lambda: False,
        )
        tasks = [
            asyncio.create_task(mirror.run(store)),
            asyncio.create_task(heartbeat.run(proves, INCARNATIONS[node])),
        ]
        try:
            yield heartbeat
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    def slots(self) -> dict[int, NodeName]:
        return {slot.value.number: slot.value.node for slot in self.database.snapshot().slots.values()}

    def stamped(self) -> dict[int, NodeName]:
        found = {block: decode_stamp(CLUSTER, data) for block, data in self.disk.medium.items()}
        return {block: stamp.node for block, stamp in found.items() if stamp is not None}


@virtual
async def test_each_node_keeps_a_slot_of_its_own_and_stamps_it_twice_a_second() -> None:
    stage = Stage()
    stage.database.put(disk_key(BEAT), stage.spec)
    async with stage.beating(A), stage.beating(B), stage.beating(C):
        await asyncio.sleep(5)
        owners = stage.slots()
        assert sorted(owners) == [0, 1, 2]
        assert sorted(owners.values()) == [A, B, C]
        assert stage.stamped() == owners
        writes = 0

        def count(exchange: Exchange) -> Fate:
            nonlocal writes
            writes += exchange.command.operation == OperationCode.WRITE_16
            return Fate()

        stage.target.fate = count
        await asyncio.sleep(10)
        assert 57 <= writes <= 60
    async with stage.beating(B):
        await asyncio.sleep(5)
        assert stage.slots() == owners


@virtual
async def test_two_nodes_never_take_the_same_slot() -> None:
    stage = Stage()
    for node in (A, B):
        stage.database.node(node_spec(node))
    one, other = (stage.database.up(session(node)) for node in (A, B))
    database = stage.database.database
    assert database.txn(take_slot(Slot(number=0, node=A), one, before=None)).succeeded
    assert not database.txn(take_slot(Slot(number=0, node=B), other, before=None)).succeeded
    assert stage.slots() == {0: A}


@virtual
async def test_the_slot_of_a_node_that_left_the_cluster_is_taken() -> None:
    stage = Stage()
    stage.database.put(slot_key(0), Slot(number=0, node=C))
    stage.database.put(disk_key(BEAT), stage.spec)
    async with stage.beating(A):
        await asyncio.sleep(3)
        assert stage.slots() == {0: A}


@virtual
async def test_another_disk_at_the_end_of_the_way_is_never_written_to() -> None:
    stage = Stage()
    stage.database.put(disk_key(BEAT), replace(stage.spec, designator="naa.another"))
    async with stage.beating(A) as heartbeat:
        await asyncio.sleep(10)
        assert stage.disk.medium == {}
        assert [condition.code for condition in heartbeat.conditions({})] == ["storage-heartbeat-failed"]


@virtual
async def test_a_disk_that_this_node_may_not_write_to_yet_is_left_alone() -> None:
    stage = Stage()
    stage.health[BEAT] = DiskHealth(state=DiskState.NOT_REGISTERED)
    stage.database.put(disk_key(BEAT), stage.spec)
    async with stage.beating(A):
        await asyncio.sleep(3)
        assert stage.disk.medium == {}
        stage.health[BEAT] = READY
        await asyncio.sleep(3)
        assert stage.stamped() == {0: A}


@virtual
async def test_disks_for_guests_are_not_stamped() -> None:
    stage = Stage()
    stage.database.put(disk_key(BEAT), replace(stage.spec, is_heartbeat=False))
    async with stage.beating(A):
        await asyncio.sleep(3)
        assert (stage.disk.medium, stage.slots()) == ({}, {})


@virtual
async def test_of_a_disk_that_hangs_one_thing_at_a_time_is_asked_and_it_goes_on_when_it_is_back() -> None:
    stage = Stage()
    stage.database.put(disk_key(BEAT), stage.spec)
    async with stage.beating(A) as heartbeat, stage.beating(B):
        await asyncio.sleep(5)
        asked: list[str] = []

        def hang(exchange: Exchange) -> Fate:
            asked.append(exchange.initiator)
            return Fate(request_ms=None)

        stage.target.fate = hang
        await asyncio.sleep(30)
        assert asked.count(A) <= 21
        assert heartbeat.evidence(INCARNATIONS[B]) is None
        stage.target.fate = lambda _: Fate()
        await asyncio.sleep(5)
        found = heartbeat.evidence(INCARNATIONS[B])
        assert found is not None
        assert found.silent_ms < 1000
        assert heartbeat.conditions({B: INCARNATIONS[B]}) == ()
