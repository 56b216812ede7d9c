"""LUNs of the kernel (iSCSI, Fibre Channel, SAS) by the SG_IO ioctl on their block device.

Rule of the file: only an error that the kernel gives before it sends anything means "not sent"; every other one, and
every host or driver status, leaves the outcome unknown.
Source: Linux ``include/scsi/sg.h`` (version 3 of the interface), ``Documentation/scsi/scsi-generic.rst``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from ctypes import c_int, c_ubyte, c_uint, c_ushort, c_void_p
from typing import ClassVar, Final

from holdfast.storage.errors import LunUnreachable
from holdfast.storage.kernel_call import KernelCalls
from holdfast.storage.scsi.command import Command
from holdfast.storage.scsi.status import Status
from holdfast.storage.transport import Answer, Lost, Reply, Unsent

SG_IO: Final = 0x2285
SG_SCSI_RESET: Final = 0x2284
RESET_DEVICE_ONLY: Final = 0x101
"""SG_SCSI_RESET_DEVICE with SG_SCSI_RESET_NO_ESCALATE: this logical unit, and never the bus."""
SENSE_BYTES: Final = 252
_TO_DEVICE, _FROM_DEVICE, _NO_DATA = -2, -3, -1
_DRIVER_SENSE: Final = 0x08
_BEFORE_SENDING: Final = frozenset(
    (
        errno.EACCES,
        errno.EAGAIN,
        errno.EFAULT,
        errno.EINVAL,
        errno.EMFILE,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOMEM,
        errno.ENOTDIR,
        errno.ENOTTY,
        errno.ENXIO,
        errno.EPERM,
    )
)


class SgIoHeader(ctypes.Structure):
    """``struct sg_io_hdr``."""

    _fields_: ClassVar = [
        ("interface_id", c_int),
        ("dxfer_direction", c_int),
        ("cmd_len", c_ubyte),
        ("mx_sb_len", c_ubyte),
        ("iovec_count", c_ushort),
        ("dxfer_len", c_uint),
        ("dxferp", c_void_p),
        ("cmdp", c_void_p),
        ("sbp", c_void_p),
        ("timeout", c_uint),
        ("flags", c_uint),
        ("pack_id", c_int),
        ("usr_ptr", c_void_p),
        ("status", c_ubyte),
        ("masked_status", c_ubyte),
        ("msg_status", c_ubyte),
        ("sb_len_wr", c_ubyte),
        ("host_status", c_ushort),
        ("driver_status", c_ushort),
        ("resid", c_int),
        ("duration", c_uint),
        ("info", c_uint),
    ]


class SgIoRequest:
    """A command with the memory that the kernel reads and writes; it lives as long as the call does."""

    def __init__(self, command: Command, *, timeout_ms: int) -> None:
        length = len(command.data_out) or command.data_in_bytes
        self._data = ctypes.create_string_buffer(command.data_out, length) if length else None
        self._cdb = ctypes.create_string_buffer(command.cdb, len(command.cdb))
        self._sense = ctypes.create_string_buffer(SENSE_BYTES)
        direction = _TO_DEVICE if command.data_out else _FROM_DEVICE if command.data_in_bytes else _NO_DATA
        self.header = SgIoHeader(
            interface_id=ord("S"),
            dxfer_direction=direction,
            cmd_len=len(command.cdb),
            mx_sb_len=SENSE_BYTES,
            dxfer_len=length,
            dxferp=None if self._data is None else ctypes.addressof(self._data),
            cmdp=ctypes.addressof(self._cdb),
            sbp=ctypes.addressof(self._sense),
            timeout=timeout_ms,
        )

    def reply(self) -> Reply:
        """Return what the kernel left in the header."""
        header = self.header
        sense = self._sense.raw[: header.sb_len_wr]
        if header.status in (Status.RESERVATION_CONFLICT, Status.BUSY, Status.TASK_SET_FULL):
            return Answer(status=header.status)  # the kernel may add a host status of its own to these
        if header.host_status or header.driver_status & ~_DRIVER_SENSE:
            return Lost(words=f"host status {header.host_status:#x}, driver status {header.driver_status:#x}")
        if header.status == Status.GOOD and sense:
            return Answer(status=Status.CHECK_CONDITION, sense=sense, data=self._data_in())
        return Answer(status=header.status, sense=sense, data=self._data_in())

    def _data_in(self) -> bytes:
        if self._data is None or self.header.dxfer_direction != _FROM_DEVICE:
            return b""
        return self._data.raw[: max(0, len(self._data) - max(0, self.header.resid))]


class SgIoTransport:
    """A `Transport` over a block device such as ``/dev/disk/by-id/wwn-0x6001…``.

    The device is opened for each call, read-only, so that nothing takes its closing for the end of writing to it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._calls = KernelCalls(device)
        self._is_open = True

    @property
    def path(self) -> str:
        """See `Transport`."""
        return self._device

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        request = SgIoRequest(command, timeout_ms=timeout_ms)

        def act() -> Reply:
            _ioctl(self._device, SG_IO, request.header)
            return request.reply()

        return await self._run(act, timeout_ms)

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""

        def act() -> Reply:
            _ioctl(self._device, SG_SCSI_RESET, c_int(RESET_DEVICE_ONLY))
            return Answer(status=Status.GOOD)

        return await self._run(act, timeout_ms)

    async def close(self) -> None:
        """See `Transport`."""
        self._is_open = False

    async def _run(self, act: Callable[[], Reply], timeout_ms: int) -> Reply:
        if not self._is_open:
            return Unsent(words="it was closed")
        try:
            return await self._calls.run(act, timeout_ms=timeout_ms)
        except TimeoutError:
            return Lost(words=f"none from the kernel within {timeout_ms} ms")
        except LunUnreachable as error:
            return Unsent(words=error.message)
        except OSError as error:
            return reply_of_error(error)


def reply_of_error(error: OSError) -> Reply:
    """Return what an error of open or ioctl says about the command."""
    words = f"{error.strerror} (error {error.errno})"
    return Unsent(words=words) if error.errno in _BEFORE_SENDING else Lost(words=words)


def _ioctl(device: str, request: int, argument: ctypes.Structure | c_int) -> None:
    descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, request, argument)
    finally:
        os.close(descriptor)
