"""The simulated watchdog resets a node whose guests cannot be killed, at the time that the proof counts on."""

from __future__ import annotations

import asyncio

from holdfast.fencing.guard.logic import Victim
from holdfast.fencing.guard.protocol import KILL_BOUND_MS
from holdfast.fencing.simulated_guard import SimulatedGuard, SimulatedWatchdog

GUEST = "0000000a-0000-4000-8000-000000000000"
AHEAD_S, TIMEOUT_S = 0.2, 0.3


async def test_a_guest_that_survives_the_kill_is_reset_with_its_node() -> None:
    loop = asyncio.get_running_loop()
    resets: list[float] = []
    watchdog = SimulatedWatchdog(timeout_s=TIMEOUT_S, reset=lambda: resets.append(loop.time()))
    immortal = frozenset({Victim(pid=2, start_time=1, uuid=GUEST)})
    guard = SimulatedGuard(alive=lambda: immortal, kill=lambda _victim: None, watchdog=watchdog)
    guard.start()
    deadline = loop.time() + AHEAD_S
    assert await guard.extend(deadline)
    assert await guard.protect(GUEST)
    bound = deadline + KILL_BOUND_MS / 1000 + TIMEOUT_S
    await asyncio.sleep(bound - loop.time() + 0.2)
    guard.crash()
    assert len(resets) == 1
    assert deadline + TIMEOUT_S <= resets[0] <= bound + 0.1
    assert not await still_extends(guard)


async def still_extends(guard: SimulatedGuard) -> bool:
    guard.thaw()
    is_entitled = await guard.extend(asyncio.get_running_loop().time() + 10)
    guard.crash()
    return is_entitled
