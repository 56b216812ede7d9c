"""Playing a schedule on a world, and what came of it.

Rule of the file: the world says what is possible and judges; this only keeps the time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from holdfast.lab.soak.chronicle import Chronicle
from holdfast.lab.soak.schedule import Act, Schedule, Step, Who


class World(Protocol):
    """A cluster that lives on from schedule to schedule."""

    unit_s: float
    """What passes until a silent node is called lost."""
    chronicle: Chronicle

    async def begin(self, schedule: Schedule) -> str | None:
        """Have everything in order; returns what is not."""

    def who(self, who: Who) -> str | None:
        """The node that this is now."""

    async def do(self, act: Act, node: str | None) -> None:
        """Let it happen."""

    async def undo(self, act: Act, node: str | None) -> None:
        """End it."""

    async def heal(self) -> None:
        """End everything that still goes on."""

    async def settle(self) -> str | None:
        """Wait until everything works again by itself; returns what does not."""

    def faults(self) -> list[str]:
        """What may not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of a schedule. `faults` is empty when all was well; else `lines` is what happened."""

    schedule: Schedule
    faults: tuple[str, ...]
    lines: tuple[str, ...]
    lasted_s: float


async def play(world: World, schedule: Schedule) -> Played:
    """Play a schedule to its end, heal, wait for progress, judge."""
    time = asyncio.get_running_loop().time
    problem = await world.begin(schedule)
    faults = [] if problem is None else [f"before anything happened: {problem}"]
    began_at = time()
    if not faults:
        async with asyncio.TaskGroup() as tasks:
            for step in schedule.steps:
                tasks.create_task(_take(world, step, began_at))
        await world.heal()
        problem = await world.settle()
        faults += [] if problem is None else [problem]
        faults += world.faults()
    lines = tuple(world.chronicle.lines()) if faults else ()
    return Played(schedule=schedule, faults=tuple(faults), lines=lines, lasted_s=time() - began_at)


async def _take(world: World, step: Step, began_at: float) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(began_at + step.at * world.unit_s - loop.time())
    node = world.who(step.who)
    await world.do(step.act, node)
    if step.lasts:
        await asyncio.sleep(step.lasts * world.unit_s)
        await world.undo(step.act, node)
