"""Run a program once, with a deadline, and keep what it printed.

Rule of the file: nothing secret is among the arguments, for every user of the machine can read them; and whatever the
program does, the run ends in time, with its whole process group.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from holdfast.storage.errors import InitiatorMissing

_FOLDERS: Final = "/usr/sbin:/sbin"
_OUTPUT_BYTES: Final = 1 << 20
_REAP_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended. `exit_code` None: not within its deadline, so nobody knows what it did."""

    exit_code: int | None
    output: str = ""


async def run_program(program: str, *arguments: str, package: str, timeout_ms: int) -> Ended:
    """Run a program. Raises InitiatorMissing when it cannot be started; `package` has it."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_FOLDERS}")
    if path is None:
        raise InitiatorMissing(f"{program} is not installed on this node", hint=f"install {package}")
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            *arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise InitiatorMissing(f"{path} cannot be run: {error.strerror}", hint=f"install {package} anew") from error
    output = b""
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            output = await _read(process)
            return Ended(exit_code=await process.wait(), output=output.decode("utf-8", "replace"))
    except TimeoutError:
        return Ended(exit_code=None)
    finally:
        await _end(process)


async def _read(process: Process) -> bytes:
    assert process.stdout is not None
    kept = b""
    while chunk := await process.stdout.read(_OUTPUT_BYTES):
        kept += chunk[: _OUTPUT_BYTES - len(kept)]
    return kept


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):  # it may hang in the kernel, and nothing ends it then
        await asyncio.wait_for(process.wait(), _REAP_S)
