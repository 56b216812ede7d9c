"""How large a disk is, and which logical units a target has. Source: SBC-3 clause 5.16; SPC-4 clause 6.33."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.storage.scsi.bytes import field, number
from holdfast.storage.scsi.errors import MalformedReply


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCapacity:
    """Number and size of the blocks."""

    blocks: int
    block_bytes: int

    def encode(self) -> bytes:
        """Return the parameter data of READ CAPACITY (16)."""
        return (self.blocks - 1).to_bytes(8) + self.block_bytes.to_bytes(4) + bytes(20)


def decode_capacity(data: bytes) -> BlockCapacity:
    """Read the parameter data of READ CAPACITY (16). Raises MalformedReply."""
    what = "READ CAPACITY"
    capacity = BlockCapacity(blocks=number(data, 0, 8, what) + 1, block_bytes=number(data, 8, 4, what))
    if not capacity.block_bytes:
        raise MalformedReply(f"{what}: blocks of 0 bytes")
    return capacity


def encode_luns(numbers: tuple[int, ...]) -> bytes:
    """Return the parameter data of REPORT LUNS; numbers up to 16383."""
    return (len(numbers) * 8).to_bytes(4) + bytes(4) + b"".join(_lun_field(item) for item in numbers)


def decode_luns(data: bytes) -> tuple[int, ...]:
    """Read the parameter data of REPORT LUNS: numbers of single-level units, ascending. Raises MalformedReply."""
    body = field(data, 8, number(data, 0, 4, "REPORT LUNS"), "REPORT LUNS")
    found = {_lun_number(body[at : at + 8]) for at in range(0, len(body) - 7, 8)}
    return tuple(sorted(item for item in found if item is not None))


def _lun_field(lun: int) -> bytes:
    method = 0 if lun < 256 else 0x4000  # peripheral device addressing, then flat space addressing (SAM-5 clause 4.7)
    return (method | lun).to_bytes(2) + bytes(6)


def _lun_number(entry: bytes) -> int | None:
    first = int.from_bytes(entry[:2])
    return first & 0x3FFF if first >> 14 in (0, 1) and not any(entry[2:]) else None
