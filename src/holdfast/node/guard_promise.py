"""What a node's session says of its guard: what a watchdog proof of its end may rest on. Source: SAFE-2."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from holdfast.fencing.port import Guard, GuardReading
from holdfast.model.errors import Unavailable
from holdfast.model.settings import Timings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPromise:
    """How far the deadline may lie ahead, the time-out of a watchdog that works or None, the time to kill; in ms."""

    deadline_ms: int
    watchdog_ms: int | None = None
    kill_ms: int = 0


async def read_promise(guard: Guard, timings: Timings) -> GuardPromise:
    """Ask the guard what its node may promise; of one that is silent nothing proves anything."""
    try:
        reading = await guard.state()
    except Unavailable as error:
        log.error("%s", error)
        return GuardPromise(deadline_ms=timings.guard_deadline_ms)
    ahead_s = (reading.until or float("-inf")) - asyncio.get_running_loop().time()
    return GuardPromise(
        deadline_ms=max(timings.guard_deadline_ms, int(max(0.0, ahead_s) * 1000) + 1),
        watchdog_ms=usable_watchdog_ms(reading, timings),
        kill_ms=reading.kill_bound_ms,
    )


async def read_watchdog(guard: Guard, timings: Timings) -> tuple[int | None, int]:
    """The time-out of the watchdog that the guard holds now, and its time to kill. Raises: GuardUnavailable."""
    reading = await guard.state()
    return usable_watchdog_ms(reading, timings), reading.kill_bound_ms


def usable_watchdog_ms(reading: GuardReading, timings: Timings) -> int | None:
    """The time-out of a watchdog that works and whose guard kills in time, in ms; None: it proves nothing."""
    watchdog = reading.watchdog
    if watchdog is None or watchdog.error or reading.kill_bound_ms > timings.guard_kill_ms:
        return None
    return watchdog.timeout_s * 1000
