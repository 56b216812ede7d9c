"""Traps: what happens at the very moment at which some node sends a PREEMPT.

Rule of the file: at most one is set, and the first PREEMPT of any node springs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from holdfast.lab.soak.light_machine import LightMachine
from holdfast.lab.soak.relay import Way
from holdfast.lab.soak.schedule import Act

LATE_S: Final = 3.5
"""So long a late reply or request is held: longer than a node waits for it."""
FROZEN_S: Final = 5.0


class Traps:
    """The trap of one light world. `note` is told when it is sprung; `tasks` end what it began."""

    def __init__(self, tasks: asyncio.TaskGroup, note: Callable[[str], None]) -> None:
        self._tasks = tasks
        self._note = note
        self._set: Act | None = None
        self._later: set[asyncio.Task[None]] = set()

    def lay(self, act: Act) -> None:
        """Set a trap for the next PREEMPT."""
        self._set = act

    async def release(self) -> None:
        """Take the trap away, and what a sprung one still had in mind."""
        self._set = None
        later = tuple(self._later)
        for task in later:
            task.cancel()
        if later:
            await asyncio.wait(later)

    def preempting(self, machine: LightMachine) -> None:
        """A PREEMPT of this machine is about to be passed on."""
        match self._set:
            case Act.DIES_BEFORE:
                self._spring(machine)
                machine.die()
                machine.storage.gates[Way.OUT].shut()
                self._do(machine.power_off())
            case Act.REQUEST_LATE:
                self._spring(machine)
                machine.storage.gates[Way.OUT].shut()
                machine.note_ability()
                self._do(_open_later(machine))
            case _:
                return

    def preempted(self, machine: LightMachine) -> None:
        """A PREEMPT of this machine was passed on."""
        match self._set:
            case Act.DIES_AFTER:
                self._spring(machine)
                machine.die()
                self._do(machine.power_off())
            case Act.FREEZES_AFTER:
                self._spring(machine)
                machine.freeze()
                self._do(_thaw_later(machine))
            case Act.REPLY_LOST:
                self._spring(machine)
                machine.storage.gates[Way.BACK].shut()
                machine.note_ability()
                self._do(_open_later(machine))
            case _:
                return

    def _spring(self, machine: LightMachine) -> None:
        self._note(f"{self._set}: {machine.name}")
        self._set = None

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)


async def _open_later(machine: LightMachine) -> None:
    await asyncio.sleep(LATE_S)
    machine.storage.open()
    machine.note_ability()


async def _thaw_later(machine: LightMachine) -> None:
    await asyncio.sleep(FROZEN_S)
    machine.thaw()
