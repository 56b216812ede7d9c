"""Many schedules: several worlds side by side, one schedule at a time in each.

Rule of the file: the schedules are those of the seeds in their order; which world plays which is chance. It ends with
the first fault, and every world with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from holdfast.lab.soak.play import Played, World, play
from holdfast.lab.soak.schedule import Act, Schedule

OpenWorld = Callable[[], AbstractAsyncContextManager[World]]


@dataclass(slots=True)
class Tally:
    """What was played so far. `failed` is the first with a fault."""

    played: int = 0
    acts: dict[Act, int] = field(default_factory=dict)
    failed: Played | None = None

    def add(self, result: Played) -> None:
        """Count one."""
        self.played += 1
        for step in result.schedule.steps:
            self.acts[step.act] = self.acts.get(step.act, 0) + 1
        if result.faults and self.failed is None:
            self.failed = result


async def soak(
    schedules: Iterator[Schedule],
    open_world: OpenWorld,
    *,
    worlds: int,
    until: float | None = None,
    tell: Callable[[Tally, Played], None] = lambda tally, played: None,
) -> Tally:
    """Play schedules until there are no more, one went wrong, or the time `until` of the event loop has come.

    Raises LabBroken when a world cannot be built.
    """
    tally = Tally()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(worlds):
            tasks.create_task(_inhabit(schedules, open_world, tally, until, tell))
    return tally


async def _inhabit(
    schedules: Iterator[Schedule],
    open_world: OpenWorld,
    tally: Tally,
    until: float | None,
    tell: Callable[[Tally, Played], None],
) -> None:
    async with open_world() as world:
        while tally.failed is None and (until is None or asyncio.get_running_loop().time() < until):
            schedule = next(schedules, None)
            if schedule is None:
                return
            played = await play(world, schedule)
            tally.add(played)
            tell(tally, played)
