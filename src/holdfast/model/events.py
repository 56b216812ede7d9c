"""What happened, as values: kept in the database (bounded), streamed to consoles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from holdfast.model.ids import Epoch, NodeName
from holdfast.model.reasons import Reason
from holdfast.model.roles import MoveMethod, Phase


class EventCode(StrEnum):
    """What can happen."""

    CLUSTER_CREATED = "cluster-created"
    NODE_JOINED = "node-joined"
    NODE_ADDRESSES = "node-addresses"
    SETTINGS_CHANGED = "settings-changed"
    NODE_UP = "node-up"
    NODE_SUSPECT = "node-suspect"
    NODE_CLEARED = "node-cleared"
    NODE_LOST = "node-lost"
    NODE_FENCED = "node-fenced"
    FENCE_ORDERED = "fence-ordered"
    FENCE_FAILED = "fence-failed"
    COORDINATOR_ELECTED = "coordinator-elected"
    ROLE_ADDED = "role-added"
    ROLE_REMOVED = "role-removed"
    ROLE_CHANGED = "role-changed"
    ROLE_ASSIGNED = "role-assigned"
    ROLE_MOVING = "role-moving"
    ROLE_STARTING = "role-starting"
    ROLE_ONLINE = "role-online"
    ROLE_STOPPING = "role-stopping"
    ROLE_OFFLINE = "role-offline"
    ROLE_FAILED = "role-failed"
    ROLE_ADOPTED = "role-adopted"
    ROLE_RESUMED = "role-resumed"
    ROLE_BLOCKED = "role-blocked"
    CLUSTER_FROZEN = "cluster-frozen"
    CLUSTER_UNFROZEN = "cluster-unfrozen"
    NODE_DRAINING = "node-draining"
    NODE_RESUMED = "node-resumed"
    NODE_EVICTED = "node-evicted"
    DISK_ADDED = "disk-added"
    DISK_REMOVED = "disk-removed"
    VOTE_GIVEN = "vote-given"
    VOTE_TAKEN = "vote-taken"
    NODE_LEFT = "node-left"
    CONDITION_RAISED = "condition-raised"
    CONDITION_CLEARED = "condition-cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    at_ms            wall clock of the node that saw it.
    monotonic_ms     the same node's monotonic clock; comparable only among events of one machine.
    target           the node that the subject goes to, for assignments and moves.
    phase, method    of the role's record as it was committed with this, and how it moves; None: not about that.
    """

    code: EventCode
    subject: str
    at_ms: int
    monotonic_ms: int
    node: NodeName
    epoch: Epoch | None = None
    target: NodeName | None = None
    reasons: tuple[Reason, ...] = ()
    phase: Phase | None = None
    method: MoveMethod | None = None
