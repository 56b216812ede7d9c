"""What the database says of nodes: what a person set, who is up, who was agreed to be lost, and what was proven."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from holdfast.model.disks import DiskHealth
from holdfast.model.ids import DiskName, FaultDomain, Incarnation, NetworkName, NodeName, RoleName, SiteName
from holdfast.model.reasons import Reason
from holdfast.model.roles import MoveMethod
from holdfast.model.transfers import Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a node has for guests."""

    memory_bytes: int
    vcpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceSpec:
    """A fence device, reached through a standard fence-agents program; options are given on its standard input."""

    agent: str
    options: dict[str, str] = field(default_factory=dict)


class Return(StrEnum):
    """What becomes, after a node was resumed, of the roles that its drain had moved away.

    POLICY   each role's own failback policy decides.
    NOW      they move back at once.
    NEVER    they stay where they are, whatever their policy, until they are moved again.
    """

    POLICY = "policy"
    NOW = "now"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """What was set for a node. Networks are in order of preference.

    capacity      None: what its hypervisor reports.
    site          None: the node belongs to no site.
    is_paused     it takes no further roles.
    is_draining   its roles are moved away as far as others can take them; it is paused too.
    returns       of the roles that its last drain moved away.
    drain_method  how its drain moves roles; None: each as it is set for it.
    shutting_down  the incarnation whose operating system goes down, for which it is drained; the next one resumes it.
    is_witness    it votes and listens, and takes no roles.
    is_leaving    it is about to leave the cluster: it gets no vote, and the one that it has is taken back.
    seat          the member of the cluster database that is this node's; None: it has none. Follows the database.
    machine_id    of its operating system, and
    product_uuid  of the machine below it, as it gave them when it joined; alike when two share one. Empty: unknown.
    fault_domains  what it depends on, as far as people said so; in order, each once.
    """

    name: NodeName
    addresses: dict[NetworkName, str]
    is_voter: bool
    etcd_client_port: int
    etcd_peer_port: int
    heartbeat_port: int
    join_port: int
    fence: FenceSpec | None = None
    capacity: Capacity | None = None
    site: SiteName | None = None
    is_paused: bool = False
    is_draining: bool = False
    returns: Return = Return.POLICY
    drain_method: MoveMethod | None = None
    shutting_down: Incarnation | None = None
    joined_at_ms: int = 0
    is_witness: bool = False
    is_leaving: bool = False
    seat: int | None = None
    machine_id: str = ""
    product_uuid: str = ""
    fault_domains: tuple[FaultDomain, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A node that is up, written by itself, bound to its lease.

    guard_deadline_ms     how far ahead its guard's deadline may lie; what a watchdog proof has to wait for.
    watchdog_timeout_ms   of the hardware watchdog that its guard holds; None: a process only, which is no proof.
    voters                by whose acknowledgements it counts itself as entitled.
    stopping              holdfastd is stopping in an orderly way; its silence counts only after `restart_grace_ms`.
    guard_kill_ms         what its guard takes at most to kill; 0: not said. A watchdog proof waits for it, too.
    ttl_s                 of the lease that it is bound to at least; a longer patience needs a longer one.
    """

    node: NodeName
    incarnation: Incarnation
    version: str
    started_at_ms: int
    guard_deadline_ms: int
    watchdog_timeout_ms: int | None
    voters: tuple[NodeName, ...] = ()
    stopping: bool = False
    touched: int = 0
    guard_kill_ms: int = 0
    ttl_s: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The agreement that an incarnation of a node is gone. Final for that incarnation. Source: DESIGN 5, SAFE-4."""

    node: NodeName
    incarnation: Incarnation
    at_ms: int
    proposed_by: NodeName
    guard_deadline_ms: int
    watchdog_timeout_ms: int | None
    reasons: tuple[Reason, ...]
    voters: tuple[NodeName, ...] = ()
    """By whose acknowledgements the lost node counted itself as entitled; a majority of them has to refuse it too."""
    losses: tuple[int, ...] = ()
    """Wall-clock times of this and recent losses of the node; what quarantine counts."""
    guard_kill_ms: int = 0
    """What its guard takes at most to kill, as it said itself; 0: not said."""
    before_generation: int | None = None
    """After a restore it is about all that the node ran before this generation, under whatever incarnation."""


class ProofKind(StrEnum):
    """How it is known that an incarnation can do no harm. Source: DESIGN 4."""

    POWER = "power"
    WATCHDOG = "watchdog"
    PERSON = "person"
    RESTARTED = "restarted"
    STORAGE_RESERVATION = "storage-reservation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The recorded evidence that an incarnation can do no harm. Source: SAFE-2.

    disks   for a storage reservation: where the incarnation cannot write any more, and that is all it says. Any
            other kind of proof is about the incarnation as a whole.
    """

    node: NodeName
    incarnation: Incarnation
    kind: ProofKind
    at_ms: int
    by: str
    reasons: tuple[Reason, ...]
    disks: tuple[DiskName, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether it is about everything that the incarnation could do, and not about some disks only."""
        return self.kind is not ProofKind.STORAGE_RESERVATION


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceOrder:
    """The last order to switch a lost node off: who gave it, and when."""

    incarnation: Incarnation
    by: NodeName
    at_ms: int


class GuestObservation(StrEnum):
    """What a node's hypervisor shows of a guest.

    PAUSED     its process exists and somebody keeps it from executing: it was prepared, or a person paused it.
    STALLED    it executes as far as its storage lets it.
    """

    ABSENT = "absent"
    RUNNING = "running"
    PAUSED = "paused"
    STALLED = "stalled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A standing warning: appears, stays while true, and clears."""

    code: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTarget:
    """Where other nodes send the memory of a guest that moves here while it runs.

    uri        how their hypervisors reach this one's.
    data_uri   where this one takes the memory in; empty: the hypervisor's own choice.
    network    on which that is; None: it is not said.
    cpu        what a guest sees of this host's own CPU; memory goes only between nodes where this is equal.
    """

    uri: str
    data_uri: str = ""
    cpu: str = ""
    network: NetworkName | None = None


class SeatState(StrEnum):
    """How a node stands with its member of the cluster database.

    BEGINNING  the member is being started for the first time; it cannot vote yet.
    RUNNING    its data began on this node, and it answers.
    DOWN       its data is there, and it does not answer.
    LOST       its data was there and is gone, or was given up: it must never run again, or it could vote twice.
    """

    BEGINNING = "beginning"
    RUNNING = "running"
    DOWN = "down"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A node's own word on its member of the cluster database."""

    member: int
    state: SeatState


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What a node observes, written by it on change and bound to its session's lease.

    hears      per peer the networks on which it is heard.
    not_ready  None, or why this node cannot start guests now.
    guests     every guest on its hypervisor by uuid, also those that are no role.
    fencing    from the coordinator: per lost node without proof, how far fencing it has come.
    disks      how this node stands with each shared disk of the cluster.
    transfers  the memory that it is saving or copying now, by role.
    seat       how its member of the cluster database is; None: it has none.
    heartbeat_keys   ids of the secrets whose heartbeats it understands, the one that it uses first.
    timings_generation   the change of the times that its heartbeats follow.
    takes_memory   where others send the memory of guests; None: this node takes none in.
    """

    node: NodeName
    incarnation: Incarnation
    capacity: Capacity
    hears: dict[NodeName, tuple[str, ...]]
    not_ready: str | None = None
    conditions: tuple[Condition, ...] = ()
    guests: dict[str, GuestObservation] = field(default_factory=dict)
    fencing: dict[NodeName, tuple[Reason, ...]] = field(default_factory=dict)
    disks: dict[DiskName, DiskHealth] = field(default_factory=dict)
    seat: Seat | None = None
    takes_memory: MemoryTarget | None = None
    transfers: dict[RoleName, Transfer] = field(default_factory=dict)
    heartbeat_keys: tuple[str, ...] = ()
    timings_generation: int = 0
