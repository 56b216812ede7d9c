"""Who a device is: INQUIRY data, the serial number (page 80h), and its designators (page 83h).

Rule of the file: a logical unit's identity is its best designator, the same on every path and every node.
Source: SPC-4 clauses 6.6 (INQUIRY), 7.8.5 (page 83h), 7.8.15 (page 80h).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from holdfast.storage.scsi.bytes import field, number
from holdfast.storage.scsi.errors import MalformedReply

SERIAL_NUMBER_PAGE: Final = 0x80
IDENTIFICATION_PAGE: Final = 0x83
_LOGICAL_UNIT: Final = 0


class DesignatorType(IntEnum):
    """Kinds of names that a device gives itself."""

    VENDOR_SPECIFIC = 0
    T10 = 1
    EUI64 = 2
    NAA = 3
    RELATIVE_TARGET_PORT = 4
    TARGET_PORT_GROUP = 5
    LOGICAL_UNIT_GROUP = 6
    MD5 = 7
    SCSI_NAME = 8
    PROTOCOL_SPECIFIC_PORT = 9
    UUID = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiryData:
    """What INQUIRY says first: names by which people know the device."""

    device_type: int
    """0 is a disk."""
    is_connected: bool
    """False when the target has no logical unit of this number."""
    vendor: str
    product: str
    revision: str

    def encode(self) -> bytes:
        """Return standard INQUIRY data of 36 bytes."""
        texts = ((self.vendor, 8), (self.product, 16), (self.revision, 4))
        names = b"".join(text.encode("ascii").ljust(width)[:width] for text, width in texts)
        return bytes(((0 if self.is_connected else 0x20) | self.device_type, 0, 6, 2, 31, 0, 0, 2)) + names


def decode_inquiry(data: bytes) -> InquiryData:
    """Read standard INQUIRY data. Raises MalformedReply."""
    first = number(data, 0, 1, "INQUIRY")
    return InquiryData(
        device_type=first & 0x1F,
        is_connected=first >> 5 == 0,
        vendor=_text(field(data, 8, 8, "INQUIRY")),
        product=_text(field(data, 16, 16, "INQUIRY")),
        revision=_text(field(data, 32, 4, "INQUIRY")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Designator:
    """One name out of page 83h. `association` 0 means that it names the logical unit, not a port or the target."""

    type: int
    association: int
    code_set: int
    value: bytes

    def encode(self) -> bytes:
        """Return it as it stands in the page."""
        return bytes((self.code_set, self.association << 4 | self.type, 0, len(self.value))) + self.value

    @property
    def words(self) -> str:
        """The name as operating systems write it: ``naa.6001…``, ``eui.0025…``, ``t10.…`` or an iSCSI name."""
        match self.type:
            case DesignatorType.NAA:
                return f"naa.{self.value.hex()}"
            case DesignatorType.EUI64:
                return f"eui.{self.value.hex()}"
            case DesignatorType.T10:
                return "t10." + "_".join(_text(self.value).split())
            case DesignatorType.SCSI_NAME:
                return _text(self.value)
            case _:
                return f"type{self.type}.{self.value.hex()}"

    @property
    def is_registered(self) -> bool:
        """Whether a registration authority vouches that no other logical unit in the world has this name."""
        return self.type in (DesignatorType.NAA, DesignatorType.EUI64) and self.rank < _RANKS[DesignatorType.SCSI_NAME]

    @property
    def rank(self) -> int:
        """How well it names the logical unit, 0 for the best; None of its kind is worse than one of the next."""
        if self.type == DesignatorType.NAA:
            start = int.from_bytes(self.value[:4].ljust(4, b"\0"))
            form, has_company = start >> 28, bool(start >> 4 & 0xFFFFFF)
            return _NAA_RANKS.get(form, _UNFIT) if has_company or form == _LOCAL_FORM else _LOCAL
        return _RANKS.get(self.type, _UNFIT)


_LOCAL_FORM: Final = 3
_NAA_RANKS: Final = {6: 0, 5: 1, 2: 2, _LOCAL_FORM: 7}
_RANKS: Final[dict[int, int]] = {
    DesignatorType.EUI64: 3,
    DesignatorType.SCSI_NAME: 4,
    DesignatorType.UUID: 5,
    DesignatorType.T10: 6,
}
_LOCAL: Final = 7
"""Locally assigned, or by a company numbered 0 (tgtd): the first LUN of any two such targets has the same name."""
_UNFIT: Final = 8


def encode_designators(designators: tuple[Designator, ...]) -> bytes:
    """Return page 83h of a disk."""
    body = b"".join(item.encode() for item in designators)
    return bytes((0, IDENTIFICATION_PAGE)) + len(body).to_bytes(2) + body


def decode_designators(data: bytes) -> tuple[Designator, ...]:
    """Read page 83h. Raises MalformedReply."""
    body = _page(data, IDENTIFICATION_PAGE)
    found: list[Designator] = []
    at = 0
    while at < len(body):
        length = number(body, at + 3, 1, "page 83h")
        second = number(body, at + 1, 1, "page 83h")
        designator = Designator(
            type=second & 0x0F,
            association=second >> 4 & 0x03,
            code_set=body[at] & 0x0F,
            value=field(body, at + 4, length, "page 83h"),
        )
        found.append(designator)
        at += 4 + length
    return tuple(found)


def best_designator(designators: tuple[Designator, ...]) -> Designator | None:
    """Return the name to know the logical unit by, None when it has none that is worth it.

    Registered names before locally assigned ones, long ones before short ones. Vendor-specific names and names of ports
    are never taken.
    """
    fit = [item for item in designators if item.association == _LOGICAL_UNIT and item.value and item.rank < _UNFIT]
    return min(fit, key=lambda item: (item.rank, -len(item.value), item.value), default=None)


def encode_serial_number(serial_number: str) -> bytes:
    """Return page 80h of a disk."""
    text = serial_number.encode("ascii")
    return bytes((0, SERIAL_NUMBER_PAGE)) + len(text).to_bytes(2) + text


def decode_serial_number(data: bytes) -> str:
    """Read page 80h. Raises MalformedReply."""
    return _text(_page(data, SERIAL_NUMBER_PAGE))


def _page(data: bytes, page: int) -> bytes:
    what = f"page {page:02x}h"
    if number(data, 1, 1, what) != page:
        raise MalformedReply(f"{what}: page {data[1]:02x}h came instead")
    return field(data, 4, number(data, 2, 2, what), what)


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace").strip()
