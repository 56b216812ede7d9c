"""PERSISTENT RESERVE, byte by byte: vectors checked by hand against SPC-4 clauses 6.15 and 6.16."""

from __future__ import annotations

import pytest

from holdfast.storage.scsi.errors import MalformedReply
from holdfast.storage.scsi.reservations import (
    FullStatus,
    InAction,
    Keys,
    OutAction,
    Registration,
    Reservation,
    ReservationReading,
    ReservationType,
    ReserveOut,
    decode_capabilities,
    decode_full_status,
    decode_keys,
    decode_reservation,
    decode_reserve_out,
    reserve_in,
)


def test_preempt_and_abort_is_laid_out_as_the_standard_says() -> None:
    command = ReserveOut(
        action=OutAction.PREEMPT_AND_ABORT,
        key=0x0123456789ABCDEF,
        service_key=0xFEDCBA9876543210,
        type=ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
    ).command()
    assert command.cdb.hex() == "5f050500000000001800"
    assert command.data_out.hex() == "0123456789abcdeffedcba98765432100000000000000000"


def test_register_carries_its_flags() -> None:
    command = ReserveOut(
        action=OutAction.REGISTER_AND_IGNORE_EXISTING_KEY,
        service_key=1,
        survives_power_loss=True,
        all_target_ports=True,
    ).command()
    assert command.cdb.hex() == "5f060000000000001800"
    assert command.data_out.hex() == "0000000000000000000000000000000100000000" + "05000000"


def test_reserve_in_asks_for_enough() -> None:
    assert reserve_in(InAction.READ_FULL_STATUS).cdb.hex() == "5e030000000000400000"


def test_keys_are_read() -> None:
    data = bytes.fromhex("00000007" + "00000010" + "000000000000000a" + "000000000000000b")
    assert decode_keys(data) == Keys(generation=7, keys=(10, 11))


def test_padding_after_the_announced_length_is_ignored() -> None:
    assert decode_keys(bytes.fromhex("00000007" + "00000000") + bytes(100)) == Keys(generation=7, keys=())


def test_a_list_that_was_cut_is_no_list() -> None:
    with pytest.raises(MalformedReply):
        decode_keys(bytes.fromhex("00000007" + "00000010" + "000000000000000a"))


def test_a_reservation_is_read() -> None:
    data = bytes.fromhex("00000002" + "00000010" + "00000000000000aa" + "00000000" + "00" + "05" + "0000")
    held = Reservation(key=0xAA, type=ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY)
    assert decode_reservation(data) == ReservationReading(generation=2, reservation=held)
    assert decode_reservation(bytes.fromhex("0000000200000000")).reservation is None


@pytest.mark.parametrize("scope_and_type", ["15", "00", "02", "09"])
def test_a_reservation_of_another_scope_or_type_is_refused(scope_and_type: str) -> None:
    with pytest.raises(MalformedReply):
        decode_reservation(bytes.fromhex("0000000200000010" + "00" * 13 + scope_and_type + "0000"))


def test_capabilities_are_read() -> None:
    read = decode_capabilities(bytes.fromhex("0008" + "0d" + "81" + "ea01" + "0000"))
    assert read.can_survive_power_loss
    assert read.survives_power_loss
    assert read.can_register_all_target_ports
    assert read.types == frozenset(ReservationType)
    assert decode_capabilities(bytes.fromhex("0008008020000000")).types == {
        ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
    }


def test_a_target_that_names_no_types_may_have_all() -> None:
    assert decode_capabilities(bytes.fromhex("0008000000000000")).types == frozenset(ReservationType)


def test_full_status_is_read() -> None:
    name = b"iqn.2026-11.test:a,i,0x00023d000001\0"
    first = bytes.fromhex("000000000000000a" + "00000000" + "01" + "05" + "00000000" + "0001")
    first += (4 + len(name)).to_bytes(4) + bytes((0x45, 0)) + len(name).to_bytes(2) + name
    fibre = bytes.fromhex("00" * 8 + "2100001b32810000" + "00" * 8)
    second = (
        bytes.fromhex("000000000000000b" + "00000000" + "00" + "00" + "00000000" + "0002") + (24).to_bytes(4) + fibre
    )
    body = first + second
    assert decode_full_status((3).to_bytes(4) + len(body).to_bytes(4) + body) == FullStatus(
        generation=3,
        registrations=(
            Registration(
                key=10,
                is_holder=True,
                type=ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
                target_port=1,
                initiator="iqn.2026-11.test:a,i,0x00023d000001",
            ),
            Registration(key=11, is_holder=False, type=None, target_port=2, initiator="0x2100001b32810000"),
        ),
    )


def test_a_target_refuses_a_scope_it_does_not_know() -> None:
    command = ReserveOut(action=OutAction.RESERVE, key=1, type=ReservationType.WRITE_EXCLUSIVE).command()
    wrong = type(command)(cdb=command.cdb[:2] + b"\x11" + command.cdb[3:], data_out=command.data_out)
    with pytest.raises(MalformedReply):
        decode_reserve_out(wrong)
