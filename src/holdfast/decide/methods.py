"""How a role moves: what becomes of its guest's memory on the way.

Rule of the file: answered from the snapshot before anything is written. Nobody gives memory up who was not asked to;
only a cluster that can keep none at all moves by restart unasked. Source: DESIGN section 8.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.decide.layout import Layout
from holdfast.model.disks import Protection
from holdfast.model.ids import NodeName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import MoveMethod, RoleSpec
from holdfast.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a role gets from one node to another; `method` None: not at all, and `against` says why."""

    method: MoveMethod | None
    is_auto: bool = False
    against: tuple[Reason, ...] = ()


def way_of(spec: RoleSpec, asked: MoveMethod | None, source: NodeName, target: NodeName, layout: Layout) -> Way:
    """Return how a role would move. `asked` None: as it is set for the role."""
    wanted = asked or spec.move_method
    if wanted is MoveMethod.RESTART:
        return Way(method=wanted)
    live = (*_written_by_one(spec, layout.snapshot), *live_refusals(source, target, layout.snapshot))
    quick = quick_refusals(spec, layout.snapshot)
    if wanted is MoveMethod.LIVE:
        return Way(method=None if live else wanted, against=live)
    if wanted is MoveMethod.QUICK:
        return Way(method=None if quick else wanted, against=quick)
    if not live:
        return Way(method=MoveMethod.LIVE, is_auto=True)
    if not quick:
        return Way(method=MoveMethod.QUICK, is_auto=True)
    if not layout.keeps_memory:
        return Way(method=MoveMethod.RESTART, is_auto=True)
    return Way(method=None, against=(*live, *quick))


def live_refusals(source: NodeName, target: NodeName, snapshot: Snapshot) -> tuple[Reason, ...]:
    """Return why memory cannot be copied between two nodes; empty when it can, as far as these have reported."""
    reports = snapshot.reports
    return tuple(
        because(ReasonCode.COPIES_NO_MEMORY, node)
        for node in (source, target)
        if node not in reports or reports[node].value.takes_memory is None
    )


def _written_by_one(spec: RoleSpec, snapshot: Snapshot) -> tuple[Reason, ...]:
    """What only its owner is registered with: both ends of a copy hold the disk open, and one of them may not."""
    known = ((name, snapshot.disks.get(name)) for name in spec.disks)
    return tuple(
        because(ReasonCode.ONE_NODE_WRITES, spec.name, disk=name)
        for name, disk in known
        if disk is not None and disk.value.protection is Protection.ROLE
    )


def quick_refusals(spec: RoleSpec, snapshot: Snapshot) -> tuple[Reason, ...]:
    """Return why memory cannot be saved; empty when it can."""
    if snapshot.settings.saved_state_directory:
        return ()
    return (because(ReasonCode.NOWHERE_TO_SAVE, spec.name),)
