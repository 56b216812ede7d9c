"""The whole cluster at one revision of its database: the only thing that decisions look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from holdfast.model.certificates import HeartbeatKeys, NodeCertificates, Revocations
from holdfast.model.disks import DiskSpec, Slot
from holdfast.model.ids import ClusterId, DiskName, Incarnation, NodeName, Revision, RoleName
from holdfast.model.nodes import NodeReport, NodeSpec, Proof, Session, Verdict
from holdfast.model.roles import Ownership, RoleSpec
from holdfast.model.settings import Settings, Timings, cautious

T_co = TypeVar("T_co", covariant=True)
DEFAULT_SETTINGS: Final = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned(Generic[T_co]):
    """A record with its revisions: what a transaction compares against. Source: SAFE-3, SAFE-4.

    revision   of its last change.
    created    since when it exists without a gap; for a session this stays over restarts of holdfastd.
    """

    value: T_co
    revision: Revision
    created: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A person's order that the cluster does nothing by itself: who gave it, why, and when."""

    by: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    """The cluster itself. `role_set` counts additions and removals of roles, so that one happens after the other.

    frozen       None: the cluster acts by itself; that is what it is for.
    generation   1 as founded; a greater number after each restore. What belongs to another one is not of this cluster.
    timings_before      times that nodes may still use while a change is under way; None: all use those of `settings`.
    timings_generation  counts the changes of times, so that a node can say which it uses.
    """

    id: ClusterId
    name: str
    created_at_ms: int
    settings: Settings = field(default_factory=Settings)
    role_set: int = 0
    frozen: Freeze | None = None
    generation: int = 1
    timings_before: Timings | None = None
    timings_generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """Who decides placement."""

    node: NodeName
    incarnation: Incarnation


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything known from the database at one revision."""

    revision: Revision = Revision(0)
    cluster: Versioned[ClusterRecord] | None = None
    coordinator: Versioned[Coordinator] | None = None
    nodes: Mapping[NodeName, Versioned[NodeSpec]] = field(default_factory=dict)
    sessions: Mapping[NodeName, Versioned[Session]] = field(default_factory=dict)
    verdicts: Mapping[NodeName, Versioned[Verdict]] = field(default_factory=dict)
    proofs: Mapping[Incarnation, Versioned[Proof]] = field(default_factory=dict)
    reports: Mapping[NodeName, Versioned[NodeReport]] = field(default_factory=dict)
    specs: Mapping[RoleName, Versioned[RoleSpec]] = field(default_factory=dict)
    ownerships: Mapping[RoleName, Versioned[Ownership]] = field(default_factory=dict)
    disks: Mapping[DiskName, Versioned[DiskSpec]] = field(default_factory=dict)
    slots: Mapping[str, Versioned[Slot]] = field(default_factory=dict)
    certificates: Mapping[NodeName, Versioned[NodeCertificates]] = field(default_factory=dict)
    revocations: Versioned[Revocations] | None = None
    heartbeat_keys: Versioned[HeartbeatKeys] | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the cluster; the defaults while its record is not known."""
        return self.cluster.value.settings if self.cluster is not None else DEFAULT_SETTINGS

    @property
    def timings(self) -> Timings:
        """The times to use now: while a change of them is on its way, those that fit to nodes that use either."""
        before = self.cluster.value.timings_before if self.cluster is not None else None
        return self.settings.timings if before is None else cautious(before, self.settings.timings)

    @property
    def is_frozen(self) -> bool:
        """Whether a person ordered that the cluster does nothing by itself."""
        return self.cluster is not None and self.cluster.value.frozen is not None

    def is_lost(self, node: NodeName, incarnation: Incarnation | None) -> bool:
        """Whether a verdict on exactly this incarnation is committed."""
        verdict = self.verdicts.get(node)
        return verdict is not None and verdict.value.incarnation == incarnation

    def voters(self) -> frozenset[NodeName]:
        """The nodes whose votes commit transactions."""
        return frozenset(name for name, node in self.nodes.items() if node.value.is_voter)

    def session_of(self, node: NodeName, incarnation: Incarnation | None) -> Versioned[Session] | None:
        """The session of exactly this incarnation, or None when it is not up."""
        session = self.sessions.get(node)
        return session if session is not None and session.value.incarnation == incarnation else None
