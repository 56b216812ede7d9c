"""Running the machine's tools (ip, virsh, …) and turning their failures into words.

Rule of the file: a tool either succeeded, or LabBroken tells which one, with what it printed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process

from holdfast.lab.errors import LabBroken


async def kill_group(process: Process) -> None:
    """Kill a process that leads its group, with all of the group, unless it has ended; returns when it is gone."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def run_tool(*command: str, stdin: str = "", timeout_s: float = 60.0) -> str:
    """Return the tool's output. Raises: LabBroken when it is missing, fails or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, process_group=0
        )
    except FileNotFoundError as error:
        raise LabBroken(f"the program {command[0]} is missing", hint="run ./dev setup") from error
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(stdin.encode())
    except TimeoutError as error:
        raise LabBroken(f"`{' '.join(command)}` did not end within {timeout_s:g} s") from error
    finally:
        await kill_group(process)
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise LabBroken(f"`{' '.join(command)}` ended with {process.returncode}: {text.strip()}")
    return text
