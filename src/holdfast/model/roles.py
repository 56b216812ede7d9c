"""What the database says of roles: what a person wants, and who owns it now."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from holdfast.model.ids import Epoch, Incarnation, NodeName, RoleName
from holdfast.model.reasons import Reason


class Priority(IntEnum):
    """Order of placement: high first. NO_AUTOSTART is never started or failed over by itself."""

    HIGH = 3
    MEDIUM = 2
    LOW = 1
    NO_AUTOSTART = 0


class Wanted(StrEnum):
    """What a person wants of a role."""

    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """A role as a person set it. The only type so far is a virtual machine; its domain XML carries its disks.

    possible_owners      empty means every node.
    restart_limit        restarts in place within `restart_period_s`, then it fails over.
    failover_limit       failovers because the role itself failed within `failover_period_s`, then it is blocked.
    generation           counts the changes of `wanted` by a person; a new one forgives earlier failures.
    """

    name: RoleName
    uuid: str
    domain_xml: str
    memory_bytes: int
    vcpus: int
    disk_paths: tuple[str, ...]
    wanted: Wanted = Wanted.ONLINE
    priority: Priority = Priority.MEDIUM
    preferred_owners: tuple[NodeName, ...] = ()
    possible_owners: tuple[NodeName, ...] = ()
    restart_limit: int = 2
    restart_period_s: int = 900
    failover_limit: int = 3
    failover_period_s: int = 21_600
    shutdown_timeout_ms: int = 60_000
    generation: int = 1


class Phase(StrEnum):
    """Where a role stands. The transitions are in `decide/lifecycle.py`, and nowhere else.

    VACANT     nobody owns it and nothing of it runs.
    ASSIGNED   the coordinator chose an owner, which has not begun.
    STARTING   the owner said so in a transaction; from here on its guest may run.
    ONLINE     the owner observed it running.
    STOPPING   the owner is taking it offline.
    """

    VACANT = "vacant"
    ASSIGNED = "assigned"
    STARTING = "starting"
    ONLINE = "online"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Who owns a role, since when and why.

    Invariant: `owner` and `incarnation` are None exactly when `phase` is VACANT. The epoch only ever grows.
    Times are wall-clock ms, for people and for the periods of the limits.
    """

    role: RoleName
    phase: Phase = Phase.VACANT
    epoch: Epoch = Epoch(0)
    owner: NodeName | None = None
    incarnation: Incarnation | None = None
    last_owner: NodeName | None = None
    since_ms: int = 0
    restarts: tuple[int, ...] = ()
    failovers: tuple[int, ...] = ()
    failed_on: tuple[NodeName, ...] = ()
    generation: int = 0
    reasons: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        vacant = self.phase is Phase.VACANT
        if vacant != (self.owner is None) or vacant != (self.incarnation is None):
            raise ValueError(f"role {self.role}: phase {self.phase} with owner {self.owner} ({self.incarnation})")
