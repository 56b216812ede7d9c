"""Big-endian fields out of bytes that may be too short."""

from __future__ import annotations

from holdfast.storage.scsi.errors import MalformedReply


def field(data: bytes, offset: int, length: int, what: str) -> bytes:
    """Return `length` bytes at `offset`. Raises MalformedReply, naming `what` was read, when they are not there."""
    if offset + length > len(data):
        raise MalformedReply(f"{what}: {len(data)} bytes came, at least {offset + length} are needed")
    return data[offset : offset + length]


def number(data: bytes, offset: int, length: int, what: str) -> int:
    """Return the big-endian number of `length` bytes at `offset`. Raises MalformedReply as `field` does."""
    return int.from_bytes(field(data, offset, length, what))
