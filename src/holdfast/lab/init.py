"""PID 1 of a lab node: ``python3 -S -E -m holdfast.lab.init BOOT.json CONTROL_FD``.

Rule of the file: it reaps for ever and keeps the node's services running, and nothing else; killing it is pulling the
plug, because the kernel then kills everything else in its PID namespace. Standard library only, and as little of it as
possible: it runs once per node. It takes orders as JSON lines on an inherited socket, out of reach of the node's own
networks and programs. Source: pid_namespaces(7).
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from holdfast.lab.rig import BootPlan, set_up

_LOG_FOLDER = "/var/log/holdfast"
_STOP_GRACE_S = 5.0
_MAX_DELAY_S = 5.0
_STEADY_S = 5.0


@dataclass(slots=True)
class Supervised:
    """A service and what is known of its process."""

    name: str
    command: list[str]
    nice: int
    delay_s: float
    wanted: bool = True
    pid: int = 0
    started_at: float = 0.0
    due_at: float | None = 0.0
    kill_at: float | None = None
    starts: int = 0
    failures: int = 0
    last_exit: int | None = None

    @property
    def state(self) -> str:
        """One of running, missing, waiting (to be restarted) and stopped."""
        if self.pid:
            return "running"
        if not os.access(self.command[0], os.X_OK):
            return "missing"
        return "waiting" if self.wanted else "stopped"

    def report(self) -> dict[str, Any]:
        """Return what the datacenter passes on to people; the pid is the one inside the node."""
        return {
            "name": self.name, "state": self.state, "pid": self.pid, "starts": self.starts, "last_exit": self.last_exit,
        }  # fmt: skip

    def start(self, now: float) -> None:
        """Start the program, if it is there."""
        self.due_at = None
        if not os.access(self.command[0], os.X_OK):
            return
        self.pid = _spawn(self.name, self.command, self.nice)
        self.starts += 1
        self.started_at = now

    def stop(self, now: float) -> None:
        """Ask the process to end, and make it end when it does not."""
        self.wanted, self.due_at = False, None
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            self.kill_at = now + _STOP_GRACE_S

    def ended(self, now: float, code: int) -> None:
        """Note the end of the process; one that keeps failing at once is restarted ever more slowly."""
        self.failures = 0 if now - self.started_at >= _STEADY_S else self.failures + 1
        self.pid, self.kill_at, self.last_exit = 0, None, code
        if self.wanted:
            self.due_at = now + min(self.delay_s * 2 ** max(0, self.failures - 3), _MAX_DELAY_S)


def _spawn(name: str, command: list[str], nice: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        log = os.open(f"{_LOG_FOLDER}/{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execv(command[0], command)  # noqa: S606
    finally:
        os._exit(127)


class Init:
    """The loop of PID 1."""

    def __init__(self, services: list[Supervised], control: int) -> None:
        self._services = {service.name: service for service in services}
        self._control = control
        self._partial = b""
        self._waiters: list[tuple[int, Supervised]] = []
        self._wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until killed; the loss of the datacenter kills this process too."""
        self._say({"event": "booted"})
        while True:
            self._act()
            ready, _, _ = select.select([self._control, self._wake], [], [], self._pause())
            if self._wake in ready:
                os.read(self._wake, 512)
            self._reap()
            if self._control in ready:
                self._hear()

    def _pause(self) -> float | None:
        times = [at for one in self._services.values() for at in (one.due_at, one.kill_at) if at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _act(self) -> None:
        now = time.monotonic()
        for service in self._services.values():
            if service.kill_at is not None and now >= service.kill_at:
                os.kill(service.pid, signal.SIGKILL)
                service.kill_at = None
            if service.due_at is not None and now >= service.due_at:
                service.start(now)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self._services.values():
                if service.pid == pid:
                    service.ended(time.monotonic(), os.waitstatus_to_exitcode(status))
                    self._answer_waiters(service)

    def _answer_waiters(self, ended: Supervised) -> None:
        for number, service in self._waiters:
            if service is ended:
                self._say({"id": number, "ok": True, "service": service.report()})
        self._waiters = [waiter for waiter in self._waiters if waiter[1] is not ended]

    def _hear(self) -> None:
        data = os.read(self._control, 65536)
        if not data:
            sys.exit("the datacenter is gone")
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            try:
                answer = self._do(request)
            except (KeyError, OSError) as error:
                answer = {"ok": False, "message": f"{type(error).__name__}: {error}"}
            if answer is not None:
                self._say({"id": request["id"], **answer})

    def _do(self, request: dict[str, Any]) -> dict[str, Any] | None:
        now = time.monotonic()
        if request["do"] == "services":
            return {"ok": True, "services": [service.report() for service in self._services.values()]}
        service = self._services[request["service"]]
        match request["do"]:
            case "start":
                service.wanted = True
                if not service.pid:
                    service.start(now)
            case "stop" | "kill" if not service.pid:
                service.wanted = service.wanted and request["do"] == "kill"
            case "stop":
                service.stop(now)
                self._waiters.append((request["id"], service))
                return None
            case "kill":
                os.kill(service.pid, request["signal"])
        return {"ok": True, "service": service.report()}

    def _say(self, message: dict[str, Any]) -> None:
        os.write(self._control, json.dumps(message).encode() + b"\n")


def main() -> None:
    """Become the node: make its file systems, then run its services."""
    with open(sys.argv[1]) as file:  # noqa: PTH123 - pathlib would double this process's imports
        plan: BootPlan = json.load(file)
    control = int(sys.argv[2])
    os.set_inheritable(control, False)
    os.setsid()
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    os.umask(0o022)
    set_up(plan)
    os.chdir("/")
    os.environ.clear()
    os.environ.update(PATH=plan["path"], HOME="/root", LANG="C.UTF-8", TERM="xterm-256color")
    services = [
        Supervised(
            name=str(one["name"]),
            command=[str(word) for word in one["command"]],  # type: ignore[attr-defined]
            nice=int(one["nice"]),  # type: ignore[call-overload]
            delay_s=int(one["restart_delay_ms"]) / 1000,  # type: ignore[call-overload]
        )
        for one in plan["services"]
    ]
    Init(services, control).run()


if __name__ == "__main__":
    main()
