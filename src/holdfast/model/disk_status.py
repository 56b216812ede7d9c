"""What shared disks look like to a person: the documents about disks that the local socket answers with.

Rule of the file: observed facts, already put into words where words are all that is needed. Source: SAFE-5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDisk:
    """A disk as one node sees it.

    way                   how it is reached, as a disk's record has it; at a portal: which LUN of which target.
    disk                  its name in the cluster; None: it is not in the cluster.
    keys                  how many registrations it has; None: it does not tell, and is of no use as a shared disk.
    reservation           the type that is in force; None: nobody reserved it.
    keeps_reservations    whether its target keeps them without power; None: it does not tell.
    problem               why less is known than could be; empty when all is.
    """

    way: str
    disk: str | None = None
    designator: str = ""
    vendor: str = ""
    product: str = ""
    serial_number: str = ""
    size_bytes: int | None = None
    keys: int | None = None
    reservation: str | None = None
    keeps_reservations: bool | None = None
    problem: str = ""


class CheckResult(StrEnum):
    """How a step of a check ended. WARNING: fit for use, at a price that its words name."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStep:
    """One step of a check, and what came out."""

    name: str
    result: CheckResult
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCheck:
    """A disk, checked from one node step by step. `is_fit`: no step failed."""

    way: str
    node: str
    steps: tuple[CheckStep, ...]
    is_fit: bool
    disk: str | None = None


def has_passed(steps: Iterable[CheckStep]) -> bool:
    """Whether no step failed."""
    return all(step.result is not CheckResult.FAILED for step in steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskNode:
    """How one node stands with a disk. `latency_ms` None: not measured. `is_slow`: roles rather go to other nodes."""

    state: str
    detail: str
    latency_ms: int | None
    is_slow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStatus:
    """A disk of the cluster.

    protection     who is registered with it: every node, or the owner of its role.
    is_heartbeat   the nodes stamp it, and no role uses it.
    used_by        the roles that use it.
    nodes          per node that is up how it stands with the disk; a node that has not said so yet is missing.
    """

    name: str
    designator: str
    size_bytes: int
    guest_source: str
    reservations: str
    is_heartbeat: bool = False
    forgets_reservations: bool
    added_at_ms: int
    protection: str = "node"
    used_by: tuple[str, ...] = ()
    nodes: dict[str, DiskNode] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedDisk:
    """A disk that was added, and what was checked before."""

    disk: DiskStatus
    check: DiskCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedDisk:
    """A disk that is no longer in the cluster."""

    name: str
