"""What the database says of roles: what a person wants, and who owns it now."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from holdfast.model.errors import InvalidInput
from holdfast.model.ids import DiskName, Epoch, Incarnation, NodeName, RoleName, SiteName
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


class MoveMethod(StrEnum):
    """What becomes of a guest's memory in a planned move.

    AUTO      live if it can be, else quick; by restart only in a cluster that can keep no memory at all.
    LIVE      copied while the guest runs.
    QUICK     saved to shared storage, restored on the other node.
    RESTART   given up: the guest is shut down and boots again.
    """

    AUTO = "auto"
    LIVE = "live"
    QUICK = "quick"
    RESTART = "restart"


class StorageLoss(StrEnum):
    """What becomes of a role whose node no longer reaches one of its shared disks.

    WAIT   its guest stays, and goes on when the path is back.
    MOVE   it starts anew on a node that reaches all of its disks, if there is one; its guest's memory is lost.
    """

    WAIT = "wait"
    MOVE = "move"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A name that roles share to be placed together or apart.

    is_hard   True: rather blocked than placed against it; False: wished for. Between two roles the harder one counts.
    """

    name: str
    is_hard: bool = False


class FailbackPolicy(StrEnum):
    """When a role returns to a node that it prefers to the one it runs on."""

    NEVER = "never"
    AT_ONCE = "at-once"
    WINDOW = "window"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failback:
    """A failback policy. The hours bound the window, in UTC, [from, until); it may reach over midnight.

    Raises: InvalidInput for hours out of 0..23, and for a window that has no length.
    """

    policy: FailbackPolicy = FailbackPolicy.NEVER
    from_hour: int = 0
    until_hour: int = 0

    def __post_init__(self) -> None:
        for hour in (self.from_hour, self.until_hour):
            if not 0 <= hour <= 23:
                raise InvalidInput(f"failback hour {hour} is no hour of a day", hint="give hours from 0 to 23, in UTC")
        if self.policy is FailbackPolicy.WINDOW and self.from_hour == self.until_hour:
            raise InvalidInput(
                f"the failback window from {self.from_hour} to {self.until_hour} has no length",
                hint="for the whole day use the policy at-once",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """A role as a person set it. The only type so far is a virtual machine; its domain XML carries its disks.

    possible_owners      empty means every node.
    restart_limit        restarts in place within `restart_period_s`, then it fails over.
    failover_limit       failovers because the role itself failed, and moves off lost disks, within
                         `failover_period_s`, then it is blocked.
    generation           counts the changes of `wanted` by a person; a new one forgives earlier failures.
    preferred_site       counts after the preferred owners.
    affinity             labels: roles that share one want the same node.
    anti_affinity        labels: roles that share one want different nodes.
    disk_paths           files in shared directories that it writes to; no reservation protects them.
    disks                shared disks of the cluster that it writes to.
    move_method          how it moves when nobody asks for another way.
    on_storage_loss      what becomes of it when its node does not reach a shared disk of it for `storage_loss_move_ms`.
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
    preferred_site: SiteName | None = None
    affinity: tuple[Label, ...] = ()
    anti_affinity: tuple[Label, ...] = ()
    failback: Failback = Failback()
    disks: tuple[DiskName, ...] = ()
    move_method: MoveMethod = MoveMethod.AUTO
    on_storage_loss: StorageLoss = StorageLoss.WAIT


class Phase(StrEnum):
    """Where a role stands. The transitions are in `decide/lifecycle.py`, and nowhere else.

    VACANT     nobody owns it and nothing of it runs.
    ASSIGNED   the coordinator chose an owner, which has not begun.
    STARTING   the owner said so in a transaction; from here on its guest may run.
    ONLINE     the owner observed it running.
    STOPPING   the owner is taking it offline.
    SAVING     the owner suspends it and saves its memory to a file.
    MIGRATING  the owner has its memory copied to the target.
    """

    VACANT = "vacant"
    ASSIGNED = "assigned"
    STARTING = "starting"
    ONLINE = "online"
    STOPPING = "stopping"
    SAVING = "saving"
    MIGRATING = "migrating"


class MemoryKind(StrEnum):
    """Where the memory of a guest is that does not execute.

    SAVED    in a file on shared storage, which any node can restore.
    COPIED   in a paused process on the owner's node: gone with it.
    """

    SAVED = "saved"
    COPIED = "copied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory of a guest that the next start of its role has to come from. Source: SAFE-7.

    id                what every process made from it carries, new for each attempt; empty: what a fresh start made.
    path              of its file; empty for a copy.
    disk_generation   of its role when the guest stopped executing: it is worth something only while this stays.
    is_consumed       it may be executed, by the process that is there now and by no other ever again.
    """

    kind: MemoryKind
    id: str
    disk_generation: int
    path: str = ""
    bytes: int = 0
    is_consumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """The node that takes in the copy of a guest, in the incarnation that said so."""

    node: NodeName
    incarnation: Incarnation


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Who owns a role, since when and why.

    target         where a planned move takes it, always the node that was chosen last; set from the request until the
                   role is online. Equal to `owner`: it arrives there, or its move was cancelled while it was stopping.
    source         where that move began, and where the role returns to when nobody else can take it.
    drained_from   the node whose drain moved it away, until it is back there or a person moves or stops it.
    method         how it moves, with `target`; never AUTO. None: by restart, as before there were other ways.
    is_auto        nobody insists on the method: a live move that cannot be goes on as a quick one.
    ordered_ms     when the move was ordered; 0 when it is on none.
    failed_ms      when its last move failed and left it where it was; the cluster does not try again by itself at once.
    making         the memory that a move is making: nothing starts from it before it has become `memory`.
    receiving      who is ready to take `making` in.
    memory         what the next start comes from; None: a fresh one.
    disk_generation  grows whenever a guest is about to execute from its disks.
    lingering      the incarnations whose guest of this role ended, and whose last writes to its shared disks may still
                   wait somewhere; the next start sees to them. None: not known, so it may be those of anybody.

    Invariant: `owner` and `incarnation` are None exactly when `phase` is VACANT. The epoch and the disk generation only
    ever grow. `target` and `source` are set together. Times are wall-clock ms, for people and for the periods of the
    limits.
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
    target: NodeName | None = None
    source: NodeName | None = None
    drained_from: NodeName | None = None
    reasons: tuple[Reason, ...] = ()
    method: MoveMethod | None = None
    is_auto: bool = False
    ordered_ms: int = 0
    failed_ms: int = 0
    making: Memory | None = None
    receiving: Receiver | None = None
    memory: Memory | None = None
    disk_generation: int = 0
    lingering: tuple[Incarnation, ...] | None = None

    def __post_init__(self) -> None:
        vacant = self.phase is Phase.VACANT
        if vacant != (self.owner is None) or vacant != (self.incarnation is None):
            raise ValueError(f"role {self.role}: phase {self.phase} with owner {self.owner} ({self.incarnation})")
        if (self.target is None) != (self.source is None):
            raise ValueError(f"role {self.role}: target {self.target} with source {self.source}")
        if self.method is MoveMethod.AUTO or (self.method is not None and self.target is None):
            raise ValueError(f"role {self.role}: method {self.method} with target {self.target}")

    @property
    def is_leaving(self) -> bool:
        """Whether its owner gives it up for a planned move."""
        return self.owner is not None and self.target is not None and self.target != self.owner
