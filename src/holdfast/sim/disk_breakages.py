"""Deliberate breakages of shared disks: who registers, who is expelled, and what is believed of it.

Rule of the file: see `breakages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from holdfast.sim import broken_disks as broken
from holdfast.sim.breakage import Breakage
from holdfast.sim.broken_parts import always
from holdfast.sim.fault import FaultKind as K
from holdfast.sim.layout import Make
from holdfast.sim.mutation import Mutation, inside, within


def _shared(make: Make) -> Make:
    """No role has a disk of its own."""
    return replace(make, owned=0)


def _owned(make: Make) -> Make:
    """Each role has a disk of its own, which admits only its owner."""
    return replace(make, owned=make.roles)


def _helped(make: Make) -> Make:
    """Each role has a disk of its own, and what its guest wrote waits in a helper while a path is out."""
    return replace(make, owned=0, helped=make.roles, paths=1)


OF_DISKS: Final[Mapping[str, Mutation]] = {
    "refused-is-expelled": Mutation(
        "an expulsion that the target or the node's own state refuses counts as done",
        within(10, K.FREEZE, K.TARGET_FORGETS, disks=2, is_quick=True),
        inside("holdfast.node.disk_watch:DiskWatch.expel", broken.refused_is_expelled),
    ),
    "unknown-is-expelled": Mutation(
        "a preempt whose answer is lost counts as done",
        within(40, K.FREEZE, K.TARGET_HANGS, K.TARGET_REPLIES_LOST, disks=2),
        inside("holdfast.node.disk_watch:DiskWatch.expel", broken.unknown_is_expelled),
    ),
    "read-back-skipped": Mutation(
        "whatever a target answers to a preempt, it is not read again who may write",
        within(10, K.FREEZE, K.TARGET_FORGETS, disks=2, is_quick=True),
        inside("holdfast.node.disk_watch:DiskWatch.expel", broken.watch_without_reading),
    ),
    "challenge-unasked": Mutation(
        "a lost owner counts as expelled from its role's disk although the target was not asked",
        within(40, K.DAEMON_FREEZE, K.GUARD_CRASH, disks=2),
        inside("holdfast.node.disk_watch:challenge", broken.unasked, make=_owned),
    ),
    "abort-skipped": Mutation(
        "what the lost node sent before is neither aborted nor dropped",
        within(10, K.FREEZE, K.TARGET_WRITES_HELD, disks=2, is_quick=True),
        Breakage(
            replaced=(
                ("holdfast.storage.scsi_lun:ScsiLun.preempt", broken.without_abort),
                ("holdfast.storage.scsi_lun:ScsiLun.reset", broken.nothing_dropped),
            )
        ),
    ),
    "registers-with-guests": Mutation(
        "a node registers with a disk while guests of it run there",
        within(10, K.TARGET_FORGETS, rules=("SAFE-1",), disks=2, is_quick=True),
        inside("holdfast.node.disk_watch:DiskWatch._is_used_here", broken.never_used),
    ),
    "reserves-against-others": Mutation(
        "a node protects a forgotten disk although guests of other nodes write to it",
        within(10, K.TARGET_FORGETS, rules=("SAFE-6",), disks=2, is_quick=True),
        inside("holdfast.node.disk_watch:may_run_elsewhere", always(False)),
    ),
    "ready-unconfirmed": Mutation(
        "a disk is ready before a write to the session showed that there is no verdict",
        within(10, K.REBOOT, K.REGISTER_RACE, disks=2, is_quick=True),
        inside("holdfast.node.disk_watch:DiskWatch._confirm", broken.confirmed_unasked, make=_shared),
    ),
    "starts-unready": Mutation(
        "roles are placed, and guests start, where their disks are not ready",
        within(10, K.STORAGE_CUT, K.REBOOT, K.POWER_CUT, disks=2, is_quick=True),
        Breakage(
            replaced=(
                ("holdfast.decide.placement:_disks_not_ready", always(())),
                ("holdfast.node.disks:DiskKeeper.problem", always(None)),
                ("holdfast.node.disks:DiskKeeper.used_by", broken.used_without_looking),
            )
        ),
    ),
    "expelled-stay": Mutation(
        "a node that was expelled from a disk lets its guests there be",
        within(20, K.PARTITION, K.GUARD_CRASH, rules=("SAFE-1",), disks=2),
        inside("holdfast.node.disk_watch:DiskWatch._end_guests", broken.ends_nobody),
    ),
    "released-without-looking": Mutation(
        "a guest starts although writes of an earlier one may still wait for a path",
        within(10, K.TARGET_PATH_OUT, K.ROLE_MOVED, K.GUEST_CRASH, rules=("SAFE-1",), disks=2, is_quick=True),
        inside("holdfast.node.disks:DiskKeeper.settle", broken.settled_unasked, make=_helped),
    ),
    "own-writes-overtake": Mutation(
        "a guest starts although writes of an earlier one of the same node may still be in the target",
        within(20, K.TARGET_WRITES_HELD, K.GUEST_CRASH, rules=("SAFE-1",), disks=2),
        inside("holdfast.node.disk_watch:settle", broken.settles_others_only, make=_helped),
    ),
    "owner-not-lingering": Mutation(
        "who had a role that was released is not remembered until the next guest runs",
        within(10, K.TARGET_PATH_OUT, K.ROLE_MOVED, K.GUEST_CRASH, rules=("SAFE-1",), disks=2),
        inside("holdfast.decide.steps:lingering_after", broken.nobody_lingers, make=_helped),
    ),
    "some-disks-are-all": Mutation(
        "a role leaves a node that is kept off some of its disks",
        within(20, K.FREEZE, K.PARTITION, K.TARGET_SLOW, disks=3),
        inside("holdfast.decide.freedom:is_covered", always(True)),
    ),
}
