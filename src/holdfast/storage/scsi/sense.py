"""Sense data: why a device answered CHECK CONDITION, in both formats, and in words.

Source: SPC-4 clause 4.5 and annex F (additional sense codes).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from holdfast.storage.scsi.bytes import number
from holdfast.storage.scsi.errors import MalformedReply


class SenseKey(IntEnum):
    """What kind of trouble it is."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    RESERVED = 0xC
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


_WORDS: Final = {
    0x0000: "no additional sense information",
    0x0400: "not ready, cause not reportable",
    0x0401: "becoming ready",
    0x0402: "needs an initializing command",
    0x0403: "needs a person",
    0x0404: "formatting",
    0x040A: "asymmetric access state transition",
    0x040B: "target port in standby",
    0x040C: "target port unavailable",
    0x0C00: "write error",
    0x1100: "unrecovered read error",
    0x1A00: "parameter list length error",
    0x2000: "invalid command operation code",
    0x2100: "logical block address out of range",
    0x2400: "invalid field in command",
    0x2500: "logical unit not supported",
    0x2600: "invalid field in parameter list",
    0x2604: "invalid release of persistent reservation",
    0x2700: "write protected",
    0x2707: "space allocation failed, write protected",
    0x2800: "not ready to ready change",
    0x2900: "power on, reset or bus device reset occurred",
    0x2901: "power on occurred",
    0x2902: "bus reset occurred",
    0x2903: "reset by another initiator occurred",
    0x2904: "device internal reset",
    0x2907: "nexus lost",
    0x2A01: "mode parameters changed",
    0x2A03: "reservations preempted",
    0x2A04: "reservations released",
    0x2A05: "registrations preempted",
    0x2A06: "asymmetric access state changed",
    0x2A09: "capacity changed",
    0x2F00: "commands cleared by another initiator",
    0x3A00: "medium not present",
    0x3F03: "inquiry data changed",
    0x3F0E: "reported logical units changed",
    0x4400: "internal target failure",
    0x5503: "insufficient resources",
    0x5504: "insufficient registration resources",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sense:
    """Why. `code` holds the additional sense code and its qualifier in two bytes, such as 0x2A05."""

    key: SenseKey
    code: int

    @property
    def words(self) -> str:
        """For people, with the numbers that a vendor's support will ask for."""
        said = _WORDS.get(self.code, "no words for it here")
        numbers = f"{self.key:x}/{self.code >> 8:02x}/{self.code & 255:02x}"
        return f"{self.key.name.replace('_', ' ').lower()}: {said} ({numbers})"

    def encode(self) -> bytes:
        """Return it in fixed format, as a device sends it."""
        return bytes((0x70, 0, self.key, 0, 0, 0, 0, 10)) + bytes(4) + self.code.to_bytes(2) + bytes(4)


def decode_sense(data: bytes) -> Sense:
    """Read sense data of fixed (70h, 71h) or descriptor (72h, 73h) format. Raises MalformedReply."""
    response = number(data, 0, 1, "sense data") & 0x7F
    if response in (0x70, 0x71):
        key = number(data, 2, 1, "sense data") & 0x0F
        code = int.from_bytes(data[12:14].ljust(2, b"\0"))  # a device may send fewer bytes; what is missing is zero
    elif response in (0x72, 0x73):
        key, code = number(data, 1, 1, "sense data") & 0x0F, number(data, 2, 2, "sense data")
    else:
        raise MalformedReply(f"sense data: response code {response:#04x} is none of 70h to 73h")
    return Sense(key=SenseKey(key), code=code)
