"""What a node's session says of its guard: what a watchdog proof of its end may rest on. Source: SAFE-2."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import ceil

from holdfast.fencing.port import Guard, GuardReading
from holdfast.model.settings import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPromise:
    """The guard as it was when it was asked; of one that was silent nothing proves anything. All in ms.

    ahead_ms      how far its deadline lies ahead.
    watchdog_ms   the time-out of a watchdog that works; None: there is none.
    kill_ms       what it takes at most to kill.
    """

    ahead_ms: int = 0
    watchdog_ms: int | None = None
    kill_ms: int = 0


async def read_promise(guard: Guard, timings: Timings) -> GuardPromise:
    """Ask the guard. Raises: GuardUnavailable."""
    reading = await guard.state()
    now = asyncio.get_running_loop().time()
    return GuardPromise(
        ahead_ms=max(0, ceil(round((reading.until - now) * 1000, 3))) if reading.until is not None else 0,
        watchdog_ms=usable_watchdog_ms(reading, timings),
        kill_ms=reading.kill_bound_ms,
    )


def usable_watchdog_ms(reading: GuardReading, timings: Timings) -> int | None:
    """The time-out of a watchdog that works and whose guard kills in time, in ms; None: it proves nothing."""
    watchdog = reading.watchdog
    if watchdog is None or watchdog.error or reading.kill_bound_ms > timings.guard_kill_ms:
        return None
    return watchdog.timeout_s * 1000
