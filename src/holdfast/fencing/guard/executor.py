"""Do what the logic says: record, scan, kill, pet.

Rule of the file: ``protect`` is answered only after the guest is on disk; every other failure to write leaves a record
that is stricter than the truth, so the guard goes on.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import assert_never

from holdfast.fencing.guard import record
from holdfast.fencing.guard.logic import Action, Event, Exit, Kill, Order, Protect, Reply, Request, State, step
from holdfast.fencing.guard.processes import Processes
from holdfast.fencing.guard.protocol import ErrorCode
from holdfast.fencing.guard.watchdog import Watchdog


def boottime() -> float:
    """Return seconds of CLOCK_BOOTTIME, which unlike CLOCK_MONOTONIC goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Executor:
    """The guard's state together with the world it acts on."""

    def __init__(self, *, state: State, record_path: Path, watchdog: Watchdog | None, processes: Processes) -> None:
        self.state = state
        self.watchdog = watchdog
        self.has_ended = False
        self._record_path = record_path
        self._processes = processes

    def take(self, request: Request) -> Reply:
        """Take one step, do everything it asks for, and return the answer to the request."""
        guests_before = self.state.guests
        actions = self._step(request)
        reply = Reply()
        for action in actions:
            if isinstance(action, Reply):
                reply = action
            elif action is Order.PERSIST:
                problem = self._persist()
                if problem and isinstance(request, Protect):
                    self.state = self.state._replace(guests=guests_before)
                    return Reply(error=ErrorCode.NOT_RECORDED, message=problem)
            else:
                self._do(action)
        return reply

    def _step(self, event: Event) -> tuple[Action, ...]:
        before = self.state
        self.state, actions = step(before, event, boottime())
        if self.state.phase is not before.phase:
            say(
                f"{before.phase} -> {self.state.phase}, deadline {self.state.deadline}, guests {len(self.state.guests)}"
            )
        for death in self.state.deaths[len(before.deaths) :]:
            say(f"dead: guest {death.victim.uuid}, pid {death.victim.pid}, at {death.at:.3f}")
        return actions

    def _do(self, action: Order | Kill | Exit) -> None:
        match action:
            case Order.SCAN:
                self._scan()
            case Order.PET:
                self._pet()
            case Order.PERSIST:
                self._persist()
            case Kill(victim=victim):
                self._processes.kill(victim)
            case Exit(disarm=disarm):
                self._end(disarm=disarm)
            case _:
                assert_never(action)

    def _scan(self) -> None:
        for action in self._step(self._processes.scan(self.state.guests)):
            if isinstance(action, Kill):
                self._do(action)

    def _pet(self) -> None:
        if self.watchdog is None:
            return
        before = self.watchdog.error
        self.watchdog.pet()
        if self.watchdog.error != before:
            say(f"watchdog: {self.watchdog.error or 'petted, in order'}")

    def _end(self, *, disarm: bool) -> None:
        self.has_ended = True
        if not disarm:
            say("ending with guests on the list: the watchdog stays armed, a started guard continues from the record")
        elif self.watchdog is not None:
            try:
                self.watchdog.disarm()
            except OSError as error:
                say(f"watchdog cannot be switched off: {error}")

    def _persist(self) -> str:
        try:
            record.save(self._record_path, deadline=self.state.deadline, guests=self.state.guests)
        except OSError as error:
            problem = f"cannot write {self._record_path}: {error.strerror}"
            say(problem)
            return problem
        return ""


def say(text: str) -> None:
    """Write a line for the log, unless nobody takes it now: a full or broken pipe must not stop the guard."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if any(event & select.POLLOUT for _, event in poll.poll(0)):
            os.write(2, f"holdfast-guard: {text}\n".encode())
    except OSError:
        return
