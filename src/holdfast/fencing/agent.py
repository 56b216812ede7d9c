"""A fence device behind a standard fence-agents program: ``fence_ipmilan``, ``fence_redfish``, hundreds more.

Rule of the file: what the agent says of its own success decides nothing; what the device reports afterwards does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.fencing.agent_process import run_agent
from holdfast.fencing.agent_reply import AgentReply, power_state, without_secrets
from holdfast.fencing.errors import FenceDeviceInvalid
from holdfast.fencing.port import FenceOutcome, FenceResult, PowerReading, PowerState

_OPTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceDeviceConfig:
    """How to reach a fence device. Raises FenceDeviceInvalid when the agent could not be given these options.

    agent                name on PATH or path of a fence-agents program.
    options              its options, names as in its metadata; may hold secrets, so they are never shown.
    status_timeout_ms    a status query without an answer for so long is *unknown*; real controllers need up to 2 s.
    switch_timeout_ms    the same for off, on and reboot; agents themselves wait for the power to follow.
    monitor_timeout_ms   the same for monitor.
    """

    agent: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    status_timeout_ms: int = 5000
    switch_timeout_ms: int = 20_000
    monitor_timeout_ms: int = 10_000

    def __post_init__(self) -> None:
        if not self.agent or "\0" in self.agent:
            raise FenceDeviceInvalid("no fence agent is named", hint="name one, such as fence_ipmilan or fence_redfish")
        for name, value in self.options.items():
            if not _OPTION_NAME.fullmatch(name):
                raise FenceDeviceInvalid(f"fence option {name!r} is no option name", hint="give options as name=value")
            if name in ("action", "option"):
                raise FenceDeviceInvalid(f"fence option {name} is set by Holdfast", hint=f"leave {name} out")
            if "\n" in value or "\0" in value:
                raise FenceDeviceInvalid(f"the value of fence option {name} contains a line end", hint="use one line")


class FenceAgentDevice:
    """A FenceDevice that runs an agent once for every question."""

    def __init__(self, config: FenceDeviceConfig) -> None:
        self._config = config

    async def status(self) -> PowerReading:
        """Return what the device reports. Source: FenceDevice.status."""
        return power_state(await self._run("status", self._config.status_timeout_ms))

    async def off(self) -> FenceOutcome:
        """Switch off and look. Source: FenceDevice.off."""
        return await self._switch("off", wanted=PowerState.OFF)

    async def on(self) -> FenceOutcome:
        """Switch on and look. Source: FenceDevice.on."""
        return await self._switch("on", wanted=PowerState.ON)

    async def reboot(self) -> FenceOutcome:
        """Switch off and on, as far as the agent can tell. Source: FenceDevice.reboot."""
        return _plain_outcome(await self._run("reboot", self._config.switch_timeout_ms), otherwise=FenceResult.UNKNOWN)

    async def monitor(self) -> FenceOutcome:
        """Ask the device whether it is there. Source: FenceDevice.monitor."""
        return _plain_outcome(await self._run("monitor", self._config.monitor_timeout_ms), otherwise=FenceResult.FAILED)

    async def _switch(self, action: str, *, wanted: PowerState) -> FenceOutcome:
        order = await self._run(action, self._config.switch_timeout_ms)
        if not order.was_started:
            return FenceOutcome(result=FenceResult.FAILED, detail=order.describe())
        reading = await self.status()
        detail = f"{action}: {order.describe()}; then: {reading.detail}"
        if reading.state is wanted:
            return FenceOutcome(result=FenceResult.DONE, detail=detail)
        # An order that was never finished may still be carried out.
        is_clear = reading.state is not PowerState.UNKNOWN and order.exit_code is not None
        return FenceOutcome(result=FenceResult.FAILED if is_clear else FenceResult.UNKNOWN, detail=detail)

    async def _run(self, action: str, timeout_ms: int) -> AgentReply:
        config = self._config
        reply = await run_agent(config.agent, config.options, action=action, timeout_ms=timeout_ms)
        return AgentReply(
            exit_code=reply.exit_code,
            output=without_secrets(reply.output, config.options),
            errors=without_secrets(reply.errors, config.options),
            problem=reply.problem,
            was_started=reply.was_started,
        )


def _plain_outcome(reply: AgentReply, *, otherwise: FenceResult) -> FenceOutcome:
    if reply.exit_code == 0:
        result = FenceResult.DONE
    elif not reply.was_started:
        result = FenceResult.FAILED
    else:
        result = FenceResult.UNKNOWN if reply.exit_code is None else otherwise
    return FenceOutcome(result=result, detail=reply.describe())
