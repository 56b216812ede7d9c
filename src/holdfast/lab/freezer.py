"""Hanging a whole node and letting it go on: a cgroup freezer per node.

Rule of the file: freezing is one write, so no process can be born in between; and a frozen node that loses power is
killed *before* it is thawed, or it would run on for a moment. Works with the version 1 freezer and with version 2.
Source: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst, cgroup-v2.rst "cgroup.freeze".
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from holdfast.lab.errors import LabBroken

_V1 = Path("/sys/fs/cgroup/freezer")
_V2 = Path("/sys/fs/cgroup")
_POLL_S = 0.005


def freezer_root() -> Path:
    """Return the folder in which freezer groups are made. Raises: LabBroken when the machine has none."""
    if (_V1 / "cgroup.procs").exists():
        return _V1
    if (_V2 / "cgroup.controllers").exists():
        return _V2
    raise LabBroken("this machine has no cgroup freezer", hint="mount cgroup2 on /sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Freezer:
    """The freezer group of one node."""

    path: Path

    @classmethod
    def named(cls, name: str) -> Freezer:
        """Return the group with this name; it need not exist yet."""
        return cls(freezer_root() / name)

    @property
    def members(self) -> Path:
        """The file into which a process writes its pid to join."""
        return self.path / "cgroup.procs"

    @property
    def _is_v1(self) -> bool:
        return self.path.parent == _V1

    def create(self) -> None:
        """Make the group, thawed and empty."""
        self.path.mkdir(exist_ok=True)

    def pids(self) -> list[int]:
        """Return the processes in the group."""
        try:
            return [int(line) for line in self.members.read_text().split()]
        except FileNotFoundError:
            return []

    async def freeze(self) -> None:
        """Stop every process of the group; returns when all of them stand still."""
        if self._is_v1:
            state = self.path / "freezer.state"
            state.write_text("FROZEN")
            while state.read_text().strip() != "FROZEN":  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(_POLL_S)
        else:
            (self.path / "cgroup.freeze").write_text("1")
            while "frozen 1" not in (self.path / "cgroup.events").read_text():  # noqa: ASYNC110 - as above
                await asyncio.sleep(_POLL_S)

    def thaw(self) -> None:
        """Let the processes of the group go on."""
        if self._is_v1:
            (self.path / "freezer.state").write_text("THAWED")
        else:
            (self.path / "cgroup.freeze").write_text("0")

    def kill(self) -> None:
        """Kill every process of the group, frozen or not, none of which runs another instruction of its own."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.path.exists():
            self.thaw()

    async def remove(self, *, timeout_s: float = 10.0) -> None:
        """Remove the group once its last process is gone. Raises: LabBroken when one stays."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.path.exists():
                    try:
                        self.path.rmdir()
                    except OSError:
                        await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise LabBroken(f"processes {self.pids()} in {self.path} do not die") from error
