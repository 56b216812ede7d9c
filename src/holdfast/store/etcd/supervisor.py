"""Keeps this node's member of the database running, and never longer tied to this process than it must be.

etcd runs in a session of its own and outlives holdfastd: after a crash, an upgrade or a restart the supervisor finds it
by its recorded pid and start time and carries on. Only ``stop`` ends it. Source: SAFE-6.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Final

from holdfast.store.errors import EtcdMissing, MemberExited, MemberNotRunning
from holdfast.store.etcd.member_config import MemberConfig
from holdfast.store.etcd.preconditions import check, check_restart, has_data, refuse_older, require_data
from holdfast.store.etcd.process import ProcessId, RunningProcess, identify
from holdfast.store.etcd.stored import StoredNote

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
STEADY_AFTER_S: Final = 60.0
"""A member that ran so long is restarted without delay when it ends."""
LOG_CHECK_S: Final = 60.0
STOP_S: Final = 10.0
"""Time for an orderly end: etcd hands its leadership over first."""

log = logging.getLogger(__name__)


class EtcdSupervisor:
    """Starts or adopts the member, restarts it when it ends, keeps its log small."""

    def __init__(self, config: MemberConfig) -> None:
        self._problem: MemberNotRunning | None = None
        self._config = config
        self._process: RunningProcess | None = None
        self._stopping = asyncio.Event()
        self._has_begun = False
        self._is_restarting = False

    @property
    def pid(self) -> int | None:
        """The pid of the member, if it runs as far as is known."""
        return None if self._process is None else self._process.identity.pid

    @property
    def problem(self) -> MemberNotRunning | None:
        """Why the member does not run; None while it does, or before the first start."""
        if self._problem is None and self._process is not None and self._process.has_ended:
            return self._exited()
        return self._problem

    def use_config(self, config: MemberConfig) -> None:
        """Run the member in another way from its next start on; its data stay where they are."""
        self._config = replace(config, initial_cluster=self._config.initial_cluster)

    def note_begun(self) -> None:
        """From now on start it only where its data is: one that answered may have promised what it must keep."""
        self._has_begun = True

    def start(self) -> None:
        """Adopt the running member, or start one. Raises: MemberNotRunning, in words for a person."""
        self._process = self._adopted() or self._started()
        self._problem = None

    async def run(self) -> None:
        """Keep the member running until ``stop`` or cancellation; cancellation leaves it running."""
        time = asyncio.get_running_loop().time
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time()
            try:
                if self._process is None:
                    if self._has_begun:
                        await asyncio.to_thread(refuse_older, self._config)
                    self.start()
                await self._watch_process()
            except MemberNotRunning as problem:
                self._problem = problem
                log.error("%s (%s)", problem.message, problem.hint)
            pause_s = FIRST_PAUSE_S if time() - began >= STEADY_AFTER_S else min(pause_s * 2, LONGEST_PAUSE_S)
            await _set_within(self._stopping, pause_s)

    async def stop(self) -> None:
        """End the member in an orderly way, adopted or started; by force when it takes too long."""
        self._stopping.set()
        process = self._process or self._adopted()
        if process is None:
            return
        await _end(process)
        self._forget()

    async def restart(self) -> None:
        """End the member in an orderly way; ``run`` starts it again as it is to run now.

        Raises: MemberNotRunning, with the member left as it is, when it does not run or could not start so.
        """
        process = self._process
        if process is None or process.has_ended:
            raise self.problem or self._exited()
        check_restart(self._config, process.arguments)
        self._is_restarting = True
        await _end(process)

    def release(self) -> None:
        """Let go of the member without ending it, as at the end of this process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _adopted(self) -> RunningProcess | None:
        """Return the member that an earlier run started, if that very process still runs on the same data."""
        try:
            record = json.loads(self._config.process_file.read_text())
            identity = ProcessId(pid=record["pid"], start_ticks=record["start_ticks"])
            if record["data_dir"] != str(self._config.data_dir):
                return None
            process = RunningProcess(identity)
        except (FileNotFoundError, ProcessLookupError, ValueError, KeyError):
            return None
        log.info("adopted the running member of the cluster database, pid %d", identity.pid)
        return process

    def _started(self) -> RunningProcess:
        check(self._config)
        if self._has_begun:
            require_data(self._config)
        elif not has_data(self._config.data_dir):
            StoredNote(self._config.stored_file).forget()  # of another member, or of this one before a restore
        pid = self._spawn()
        identity = identify(pid)
        try:
            if identity is None:
                raise ProcessLookupError
            process = RunningProcess(identity)
        except ProcessLookupError:
            os.waitpid(pid, os.WNOHANG)
            raise self._exited() from None
        record = {"pid": identity.pid, "start_ticks": identity.start_ticks, "data_dir": str(self._config.data_dir)}
        scratch = self._config.process_file.with_suffix(".new")
        scratch.write_text(json.dumps(record))
        scratch.replace(self._config.process_file)
        log.info("started a member of the cluster database, pid %d", pid)
        return process

    def _spawn(self) -> int:
        """Start etcd in a session of its own; only the log stays open between it and us."""
        arguments = self._config.arguments()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        environment["GOMAXPROCS"] = "1"  # a third less idle cost, same latency at our load (docs/database.md)
        log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self._config.log_file), log_flags, 0o640),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            return os.posix_spawnp(arguments[0], arguments, environment, file_actions=actions, setsid=True)
        except FileNotFoundError as error:
            raise EtcdMissing(
                f"the program {arguments[0]!r} was not found", hint="install it: apt-get install etcd-server"
            ) from error

    async def _watch_process(self) -> None:
        """Wait for the member's end, keeping its log bounded meanwhile. Raises: MemberExited unless that was wanted."""
        assert self._process is not None
        while True:
            _bound_log(self._config.log_file, self._config.log_bytes)
            try:
                async with asyncio.timeout(LOG_CHECK_S):
                    await self._process.wait_exit()
                break
            except TimeoutError:
                continue
        if self._stopping.is_set():
            return
        self._forget()
        is_wanted, self._is_restarting = self._is_restarting, False
        if not is_wanted:
            raise self._exited()

    def _forget(self) -> None:
        self.release()
        self._config.process_file.unlink(missing_ok=True)

    def _exited(self) -> MemberExited:
        return MemberExited(
            f"etcd of this node ended by itself; its log ends with: {_last_line(self._config.log_file)}",
            hint=f"read {self._config.log_file}; it is restarted by itself",
        )


async def _end(process: RunningProcess) -> None:
    process.send(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait_exit()
    except TimeoutError:
        process.send(signal.SIGKILL)
        await process.wait_exit()


async def _set_within(event: asyncio.Event, time_s: float) -> None:
    try:
        async with asyncio.timeout(time_s):
            await event.wait()
    except TimeoutError:
        return


def _bound_log(path: Path, limit_bytes: int) -> None:
    """Move a log that has grown over the limit aside and empty it; etcd appends, so it goes on at the start."""
    if path.exists() and path.stat().st_size > limit_bytes:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "nothing")
