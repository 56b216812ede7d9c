"""Run a fence agent once, with a deadline.

Rule of the file: whatever the agent does (hang, flood, leave children behind), the run ends in time, and after a
time-out its whole process group with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress

from holdfast.fencing.agent_reply import AgentReply

_OUTPUT_BYTES = 64 * 1024
_AGENT_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin"


async def run_agent(agent: str, options: Mapping[str, str], *, action: str, timeout_ms: int) -> AgentReply:
    """Run ``agent`` with ``options`` and ``action`` on its standard input, and return how that ended."""
    path = shutil.which(agent, path=f"{os.environ.get('PATH', os.defpath)}:{_AGENT_FOLDERS}")
    if path is None:
        return AgentReply(exit_code=None, was_started=False, problem=f"fence agent {agent} is not installed")
    lines = "".join(f"{key}={value}\n" for key, value in {**options, "action": action}.items())
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        problem = f"fence agent {path} cannot be run: {error.strerror}"
        return AgentReply(exit_code=None, was_started=False, problem=problem)
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await _converse(process, lines.encode())
    except TimeoutError:
        await _end(process)
        return AgentReply(exit_code=None, problem=f"no answer to {action} within {timeout_ms} ms")
    except asyncio.CancelledError:
        await _end(process)
        raise


async def _converse(process: asyncio.subprocess.Process, lines: bytes) -> AgentReply:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as tasks:
        output = tasks.create_task(_read(process.stdout))
        errors = tasks.create_task(_read(process.stderr))
        tasks.create_task(_feed(process.stdin, lines))
        exit_code = tasks.create_task(process.wait())
    return AgentReply(exit_code=exit_code.result(), output=output.result(), errors=errors.result())


async def _feed(stdin: asyncio.StreamWriter, lines: bytes) -> None:
    try:
        stdin.write(lines)
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        # The agent ended without reading its options; its exit code tells.
        return


async def _read(stream: asyncio.StreamReader) -> str:
    kept = b""
    while chunk := await stream.read(_OUTPUT_BYTES):
        kept += chunk[: _OUTPUT_BYTES - len(kept)]
    return kept.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    # The agent leads its own session; its group outlives it while one of its children does.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
