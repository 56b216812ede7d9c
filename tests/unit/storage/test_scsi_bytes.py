"""Commands and replies that are not about reservations; vectors checked by hand against SPC-4 and SBC-3."""

from __future__ import annotations

import pytest

from holdfast.storage.scsi import command as scsi
from holdfast.storage.scsi.capacity import BlockCapacity, decode_capacity, decode_luns, encode_luns
from holdfast.storage.scsi.inquiry import (
    Designator,
    DesignatorType,
    best_designator,
    decode_designators,
    decode_inquiry,
    decode_serial_number,
)
from holdfast.storage.scsi.sense import SenseKey, decode_sense

# Page 83h as tgtd 1.0.85 sends it for its first LUN: names that the first LUN of every other tgtd has, too.
TGTD_PAGE = bytes.fromhex(
    "00830048" + "020100244945542020202020303030313030303100000000000000000000000000000000000000000"
    "103000830000001000000010103001060000000000000000e00000000010001"
)


@pytest.mark.parametrize(
    ("command", "cdb"),
    [
        (scsi.test_unit_ready(), "000000000000"),
        (scsi.inquiry(), "120000040000"),
        (scsi.inquiry(page=0x83), "120183040000"),
        (scsi.report_luns(), "a00000000000000020000000"),
        (scsi.read_capacity(), "9e100000000000000000000000200000"),
        (scsi.read(block=0x102030405, count=8, block_bytes=512), "88000000000102030405000000080000"),
        (scsi.write(block=1, data=bytes(1024), block_bytes=512, is_forced=True), "8a080000000000000001000000020000"),
        (scsi.write(block=1, data=bytes(512), block_bytes=512, is_forced=False), "8a000000000000000001000000010000"),
        (scsi.synchronize_cache(), "91000000000000000000000000000000"),
    ],
    ids=lambda item: item.words if isinstance(item, scsi.Command) else "",
)
def test_commands_are_laid_out_as_the_standard_says(command: scsi.Command, cdb: str) -> None:
    assert command.cdb.hex() == cdb


def test_capacity_is_the_last_block_and_one() -> None:
    data = bytes.fromhex("00000000000007ff00000200") + bytes(20)
    assert decode_capacity(data) == BlockCapacity(blocks=2048, block_bytes=512)


def test_luns_are_read_in_both_ways_of_numbering() -> None:
    assert decode_luns(
        bytes.fromhex("0000001800000000" + "4100" + "00" * 6 + "0001" + "00" * 6 + "0000" + "00" * 6)
    ) == (
        0,
        1,
        256,
    )
    assert decode_luns(encode_luns((0, 5, 300))) == (0, 5, 300)


def test_inquiry_names_vendor_and_product() -> None:
    read = decode_inquiry(bytes.fromhex("000005023d000002") + b"IET     VIRTUAL-DISK    0001")
    assert (read.vendor, read.product, read.revision) == ("IET", "VIRTUAL-DISK", "0001")
    assert read.is_connected
    assert not decode_inquiry(b"\x7f" + bytes(40)).is_connected


def test_serial_number_is_read() -> None:
    assert decode_serial_number(b"\0\x80\0\x10" + b"       beaf11".ljust(16)) == "beaf11"


def named(kind: int, value: str, association: int = 0) -> Designator:
    return Designator(type=kind, association=association, code_set=1, value=bytes.fromhex(value))


REGISTERED_16 = named(3, "60014050123456789abcdef012345678")
REGISTERED_8 = named(3, "50014380025d3e20")
LOCAL = named(3, "3000000100000001")
EUI = named(2, "0025385b71b0a1c2")
T10 = named(1, b"ACME    disk 7".hex())
SCSI_NAME = named(8, b"iqn.2026-11.test:lun7".hex())
PORT = named(3, "60014050123456789abcdef0ffffffff", association=1)
VENDOR = named(0, "0102")


@pytest.mark.parametrize(
    ("among", "best", "words"),
    [
        (
            (T10, LOCAL, SCSI_NAME, EUI, REGISTERED_8, REGISTERED_16, PORT),
            REGISTERED_16,
            "naa.60014050123456789abcdef012345678",
        ),
        ((T10, EUI, REGISTERED_8), REGISTERED_8, "naa.50014380025d3e20"),
        ((SCSI_NAME, EUI, LOCAL), EUI, "eui.0025385b71b0a1c2"),
        ((T10, LOCAL, SCSI_NAME), SCSI_NAME, "iqn.2026-11.test:lun7"),
        ((T10, LOCAL), T10, "t10.ACME_disk_7"),
        ((VENDOR, LOCAL, PORT), LOCAL, "naa.3000000100000001"),
        ((VENDOR, T10, PORT), T10, "t10.ACME_disk_7"),
        ((VENDOR, PORT), None, ""),
    ],
)
def test_the_best_name_is_chosen(among: tuple[Designator, ...], best: Designator | None, words: str) -> None:
    assert best_designator(among) == best
    assert best_designator(among[::-1]) == best
    assert best is None or best.words == words


def test_only_registered_names_are_vouched_for() -> None:
    assert [item.is_registered for item in (REGISTERED_16, REGISTERED_8, EUI, SCSI_NAME, LOCAL, T10)] == [True] * 3 + [
        False
    ] * 3


def test_designators_are_read() -> None:
    found = decode_designators(TGTD_PAGE)
    assert [item.type for item in found] == [DesignatorType.T10, DesignatorType.NAA, DesignatorType.NAA]
    best = best_designator(found)
    assert best is not None
    assert best.words == "t10.IET_00010001"
    assert not any(item.is_registered for item in found)


@pytest.mark.parametrize(
    "data",
    ["7000060000000000000000002a05", "f000060000000000000000002a050000", "72062a0500000000", "73062a05"],
)
def test_sense_is_read_in_both_formats(data: str) -> None:
    sense = decode_sense(bytes.fromhex(data))
    assert (sense.key, sense.code) == (SenseKey.UNIT_ATTENTION, 0x2A05)
    assert sense.words == "unit attention: registrations preempted (6/2a/05)"


def test_short_sense_has_no_code() -> None:
    assert decode_sense(bytes.fromhex("700002")).words == "not ready: no additional sense information (2/00/00)"
