"""Telling processes apart and joining a node.

Rule of the file: a process is its pid *and* its start time; a name or a pid alone is never trusted. Source: proc(5).
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from holdfast.lab.errors import LabBroken


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process of this boot of the machine, for ever."""

    pid: int
    started: int
    """Clock ticks since the machine's boot."""

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """Return the process that has this pid now; None when there is none."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] == "Z" else cls(pid=pid, started=int(fields[19]))

    @classmethod
    def parse(cls, text: str) -> ProcessId | None:
        """Return what ``str`` wrote; None when the text is torn."""
        words = text.split()
        if len(words) != 2 or not all(word.isdigit() for word in words):
            return None
        return cls(pid=int(words[0]), started=int(words[1]))

    def __str__(self) -> str:
        return f"{self.pid} {self.started}"

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self

    def kill(self) -> None:
        """Kill this very process, if it still runs."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGKILL)


def child_of(pid: int) -> int:
    """Return the only child of a process. Raises: LabBroken when it has none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        children = []
    if not children:
        raise LabBroken(f"process {pid} has no child, wanted the init of a node")
    return int(children[0])


def joining(init_pid: int, members: Path, path: str, command: list[str]) -> list[str]:
    """Return the command that runs ``command`` inside the node of this init, as a part of it that freezes with it."""
    return [
        "sh", "-c", 'echo $$ > "$0" && exec "$@"', str(members),
        "nsenter", "-t", str(init_pid), "-m", "-u", "-i", "-n", "-p", "--wd=/",
        "env", "-i", f"PATH={path}", "HOME=/root", "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}", *command,
    ]  # fmt: skip
