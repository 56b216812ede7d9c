"""What the shared disks of a role say about moving it: which one its node lost, who reaches all of them, and how often.

Rule of the file: a node is gone to only when it has reached the disks for a while, and a role goes only so often, so
that neither a path that flaps nor a loss that follows the guest moves it in circles. Source: docs/storage.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from holdfast.decide.freedom import failover_limit
from holdfast.model.ids import DiskName, NodeName
from holdfast.model.reasons import Reason
from holdfast.model.roles import Ownership, RoleSpec, StorageLoss
from holdfast.model.snapshot import Snapshot


def lost_disk(snapshot: Snapshot, spec: RoleSpec, owner: NodeName) -> DiskName | None:
    """Return a disk that its owner lost, of a role that is to move then; a frozen cluster moves nothing by itself."""
    report = snapshot.reports.get(owner)
    if spec.on_storage_loss is StorageLoss.WAIT or report is None or snapshot.is_frozen:
        return None
    health = report.value.disks
    return next((disk for disk in spec.disks if disk in health and health[disk].is_lost), None)


def reaches_all(snapshot: Snapshot, spec: RoleSpec, node: NodeName) -> bool:
    """Whether a node has reached all shared disks of a role for a while."""
    report = snapshot.reports.get(node)
    health = {} if report is None else report.value.disks
    return all(disk in health and health[disk].is_steady for disk in spec.disks)


def may_settle(snapshot: Snapshot, spec: RoleSpec, node: NodeName) -> bool:
    """Whether a role may move to a node without need: one that leaves lost disks goes where it need not soon leave."""
    return spec.on_storage_loss is StorageLoss.WAIT or reaches_all(snapshot, spec, node)


def failed_over(ownership: Ownership, now_ms: int) -> Ownership:
    """The record of a role that moves because its storage was lost: that counts as a failover."""
    return replace(ownership, failovers=(*ownership.failovers, now_ms))


def too_often(roles: Iterable[tuple[RoleSpec, Ownership]], now_ms: int) -> tuple[Reason, ...]:
    """Say which of the roles failed over as often as they may; empty: they may move together once more."""
    limits = (failover_limit(spec, failed_over(ownership, now_ms), now_ms) for spec, ownership in roles)
    return tuple(limit for limit in limits if limit is not None)
