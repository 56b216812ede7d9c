"""What the answer of a fence agent means. Pure.

Rule of the file: *off* needs two witnesses that agree, the exit code 2 and the words "Status: OFF". The exit code alone
is not enough: fence agents also use 2 for bad arguments (EC_BAD_ARGS), shells and Python for a script they cannot run.
Source: ClusterLabs fence-agents, doc/FenceAgentAPI.md and lib/fencing.py (fence_action, EC_BAD_ARGS).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.fencing.port import PowerReading, PowerState

_STATUS_LINE = re.compile(r"^\s*(?:status:\s*)?(on|off)\s*$", re.IGNORECASE | re.MULTILINE)
_DETAIL_CHARS = 300
_PUBLIC_OPTIONS = frozenset({"ip", "ipaddr", "ipport", "plug", "port", "username", "login", "systems_uri"})
_SWITCH_VALUES = frozenset({"0", "1", "true", "false", "yes", "no", "on", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReply:
    """How a run of an agent ended. ``exit_code`` None: it did not end by itself, and ``problem`` says why.

    ``was_started`` False: the device cannot have been reached.
    """

    exit_code: int | None
    output: str = ""
    errors: str = ""
    problem: str = ""
    was_started: bool = True

    def describe(self) -> str:
        """Return one line for a person: how it ended, and what it said."""
        ending = self.problem if self.exit_code is None else f"exit code {self.exit_code}"
        said = " ".join(f"{self.errors} {self.output}".split())[:_DETAIL_CHARS]
        return f"{ending}: {said}" if said else ending


def power_state(reply: AgentReply) -> PowerReading:
    """Return what a run with ``action=status`` proves about the power. Source: SAFE-2."""
    said = {match.lower() for match in _STATUS_LINE.findall(reply.output)}
    if reply.exit_code == 2 and said == {"off"}:
        return PowerReading(state=PowerState.OFF, detail="the device reports off")
    if reply.exit_code == 0 and (said == {"on"} or not reply.output.strip()):
        return PowerReading(state=PowerState.ON, detail="the device reports on")
    if reply.exit_code == 2 and not said:
        detail = f'{reply.describe()} (without the line "Status: OFF" this may as well mean bad arguments)'
        return PowerReading(state=PowerState.UNKNOWN, detail=detail)
    return PowerReading(state=PowerState.UNKNOWN, detail=reply.describe())


def without_secrets(text: str, options: Mapping[str, str]) -> str:
    """Return ``text`` with the value of every option masked that is not known to be public."""
    secrets = {
        value for key, value in options.items() if key not in _PUBLIC_OPTIONS and value.lower() not in _SWITCH_VALUES
    }
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
