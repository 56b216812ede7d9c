"""What a person is told of a backup."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.model.ids import NodeName, RoleName


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupInfo:
    """A backup of the cluster database, as its file says.

    problem   why it cannot be restored; empty: it is whole. Nothing else is known then.
    """

    path: str
    bytes: int = 0
    cluster: str = ""
    generation: int = 0
    revision: int = 0
    taken_by: str = ""
    taken_at_ms: int = 0
    records: int = 0
    nodes: tuple[NodeName, ...] = ()
    roles: tuple[RoleName, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredCluster:
    """A cluster that goes on from a backup, on one node.

    unaccounted   nodes that may still run guests from before; no role starts while there is one.
    """

    cluster: str
    node: NodeName
    generation: int
    unaccounted: tuple[NodeName, ...]
