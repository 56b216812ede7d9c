"""A light node as its machine: power, freezer, cables, and what it tells.

Rule of the file: what is done to it needs no answer from it, and nobody is told of its death. A node that ends by
itself ends the run, with its last words.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from holdfast.lab.errors import LabBroken
from holdfast.lab.soak.board import Board
from holdfast.lab.soak.chronicle import Chronicle
from holdfast.lab.soak.light_node import NodePlan
from holdfast.lab.soak.relay import Relay

_LAST_WORDS: Final = 40


class LightMachine:
    """One node.

    tasks        hear it.
    preempting   called when it is about to send a PREEMPT, `preempted` once that was passed on.
    """

    def __init__(
        self,
        plan: NodePlan,
        tasks: asyncio.TaskGroup,
        *,
        target: tuple[str, int],
        database: tuple[str, int],
        chronicle: Chronicle,
        preempting: Callable[[LightMachine], None],
        preempted: Callable[[LightMachine], None],
    ) -> None:
        self.name = plan.me
        self.board = Board.make(Path(plan.board))
        self.storage = Relay(target, on_preempt=lambda: preempting(self))
        self.storage.passed_preempt = lambda: preempted(self)
        self.database = Relay(database)
        self.is_frozen = False
        self.is_target_up = True
        self.incarnations: list[str] = []
        self.guests: dict[str, float | None] = {}
        """When the guest of an instance was seen to end; None while it lives."""
        self.born_of: dict[str, str] = {}
        """The incarnation under which an instance began."""
        self.able: list[tuple[float, bool]] = []
        """From when on it could learn from its disks that it was expelled, or could not."""
        self._plan = plan
        self._tasks = tasks
        self._chronicle = chronicle
        self._process: asyncio.subprocess.Process | None = None
        self._is_dead = False
        self._hearing: asyncio.Task[None] | None = None

    @property
    def incarnation(self) -> str:
        """The newest that it told of; empty before the first."""
        return self.incarnations[-1] if self.incarnations else ""

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._process is not None

    async def start(self) -> None:
        """Lay its cables and switch it on."""
        portal, database = await self.storage.start(), await self.database.start()
        self._plan = replace(self._plan, portal=f"127.0.0.1:{portal}", database=f"127.0.0.1:{database}")
        await self.power_on()

    async def stop(self) -> None:
        """Switch it off for good."""
        await self.power_off()
        await self.storage.stop()
        await self.database.stop()

    async def power_on(self) -> None:
        """Start it, if it is off."""
        if self._is_dead:
            await self.power_off()
        if self._process is not None:
            return
        self.storage.is_silent = self.database.is_silent = False
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "holdfast.lab.soak.light_node", json.dumps(asdict(self._plan))),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends the run, and the run ends its nodes
        )
        self._hearing = self._tasks.create_task(self._hear(process))
        self._is_dead = False
        self.note_ability()

    async def power_off(self) -> None:
        """Pull its plug; nobody is told."""
        process = self._process
        if process is None:
            return
        self.die()
        await process.wait()
        if self._hearing is not None:
            await asyncio.wait([self._hearing])
        if self._process is process:
            self._process = None
            self._gone()

    def die(self) -> None:
        """The same at this very instant; `power_off` has to follow."""
        self.storage.is_silent = self.database.is_silent = True
        self._signal(signal.SIGKILL)
        self._is_dead = True
        self.note_ability()

    def freeze(self) -> None:
        """Stop it where it stands."""
        if self._process is not None and not self.is_frozen:
            self.is_frozen = True
            self._signal(signal.SIGSTOP)
            self.note_ability()

    def thaw(self) -> None:
        """Let it go on."""
        if self.is_frozen:
            self.is_frozen = False
            self.note_ability()
            self._signal(signal.SIGCONT)

    def cut(self, *, cluster: bool = False, storage: bool = False) -> None:
        """Take cables out."""
        if cluster:
            self.board.turn("cluster-cut", on=True)
            self.database.shut()
        if storage:
            self.storage.shut()
            self.note_ability()

    def mend(self) -> None:
        """Put all cables in: what was held arrives."""
        self.board.turn("cluster-cut", on=False)
        self.database.open()
        self.storage.open()
        self.note_ability()

    def note_ability(self) -> None:
        """Remember from when on it could learn from its disks, or could not."""
        can = self.is_on and not self._is_dead and not self.is_frozen and self.is_target_up and self.storage.is_open
        self.able.append((asyncio.get_running_loop().time(), can))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _gone(self) -> None:
        self.is_frozen = False
        now = asyncio.get_running_loop().time()
        for instance, ended_at in self.guests.items():
            self.guests[instance] = ended_at or now

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        words: deque[str] = deque(maxlen=_LAST_WORDS)
        while line := await process.stdout.readline():
            try:
                told = json.loads(line)
            except json.JSONDecodeError:
                words.append(line.decode(errors="replace").rstrip())
            else:
                self._take(told)
        status = await process.wait()
        if process is self._process and not self._is_dead:
            raise LabBroken("\n".join([f"{self.name} ended by itself, status {status}", *words]))

    def _take(self, told: dict[str, object]) -> None:
        at, what = float(str(told.pop("at"))), str(told.pop("what"))
        match what:
            case "incarnation":
                self.incarnations.append(str(told["incarnation"]))
            case "guest-began":
                self.guests[str(told["instance"])] = None
                self.born_of[str(told["instance"])] = self.incarnations[-1]
            case "guest-ended":
                self.guests[str(told["instance"])] = at
        self._chronicle.note(at, self.name, f"{what} " + " ".join(f"{key}={value}" for key, value in told.items()))
