"""Run a fence agent once, with a deadline: its options come on its standard input, where nobody else reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from holdfast import programs
from holdfast.fencing.agent_reply import AgentReply

_AGENT_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin"


async def run_agent(agent: str, options: Mapping[str, str], *, action: str, timeout_ms: int) -> AgentReply:
    """Run ``agent`` with ``options`` and ``action`` on its standard input, and return how that ended."""
    path = shutil.which(agent, path=f"{os.environ.get('PATH', os.defpath)}:{_AGENT_FOLDERS}")
    if path is None:
        return AgentReply(exit_code=None, was_started=False, problem=f"fence agent {agent} is not installed")
    lines = "".join(f"{key}={value}\n" for key, value in {**options, "action": action}.items())
    try:
        ended = await programs.run(path, told=lines, within_s=timeout_ms / 1000)
    except TimeoutError:
        return AgentReply(exit_code=None, problem=f"no answer to {action} within {timeout_ms} ms")
    except OSError as error:
        problem = f"fence agent {path} cannot be run: {error.strerror}"
        return AgentReply(exit_code=None, was_started=False, problem=problem)
    return AgentReply(exit_code=ended.exit_code, output=ended.output, errors=ended.errors)
