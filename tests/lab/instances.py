"""Which QEMU processes ran, where and when, seen from outside the nodes.

Rule of the file: an instance is known from its start, which the kernel records, to the last time it was seen alive, so
that two instances of a guest are found even when neither lived long enough to write to its disk.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.lab.freezer import Freezer
from holdfast.lab.lab import Lab

LOOK_INTERVAL_S = 0.05
BECOMES_QEMU_WITHIN_S = 2.0
CLOCK_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_GUEST = re.compile(rb"\0guest=([^,\0]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One QEMU process of a guest. Times are monotonic seconds; `seen_until`: it was alive then.

    is_from_memory   it began with memory from elsewhere: it stands still until its node owns the role, and only the
                     guest's disk tells whether it did.
    """

    guest: str
    node: str
    pid: int
    started_at: float
    seen_until: float
    is_from_memory: bool = False


class Instances:
    """All QEMU processes of a lab's guests that ran while this was watching."""

    def __init__(self, lab: Lab) -> None:
        self._groups = {name: Freezer.named(lab.layout.node(name).namespace) for name in lab.spec.node_names}
        self._found: dict[tuple[int, int], Instance] = {}
        self._others: set[tuple[int, int]] = set()
        self._looked_at = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[Instances, None]:
        """Look again and again until the block ends."""
        self.look()
        task = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def of(self, guest: str) -> list[Instance]:
        """The instances of a guest in the order of their start."""
        return sorted((one for one in self._found.values() if one.guest == guest), key=lambda one: one.started_at)

    def living(self, guest: str) -> list[Instance]:
        """The instances of a guest that live now."""
        self.look()
        return [one for one in self.of(guest) if one.seen_until == self._looked_at]

    def overlapping(self, guest: str) -> list[tuple[Instance, Instance]]:
        """The pairs of instances of a guest that lived at once, whatever they did, and began afresh."""
        found = self.of(guest)
        return [
            (one, other)
            for index, one in enumerate(found)
            for other in found[index + 1 :]
            if other.started_at + 2 * CLOCK_TICK_S < one.seen_until and not other.is_from_memory
        ]

    def look(self) -> None:
        """Look once."""
        now = self._looked_at = time.monotonic()
        for node, group in self._groups.items():
            for pid in group.pids():
                ticks = _start_ticks(pid)
                if ticks is not None and (pid, ticks) not in self._others:
                    self._note(node, pid, ticks, now)

    def _note(self, node: str, pid: int, ticks: int, now: float) -> None:
        key = (pid, ticks)
        if key in self._found:
            self._found[key] = replace(self._found[key], seen_until=now)
            return
        started_at = ticks * CLOCK_TICK_S - (time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic())
        command = _command_line(pid)
        match = _GUEST.search(command)
        if match is not None:
            self._found[key] = Instance(
                guest=match.group(1).decode(),
                node=node,
                pid=pid,
                started_at=started_at,
                seen_until=now,
                is_from_memory=b"\0-incoming\0" in command,
            )
        elif now - started_at > BECOMES_QEMU_WITHIN_S:
            self._others.add(key)

    async def _watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_INTERVAL_S)


def _start_ticks(pid: int) -> int | None:
    """When a living process began, in clock ticks since the machine's boot. Source: proc(5), /proc/pid/stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
