"""Shared disks as the database knows them: who they are, how they are reached, and how a node stands with them.

Rule of the file: a disk's record never changes after it was added, so that what was proven about a disk by its name
stays about that disk. Source: SAFE-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Final

from holdfast.model.ids import ClusterId, DiskName, Incarnation, NodeName

KEY_BYTES: Final = 8
"""A registration key is 64 bits. Source: SPC-4 clause 6.14."""


class Protection(StrEnum):
    """Who is registered with a disk.

    NODE   every healthy node: a guest starts anywhere at once.
    ROLE   only the node whose role uses the disk: nobody else could write to it at any time.
    """

    NODE = "node"
    ROLE = "role"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """A shared disk that is protected by persistent reservations.

    designator             its name out of VPD page 83h, such as ``naa.6001405…``: its identity, whatever the way there.
    guest_source           what QEMU opens, the same on every node: ``/dev/disk/by-id/…`` or
                           ``nbd+unix:///NAME?socket=/run/…``. ``{designator}`` stands for the designator.
    reservations           how holdfastd sends commands through the very nexus that the guests use: ``sg:/dev/…``,
                           ``helper:/run/….reservations`` or ``multipath:/dev/mapper/…``; ``{designator}`` as above.
    is_heartbeat           no guest may use it: each node stamps a slot of it, twice a second.
    forgets_reservations   its target loses registrations when it restarts; a person accepted that.
    protection             who is registered with it.
    """

    name: DiskName
    designator: str
    size_bytes: int
    guest_source: str
    reservations: str
    is_heartbeat: bool = False
    forgets_reservations: bool = False
    added_at_ms: int = 0
    protection: Protection = Protection.NODE

    def filled(self, text: str) -> str:
        """Return one of its texts with its designator put in."""
        return text.replace("{designator}", self.designator)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The block of every heartbeat disk that is a node's, by its number from 0. A node keeps the one that it took."""

    number: int
    node: NodeName


class DiskState(StrEnum):
    """How a node stands with a disk.

    READY            registered with this incarnation's key, protected, and confirmed under this incarnation's session.
    UNREACHABLE      the target does not answer, or somebody else reserved it.
    NOT_REGISTERED   reachable, and this incarnation may not write yet.
    EXPELLED         this incarnation's key was removed while the disk is protected: its guests there are ended.
    LAPSED           the target forgot who may write: nothing protects the disk, and nothing can be proven by it.
    STANDBY          reachable, and only for the node whose role uses it: this one registers when it owns that role.
    """

    READY = "ready"
    UNREACHABLE = "unreachable"
    NOT_REGISTERED = "not-registered"
    EXPELLED = "expelled"
    LAPSED = "lapsed"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskHealth:
    """How a node stands with a disk, as it last saw it.

    latency_ms   of its looks, smoothed; None: the last one was not answered.
    is_slow      its way to the disk is: a role is better placed on another node.
    is_lost      the node has not reached it for `storage_loss_move_ms`, by its own clock.
    is_steady    the node has reached it all the time for a while, by its own clock.
    """

    state: DiskState
    detail: str = ""
    latency_ms: int | None = None
    is_slow: bool = False
    is_lost: bool = False
    is_steady: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether guests may start from it."""
        return self.state is DiskState.READY

    @property
    def can_become_ready(self) -> bool:
        """Whether a role that uses it may be placed on this node."""
        return self.state in (DiskState.READY, DiskState.STANDBY)


@lru_cache
def reservation_key(cluster: ClusterId, incarnation: Incarnation) -> int:
    """The key that this incarnation, and nobody else, registers with. Never 0, which means no key. Source: SAFE-1."""
    digest = sha256(f"{cluster} {incarnation}".encode()).digest()
    return int.from_bytes(digest[:KEY_BYTES]) or 1
