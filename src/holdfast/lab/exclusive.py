"""One demo or benchmark per lab: each builds its lab anew, which would ruin the other's.

Rule of the file: the lock is the kernel's, so it ends with its holder, however that ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.lab.errors import LabBroken
from holdfast.lab.lab import Lab

_LOCKS = Path("/run/lock")


@contextmanager
def exclusively(lab: Lab) -> Iterator[None]:
    """Hold a lab against every other demo and benchmark. Raises: LabBroken when one has it."""
    name = lab.layout.name
    with (_LOCKS / f"holdfast-lab-{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabBroken(
                f"another demo or benchmark uses lab {name}", hint="wait until it has ended, or choose another --name"
            ) from error
        yield
