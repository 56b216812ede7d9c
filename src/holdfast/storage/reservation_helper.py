"""A logical unit through a process that holds the nexus: QEMU's protocol for persistent reservation helpers.

Rule of the file: one command at a time, each at most once, and whatever breaks while a command is under way leaves its
outcome unknown. Of itself the protocol carries reservation commands only. A helper whose greeting has the bit
CARRIES_MORE also tells who and how large the disk is, and resets it: a process that presents a disk to QEMU must, for
nothing else reaches the disk over the same nexus. Source: QEMU docs/interop/pr-helper.rst.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Final

from holdfast.storage.scsi.command import READ_CAPACITY_ACTION, Command, OperationCode
from holdfast.storage.scsi.status import Status
from holdfast.storage.transport import Answer, Lost, Reply, Unsent

CARRIES_MORE: Final = 0x8000_0000
"""In the helper's greeting: it also carries INQUIRY, READ CAPACITY (16), TEST UNIT READY, READ (16), WRITE (16) and
RESET_UNIT."""
RESET_UNIT: Final = Command(cdb=b"\xff")
"""Stands for a LOGICAL UNIT RESET, which is no command: the target drops what it has not finished, of everybody."""
GREETING_BYTES: Final = 4
CDB_BYTES: Final = 16
SENSE_BYTES: Final = 96
DATA_BYTES_MAX: Final = 8192
_RESERVATIONS: Final = (OperationCode.PERSISTENT_RESERVE_IN, OperationCode.PERSISTENT_RESERVE_OUT)
_MORE: Final = (
    bytes((OperationCode.INQUIRY,)),
    bytes((OperationCode.TEST_UNIT_READY,)),
    bytes((OperationCode.READ_16,)),
    bytes((OperationCode.WRITE_16,)),
    bytes((OperationCode.SERVICE_ACTION_IN_16, READ_CAPACITY_ACTION)),
    RESET_UNIT.cdb,
)
"""How the commands begin that a helper carries beyond reservations."""


class HelperTransport:
    """A `Transport` through the helper that listens on a unix socket and serves this one logical unit."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._link: socket.socket | None = None
        self._carries_more = False
        self._is_open = True
        self._turn = asyncio.Lock()

    @property
    def path(self) -> str:
        """See `Transport`."""
        return str(self._socket_path)

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        is_sent = False
        try:
            async with asyncio.timeout(timeout_ms / 1000), self._turn:
                link = await self._connected()
                if not self._carries(command):
                    return Unsent(words="the helper carries reservation commands only")
                is_sent = True
                return await self._converse(link, command)
        except (TimeoutError, OSError) as error:
            words = str(error) or f"none within {timeout_ms} ms"
            return Lost(words=words) if is_sent else Unsent(words=words)

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self.execute(RESET_UNIT, timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`. A command that is under way ends as lost."""
        self._is_open = False
        if self._link is not None:
            self._link.shutdown(socket.SHUT_RDWR)
        async with self._turn:
            self._hang_up()

    def _carries(self, command: Command) -> bool:
        if command.operation in _RESERVATIONS:
            return True
        return self._carries_more and command.cdb.startswith(_MORE)

    async def _converse(self, link: socket.socket, command: Command) -> Answer:
        """Exchange a command for its answer. Hangs up if that breaks off: a late answer is not that of the next one."""
        try:
            return await _exchange(link, command)
        except BaseException:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    async def _connected(self) -> socket.socket:
        """Return the connection, made anew if need be. Raises OSError."""
        if not self._is_open:
            raise ConnectionAbortedError("it was closed")
        if self._link is None:
            loop = asyncio.get_running_loop()
            link = socket.socket(socket.AF_UNIX)
            link.setblocking(False)
            try:
                await loop.sock_connect(link, self.path)
                offered = int.from_bytes(await _receive(link, GREETING_BYTES))
                await loop.sock_sendall(link, (offered & CARRIES_MORE).to_bytes(GREETING_BYTES))
            except BaseException:
                link.close()
                raise
            self._carries_more = bool(offered & CARRIES_MORE)
            self._link = link
        return self._link


async def _exchange(link: socket.socket, command: Command) -> Answer:
    """Send a command and return its answer. The protocol wants a device's file with it; such helpers have their own."""
    device = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        socket.send_fds(link, [_clipped(command).ljust(CDB_BYTES, b"\0")], [device])
    finally:
        os.close(device)
    await asyncio.get_running_loop().sock_sendall(link, command.data_out)
    head = await _receive(link, 8 + SENSE_BYTES)
    status, size = int.from_bytes(head[:4]), int.from_bytes(head[4:8])
    if size > DATA_BYTES_MAX:
        raise ConnectionAbortedError(f"it answers with {size} bytes, more than the protocol knows")
    sense = head[8:] if status == Status.CHECK_CONDITION else b""
    return Answer(status=status, data=await _receive(link, size), sense=sense)


def _clipped(command: Command) -> bytes:
    """The descriptor block with no more bytes to come back than the protocol carries; bytes 7 and 8 say how many."""
    if command.operation != OperationCode.PERSISTENT_RESERVE_IN:
        return command.cdb
    length = min(int.from_bytes(command.cdb[7:9]), DATA_BYTES_MAX)
    return command.cdb[:7] + length.to_bytes(2) + command.cdb[9:]


async def _receive(link: socket.socket, size: int) -> bytes:
    """Return so many bytes. Raises ConnectionResetError when the helper hangs up."""
    data = b""
    while len(data) < size:
        got = await asyncio.get_running_loop().sock_recv(link, size - len(data))
        if not got:
            raise ConnectionResetError("the helper hung up")
        data += got
    return data
