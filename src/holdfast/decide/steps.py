"""What a step of a role on its owner is made of: the record to commit, the act after it, and what both rest on.

Rule of the file: pure, and no transition is here: they are in `lifecycle` and `memory_steps`. What a record forgets
when it changes hands or phase is said here once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Memory, MemoryKind, Ownership, Phase, RoleSpec, Wanted


class Act(StrEnum):
    """What the executor does with the hypervisor after the record is committed.

    BRING_ONLINE       make a process, or take the one that is there, and let it execute.
    DESTROY            end at once what is no part of the role's life.
    RESTORE            make a process from the saved memory; it does not execute yet.
    RESUME             let the process execute that is there, and that was prepared or stopped by an I/O error.
    SAVE               suspend it and save its memory.
    SETTLE_SAVE        its process is gone: see whether its memory was saved.
    MIGRATE            have its memory copied to the target.
    SETTLE_MIGRATION   see what became of copying it; one that may be under way is given up first.
    WAIT               its process waits here for its disks; look again soon.
    """

    NOTHING = "nothing"
    BRING_ONLINE = "bring-online"
    TAKE_OFFLINE = "take-offline"
    DESTROY = "destroy"
    RESTORE = "restore"
    RESUME = "resume"
    SAVE = "save"
    SETTLE_SAVE = "settle-save"
    MIGRATE = "migrate"
    SETTLE_MIGRATION = "settle-migration"
    WAIT = "wait"


STARTING_ACTS: Final = (Act.BRING_ONLINE, Act.RESTORE, Act.RESUME)
"""Acts that need the guard's yes: with them a guest comes to be, or to execute. Source: SAFE-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next step of a role on its owner. `record` None: nothing to commit."""

    record: Ownership | None = None
    act: Act = Act.NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What memory that is made now would be called, by an id that no other memory ever has, and where it would go.

    mark   of the cluster, in the names of its files.
    """

    id: str = ""
    directory: str = ""
    mark: str = ""


NO_ATTEMPT: Final = Attempt()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything a handler may look at.

    now_ms      wall-clock time, counted against the restart period.
    is_frozen   the cluster does nothing by itself, so what ends is not started again.
    memory_id   of the memory that the process was made from which is there; empty: by a fresh start, or none is there.
    can_go_on   its guest was stopped by an I/O error, its storage answers again, and it is time to let it go on.
    is_cut_off  it is to move when its node loses a disk of it, and its node has: its guest could not shut down.
    can_write   its shared disks would take its writes here now.
    """

    ownership: Ownership
    spec: RoleSpec
    now_ms: int
    is_frozen: bool = False
    memory_id: str = ""
    attempt: Attempt = NO_ATTEMPT
    can_go_on: bool = False
    is_cut_off: bool = False
    can_write: bool = True

    @property
    def ending(self) -> Act:
        """How its guest is ended: in order, or by its plug when it leaves because it hangs in what it wrote.

        The plug is for that move alone: who stops or moves it meanwhile gets the shutdown that was asked for.
        """
        lost = any(reason.code is ReasonCode.STORAGE_LOST for reason in self.ownership.reasons)
        moves_off = lost and self.ownership.is_leaving and self.spec.wanted is Wanted.ONLINE
        return Act.DESTROY if self.is_cut_off and moves_off else Act.TAKE_OFFLINE

    @property
    def is_over(self) -> bool:
        """Whether its owner is to give it up: nobody wants it online, or it is wanted elsewhere."""
        return self.spec.wanted is Wanted.OFFLINE or self.ownership.is_leaving

    def becomes(self, phase: Phase, *reasons: Reason) -> Ownership:
        """The record with another phase."""
        return replace(self.ownership, phase=phase, since_ms=self.now_ms, reasons=reasons or self.ownership.reasons)

    def executes(self, memory: Memory | None, *reasons: Reason) -> Ownership:
        """The record under which a guest begins to execute: what else was kept of its memory is old from now on."""
        generation = self.ownership.disk_generation + 1
        return replace(
            self.becomes(Phase.STARTING, *reasons),
            memory=memory,
            disk_generation=generation,
            lingering=lingering_after(self.ownership),
        )

    def released(self, *reasons: Reason) -> Ownership:
        """The record of a role that nobody owns any more; it is certain that nothing of it runs here.

        A move goes on from there, unless nobody wants the role online any more.
        """
        goes_on = self.spec.wanted is Wanted.ONLINE
        before = self.ownership if goes_on else moved(self.ownership)
        return replace(
            before,
            phase=Phase.VACANT,
            owner=None,
            incarnation=None,
            last_owner=self.ownership.owner,
            since_ms=self.now_ms,
            drained_from=before.drained_from if goes_on else None,
            making=None,
            receiving=None,
            memory=lasting(self.ownership.memory),
            lingering=lingering_after(self.ownership),
            reasons=reasons,
        )

    def ended(self, reason: Reason) -> Step:
        """Its process is gone by itself and its memory with it: give the role up, or start it here again."""
        now = replace(self, ownership=replace(self.ownership, memory=None, making=None, receiving=None))
        if self.spec.wanted is Wanted.OFFLINE:
            return Step(record=now.released(because(ReasonCode.WANTED_OFFLINE, self.spec.name)))
        if self.is_over:
            return Step(record=now.released(*self.ownership.reasons, reason))
        record = now.given_up(reason) if self.is_frozen else now.restarted(reason)
        return Step(record=record, act=Act.BRING_ONLINE if record.phase is Phase.STARTING else Act.NOTHING)

    def given_up(self, reason: Reason) -> Ownership:
        """Give the role up without a restart; nobody is to blame, so it may come back here later."""
        return replace(self.released(reason, because(ReasonCode.FROZEN, self.spec.name)), restarts=())

    def restarted(self, reason: Reason) -> Ownership:
        """Count a restart in place, or give the role up when it was restarted too often.

        A role on the move is not counted as failed over: it has a place to go back to.
        """
        since_ms = self.now_ms - self.spec.restart_period_s * 1000
        restarts = tuple(at_ms for at_ms in self.ownership.restarts if at_ms >= since_ms)
        if len(restarts) < self.spec.restart_limit:
            return replace(self.executes(None, reason), restarts=(*restarts, self.now_ms))
        counts = {"restarts": len(restarts), "period_s": self.spec.restart_period_s, "limit": self.spec.restart_limit}
        gone = self.released(reason, because(ReasonCode.RESTART_LIMIT, self.spec.name, **counts))
        failovers = self.ownership.failovers
        if self.ownership.target is None:
            failovers = (*failovers, self.now_ms)
        return replace(gone, restarts=(), failovers=failovers, failed_on=self.failed_here())

    def failed_here(self) -> tuple[NodeName, ...]:
        """Where it failed, with its owner."""
        owner, before = self.ownership.owner, self.ownership.failed_on
        return before if owner is None or owner in before else (*before, owner)


def moved(ownership: Ownership) -> Ownership:
    """The record of a role that is on no move any more."""
    return replace(
        ownership,
        target=None,
        source=None,
        method=None,
        is_auto=False,
        ordered_ms=0,
        making=None,
        receiving=None,
    )


def lasting(memory: Memory | None) -> Memory | None:
    """What of a role's memory outlasts its owner: only what lies in a file and may not have been executed yet."""
    is_kept = memory is not None and memory.kind is MemoryKind.SAVED and not memory.is_consumed
    return memory if is_kept else None


def lingering_after(ownership: Ownership) -> tuple[Incarnation, ...] | None:
    """Whose writes may still wait once its guest has ended: those from before, and those of an owner that had begun.

    Nobody asks whether writes do wait: a process that has ended cannot tell. Source: SAFE-1.
    """
    known, own = ownership.lingering, ownership.incarnation
    has_begun = ownership.phase not in (Phase.VACANT, Phase.ASSIGNED)
    return known if known is None or own is None or own in known or not has_begun else (*known, own)
