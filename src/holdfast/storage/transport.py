"""What carries SCSI commands to a logical unit: a kernel's device, an iSCSI session, a simulated target.

Rule of the file: a transport carries one command and tells what came back. It repeats nothing and judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from holdfast.storage.scsi.command import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The target answered. `sense` is empty unless it came with the status."""

    status: int
    data: bytes = b""
    sense: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """The target certainly never saw the command."""

    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """No answer came: the target may have carried the command out, or may do so later."""

    words: str


Reply: TypeAlias = Answer | Unsent | Lost


class Transport(Protocol):
    """One nexus to one logical unit."""

    @property
    def path(self) -> str:
        """How the logical unit is reached, for people."""

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """Carry a command; Lost when no answer came in time."""

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """Have the target drop all commands of the logical unit. An Answer with status good means that it did."""

    async def close(self) -> None:
        """Let go of the logical unit; later commands are Unsent."""
