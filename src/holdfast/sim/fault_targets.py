"""What a fault's numbers pick, and what beginning one means.

Rule of the file: a function that begins a fault returns what ends it.
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast.sim.fault import Fault
from holdfast.sim.machine import Machine
from holdfast.sim.world import World

End = Callable[[], None]
Begin = Callable[[World, Fault], End]
"""Begins a fault and returns what ends it."""


def machine_of(world: World, number: int) -> Machine:
    """The machine that a number picks."""
    machines = list(world.machines.values())
    return machines[number % len(machines)]


def nothing() -> None:
    """The end of a fault that leaves nothing to undo."""
