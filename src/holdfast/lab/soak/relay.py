"""A cable with a mind: bytes between a light node and its disks or database, held, let go late, or trapped.

Rule of the file: bytes are never lost and never change their order; what is held arrives later, as over a network that
was cut for a while. The death of a node is not told to the other side, as with a power cut. Where iSCSI passes, PREEMPT
is recognised, so that something can happen at that very moment. Source: RFC 7143 clause 11.2, 11.3; SPC-4 clause 6.16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Final

from holdfast.storage.scsi.command import OperationCode
from holdfast.storage.scsi.reservations import OutAction

_CHUNK: Final = 1 << 16
_LINKS_MAX: Final = 100
"""Who knocks at a cut cable again and again is turned away from there on, or the rig runs out of files."""
_HEADER: Final = 48
_OPCODE, _SCSI_COMMAND = 0x3F, 0x01
_CDB: Final = 32
_PREEMPTS: Final = (OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT)


class Way(StrEnum):
    """A direction, as seen from the node."""

    OUT = "out"
    BACK = "back"


class Gate:
    """Whether one direction is open. Several may hold it shut."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def shut(self) -> None:
        """Hold everything from now on."""
        self._open.clear()

    def open(self) -> None:
        """Let go."""
        self._open.set()

    @property
    def is_open(self) -> bool:
        """Whether bytes pass."""
        return self._open.is_set()

    async def passed(self) -> None:
        """Return while it is open."""
        await self._open.wait()


class Relay:
    """Listens on a port of 127.0.0.1 for one node and connects through to `to`.

    on_preempt   called with a PREEMPT that is to be passed on; may shut gates first. None: nothing is recognised.
    """

    def __init__(self, to: tuple[str, int], *, on_preempt: Callable[[], None] | None = None) -> None:
        self.gates = {way: Gate() for way in Way}
        self.passed_preempt: Callable[[], None] = lambda: None
        """Called once a PREEMPT was passed on."""
        self.is_silent = False
        """While set, the end of the node's side is not told to the other."""
        self._to = to
        self._on_preempt = on_preempt
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._orphans: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End all connections, also to who does not answer."""
        if self._server is not None:
            self._server.close()
        self.is_silent = True  # so that no end waits for what is still to be sent
        links = tuple(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        for orphan in self._orphans:
            orphan.transport.abort()

    def shut(self) -> None:
        """Cut the cable."""
        for gate in self.gates.values():
            gate.shut()

    def open(self) -> None:
        """Mend the cable: what was held arrives."""
        for gate in self.gates.values():
            gate.open()

    @property
    def is_open(self) -> bool:
        """Whether bytes pass both ways."""
        return all(gate.is_open for gate in self.gates.values())

    def forget_dead(self) -> None:
        """End the connections that dead nodes left open."""
        orphans, self._orphans = self._orphans, []
        for orphan in orphans:
            orphan.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._links) >= _LINKS_MAX:
            writer.close()
            return
        self._links.add(task)
        try:
            await self._join(reader, writer)
        except asyncio.CancelledError:
            return  # asyncio would report the end of a connection that was cut as an error
        finally:
            self._links.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.gates[Way.OUT].passed()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._to, limit=_CHUNK)
        except OSError:
            return
        directions = [
            asyncio.create_task(self._pump(reader, far_writer, Way.OUT)),
            asyncio.create_task(self._pump(far_reader, writer, Way.BACK)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            if self.is_silent:
                self._orphans.append(far_writer)
            else:
                far_writer.close()
            await asyncio.gather(*directions, return_exceptions=True)  # may be cancelled, so it comes last

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        units = Units() if self._on_preempt is not None and way is Way.OUT else None
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                for piece in [chunk] if units is None else units.split(chunk):
                    is_preempt = units is not None and is_preempting(piece)
                    if is_preempt and self._on_preempt is not None:
                        self._on_preempt()
                    await self.gates[way].passed()
                    writer.write(piece)
                    if is_preempt:
                        await writer.drain()
                        self.passed_preempt()
                await writer.drain()


class Units:
    """Cuts a stream into the units of iSCSI (PDUs, without digests)."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, chunk: bytes) -> list[bytes]:
        """Return the units that are whole now."""
        self._rest += chunk
        found = []
        while len(self._rest) >= _HEADER:
            data = int.from_bytes(self._rest[5:8])
            size = _HEADER + 4 * self._rest[4] + data + -data % 4
            if len(self._rest) < size:
                break
            found.append(self._rest[:size])
            self._rest = self._rest[size:]
        return found


def is_preempting(unit: bytes) -> bool:
    """Whether a unit of iSCSI carries a PREEMPT, with abort or without."""
    if unit[0] & _OPCODE != _SCSI_COMMAND or unit[_CDB] != OperationCode.PERSISTENT_RESERVE_OUT:
        return False
    return unit[_CDB + 1] & 0x1F in _PREEMPTS
