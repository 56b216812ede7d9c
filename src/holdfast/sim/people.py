"""What people do: what only they may decide, asked of any node that answers.

Rule of the file: a request is served inside of the daemon of one node, by the code that serves it in a real cluster; if
that daemon dies, there is no answer, and the person asks the next one. Whether a machine is off they see with their own
eyes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

from holdfast.model.errors import HoldfastError, Refused
from holdfast.model.ids import NodeName
from holdfast.node.requests import Requests
from holdfast.sim.loop import VirtualLoop
from holdfast.sim.machine import Machine
from holdfast.sim.truth import Truth

LOOK_EVERY_S: Final = 1.0
PATIENCE_S: Final = 15.0
"""After so long without an answer a person asks another node."""
WHO: Final = "a person"


class _NoTokens:
    async def create_token(self, ttl_ms: int) -> tuple[str, int]:
        raise Refused("no machine joins a simulated cluster")


@dataclass(slots=True, kw_only=True)
class People:
    """People with access to the machines. `is_sure`: they confirm a machine down without looking."""

    loop: VirtualLoop
    truth: Truth
    machines: Mapping[NodeName, Machine]
    is_sure: bool = False

    def walk(self) -> asyncio.Task[None]:
        """Look at every machine again and again and confirm what is down, until cancelled."""
        return self.loop.create_task(self._walk(), context=Context())

    def ask(self, method: str, params: Mapping[str, Any], *, first: int = 0) -> asyncio.Task[None]:
        """Ask one node after the other, from the one with that number, until one has done it; or until cancelled."""
        return self.loop.create_task(self._insist(method, params, first), context=Context())

    async def _walk(self) -> None:
        while True:
            for machine in self.machines.values():
                if self.is_sure or not machine.is_on:
                    await self._ask_all(
                        "node.confirm-down", {"node": machine.name, "person": WHO, "reason": "it is off"}
                    )
            await asyncio.sleep(LOOK_EVERY_S)

    async def _insist(self, method: str, params: Mapping[str, Any], first: int) -> None:
        while True:
            if await self._ask_all(method, params, first):
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ask_all(self, method: str, params: Mapping[str, Any], first: int = 0) -> bool:
        names = list(self.machines)
        for number in range(len(names)):
            machine = self.machines[names[(first + number) % len(names)]]
            if machine.executes and machine.life is not None and await self._ask(machine, method, params):
                return True
        return False

    async def _ask(self, machine: Machine, method: str, params: Mapping[str, Any]) -> bool:
        """Ask one node; a refusal of its rules is an answer too, for a person who has read it."""
        assert machine.daemon is not None
        answer: list[bool] = []
        serving = machine.daemon.spawn(_serve(machine, method, params, answer))
        await asyncio.wait([serving], timeout=PATIENCE_S)
        if serving.done() and not serving.cancelled() and (error := serving.exception()) is not None:
            self.truth.accident(f"{method} {dict(params)} ended by itself: {error!r}")
        if answer:
            self.truth.note("world", f"{machine.name} was asked for {method} {dict(params)}: {answer[0]}")
        return any(answer)


async def _serve(machine: Machine, method: str, params: Mapping[str, Any], answer: list[bool]) -> None:
    if machine.life is None:
        return
    requests = Requests(machine.life, machine.store, _NoTokens())
    try:
        async with aclosing(requests.handle(method, dict(params))) as items:
            async for _ in items:
                pass
    except HoldfastError as error:
        answer.append(not error.retryable)
    else:
        answer.append(True)
