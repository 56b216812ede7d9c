"""A fence device and a power switch that exist only in memory.

Rule of the file: it behaves as the real device does at the port, faults included, on whatever loop and clock it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum

from holdfast.fencing.port import FenceOutcome, FenceResult, PowerReading, PowerState


class DeviceFault(StrEnum):
    """What is wrong with a simulated device.

    FAIL: it refuses orders, but reports the truth. HANG: it never answers. UNKNOWN: it answers with an error only.
    LIE: it reports off. With any of them the power stays as it was.
    """

    NONE = "none"
    FAIL = "fail"
    HANG = "hang"
    UNKNOWN = "unknown"
    LIE = "lie"


class SimulatedFenceDevice:
    """A FenceDevice that calls ``cut`` and ``restore`` when the power really changes. Times are in loop time."""

    def __init__(
        self,
        *,
        cut: Callable[[], None] = lambda: None,
        restore: Callable[[], None] = lambda: None,
        delay_ms: int = 30,
        timeout_ms: int = 5000,
    ) -> None:
        self.is_on = True
        self.fault = DeviceFault.NONE
        self._cut = cut
        self._restore = restore
        self._delay_ms = delay_ms
        self._timeout_ms = timeout_ms

    async def status(self) -> PowerReading:
        """Return what the device reports, as its fault allows. Source: FenceDevice.status."""
        if await self._is_silent():
            return PowerReading(state=PowerState.UNKNOWN, detail=f"no answer to status within {self._timeout_ms} ms")
        match self.fault:
            case DeviceFault.UNKNOWN:
                return PowerReading(state=PowerState.UNKNOWN, detail="the device does not say")
            case DeviceFault.LIE:
                return PowerReading(state=PowerState.OFF, detail="the device reports off")
            case _:
                state = PowerState.ON if self.is_on else PowerState.OFF
                return PowerReading(state=state, detail=f"the device reports {state}")

    async def off(self) -> FenceOutcome:
        """Switch off and look. Source: FenceDevice.off."""
        return await self._switch(PowerState.OFF)

    async def on(self) -> FenceOutcome:
        """Switch on and look. Source: FenceDevice.on."""
        return await self._switch(PowerState.ON)

    async def reboot(self) -> FenceOutcome:
        """Switch off and on. Source: FenceDevice.reboot."""
        if await self._is_silent() or self.fault in (DeviceFault.FAIL, DeviceFault.UNKNOWN):
            return FenceOutcome(result=FenceResult.UNKNOWN, detail="the device did not confirm the reboot")
        self._set(PowerState.OFF)
        self._set(PowerState.ON)
        return FenceOutcome(result=FenceResult.DONE, detail="rebooted")

    async def monitor(self) -> FenceOutcome:
        """Say whether the device answers. Source: FenceDevice.monitor."""
        if await self._is_silent():
            return FenceOutcome(result=FenceResult.UNKNOWN, detail=f"no answer to monitor within {self._timeout_ms} ms")
        result = FenceResult.FAILED if self.fault in (DeviceFault.FAIL, DeviceFault.UNKNOWN) else FenceResult.DONE
        return FenceOutcome(result=result, detail="")

    async def _switch(self, wanted: PowerState) -> FenceOutcome:
        is_silent = await self._is_silent()
        if not is_silent:
            self._set(wanted)
        reading = await self.status()
        if reading.state is wanted:
            result = FenceResult.DONE
        else:
            is_unclear = is_silent or reading.state is PowerState.UNKNOWN
            result = FenceResult.UNKNOWN if is_unclear else FenceResult.FAILED
        return FenceOutcome(result=result, detail=reading.detail)

    def _set(self, wanted: PowerState) -> None:
        if self.fault is not DeviceFault.NONE or self.is_on == (wanted is PowerState.ON):
            return
        self.is_on = wanted is PowerState.ON
        (self._restore if self.is_on else self._cut)()

    async def _is_silent(self) -> bool:
        is_silent = self.fault is DeviceFault.HANG
        await asyncio.sleep((self._timeout_ms if is_silent else self._delay_ms) / 1000)
        return is_silent
