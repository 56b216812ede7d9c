"""Helpers that hold the nexus of a disk: one over the simulated target, the lab's adapter over tgtd, and QEMU's own."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from holdfast.lab.adapter import QEMU_STORAGE_DAEMON, adapter_library, build_adapter_library
from holdfast.lab.bench.target import OwnTarget
from holdfast.storage.reservation_helper import (
    CARRIES_MORE,
    CDB_BYTES,
    GREETING_BYTES,
    RESET_UNIT,
    SENSE_BYTES,
)
from holdfast.storage.scsi.command import Command, OperationCode
from holdfast.storage.scsi.status import Status
from holdfast.storage.transport import Answer, Transport

READY_S = 10.0
BLOCK_BYTES = 512
ANSWER_MS = 5000


class HelperServer:
    """The protocol in front of any transport, with levers for what a helper can do wrong."""

    def __init__(self, behind: Transport, *, greeting: int = CARRIES_MORE) -> None:
        self.behind = behind
        self.greeting = greeting
        self.is_silent = False
        self.is_leaving = False
        """Hang up after the command was carried out, before its answer."""
        self.oversize = 0
        self.carried: list[int] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        self._writers.append(writer)
        try:
            writer.write(self.greeting.to_bytes(GREETING_BYTES))
            accepted = int.from_bytes(await reader.readexactly(GREETING_BYTES))
            if accepted & ~self.greeting:
                return
            while True:
                cdb = await reader.readexactly(CDB_BYTES)
                sends = 0
                if cdb[0] == OperationCode.PERSISTENT_RESERVE_OUT:
                    sends = int.from_bytes(cdb[5:9])
                elif cdb[0] == OperationCode.WRITE_16:
                    sends = int.from_bytes(cdb[10:14]) * BLOCK_BYTES
                answer = await self._carry_out(cdb, await reader.readexactly(sends))
                if self.is_leaving:
                    return
                if not self.is_silent:
                    size = self.oversize or len(answer.data)
                    writer.write(answer.status.to_bytes(4) + size.to_bytes(4))
                    writer.write(answer.sense.ljust(SENSE_BYTES, b"\0")[:SENSE_BYTES] + answer.data)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _carry_out(self, cdb: bytes, data: bytes) -> Answer:
        self.carried.append(cdb[0])
        if cdb[0] == RESET_UNIT.operation:
            reply = await self.behind.reset_logical_unit(timeout_ms=ANSWER_MS)
        else:
            command = Command(cdb=cdb, data_out=data, data_in_bytes=0 if data else 8192)
            reply = await self.behind.execute(command, timeout_ms=ANSWER_MS)
        assert isinstance(reply, Answer), reply
        return reply

    def hang_up(self) -> None:
        """End all connections, as a helper that is restarted."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def serving(server: HelperServer, path: Path) -> AsyncIterator[HelperServer]:
    """Listen while the context lasts."""
    listener = await asyncio.start_unix_server(server.serve, str(path))
    try:
        yield server
    finally:
        listener.close()
        server.hang_up()


@asynccontextmanager
async def lab_adapter(target: OwnTarget, folder: Path, *, disk: int = 1) -> AsyncIterator[Path]:
    """Run the lab's adapter for one disk of a tgtd; gives the socket of its reservations."""
    await build_adapter_library()
    address, path = target.address("adapter"), folder / "reservations"
    login = f"driver=iscsi,node-name=lun,transport=tcp,portal={target.portal},target={address.target},lun={disk}"
    command = (QEMU_STORAGE_DAEMON, "--blockdev", f"{login},initiator-name={address.initiator},cache.direct=on")
    environment = {"LD_PRELOAD": str(adapter_library()), "HOLDFAST_ADAPTER_SOCKET": str(path)}
    async with _process(command, path, environment):
        yield path


@asynccontextmanager
async def qemu_helper(folder: Path) -> AsyncIterator[Path]:
    """Run QEMU's own helper; gives its socket."""
    path = folder / "pr-helper"
    async with _process(("qemu-pr-helper", "--socket", str(path)), path, {}):
        yield path


@asynccontextmanager
async def _process(command: Sequence[str], path: Path, environment: dict[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=os.environ | environment
    )
    try:
        async with asyncio.timeout(READY_S):
            while not path.exists():
                assert process.returncode is None, (await process.communicate())[1].decode()
                await asyncio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def is_good(answer: object) -> bool:
    """Whether a command was carried out."""
    return isinstance(answer, Answer) and answer.status == Status.GOOD
