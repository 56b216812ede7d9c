"""SG_IO on paper: the header that goes to the kernel, and what is made of the one that comes back."""

from __future__ import annotations

import ctypes
import errno
import struct

import pytest

from holdfast.storage.scsi import command as scsi
from holdfast.storage.scsi.sense import Sense, SenseKey
from holdfast.storage.scsi.status import Status
from holdfast.storage.sg_io import SgIoHeader, SgIoRequest, SgIoTransport, reply_of_error
from holdfast.storage.transport import Answer, Lost, Unsent

SENSE = Sense(key=SenseKey.UNIT_ATTENTION, code=0x2A05).encode()


def filled(request: SgIoRequest, fields: dict[str, int], *, sense: bytes = b"", data: bytes = b"") -> SgIoRequest:
    """Do to a request what the kernel does."""
    ctypes.memmove(request.header.sbp, sense, len(sense))
    if data:
        ctypes.memmove(request.header.dxferp, data, len(data))
    for name, value in (fields | {"sb_len_wr": len(sense)}).items():
        setattr(request.header, name, value)
    return request


@pytest.mark.skipif(struct.calcsize("P") != 8, reason="the vector is of a 64-bit kernel")
def test_the_header_is_laid_out_as_the_kernel_wants_it() -> None:
    request = SgIoRequest(scsi.write(block=3, data=b"x" * 512, block_bytes=512, is_forced=True), timeout_ms=1500)
    assert ctypes.sizeof(SgIoHeader) == 88
    fields = struct.unpack_from("=iiBBHIQQQII", bytes(request.header))
    assert fields[:6] == (ord("S"), -2, 16, 252, 0, 512)
    assert ctypes.string_at(fields[6], 512) == b"x" * 512
    assert ctypes.string_at(fields[7], 16).hex() == "8a080000000000000003000000010000"
    assert fields[9:] == (1500, 0)


@pytest.mark.parametrize(
    ("command", "direction", "length"),
    [(scsi.test_unit_ready(), -1, 0), (scsi.read_capacity(), -3, 32), (scsi.inquiry(), -3, 1024)],
    ids=["none", "in", "in-long"],
)
def test_data_goes_the_right_way(command: scsi.Command, direction: int, length: int) -> None:
    header = SgIoRequest(command, timeout_ms=1).header
    assert (header.dxfer_direction, header.dxfer_len, bool(header.dxferp)) == (direction, length, length > 0)


def test_data_is_cut_by_the_residual() -> None:
    request = SgIoRequest(scsi.read_capacity(), timeout_ms=1)
    assert filled(request, {"resid": 24}, data=b"12345678").reply() == Answer(status=Status.GOOD, data=b"12345678")


@pytest.mark.parametrize(
    ("fields", "sense", "reply"),
    [
        ({}, b"", Answer(status=Status.GOOD)),
        ({"status": 2, "driver_status": 8}, SENSE, Answer(status=Status.CHECK_CONDITION, sense=SENSE)),
        ({"driver_status": 8}, SENSE, Answer(status=Status.CHECK_CONDITION, sense=SENSE)),
        ({"status": 0x18}, b"", Answer(status=Status.RESERVATION_CONFLICT)),
        ({"status": 0x18, "host_status": 0x11}, b"", Answer(status=Status.RESERVATION_CONFLICT)),
        ({"host_status": 0x01}, b"", Lost(words="host status 0x1, driver status 0x0")),
        ({"host_status": 0x03}, b"", Lost(words="host status 0x3, driver status 0x0")),
        ({"driver_status": 0x06}, b"", Lost(words="host status 0x0, driver status 0x6")),
        ({"status": 2, "host_status": 0x0E}, b"", Lost(words="host status 0xe, driver status 0x0")),
    ],
)
def test_what_the_kernel_says_is_judged(fields: dict[str, int], sense: bytes, reply: object) -> None:
    request = SgIoRequest(scsi.test_unit_ready(), timeout_ms=1)
    assert filled(request, fields, sense=sense).reply() == reply


def test_only_errors_before_sending_mean_not_sent() -> None:
    assert isinstance(reply_of_error(OSError(errno.ENOTTY, "no ioctl")), Unsent)
    assert isinstance(reply_of_error(OSError(errno.EIO, "i/o error")), Lost)
    assert isinstance(reply_of_error(OSError(errno.ETIMEDOUT, "timed out")), Lost)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/missing", __file__])
async def test_what_is_no_scsi_device_is_told(device: str) -> None:
    transport = SgIoTransport(device)
    assert isinstance(await transport.execute(scsi.test_unit_ready(), timeout_ms=2000), Unsent)
    assert isinstance(await transport.reset_logical_unit(timeout_ms=2000), Unsent)
    await transport.close()
    assert await transport.execute(scsi.inquiry(), timeout_ms=2000) == Unsent(words="it was closed")
