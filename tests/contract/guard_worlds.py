"""The two machines that the guard's contract is tested on: real processes, and simulated ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from holdfast.fencing.errors import GuardUnavailable
from holdfast.fencing.guard.logic import Victim
from holdfast.fencing.guard.main import lean_command
from holdfast.fencing.guard_client import GuardClient
from holdfast.fencing.port import Guard
from holdfast.fencing.simulated_guard import SimulatedGuard, SimulatedWatchdog

WATCHDOG_TIMEOUT_S = 2


class World(Protocol):
    """A guard and the machine it watches."""

    guard: Guard

    async def start_guard(self) -> None:
        """Start the guard, or start it again."""

    def kill_guard(self) -> None:
        """End the guard as SIGKILL does."""

    def freeze_guard(self) -> None:
        """Stop the guard as SIGSTOP does."""

    def thaw_guard(self) -> None:
        """Let a frozen guard go on."""

    def start_guest(self, guest: str) -> None:
        """Start a process of the guest."""

    def is_alive(self, guest: str) -> bool:
        """Say whether a process of the guest lives."""

    def pets(self) -> int:
        """Return how often the watchdog was petted since the last call."""

    def close(self) -> None:
        """End everything that was started."""


class RealWorld:
    """The guard as a process, guests as processes that only sleep, the watchdog as a FIFO."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.mkfifo(folder / "watchdog")
        self._reader = os.open(folder / "watchdog", os.O_RDONLY | os.O_NONBLOCK)
        self.client = GuardClient(folder / "guard.sock", answer_timeout_ms=5000)
        self.guard: Guard = self.client
        self.guests: dict[str, subprocess.Popen[bytes]] = {}
        self.process: subprocess.Popen[bytes] | None = None

    async def start_guard(self) -> None:
        """Start the guard and wait until it answers."""
        files = {"--socket": "guard.sock", "--record": "guard.json", "--watchdog": "watchdog"}
        options = [text for option, name in files.items() for text in (option, str(self.folder / name))]
        self._spawn(lean_command([*options, "--watchdog-timeout-s", str(WATCHDOG_TIMEOUT_S)]))
        for _ in range(200):
            try:
                await self.guard.state()
            except GuardUnavailable:
                await asyncio.sleep(0.02)
            else:
                return
        pytest.fail((self.folder / "log").read_text())

    def _spawn(self, command: list[str]) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def kill_guard(self) -> None:
        """Send SIGKILL."""
        self.signal_guard(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def freeze_guard(self) -> None:
        """Send SIGSTOP."""
        self.signal_guard(signal.SIGSTOP)

    def thaw_guard(self) -> None:
        """Send SIGCONT."""
        self.signal_guard(signal.SIGCONT)

    def signal_guard(self, number: signal.Signals) -> None:
        """Send any signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def start_guest(self, guest: str) -> None:
        """Start a process with the guest's uuid in its arguments, and wait until it runs."""
        code = "import time; print(flush=True); time.sleep(60)"
        command = [sys.executable, "-ISs", "-c", code, "-name", "x", "-uuid", guest, "-S"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        self.guests[guest] = process

    def is_alive(self, guest: str) -> bool:
        """Ask the kernel."""
        return self.guests[guest].poll() is None

    def pets(self) -> int:
        """Read the FIFO empty."""
        return self.watchdog_bytes().count(b"\n")

    def watchdog_bytes(self) -> bytes:
        """Return what was written to the watchdog since the last call."""
        try:
            return os.read(self._reader, 1000)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Kill the guard and the guests that are left."""
        self.client.close()
        for process in [*self.guests.values(), *([self.process] if self.process else [])]:
            process.kill()
            process.wait()
        os.close(self._reader)


class SimulatedWorld:
    """The simulated guard with a set of processes."""

    def __init__(self, _folder: Path) -> None:
        self._alive: dict[str, Victim] = {}
        self._watchdog = SimulatedWatchdog(timeout_s=WATCHDOG_TIMEOUT_S, reset=self._alive.clear)
        self._simulated = SimulatedGuard(
            alive=lambda: frozenset(self._alive.values()), kill=self._kill, watchdog=self._watchdog
        )
        self.guard: Guard = self._simulated

    def _kill(self, victim: Victim) -> None:
        del self._alive[victim.uuid]

    async def start_guard(self) -> None:
        """Start it."""
        self._simulated.start()

    def kill_guard(self) -> None:
        """Crash it."""
        self._simulated.crash()

    def freeze_guard(self) -> None:
        """Freeze it."""
        self._simulated.crash()

    def thaw_guard(self) -> None:
        """Thaw it."""
        self._simulated.thaw()

    def start_guest(self, guest: str) -> None:
        """Add a process."""
        self._alive[guest] = Victim(pid=len(self._alive) + 2, start_time=1, uuid=guest)

    def is_alive(self, guest: str) -> bool:
        """Look for the process."""
        return guest in self._alive

    def pets(self) -> int:
        """Return the count and begin again."""
        pets, self._watchdog.pets = self._watchdog.pets, 0
        return pets

    def close(self) -> None:
        """Cancel the timers."""
        self._simulated.crash()
        self._watchdog.disarm()
