"""Running the machine's tools (ip, virsh, …) and turning their failures into words.

Rule of the file: a tool either succeeded, or LabBroken tells which one, with what it printed.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, STDOUT

from holdfast.lab.errors import LabBroken


async def run_tool(*command: str, stdin: str = "", timeout_s: float = 60.0) -> str:
    """Return the tool's output. Raises: LabBroken when it is missing, fails or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    except FileNotFoundError as error:
        raise LabBroken(f"the program {command[0]} is missing", hint="run ./dev setup") from error
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(stdin.encode())
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise LabBroken(f"`{' '.join(command)}` did not end within {timeout_s:g} s") from error
        raise
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise LabBroken(f"`{' '.join(command)}` ended with {process.returncode}: {text.strip()}")
    return text
