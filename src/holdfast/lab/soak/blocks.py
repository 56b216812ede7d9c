"""What writing guests leave on a LUN, and what it proves about who wrote when.

Rule of the file: no clock counts. Each instance takes the next free region, and says in its first block how many
records every earlier region had when it looked. Nobody ever writes into the region of another. So an earlier instance
that wrote later shows for ever, as more records than its successor saw. Source: SAFE-1.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

BLOCK_BYTES: Final = 512
REGION_BLOCKS: Final = 128
REGION_BYTES: Final = BLOCK_BYTES * REGION_BLOCKS
REGIONS: Final = 64
"""In the 4 MiB of a LUN."""
RING: Final = REGION_BLOCKS - 1
"""Records of a region: the newest so many are there, behind its first block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One signed block.

    number   0 for the first block of a region; then the record's, from 1.
    saw      in the first block: how many records each earlier region had.
    """

    instance: str
    number: int
    saw: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What one region holds. `count` is the newest record's number."""

    owner: Block
    count: int
    faults: tuple[str, ...] = ()


def block_of_record(region: int, number: int) -> int:
    """Where a record belongs, counted from the LUN's first block."""
    return region * REGION_BLOCKS + (0 if number == 0 else 1 + (number - 1) % RING)


def encode(block: Block) -> bytes:
    """The block as it is written."""
    body = json.dumps([block.instance, block.number, *block.saw], separators=(",", ":")).encode()
    return (f"{zlib.crc32(body):08x} ".encode() + body).ljust(BLOCK_BYTES, b"\0")


def decode(raw: bytes) -> Block | None:
    """The block that was written, or None when it is torn or of somebody else."""
    signature, _, body = raw.rstrip(b"\0").partition(b" ")
    if f"{zlib.crc32(body):08x}".encode() != signature:
        return None
    instance, number, *saw = json.loads(body)
    return Block(instance=instance, number=number, saw=tuple(saw))


def is_free(raw: bytes) -> bool:
    """Whether nobody ever wrote this."""
    return not raw.strip(b"\0")


def read_region(number: int, raw: bytes) -> Region | None:
    """What a region holds; None when it is free, first block and all."""
    if is_free(raw):
        return None
    parts = [raw[start : start + BLOCK_BYTES] for start in range(0, REGION_BYTES, BLOCK_BYTES)]
    owner = decode(parts[0])
    if owner is None or owner.number:
        return Region(
            owner=Block(instance="", number=0), count=0, faults=(f"region {number}: its first block is torn",)
        )
    faults = []
    numbers = []
    for place, part in enumerate(parts[1:], start=1):
        found = None if is_free(part) else decode(part)
        if found is None:
            faults += [] if is_free(part) else [f"region {number}: block {place} is torn"]
        elif found.instance != owner.instance:
            faults.append(f"region {number} of {owner.instance}: record {found.number} is by {found.instance}")
        elif block_of_record(0, found.number) != place:
            faults.append(f"region {number}: record {found.number} stands in place {place}")
        else:
            numbers.append(found.number)
    numbers.sort()
    if numbers and numbers[0] != max(1, numbers[-1] - RING + 1):
        faults.append(f"region {number} of {owner.instance}: begins with record {numbers[0]}")
    faults += [
        f"region {number} of {owner.instance}: none between {a} and {b}" for a, b in pairwise(numbers) if b > a + 1
    ]
    return Region(owner=owner, count=numbers[-1] if numbers else 0, faults=tuple(faults))


def read_regions(raw: bytes) -> list[Region]:
    """All regions up to the last that is not free."""
    found = [read_region(number, raw[number * REGION_BYTES :][:REGION_BYTES]) for number in range(REGIONS)]
    while found and found[-1] is None:
        found.pop()
    nothing = Region(owner=Block(instance="", number=0), count=0, faults=("a region was left out",))
    return [region or nothing for region in found]


def faults_of(regions: Sequence[Region]) -> list[str]:
    """Return what no sequence of exclusive owners could have written."""
    faults = [fault for region in regions for fault in region.faults]
    for place, region in enumerate(regions):
        seen = region.owner.saw
        if len(seen) != place and region.owner.instance:
            faults.append(f"region {place} of {region.owner.instance}: it saw {len(seen)} regions before its own")
        for earlier, count in zip(regions, seen, strict=False):
            if earlier.count > count:
                faults.append(
                    f"{earlier.owner.instance} wrote record {earlier.count} after {region.owner.instance} had begun, "
                    f"which saw {count}"
                )
            elif earlier.count < count:
                faults.append(f"record {count} of {earlier.owner.instance} was seen and is not there")
    return faults
