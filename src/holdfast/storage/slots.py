"""The slots of a heartbeat disk: one block for each node, and the bytes of a stamp.

Rule of the file: a block counts only as a whole. What is torn, of another cluster or none of ours is no stamp. All
numbers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final
from uuid import UUID

from holdfast.decide.stamps import Stamp
from holdfast.model.ids import ClusterId, Incarnation, NodeName
from holdfast.storage.outcome import Done, Outcome
from holdfast.storage.port import Lun

MAGIC: Final = b"HFSLOT\x00\x01"
SLOTS_MAX: Final = 64
READ_BYTES: Final = 8192
"""Read at a time: what every way to a disk carries."""
_HEAD: Final = struct.Struct(">8s16s16sQB")
_CHECKSUM_BYTES: Final = 32
_BYTES: Final = 512
_NAME_BYTES_MAX: Final = _BYTES - _CHECKSUM_BYTES - _HEAD.size


def encode_stamp(cluster: ClusterId, stamp: Stamp, block_bytes: int) -> bytes:
    """Return the block of a stamp: head, name, zeros up to 480, SHA-256 of these, and zeros up to the block's end."""
    name = stamp.node.encode()
    assert len(name) <= min(_NAME_BYTES_MAX, 255), "names of nodes are shorter"
    incarnation = UUID(stamp.incarnation).bytes
    head = _HEAD.pack(MAGIC, _cluster(cluster), incarnation, stamp.sequence, len(name))
    body = (head + name).ljust(_BYTES - _CHECKSUM_BYTES, b"\0")
    return (body + sha256(body).digest()).ljust(block_bytes, b"\0")


@lru_cache(maxsize=2 * SLOTS_MAX)
def decode_stamp(cluster: ClusterId, block: bytes) -> Stamp | None:
    """Return the stamp that a block holds, whole and of this cluster, or None."""
    body, checksum = block[: _BYTES - _CHECKSUM_BYTES], block[_BYTES - _CHECKSUM_BYTES : _BYTES]
    if not body.startswith(MAGIC) or sha256(body).digest() != checksum:
        return None
    _, of_cluster, incarnation, sequence, length = _HEAD.unpack_from(body)
    if of_cluster != _cluster(cluster):
        return None
    name = body[_HEAD.size : _HEAD.size + length].decode(errors="replace")
    return Stamp(node=NodeName(name), incarnation=Incarnation(str(UUID(bytes=incarnation))), sequence=sequence)


@lru_cache
def _cluster(cluster: ClusterId) -> bytes:
    return sha256(cluster.encode()).digest()[:16]


class Slots:
    """The slots of one disk through one way to it."""

    def __init__(self, lun: Lun, cluster: ClusterId, *, block_bytes: int) -> None:
        self._lun = lun
        self._cluster = cluster
        self._block_bytes = block_bytes

    async def write(self, slot: int, stamp: Stamp) -> Outcome[None]:
        """Stamp a slot."""
        return await self._lun.write(block=slot, data=encode_stamp(self._cluster, stamp, self._block_bytes))

    async def read(self, count: int) -> Sequence[Stamp | None] | None:
        """Return the stamps of the first slots, None for each that is no stamp; None when they could not be read."""
        blocks = await read_blocks(self._lun, count, self._block_bytes)
        return None if blocks is None else [decode_stamp(self._cluster, block) for block in blocks]


async def read_blocks(lun: Lun, count: int, block_bytes: int) -> list[bytes] | None:
    """Return the first blocks of a disk, or None when not all of them could be read."""
    at_once = max(1, READ_BYTES // block_bytes)
    blocks: list[bytes] = []
    while len(blocks) < count:
        wanted = min(at_once, count - len(blocks))
        seen = await lun.read(block=len(blocks), count=wanted)
        if not isinstance(seen, Done):
            return None
        blocks += [seen.value[index * block_bytes : (index + 1) * block_bytes] for index in range(wanted)]
    return blocks


async def is_vacant(lun: Lun, block_bytes: int) -> bool:
    """Whether nothing but slots is where the slots are: stamping destroys nothing. False also when it is not known."""
    blocks = await read_blocks(lun, SLOTS_MAX, block_bytes)
    return blocks is not None and all(block.startswith(MAGIC) or not any(block) for block in blocks)
