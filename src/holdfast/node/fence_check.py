"""The coordinator's regular look at every fence device while all is well, so that a useless one is known in time.

Rule of the file: it warns and decides nothing. A device that says *off* of a node that is up is wired to the wrong
machine; one that does not answer will not answer in the night either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.nodes import Condition
from holdfast.model.snapshot import Snapshot
from holdfast.node.mirror import Mirror
from holdfast.node.power import DeviceOf, ask_power

CHECK_INTERVAL_S: Final = 60.0
FIRST_CHECK_S: Final = 5.0


class FenceCheck:
    """Asks the devices of nodes that are up. `conditions` holds what is wrong with them.

    is_heard   whether a node is certainly alive: a session alone outlives its node while nothing can be decided.
    """

    def __init__(self, mirror: Mirror, device_of: DeviceOf, *, is_heard: Callable[[NodeName], bool]) -> None:
        self._mirror = mirror
        self._device_of = device_of
        self._is_heard = is_heard
        self.conditions: tuple[Condition, ...] = ()

    async def run(self) -> None:
        """Ask until cancelled: when this node stops being the coordinator."""
        try:
            await asyncio.sleep(FIRST_CHECK_S)
            while True:
                snapshot = self._mirror.snapshot or Snapshot()
                found = [await self._check(node, snapshot) for node in sorted(snapshot.sessions)]
                self.conditions = tuple(condition for condition in found if condition is not None)
                await asyncio.sleep(CHECK_INTERVAL_S)
        finally:
            self.conditions = ()

    async def _check(self, node: NodeName, snapshot: Snapshot) -> Condition | None:
        spec = snapshot.nodes[node].value.fence if node in snapshot.nodes else None
        if spec is None:
            return None
        evidence = await ask_power(self._device_of, spec)
        if evidence.is_off is None:
            text = f"the fence device of {node} ({spec.agent}) gives no clear answer: {evidence.detail}"
            return Condition(code="fence-device-silent", subject=node, text=text)
        still_up = node in (self._mirror.snapshot or snapshot).sessions
        if evidence.is_off and still_up and self._is_heard(node):
            text = f"the fence device of {node} ({spec.agent}) says that {node} is off, but it is up: it is another's"
            return Condition(code="fence-device-wrong", subject=node, text=text)
        return None
