"""What fencing needs from outside: a device that switches a node's power, and the guard of this node.

Rule of the file: an answer says only what was observed. There is no default for "it did not answer" but *unknown*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class PowerState(StrEnum):
    """What a fence device says of a node's power."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReading:
    """One answer to a status query. ``detail`` tells a person how it was found; it contains no secret."""

    state: PowerState
    detail: str


class FenceResult(StrEnum):
    """How an order to a fence device ended."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceOutcome:
    """The end of one order. ``detail`` tells a person why; it contains no secret."""

    result: FenceResult
    detail: str


class FenceDevice(Protocol):
    """Switches the power of one node. No method raises because of the device: a broken device is an answer too."""

    async def status(self) -> PowerReading:
        """Return the power state. Invariant: ``OFF`` only if the device said so explicitly. Source: SAFE-2."""

    async def off(self) -> FenceOutcome:
        """Switch off. Invariant: DONE only if a status query made after the order reported off. Source: SAFE-2."""

    async def on(self) -> FenceOutcome:
        """Switch on. DONE only if a status query made after the order reported on."""

    async def reboot(self) -> FenceOutcome:
        """Switch off and on. Never a proof: many devices cannot tell whether the power was gone in between."""

    async def monitor(self) -> FenceOutcome:
        """Say whether the device itself can be reached and accepts its options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogReading:
    """The hardware watchdog that a guard holds. ``error`` is empty while petting works; otherwise rely on nothing."""

    device: str
    timeout_s: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReading:
    """What the guard says of itself.

    until         the deadline in loop time; None: none was set yet.
    is_entitled   the deadline lies ahead.
    has_expired   it passed: guests on the list die, and those that are born late too.
    guests        uuids on the list.
    alive         those of them that the last look after an expiry found.
    """

    until: float | None
    is_entitled: bool
    has_expired: bool
    guests: frozenset[str]
    alive: frozenset[str]
    kill_bound_ms: int
    watchdog: WatchdogReading | None


class Guard(Protocol):
    """The guard of this node, as holdfastd sees it. All methods raise GuardUnavailable if no answer comes in time."""

    async def extend(self, until: float) -> bool:
        """Move the deadline forward to ``until`` (loop time); an earlier one changes nothing.

        Returns whether the node is entitled now. False after the deadline has passed and until all guests on the list
        are dead: whoever may have taken them over meanwhile must find them so.
        """

    async def protect(self, uuid: str) -> bool:
        """Put a guest on the list of what dies with the deadline; return whether the node is entitled to start it."""

    async def unprotect(self, uuid: str) -> bool:
        """Take a guest off the list; False if it is condemned: the deadline passed and it is not found dead yet."""

    async def state(self) -> GuardReading:
        """Return what the guard says of itself."""

    async def disarm(self) -> bool:
        """End the guard and switch the watchdog off; False if guests are still on its list."""
