"""What is encoded is decoded to the same; and no bytes whatever make a decoder do anything but refuse them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.storage.scsi.capacity import BlockCapacity, decode_capacity, decode_luns, encode_luns
from holdfast.storage.scsi.command import Command
from holdfast.storage.scsi.errors import MalformedReply
from holdfast.storage.scsi.inquiry import (
    Designator,
    decode_designators,
    decode_inquiry,
    decode_serial_number,
    encode_designators,
    encode_serial_number,
)
from holdfast.storage.scsi.reservations import (
    Capabilities,
    FullStatus,
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
    encode_full_status,
)
from holdfast.storage.scsi.sense import Sense, SenseKey, decode_sense
from holdfast.storage.scsi.transport_id import iscsi_transport_id

keys = st.integers(0, 2**64 - 1)
generations = st.integers(0, 2**32 - 1)
types = st.sampled_from(ReservationType)
ascii_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
DECODERS: tuple[Callable[[bytes], object], ...] = (
    decode_capabilities,
    decode_capacity,
    decode_designators,
    decode_full_status,
    decode_inquiry,
    decode_keys,
    decode_luns,
    decode_reservation,
    decode_sense,
    decode_serial_number,
)


@given(
    st.builds(
        ReserveOut,
        action=st.sampled_from(OutAction),
        key=keys,
        service_key=keys,
        type=st.none() | types,
        survives_power_loss=st.booleans(),
        all_target_ports=st.booleans(),
    )
)
def test_reserve_out(request: ReserveOut) -> None:
    assert decode_reserve_out(request.command()) == request


@given(generations, st.lists(keys, max_size=64))
def test_keys(generation: int, registered: list[int]) -> None:
    value = Keys(generation=generation, keys=tuple(registered))
    assert decode_keys(value.encode()) == value


@given(generations, st.none() | st.builds(Reservation, key=keys, type=types))
def test_reservation(generation: int, reservation: Reservation | None) -> None:
    value = ReservationReading(generation=generation, reservation=reservation)
    assert decode_reservation(value.encode()) == value


@given(
    st.builds(
        Capabilities,
        can_survive_power_loss=st.booleans(),
        survives_power_loss=st.booleans(),
        can_register_all_target_ports=st.booleans(),
        types=st.frozensets(types),
    )
)
def test_capabilities(value: Capabilities) -> None:
    assert decode_capabilities(value.encode()) == value


@given(generations, st.lists(st.tuples(keys, st.none() | types, ascii_text)))
def test_full_status(generation: int, seen: list[tuple[int, ReservationType | None, str]]) -> None:
    registrations = tuple(
        Registration(key=key, is_holder=kind is not None, type=kind, target_port=1, initiator=name)
        for key, kind, name in seen
    )
    data = encode_full_status(generation, [(item, iscsi_transport_id(item.initiator)) for item in registrations])
    assert decode_full_status(data) == FullStatus(generation=generation, registrations=registrations)


@given(st.sampled_from(SenseKey), st.integers(0, 0xFFFF))
def test_sense(key: SenseKey, code: int) -> None:
    sense = Sense(key=key, code=code)
    assert decode_sense(sense.encode()) == sense
    assert f"({key:x}/" in sense.words


@given(
    st.lists(
        st.builds(
            Designator,
            type=st.integers(0, 15),
            association=st.integers(0, 3),
            code_set=st.integers(0, 15),
            value=st.binary(max_size=255),
        ),
        max_size=20,
    )
)
def test_designators(found: list[Designator]) -> None:
    assert decode_designators(encode_designators(tuple(found))) == tuple(found)


@given(ascii_text)
def test_serial_number(text: str) -> None:
    assert decode_serial_number(encode_serial_number(text)) == text


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**32 - 1))
def test_capacity(blocks: int, block_bytes: int) -> None:
    value = BlockCapacity(blocks=blocks, block_bytes=block_bytes)
    assert decode_capacity(value.encode()) == value


@given(st.sets(st.integers(0, 16383), max_size=50))
def test_luns(numbers: set[int]) -> None:
    assert decode_luns(encode_luns(tuple(numbers))) == tuple(sorted(numbers))


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__name__)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(decode: Callable[[bytes], object], data: bytes) -> None:
    with suppress(MalformedReply):
        decode(data)


@given(st.binary(max_size=20), st.binary(max_size=40))
def test_any_command_is_decoded_or_refused(cdb: bytes, data_out: bytes) -> None:
    with suppress(MalformedReply):
        decode_reserve_out(Command(cdb=cdb, data_out=data_out))


@given(st.integers(0, 71))
def test_cut_lists_are_refused(length: int) -> None:
    """Invariant: a key that is missing from a list that was read is not registered."""
    whole = Keys(generation=1, keys=tuple(range(1, 9))).encode()
    with pytest.raises(MalformedReply):
        decode_keys(whole[:length])
