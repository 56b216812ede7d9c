"""Persistent reservation commands over a node's own adapter, and block I/O through it, as a test wants them.

Rule of the file: the commands are encoded here by hand, from the standard, and not by the code that will use them in
earnest. Source: SPC-4 6.15, 6.16; QEMU docs/interop/pr-helper.rst.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from holdfast.lab.lab import Finished, Lab
from holdfast.lab.luns import Lun

GOOD, CHECK_CONDITION, CONFLICT = 0x00, 0x02, 0x18
REGISTER, RESERVE, CLEAR, PREEMPT, REGISTER_AND_IGNORE = 0, 1, 3, 4, 6
WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
UNIT_ATTENTION, ABORTED_COMMAND = 0x6, 0xB
_WAIT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the target answered."""

    status: int
    sense_key: int
    data: bytes


class Adapter:
    """One node's way to the reservations of one LUN."""

    def __init__(self, init_pid: int, lun: Lun) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_WAIT_S)
        self._socket.connect(f"/proc/{init_pid}/root{lun.reservations_socket}")
        self._socket.sendall(self._receive(4))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @classmethod
    async def of(cls, lab: Lab, node: str, lun: Lun) -> Adapter:
        """Connect to a node's adapter, from outside the node."""
        return cls((await lab.status()).node(node).init_pid, lun)

    def order(self, action: int, key: int, action_key: int = 0) -> int:
        """Send a PERSISTENT RESERVE OUT; returns the status."""
        return self._repeated(lambda: self.send(action, key, action_key)).status

    def keys(self) -> list[int] | None:
        """Return the registered keys; None while the adapter has no session, or learns that it has a new one."""
        reply = self._repeated(lambda: self._send(struct.pack(">BBxxxxxHxxxxxxx", 0x5E, 0, 4096)))
        if reply.status != GOOD:
            return None
        count = struct.unpack_from(">I", reply.data, 4)[0] // 8
        return list(struct.unpack_from(f">{count}Q", reply.data, 8))

    def is_registered(self, key: int) -> bool:
        """Return whether this very session is registered with the key, by a registration that changes nothing."""
        return self.order(REGISTER, key, key) == GOOD

    def send(self, action: int, key: int, action_key: int) -> None:
        """Send a PERSISTENT RESERVE OUT without waiting for its reply."""
        kind = 0 if action in (REGISTER, REGISTER_AND_IGNORE) else WRITE_EXCLUSIVE_REGISTRANTS_ONLY
        self._send(struct.pack(">BBBxxIxxxxxxx", 0x5F, action, kind, 24))
        self._socket.sendall(struct.pack(">QQ8x", key, action_key))

    def reply(self) -> Reply:
        """Wait for the reply."""
        status, size = struct.unpack(">II", self._receive(8))
        sense = self._receive(96)
        return Reply(status=status, sense_key=sense[2] & 0xF, data=self._receive(size))

    def _repeated(self, send: Callable[[], None]) -> Reply:
        """Send a command, and again after a unit attention, as the standard wants it."""
        while True:
            send()
            reply = self.reply()
            if (reply.status, reply.sense_key) != (CHECK_CONDITION, UNIT_ATTENTION):
                return reply

    def _send(self, command: bytes) -> None:
        """The protocol wants the device's file with each command; the adapter has only one device."""
        with open(os.devnull, "rb") as file:  # noqa: PTH123
            socket.send_fds(self._socket, [command], [file.fileno()])

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            got = self._socket.recv(size - len(data))
            if not got:
                raise ConnectionResetError("the adapter hung up")
            data += got
        return data


def io_command(lun: Lun, *orders: str) -> list[str]:
    """Return the command that does block I/O over a node's adapter, such as ``write -P 7 0 4k``."""
    words = [word for order in orders for word in ("-c", order)]
    return ["qemu-io", "-f", "raw", *words, f"nbd+unix:///{lun.designator}?socket={lun.nbd_socket}"]


async def do_io(lab: Lab, node: str, lun: Lun, *orders: str) -> Finished:
    """Do block I/O over a node's adapter."""
    return await lab.execute(node, *io_command(lun, *orders), check=False)
