"""What libvirt wrote down about the end of a guest's last process.

Rule of the file: only a clear statement about the last process counts; all else is no evidence. Blocks: call it from a
thread. Source: libvirt, qemuProcessStop ("shutting down, reason=…") and qemuProcessLaunch ("starting up …").
"""

from __future__ import annotations

import os
from pathlib import Path

LOGS = Path("/var/log/libvirt/qemu")
_TAIL_BYTES = 256 * 1024
_END = ": shutting down, reason="
_MOVED = "migrated"
_BEGIN = ": starting up libvirt version"


def ended_by_migration(logs: Path, name: str, uuid: str) -> bool:
    """Return whether the log of this guest ends with its being moved away. Raises OSError other than absence."""
    try:
        with (logs / f"{name}.log").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            tail = file.read().decode(errors="replace")
    except FileNotFoundError:
        return False
    _, begins, last = tail.rpartition(_BEGIN)
    _, ends, reason = last.rpartition(_END)
    return bool(begins and ends) and f"-uuid {uuid}" in last and reason.split("\n", 1)[0] == _MOVED
