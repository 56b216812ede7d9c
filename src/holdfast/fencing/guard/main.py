"""The process ``holdfast-guard``: settle into memory, then serve.

Rule of the file: whatever makes the guard more reliable but may be forbidden (locking memory, real-time priority, the
OOM score) is tried and reported, never required.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

from holdfast.fencing.guard import record
from holdfast.fencing.guard.executor import Executor, say
from holdfast.fencing.guard.logic import State, restored
from holdfast.fencing.guard.processes import Processes
from holdfast.fencing.guard.protocol import KILL_BOUND_MS, RECORD_PATH, SOCKET_PATH
from holdfast.fencing.guard.server import Server
from holdfast.fencing.guard.watchdog import Watchdog

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def main() -> None:
    """Run the guard until an orderly end."""
    if not (sys.flags.isolated and sys.flags.no_site):
        os.execv(sys.executable, lean_command(sys.argv[1:]))  # noqa: S606 (there is no shell to inject into)
    options = _options()
    # Held until the process ends; the kernel lets go of it then, however that happens.
    lock = _only_guard(options.record)
    executor = Executor(
        state=_restored(options), record_path=options.record, watchdog=_watchdog(options), processes=Processes()
    )
    _settle()
    listener = _listen(options.socket)
    Server(executor, listener).run()
    options.socket.unlink(missing_ok=True)
    os.close(lock)


def lean_command(arguments: list[str]) -> list[str]:
    """Return the command that runs the guard with nothing loaded but what it needs."""
    source = Path(__file__).parents[3]
    code = f"import sys; sys.path.append({str(source)!r}); from holdfast.fencing.guard.main import main; main()"
    return [sys.executable, "-I", "-S", "-B", "-c", code, *arguments]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="holdfast-guard", description="Kill protected guests when the deadline passes."
    )
    parser.add_argument("--socket", type=Path, default=Path(SOCKET_PATH))
    parser.add_argument("--record", type=Path, default=Path(RECORD_PATH), help="where deadline and list are kept")
    parser.add_argument("--watchdog", type=Path, help="hardware watchdog, such as /dev/watchdog")
    parser.add_argument("--watchdog-timeout-s", type=int, default=10)
    parser.add_argument(
        "--kill-bound-ms", type=int, default=KILL_BOUND_MS, help="after this, unkilled guests mean a reset"
    )
    options = parser.parse_args()
    if options.watchdog_timeout_s < 2:
        parser.error(f"--watchdog-timeout-s is {options.watchdog_timeout_s}, wanted 2 or more")
    return options


def _only_guard(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return record.lock(path)
    except BlockingIOError:
        sys.exit(f"holdfast-guard: another guard already runs with {path}")


def _restored(options: argparse.Namespace) -> State:
    try:
        deadline, guests = record.load(options.record)
    except record.RecordUnreadable as error:
        sys.exit(
            f"holdfast-guard: {error}; no guest may start here until a person has removed it, after stopping all guests"
        )
    timeout_s = float(options.watchdog_timeout_s) if options.watchdog else None
    initial = State(watchdog_timeout_s=timeout_s, kill_bound_s=options.kill_bound_ms / 1000)
    return restored(initial, deadline=deadline, guests=guests)


def _watchdog(options: argparse.Namespace) -> Watchdog | None:
    return Watchdog(options.watchdog, options.watchdog_timeout_s) if options.watchdog else None


def _settle() -> None:
    """Stay in memory and ahead of the guests: a machine that is out of either is when the guard is needed."""
    # A rehearsal touches the pages of the deadly path, so that ON_FAULT locks them too without locking all of Python.
    Processes().scan(frozenset({"rehearsal"}))
    descriptor = os.pidfd_open(os.getpid())
    signal.pidfd_send_signal(descriptor, 0)
    os.close(descriptor)
    if ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        say("memory is not locked (no permission)")
    try:
        Path("/proc/self/oom_score_adj").write_text("-1000")
    except OSError as error:
        say(f"can be chosen when memory runs out ({error.strerror})")
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError as error:
        say(f"no priority over guests ({error.strerror})")


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    listener.bind(str(path))
    os.umask(before)
    listener.listen()
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    main()
