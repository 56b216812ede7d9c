"""The lab's power switch: one outlet per node, answering fence agents on a socket of its own.

Rule of the file: it is out of band: it reaches nodes whose networks are cut, it sees only plugs and power, and each
outlet can be made to fail, hang, or say "unknown" as real devices do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from enum import StrEnum

from holdfast.lab.errors import LabBroken
from holdfast.lab.machine import Machine, Power


class FenceFault(StrEnum):
    """How an outlet misbehaves."""

    NONE = "none"
    FAIL = "fail"
    """Every request is refused."""
    HANG = "hang"
    """No request is ever answered."""
    UNKNOWN = "unknown"
    """Orders are accepted and not carried out, and the state is reported as unknown."""


class PowerSwitch:
    """The outlets of all nodes."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self._machines = machines
        self.faults = dict.fromkeys(machines, FenceFault.NONE)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one fence agent, one JSON line per request, until it hangs up."""
        try:
            while line := await reader.readline():
                request: dict[str, str] = json.loads(line)
                answer = await self._answer(request.get("action", ""), request.get("plug", ""), reader)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the agent was killed, or sent no JSON: a power switch shrugs
        finally:
            writer.close()

    async def _answer(self, action: str, plug: str, reader: asyncio.StreamReader) -> dict[str, object]:
        if action == "list":
            return {"plugs": sorted(self._machines)}
        if plug not in self._machines:
            return {"error": f"no outlet {plug!r}; there are {', '.join(sorted(self._machines))}"}
        match self.faults[plug]:
            case FenceFault.FAIL:
                return {"error": f"outlet {plug} is out of order"}
            case FenceFault.HANG:
                await reader.read()
                raise ConnectionResetError
            case FenceFault.UNKNOWN:
                return {"power": "unknown"}
            case FenceFault.NONE:
                return await self._act(action, self._machines[plug])

    async def _act(self, action: str, machine: Machine) -> dict[str, object]:
        try:
            if action in ("off", "reboot"):
                await machine.power_off(f"fenced ({action})")
            if action in ("on", "reboot"):
                await machine.power_on()
        except LabBroken as error:
            return {"error": error.message}
        return {"power": "off" if machine.power is Power.OFF else "on"}
