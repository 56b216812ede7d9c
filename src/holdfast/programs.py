"""Run a program of this machine once, with a deadline.

Rule of the file: nothing secret is among the arguments, for every user of the machine can read them; and whatever the
program does (hang, flood, leave children behind), the run ends in time, and after a time-out its whole process group.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_KEPT_BYTES: Final = 1 << 20
_REAP_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended within its deadline, and the first megabyte of what it printed."""

    exit_code: int
    output: str
    errors: str

    @property
    def words(self) -> str:
        """What it says, on one line: of what went wrong, if something did."""
        return " ".join((self.errors if self.exit_code else self.output).split())


async def run(
    program: str, *arguments: str, within_s: float, told: str | None = None, is_merged: bool = False
) -> Ended:
    """Run a program in the C locale.

    told        what it reads; None: nothing.
    is_merged   its errors come in its output, in their order.

    Raises: TimeoutError when it did not end, so nobody knows what it did; any other OSError when it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *(program, *arguments),
        stdin=DEVNULL if told is None else PIPE,
        stdout=PIPE,
        stderr=STDOUT if is_merged else PIPE,
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        async with asyncio.timeout(within_s):
            return await _converse(process, told or "")
    except (TimeoutError, asyncio.CancelledError):
        await _end(process)
        raise


async def _converse(process: Process, told: str) -> Ended:
    async with asyncio.TaskGroup() as tasks:
        output = tasks.create_task(_read(process.stdout))
        errors = tasks.create_task(_read(process.stderr))
        tasks.create_task(_feed(process.stdin, told.encode()))
        exit_code = tasks.create_task(process.wait())
    return Ended(exit_code=exit_code.result(), output=output.result(), errors=errors.result())


async def _feed(stdin: asyncio.StreamWriter | None, told: bytes) -> None:
    if stdin is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # it ended without reading: its exit code tells
        stdin.write(told)
        await stdin.drain()
    stdin.close()
    with suppress(BrokenPipeError, ConnectionResetError):
        await stdin.wait_closed()


async def _read(stream: asyncio.StreamReader | None) -> str:
    kept = b""
    while stream is not None and (chunk := await stream.read(_KEPT_BYTES)):
        kept += chunk[: _KEPT_BYTES - len(kept)]
    return kept.decode("utf-8", "replace")


async def _end(process: Process) -> None:
    """It leads its own session; its group outlives it while one of its children does."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):  # it may hang in the kernel, and nothing ends it then
        async with asyncio.timeout(_REAP_S):
            await process.wait()
