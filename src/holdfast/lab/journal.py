"""What the blocks of a LUN prove about the order of all writes that a guest's boots made to it.

Rule of the file: the blocks are read where they lie, on the storage node, and nothing else is believed. A guest appends
(``guest/agent.pl``), each boot from the first free block on, counting from 1; so every write that came too late shows
as a record out of order, as a missing number, or as more records than a boot had when it was fenced.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from holdfast.lab.records import AREA_BYTES

BLOCK_BYTES = 4096
_SECTOR_BYTES = 512
_RECORD = re.compile(rb"(hfj boot=(\w+) number=(\d+)) sum=([0-9a-f]{8})\n\0*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One block of the journal."""

    block: int
    """Counted from the journal's first."""
    boot_id: str
    """Empty when the block is torn: its sectors are not one whole record."""
    number: int

    @property
    def is_torn(self) -> bool:
        """Whether the block is not one whole record."""
        return self.boot_id == ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """All that the boots of one guest appended to a LUN."""

    records: tuple[Record, ...]
    faults: tuple[str, ...]
    """Each a proof that a write came too late or was lost; empty is how it must be."""

    def count(self, boot_id: str) -> int:
        """Return how many whole records a boot has."""
        return sum(record.boot_id == boot_id for record in self.records)

    @property
    def boots(self) -> list[str]:
        """The boots in the order in which they began to write."""
        return list(dict.fromkeys(record.boot_id for record in self.records if not record.is_torn))


def read_journal(disk: Path) -> Journal:
    """Return the journal of a raw disk and what it proves. Source: SAFE-1."""
    with disk.open("rb") as file:
        file.seek(AREA_BYTES)
        raw = file.read()
    blocks = [raw[start : start + BLOCK_BYTES] for start in range(0, len(raw), BLOCK_BYTES)]
    while blocks and not blocks[-1].strip(b"\0"):
        blocks.pop()
    records = [_record(number, block) for number, block in enumerate(blocks)]
    return Journal(records=tuple(records), faults=tuple(faults_of(records)))


def faults_of(records: list[Record]) -> list[str]:
    """Return what no sequence of exclusive owners could have written, in the order of the blocks.

    Only the last record of a boot may be torn, by the death of the node under it.
    """
    found: list[str] = []
    for record, following in pairwise(records):
        if record.is_torn and following.number != 1:
            found.append(f"block {record.block} is torn, and not the last of its boot")
    latest, known = Record(block=-1, boot_id="", number=0), set[str]()
    for record in records:
        if record.is_torn:
            continue
        if record.boot_id == latest.boot_id:
            wanted = latest.number + 1
        elif record.boot_id in known:
            found.append(f"block {record.block}: boot {record.boot_id} wrote after boot {latest.boot_id} had begun")
            wanted = record.number
        else:
            wanted = 1
        if record.number != wanted:
            name = f"boot {record.boot_id}"
            found.append(f"block {record.block}: {name} has number {record.number} where {wanted} belongs")
        known.add(record.boot_id)
        latest = record
    return found


def _record(block: int, raw: bytes) -> Record:
    sectors = {raw[start : start + _SECTOR_BYTES] for start in range(0, len(raw), _SECTOR_BYTES)}
    match = _RECORD.fullmatch(sectors.pop()) if len(sectors) == 1 else None
    if match is None or zlib.crc32(match[1]) != int(match[4], 16):
        return Record(block=block, boot_id="", number=0)
    return Record(block=block, boot_id=match[2].decode(), number=int(match[3]))
