"""QEMU processes of this node, seen through /proc and not through libvirt.

Rule of the file: a process is a pid *and* its start time; it is gone only when none of its threads can finish a write
any more. Everything here blocks: call it from a thread. Source: proc(5), pidfd_open(2), pid_namespaces(7).
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from holdfast.hypervisor.port import GuestProcess

_PROC = Path("/proc")
_STATE, _THREADS, _START_TICKS = 0, 17, 19
"""Positions after the command's closing parenthesis: fields 3, 20 and 22 of /proc/PID/stat."""


class QemuProcesses:
    """The QEMU processes of one PID namespace: those of nested ones belong to somebody else's libvirt."""

    def __init__(self, *, pid_namespace: str | None = None) -> None:
        """``pid_namespace``: as readlink of /proc/PID/ns/pid gives it; None means our own."""
        self._namespace = pid_namespace or str(Path("/proc/self/ns/pid").readlink())

    def find_all(self) -> dict[str, GuestProcess]:
        """Return the processes by the uuid on their command line (``-uuid``, as libvirt writes it)."""
        found: dict[str, GuestProcess] = {}
        for name in filter(str.isdecimal, (entry.name for entry in _PROC.iterdir())):
            uuid = _uuid_on_command_line(name)
            start_ticks = _start_ticks(int(name)) if uuid and self._is_ours(name) else None
            if uuid and start_ticks is not None:
                found[uuid] = GuestProcess(pid=int(name), start_ticks=start_ticks)
        return found

    def find(self, uuid: str) -> GuestProcess | None:
        """Return the process with this uuid, or None when there is none now."""
        return self.find_all().get(uuid)

    def _is_ours(self, pid: str) -> bool:
        try:
            return str((_PROC / pid / "ns" / "pid").readlink()) == self._namespace
        except OSError:
            return False


def is_alive(process: GuestProcess) -> bool:
    """Return whether the very same process still has a thread that may act; a zombie without threads has not."""
    return _start_ticks(process.pid) == process.start_ticks


def kill_and_wait(process: GuestProcess, *, wait_s: float) -> bool:
    """Send SIGKILL and wait; return whether it is gone. A process stuck in a dead disk's I/O may outlive the wait."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not is_alive(process):
            return True
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], wait_s)
        return not is_alive(process)
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)


def _uuid_on_command_line(pid: str) -> str | None:
    for directory in _threads(pid):
        try:
            arguments = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"-uuid" in arguments[:-1]:
            return arguments[arguments.index(b"-uuid") + 1].decode(errors="replace").lower()
        if arguments != [b""]:
            return None
    return None


def _threads(pid: str) -> Iterator[Path]:
    """Yield the process; then, if its main thread died before others, its threads, which still know the command."""
    yield _PROC / pid
    fields = _stat_fields(int(pid))
    if fields and fields[_STATE] == "Z" and int(fields[_THREADS]) > 1:
        try:
            yield from (_PROC / pid / "task").iterdir()
        except OSError:
            return


def _start_ticks(pid: int) -> int | None:
    fields = _stat_fields(pid)
    if fields is None or (fields[_STATE] in "ZX" and int(fields[_THREADS]) <= 1):
        return None
    return int(fields[_START_TICKS])


def _stat_fields(pid: int) -> list[str] | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()
