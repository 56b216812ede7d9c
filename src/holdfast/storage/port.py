"""A logical unit as the rest of Holdfast sees it.

Rule of the file: a LUN is reached through one nexus (this initiator, one port of the target), and every reservation
belongs to that nexus. Each request ends as one of the four outcomes; none raises. Unit attentions are repeated by the
implementation and reported with the outcome. Keys are numbers from 1 to 2**64 - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from holdfast.storage.outcome import Outcome
from holdfast.storage.scsi.capacity import BlockCapacity
from holdfast.storage.scsi.reservations import Capabilities, FullStatus, Keys, ReservationReading, ReservationType


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a logical unit is, whatever way led to it.

    designator       its best name out of page 83h, such as ``naa.6001405…``; two LUNs with one name are the same LUN.
    is_registered    a registration authority vouches for the name; otherwise its administrator must.
    """

    designator: str
    is_registered: bool
    vendor: str
    product: str
    revision: str
    serial_number: str


class Lun(Protocol):
    """One logical unit through one nexus. Every request has a deadline; past it the outcome is Unknown."""

    @property
    def path(self) -> str:
        """How it is reached, for people; never an identity."""

    async def identity(self) -> Outcome[Identity]:
        """Who it is."""

    async def capacity(self) -> Outcome[BlockCapacity]:
        """Number and size of its blocks."""

    async def capabilities(self) -> Outcome[Capabilities]:
        """What it can do about reservations."""

    async def check(self) -> Outcome[None]:
        """Whether it takes commands (TEST UNIT READY)."""

    async def read_keys(self) -> Outcome[Keys]:
        """Who is registered."""

    async def read_reservation(self) -> Outcome[ReservationReading]:
        """Who reserved."""

    async def read_full_status(self) -> Outcome[FullStatus]:
        """Which initiator is registered with which key. Not every target can tell."""

    async def register(self, *, key: int, existing: int | None, survives_power_loss: bool) -> Outcome[None]:
        """Register this nexus, change its key, or unregister it with key 0.

        `existing` is the key it has now, 0 for none: any other is a conflict. None replaces whatever is there.
        """

    async def reserve(self, *, key: int, type: ReservationType) -> Outcome[None]:  # noqa: A002  # the standard's word
        """Reserve. Conflict: somebody else holds it, or this nexus is not registered with `key`."""

    async def release(self, *, key: int, type: ReservationType) -> Outcome[None]:  # noqa: A002
        """Give the reservation up; done also when there was none."""

    async def preempt(self, *, key: int, victim: int, type: ReservationType, abort: bool) -> Outcome[None]:  # noqa: A002
        """Remove every registration with the key `victim`, and take the reservation over if it was the victim's.

        With `abort`, commands of the victim that the target has not finished will never be carried out. Without, they
        may. Conflict: this nexus is not registered with `key`, or nobody is registered with `victim`.
        """

    async def clear(self, *, key: int) -> Outcome[None]:
        """Remove the reservation and all registrations, one's own too."""

    async def read(self, *, block: int, count: int) -> Outcome[bytes]:
        """Read whole blocks."""

    async def write(self, *, block: int, data: bytes) -> Outcome[None]:
        """Write whole blocks to the medium. Unknown: all, some or none of them may be there, now or later."""

    async def flush(self) -> Outcome[None]:
        """Have everything that was written before put on the medium."""

    async def reset(self) -> Outcome[None]:
        """Reset the logical unit: unfinished commands of everybody are dropped; reservations stay."""

    async def close(self) -> None:
        """Let go of it. Does not unregister."""
