"""Find the processes of guests, and kill them: by pid and start time, never by name.

Rule of the file: a process counts as dead only when the kernel says so (its pidfd became readable). A killed QEMU loses
its command line long before it has closed its files, so its absence from a search of command lines proves nothing.
"""

from __future__ import annotations

import os
import select
import signal
from itertools import pairwise
from pathlib import Path

from holdfast.fencing.guard.logic import Scanned, Victim

_UUID_OPTIONS = (b"-uuid", b"--uuid")


class Processes:
    """The living processes of guests below one /proc."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._open: dict[Victim, int] = {}

    def scan(self, guests: frozenset[str]) -> Scanned:
        """Return which processes of ``guests`` live: those found now, and those found before that have not ended."""
        complete = self._search(guests) if guests else True
        self._forget_ended()
        return Scanned(alive=frozenset(self._open), complete=complete)

    def kill(self, victim: Victim) -> None:
        """Send SIGKILL to exactly this process; a process that has ended already is no error."""
        descriptor = self._open.get(victim)
        if descriptor is None:
            return
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _search(self, guests: frozenset[str]) -> bool:
        """Open every process of ``guests``; return whether all processes could be judged."""
        complete = True
        try:
            pids = self._pids()
        except OSError:
            return False
        for pid in pids:
            try:
                self._examine(pid, guests)
            except (FileNotFoundError, ProcessLookupError):
                continue
            except OSError:
                complete = False
        return complete

    def _pids(self) -> list[int]:
        own = os.getpid()
        with os.scandir(self._proc) as entries:
            return [int(entry.name) for entry in entries if entry.name.isdigit() and int(entry.name) != own]

    def _examine(self, pid: int, guests: frozenset[str]) -> None:
        uuid = guest_of(self._read(pid, "cmdline"))
        if uuid is None or uuid not in guests:
            return
        descriptor = os.pidfd_open(pid)
        try:
            victim = Victim(pid=pid, start_time=self._start_time(pid), uuid=uuid)
            # The pid may have changed hands before it was opened; now that it is open, it cannot any more.
            same = guest_of(self._read(pid, "cmdline")) == uuid
        except OSError:
            os.close(descriptor)
            raise
        if same and victim not in self._open:
            self._open[victim] = descriptor
        else:
            os.close(descriptor)

    def _start_time(self, pid: int) -> int:
        # Field 22; the command name in field 2 may contain spaces and brackets. Source: proc(5).
        stat = self._read(pid, "stat")
        return int(stat.rpartition(b")")[2].split()[19])

    def _read(self, pid: int, name: str) -> bytes:
        # Plain system calls: a scan reads every process of the machine, 20 times a second while killing is due.
        descriptor = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = b""
            while chunk := os.read(descriptor, 65536):
                content += chunk
            return content
        finally:
            os.close(descriptor)

    def _forget_ended(self) -> None:
        poll = select.poll()
        for descriptor in self._open.values():
            poll.register(descriptor, select.POLLIN)
        ended = {descriptor for descriptor, _ in poll.poll(0)}
        for victim, descriptor in list(self._open.items()):
            if descriptor in ended:
                os.close(descriptor)
                del self._open[victim]


def guest_of(command_line: bytes) -> str | None:
    """Return the guest's uuid in a QEMU command line (arguments ended by NUL), or None when there is none."""
    arguments = command_line.split(b"\0")
    for option, value in pairwise(arguments):
        if option in _UUID_OPTIONS:
            return value.decode(errors="replace").lower()
    return None
