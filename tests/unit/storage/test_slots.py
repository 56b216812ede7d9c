"""The slots of a heartbeat disk: what counts as a stamp, and how they are read. Source: docs/storage.md."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.node.virtual_time import virtual

from holdfast.decide.stamps import Stamp
from holdfast.model.ids import ClusterId, Incarnation, NodeName
from holdfast.storage.outcome import Done
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import SimulatedTarget
from holdfast.storage.simulated_disk import SimulatedDisk
from holdfast.storage.slots import SLOTS_MAX, Slots, decode_stamp, encode_stamp, is_vacant

CLUSTER, OTHER = ClusterId("one"), ClusterId("other")
STAMP = Stamp(node=NodeName("node1"), incarnation=Incarnation("5eed0000-0000-4000-8000-000000000001"), sequence=7)
STAMPS = st.builds(
    Stamp,
    node=st.text(st.characters(codec="ascii", categories=("L", "Nd")), min_size=1, max_size=63).map(NodeName),
    incarnation=st.uuids().map(lambda uuid: Incarnation(str(uuid))),
    sequence=st.integers(0, 2**64 - 1),
)


@given(STAMPS, st.sampled_from([512, 4096]))
def test_a_stamp_is_read_as_it_was_written(stamp: Stamp, block_bytes: int) -> None:
    block = encode_stamp(CLUSTER, stamp, block_bytes)
    assert len(block) == block_bytes
    assert decode_stamp(CLUSTER, block) == stamp
    assert decode_stamp(OTHER, block) is None


@given(STAMPS, STAMPS, st.integers(1, 511))
def test_a_torn_stamp_is_none(old: Stamp, new: Stamp, torn_at: int) -> None:
    before, after = (encode_stamp(CLUSTER, stamp, 512) for stamp in (old, new))
    torn = after[:torn_at] + before[torn_at:]
    assert decode_stamp(CLUSTER, torn) in ({old, new} if torn in (before, after) else {None})


@given(st.binary(min_size=512, max_size=512))
def test_what_is_none_of_ours_is_no_stamp(block: bytes) -> None:
    assert decode_stamp(CLUSTER, block) is None


def disk_of(block_bytes: int) -> tuple[SimulatedDisk, ScsiLun]:
    disk = SimulatedDisk(1, block_bytes=block_bytes)
    return disk, ScsiLun(SimulatedTarget([disk]).connect("me", disk.name))


@pytest.mark.parametrize("block_bytes", [512, 4096])
def test_all_slots_are_read_each_from_a_block_of_its_own(block_bytes: int) -> None:
    @virtual
    async def scenario() -> None:
        _, lun = disk_of(block_bytes)
        slots = Slots(lun, CLUSTER, block_bytes=block_bytes)
        for slot in (0, 20, SLOTS_MAX - 1):
            assert isinstance(await slots.write(slot, STAMP), Done)
        seen = await slots.read(SLOTS_MAX)
        assert seen is not None
        assert [number for number, stamp in enumerate(seen) if stamp == STAMP] == [0, 20, SLOTS_MAX - 1]
        assert len(seen) == SLOTS_MAX

    scenario()


@virtual
async def test_a_disk_that_holds_something_else_is_not_vacant() -> None:
    disk, lun = disk_of(512)
    assert await is_vacant(lun, 512)
    await Slots(lun, CLUSTER, block_bytes=512).write(3, STAMP)
    assert await is_vacant(lun, 512)
    disk.medium[SLOTS_MAX] = b"x" * 512
    assert await is_vacant(lun, 512)
    disk.medium[SLOTS_MAX - 1] = b"x" * 512
    assert not await is_vacant(lun, 512)


@virtual
async def test_a_disk_that_cannot_be_read_is_not_vacant() -> None:
    disk = SimulatedDisk(1, blocks=SLOTS_MAX - 1)
    assert not await is_vacant(ScsiLun(SimulatedTarget([disk]).connect("me", disk.name)), 512)
