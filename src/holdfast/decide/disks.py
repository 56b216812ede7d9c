"""What a node does next about a shared disk: everything that decides who registers, and when, lives here.

Rule of the file: a node registers only while nothing on it could write to the disk, whatever it was before. So a
registration that arrives late, after the node was declared lost and expelled, gives nobody access: no guest is there,
and none begins without a claim, which fails after the verdict. Source: SAFE-1, docs/safety.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from holdfast.decide.fencing import is_proven_dead
from holdfast.model.disks import DiskState
from holdfast.model.ids import DiskName, NodeName
from holdfast.model.roles import Phase
from holdfast.model.snapshot import Snapshot


class DiskAct(StrEnum):
    """What the keeper of a disk does next.

    NOTHING      look again later.
    CONFIRM      show by a write to the own session that no verdict was given since the key was read.
    RESERVE      put the reservation back that is missing; this node is registered.
    REGISTER     register this incarnation's key.
    END_GUESTS   end every guest of this node that uses the disk.
    DEFEND       remove whoever else registered: this node owns the disk and its guest runs from it.
    """

    NOTHING = "nothing"
    CONFIRM = "confirm"
    RESERVE = "reserve"
    REGISTER = "register"
    END_GUESTS = "end-guests"
    DEFEND = "defend"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskView:
    """What was seen of a disk, at one generation.

    has_key        this incarnation's key is registered.
    is_protected   a reservation is in force that admits only the registered.
    is_foreign     a reservation is in force that is none of ours.
    """

    has_key: bool
    is_protected: bool
    is_foreign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStep:
    """How the node stands with the disk now, and what it does next."""

    state: DiskState
    act: DiskAct = DiskAct.NOTHING


def next_disk_step(view: DiskView, *, is_confirmed: bool, is_used_here: bool, is_used_elsewhere: bool) -> DiskStep:
    """Decide the next step of a node that reaches the disk.

    is_confirmed        a write to the own session succeeded after the key had been read, in this session.
    is_used_here        a guest that uses the disk exists on this node or is being started, or that is not known.
    is_used_elsewhere   a role that uses the disk may run on another node.
    """
    if view.is_foreign:
        return DiskStep(state=DiskState.UNREACHABLE)
    if view.has_key and not view.is_protected:
        return DiskStep(state=DiskState.LAPSED, act=DiskAct.RESERVE)
    if view.has_key:
        return DiskStep(state=DiskState.READY) if is_confirmed else _not_yet(DiskAct.CONFIRM)
    if is_used_here and view.is_protected:
        return DiskStep(state=DiskState.EXPELLED, act=DiskAct.END_GUESTS)
    if is_used_here or (is_used_elsewhere and not view.is_protected):
        return DiskStep(state=DiskState.LAPSED)
    return _not_yet(DiskAct.REGISTER)


def _not_yet(act: DiskAct) -> DiskStep:
    return DiskStep(state=DiskState.NOT_REGISTERED, act=act)


def guests_of(disk: DiskName, snapshot: Snapshot) -> frozenset[str]:
    """The uuids of the guests that use a disk."""
    return frozenset(spec.value.uuid for spec in snapshot.specs.values() if disk in spec.value.disks)


def may_run_elsewhere(disk: DiskName, snapshot: Snapshot, me: NodeName) -> bool:
    """Whether a role that uses the disk has begun on another node and nothing shows that this is over.

    To reserve a disk that nobody protects any more would stop such a guest. Proof by reservation counts for nothing
    here: it ended with the protection.
    """
    return any(
        ownership.value.phase not in (Phase.VACANT, Phase.ASSIGNED)
        and ownership.value.owner != me
        and ownership.value.incarnation is not None
        and not is_proven_dead(ownership.value.incarnation, snapshot)
        for role, ownership in snapshot.ownerships.items()
        if (spec := snapshot.specs.get(role)) is not None and disk in spec.value.disks
    )
