"""Asks the fence devices of silent peers, and orders them off.

Rule of the file: an answer counts only for the incarnation it was asked about, and only if it was asked for after that
incarnation fell silent; "no answer" stays "no answer". Source: SAFE-2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from holdfast.decide.detection import PowerEvidence
from holdfast.fencing.errors import FenceDeviceInvalid
from holdfast.fencing.port import FenceDevice, FenceResult, PowerReading, PowerState
from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.nodes import FenceSpec
from holdfast.model.snapshot import Snapshot

ASK_AGAIN_S: Final = 0.5

Peer = tuple[NodeName, Incarnation]
DeviceOf = Callable[[FenceSpec], FenceDevice]


class PowerWatch:
    """The power state of suspected peers, asked for again and again while the suspicion stands."""

    def __init__(self, device_of: DeviceOf) -> None:
        self._device_of = device_of
        self._evidence: dict[Peer, PowerEvidence] = {}
        self._asking: dict[Peer, asyncio.Task[None]] = {}

    def ask(self, peer: Peer, snapshot: Snapshot, *, delay_s: float, tasks: asyncio.TaskGroup) -> None:
        """Begin to ask for a peer that fell silent; one without a fence device yields no evidence."""
        spec = snapshot.nodes[peer[0]].value.fence if peer[0] in snapshot.nodes else None
        if spec is not None and peer not in self._asking:
            self._asking[peer] = tasks.create_task(self._ask(peer, spec, delay_s))

    def forget(self, peer: Peer) -> None:
        """The peer was heard again, or is judged no more: what was found is void."""
        self._evidence.pop(peer, None)
        if (task := self._asking.pop(peer, None)) is not None:
            task.cancel()

    def evidence(self, peer: Peer) -> PowerEvidence | None:
        """The newest answer about a peer since it fell silent."""
        return self._evidence.get(peer)

    async def _ask(self, peer: Peer, spec: FenceSpec, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while True:
            self._evidence[peer] = await ask_power(self._device_of, spec)
            await asyncio.sleep(ASK_AGAIN_S)


async def ask_power(device_of: DeviceOf, spec: FenceSpec) -> PowerEvidence:
    """Ask a device once. A device that cannot be used as configured gives no answer."""
    try:
        reading = await device_of(spec).status()
    except FenceDeviceInvalid as error:
        return PowerEvidence(is_off=None, detail=error.message)
    return evidence_of(reading)


async def switch_off(device_of: DeviceOf, spec: FenceSpec) -> PowerEvidence:
    """Order a node off; evidence only if the device reported off afterwards."""
    try:
        outcome = await device_of(spec).off()
    except FenceDeviceInvalid as error:
        return PowerEvidence(is_off=None, detail=error.message)
    return PowerEvidence(is_off=True if outcome.result is FenceResult.DONE else None, detail=outcome.detail)


def evidence_of(reading: PowerReading) -> PowerEvidence:
    """What an answer is worth: off and on are taken as they are, everything else is no answer."""
    is_off = None if reading.state is PowerState.UNKNOWN else reading.state is PowerState.OFF
    return PowerEvidence(is_off=is_off, detail=reading.detail)
