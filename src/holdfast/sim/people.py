"""What people do: what only they may decide, at any node that answers.

Rule of the file: a person sees with their own eyes whether a machine is off, and has the product do the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Final

from holdfast.model.errors import HoldfastError
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Proof, ProofKind
from holdfast.model.reasons import ReasonCode, because
from holdfast.node.record_changes import unproven_verdict
from holdfast.node.transactions import record_proof
from holdfast.sim.loop import VirtualLoop
from holdfast.sim.machine import Machine

LOOK_EVERY_S: Final = 1.0


@dataclass(slots=True, kw_only=True)
class People:
    """People with access to the machines. `is_sure`: they confirm a machine down without looking."""

    loop: VirtualLoop
    machines: Mapping[NodeName, Machine]
    is_sure: bool = False

    def walk(self) -> Callable[[], None]:
        """Look at every machine again and again and confirm what is down; the result ends that."""
        walking = self.loop.create_task(self._walk(), context=Context())
        return lambda: None if walking.done() else _cancel(walking)

    async def _walk(self) -> None:
        while True:
            for machine in self.machines.values():
                if self.is_sure or not machine.is_on:
                    await self._confirm_down(machine.name)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _confirm_down(self, node: NodeName) -> None:
        """`holdfast node confirm-down` at every node that answers, until one takes it."""
        for machine in self.machines.values():
            snapshot = machine.life.mirror.snapshot if machine.life is not None and machine.executes else None
            if snapshot is None:
                continue
            try:
                verdict = unproven_verdict(snapshot, node)
                proof = Proof(
                    node=node,
                    incarnation=verdict.value.incarnation,
                    kind=ProofKind.PERSON,
                    at_ms=machine.clock.wall_ms(),
                    by="a person",
                    reasons=(because(ReasonCode.CONFIRMED_BY_PERSON, node, person="a person", detail="it is off"),),
                )
                if (await machine.store.txn(record_proof(proof, verdict=verdict, events=()))).succeeded:
                    return
            except HoldfastError:
                continue


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
