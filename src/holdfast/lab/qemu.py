"""When QEMU processes began, seen from the machine into all its nodes.

Rule of the file: a node is a nested PID namespace, so this machine's /proc shows its processes too; a process tells its
own start, so looking rarely costs no accuracy. Source: proc(5), field 22 of /proc/PID/stat.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.lab.processes import ProcessId

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuStart:
    """One QEMU process and the instant of its birth, seconds of CLOCK_MONOTONIC, up to one tick (10 ms) early."""

    uuid: str
    process: ProcessId
    started_at: float


class QemuWatch:
    """Finds the QEMU processes that were born after it was made; those before it are never looked at again."""

    def __init__(self) -> None:
        self._old = set(_pids())

    def born(self) -> dict[str, QemuStart]:
        """Return, by the uuid on their command lines, the QEMU processes that live now and were born since."""
        pids = set(_pids())
        self._old &= pids
        return {start.uuid: start for start in map(_qemu_start, pids - self._old) if start is not None}


def all_running() -> dict[str, QemuStart]:
    """Return every QEMU process of the machine that has a uuid, by that uuid."""
    return {start.uuid: start for start in map(_qemu_start, _pids()) if start is not None}


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROC) if name.isdecimal())  # noqa: PTH208 - names only, asked for often


def _qemu_start(pid: int) -> QemuStart | None:
    try:
        arguments = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    process = ProcessId.of(pid) if b"qemu-system" in arguments[0] and b"-uuid" in arguments[:-1] else None
    if process is None:
        return None
    uuid = arguments[arguments.index(b"-uuid") + 1].decode(errors="replace").lower()
    return QemuStart(uuid=uuid, process=process, started_at=_monotonic(process.started))


def _monotonic(ticks: int) -> float:
    """Return the monotonic time of an instant given in clock ticks since boot, which count suspended time too."""
    return ticks * TICK_S - (time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC))
