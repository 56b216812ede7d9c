"""The guard's memory on disk: what a killed and restarted guard continues from.

Rule of the file: a reader sees the old record or the new one, never half of one, and never one of an earlier boot,
whose CLOCK_BOOTTIME means nothing now and whose guests are gone.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class RecordUnreadable(Exception):
    """The record exists but cannot be understood. Guessing would forget a guest, so the guard does not start."""


def load(path: Path) -> tuple[float | None, frozenset[str]]:
    """Return the recorded deadline and guests; nothing when there is no record of this boot.

    Raises: RecordUnreadable.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["boot_id"] != _boot_id():
            return None, frozenset()
        deadline = content["deadline"]
        return None if deadline is None else float(deadline), frozenset(map(str, content["guests"]))
    except FileNotFoundError:
        return None, frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordUnreadable(f"cannot read {path}: {error!r}") from error


def save(path: Path, *, deadline: float | None, guests: frozenset[str]) -> None:
    """Record deadline and guests. It need not survive a power cut: the guests do not either. Raises: OSError."""
    content = {"boot_id": _boot_id(), "deadline": deadline, "guests": sorted(guests)}
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def lock(path: Path) -> int:
    """Return a descriptor that makes this process the only guard of ``path`` until it ends. Raises: BlockingIOError."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _boot_id() -> str:
    return BOOT_ID.read_text().strip()
