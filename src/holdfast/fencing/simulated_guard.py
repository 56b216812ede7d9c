"""The guard's real logic on a simulated machine.

Rule of the file: nothing is decided here. ``guard.logic`` decides; this file gives it loop time, a table of processes
and a watchdog that may fire, as the guard's process gives it real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.fencing.errors import GuardUnavailable
from holdfast.fencing.guard.logic import (
    Action,
    Event,
    Exit,
    Extend,
    Kill,
    Notice,
    Order,
    Phase,
    Protect,
    Reply,
    Scanned,
    State,
    Unprotect,
    Victim,
    restored,
    step,
    wake_at,
)
from holdfast.fencing.port import GuardReading, WatchdogReading


class SimulatedWatchdog:
    """Hardware that calls ``reset`` unless it is petted in time. It knows nothing of the guard and outlives it."""

    def __init__(self, *, timeout_s: float, reset: Callable[[], None]) -> None:
        self.timeout_s = timeout_s
        self.pets = 0
        self._reset = reset
        self._count_down: asyncio.TimerHandle | None = None

    def pet(self) -> None:
        """Start the count-down, or start it again."""
        self.disarm()
        self.pets += 1
        self._count_down = asyncio.get_running_loop().call_later(self.timeout_s, self._reset)

    def disarm(self) -> None:
        """Stop the count-down."""
        if self._count_down is not None:
            self._count_down.cancel()


class SimulatedGuard:
    """A Guard on any event loop; loop time plays CLOCK_BOOTTIME.

    alive    returns the processes of all guests that live now.
    kill     SIGKILL; the process may or may not go away.
    """

    def __init__(
        self,
        *,
        alive: Callable[[], frozenset[Victim]],
        kill: Callable[[Victim], None],
        watchdog: SimulatedWatchdog | None = None,
    ) -> None:
        self._alive = alive
        self._kill = kill
        self._watchdog = watchdog
        self._state = State(watchdog_timeout_s=watchdog.timeout_s if watchdog else None)
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._runs = False

    def start(self) -> None:
        """Start the process, or start it again: it continues from the record. Needs a running loop."""
        self._runs = True
        initial = State(watchdog_timeout_s=self._state.watchdog_timeout_s, kill_bound_s=self._state.kill_bound_s)
        self._state = restored(initial, deadline=self._state.deadline, guests=self._state.guests)
        self._take(Notice.WAKE)

    def crash(self) -> None:
        """End the process as SIGKILL does, or freeze it: the watchdog's count-down goes on."""
        self._runs = False
        self._stop_timer()

    def thaw(self) -> None:
        """Continue a frozen process where it was."""
        self._runs = True
        self._take(Notice.WAKE)

    async def extend(self, until: float) -> bool:
        """Move the deadline. Source: Guard.extend."""
        self._ask(Extend(deadline=until))
        return self._state.phase is Phase.ENTITLED

    async def protect(self, uuid: str) -> bool:
        """Put a guest on the list. Source: Guard.protect."""
        self._ask(Protect(uuid=uuid))
        return self._state.phase is Phase.ENTITLED

    async def unprotect(self, uuid: str) -> bool:
        """Take a guest off the list. Source: Guard.unprotect."""
        return self._ask(Unprotect(uuid=uuid)).error is None

    async def state(self) -> GuardReading:
        """Return everything. Source: Guard.state."""
        self._ask(Notice.HELLO)
        state = self._state
        timeout_s = state.watchdog_timeout_s
        return GuardReading(
            until=state.deadline,
            is_entitled=state.phase is Phase.ENTITLED,
            has_expired=state.phase in (Phase.KILLING, Phase.QUIET),
            guests=state.guests,
            alive=frozenset(victim.uuid for victim in state.alive),
            kill_bound_ms=round(state.kill_bound_s * 1000),
            watchdog=None
            if timeout_s is None
            else WatchdogReading(device="simulated", timeout_s=int(timeout_s), error=""),
        )

    async def disarm(self) -> bool:
        """End the guard. Source: Guard.disarm."""
        return self._ask(Notice.DISARM).error is None

    def _ask(self, event: Event) -> Reply:
        if not self._runs:
            raise GuardUnavailable("the simulated guard does not run", hint="start it")
        return self._take(event)

    def _take(self, event: Event) -> Reply:
        now = asyncio.get_running_loop().time()
        self._state, actions = step(self._state, event, now)
        reply = Reply()
        for action in actions:
            if isinstance(action, Reply):
                reply = action
            else:
                self._do(action)
        self._sleep()
        return reply

    def _do(self, action: Action) -> None:
        match action:
            case Order.SCAN:
                self._take(Scanned(alive=self._alive(), complete=True))
            case Order.PET if self._watchdog is not None:
                self._watchdog.pet()
            case Kill(victim=victim):
                self._kill(victim)
            case Exit(disarm=disarm):
                self._runs = False
                if disarm and self._watchdog is not None:
                    self._watchdog.disarm()
            case _:
                pass

    def _sleep(self) -> None:
        due = wake_at(self._state) if self._runs else None
        if due == self._due:
            return
        self._stop_timer()
        if due is not None:
            self._due = due
            self._timer = asyncio.get_running_loop().call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = self._due = None
        self._take(Notice.WAKE)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due = None
