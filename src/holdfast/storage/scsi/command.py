"""One SCSI command as it goes to a device, and the bytes of the commands that are not about reservations.

Source: SPC-4 clause 6 (INQUIRY, TEST UNIT READY, REPORT LUNS); SBC-3 clause 5 (the rest).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class OperationCode(IntEnum):
    """The first byte of a command."""

    TEST_UNIT_READY = 0x00
    INQUIRY = 0x12
    PERSISTENT_RESERVE_IN = 0x5E
    PERSISTENT_RESERVE_OUT = 0x5F
    READ_16 = 0x88
    WRITE_16 = 0x8A
    SYNCHRONIZE_CACHE_16 = 0x91
    SERVICE_ACTION_IN_16 = 0x9E
    REPORT_LUNS = 0xA0


READ_CAPACITY_ACTION = 0x10
FORCE_UNIT_ACCESS = 0x08


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: its descriptor block, what goes with it, and how many bytes may come back."""

    cdb: bytes
    data_out: bytes = b""
    data_in_bytes: int = 0

    @property
    def operation(self) -> int:
        """The operation code; see OperationCode."""
        return self.cdb[0]

    @property
    def words(self) -> str:
        """The command's name, for people."""
        try:
            return OperationCode(self.cdb[0]).name.replace("_", " ")
        except ValueError:
            return f"command {self.cdb[0]:#04x}"


def test_unit_ready() -> Command:
    """Ask whether the logical unit takes commands."""
    return Command(cdb=bytes(6))


def inquiry(*, page: int | None = None, length: int = 1024) -> Command:
    """Ask who the device is; a page number asks for that page of vital product data."""
    has_page = page is not None
    cdb = bytes((OperationCode.INQUIRY, has_page, page or 0)) + length.to_bytes(2) + b"\0"
    return Command(cdb=cdb, data_in_bytes=length)


def report_luns(*, length: int = 8192) -> Command:
    """Ask a target which logical units it has."""
    return Command(
        cdb=bytes((OperationCode.REPORT_LUNS,)) + bytes(5) + length.to_bytes(4) + bytes(2), data_in_bytes=length
    )


def read_capacity() -> Command:
    """Ask for the number and the size of blocks."""
    length = 32
    cdb = bytes((OperationCode.SERVICE_ACTION_IN_16, READ_CAPACITY_ACTION)) + bytes(8) + length.to_bytes(4) + bytes(2)
    return Command(cdb=cdb, data_in_bytes=length)


def read(*, block: int, count: int, block_bytes: int) -> Command:
    """Read `count` blocks from `block` on."""
    return Command(cdb=_blocks(OperationCode.READ_16, 0, block, count), data_in_bytes=count * block_bytes)


def write(*, block: int, data: bytes, block_bytes: int, is_forced: bool) -> Command:
    """Write whole blocks from `block` on; forced ones are on the medium when the device says "good"."""
    flags = FORCE_UNIT_ACCESS if is_forced else 0
    return Command(cdb=_blocks(OperationCode.WRITE_16, flags, block, len(data) // block_bytes), data_out=data)


def synchronize_cache() -> Command:
    """Have everything that was written before put on the medium."""
    return Command(cdb=_blocks(OperationCode.SYNCHRONIZE_CACHE_16, 0, 0, 0))


def block_range(cdb: bytes) -> tuple[int, int]:
    """Return first block and count of a READ, WRITE or SYNCHRONIZE CACHE of 16 bytes."""
    return int.from_bytes(cdb[2:10]), int.from_bytes(cdb[10:14])


def _blocks(operation: OperationCode, flags: int, block: int, count: int) -> bytes:
    return bytes((operation, flags)) + block.to_bytes(8) + count.to_bytes(4) + bytes(2)
