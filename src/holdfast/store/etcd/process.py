"""A process that is known by pid and start time, so that a reused pid is never taken for it.

It may be a child, or one that an earlier run of this program started. Source: proc(5), pidfd_open(2).
"""

from __future__ import annotations

import asyncio
import contextlib
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
        self._ended: asyncio.Event | None = None
        self._pidfd = os.pidfd_open(identity.pid)
        if identify(identity.pid) != identity:
            os.close(self._pidfd)
            raise ProcessLookupError(f"process {identity.pid} is not the one that was started")

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return identify(self.identity.pid) != self.identity

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line that it was started with; nothing when it runs no more."""
        try:
            return tuple(Path(f"/proc/{self.identity.pid}/cmdline").read_bytes().decode().split("\0"))
        except (FileNotFoundError, ProcessLookupError):
            return ()

    async def wait_exit(self) -> None:
        """Wait for its end; any number of tasks may."""
        if self._ended is None:
            self._ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(self._pidfd, self._on_end, self._ended)
        await self._ended.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended already is fine."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Let go of the handle; the process is left alone."""
        if self._ended is not None and not self._ended.is_set():
            asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)

    def _on_end(self, ended: asyncio.Event) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        with contextlib.suppress(ChildProcessError):  # started by an earlier run of this program: init reaps it
            os.waitpid(self.identity.pid, os.WNOHANG)
        ended.set()
