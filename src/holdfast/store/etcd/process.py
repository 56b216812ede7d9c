"""A process that is known by pid and start time, so that a reused pid is never taken for it.

It may be a child, or one that an earlier run of this program started. Source: proc(5), pidfd_open(2).
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """``start_ticks`` is field 22 of ``/proc/PID/stat``: clock ticks from the machine's start to the process's."""

    pid: int
    start_ticks: int


def identify(pid: int) -> ProcessId | None:
    """Return the identity of the process that has this pid now; None when there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    if fields[0] in {"Z", "X"}:
        return None
    return ProcessId(pid=pid, start_ticks=int(fields[19]))


class RunningProcess:
    """A handle that stays with this one process whatever happens to its pid."""

    def __init__(self, identity: ProcessId) -> None:
        """Raises: ProcessLookupError when that process does not run any more."""
        self.identity = identity
        self._pidfd = os.pidfd_open(identity.pid)
        if identify(identity.pid) != identity:
            os.close(self._pidfd)
            raise ProcessLookupError(f"process {identity.pid} is not the one that was started")

    async def wait_exit(self) -> int | None:
        """Wait for its end. Return its wait status if it is a child, else None."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
        try:
            return os.waitpid(self.identity.pid, os.WNOHANG)[1]
        except ChildProcessError:
            return None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended already is fine."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Let go of the handle; the process is left alone."""
        os.close(self._pidfd)
