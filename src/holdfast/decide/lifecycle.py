"""The life of a role on its owner: everything that affects the phases there lives here.

Rule of the file: one table, (phase, what the hypervisor shows) -> handler. A step is the record to commit first,
then the act; nothing acts before its record is committed. UNKNOWN never counts as ABSENT. Source: SAFE-2, SAFE-3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from holdfast.decide import memory_steps as memory
from holdfast.decide.steps import NO_ATTEMPT, Act, Attempt, Situation, Step, moved
from holdfast.model.nodes import GuestObservation
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.roles import MoveMethod, Ownership, Phase, RoleSpec, Wanted


def next_step(
    ownership: Ownership,
    spec: RoleSpec,
    guest: GuestObservation,
    now_ms: int,
    *,
    is_frozen: bool = False,
    memory_id: str = "",
    attempt: Attempt = NO_ATTEMPT,
    can_go_on: bool = False,
    is_cut_off: bool = False,
    can_write: bool = True,
) -> Step:
    """Return what the owner does next about a role that it owns.

    memory_id   of the memory that the process was made from which is there.
    attempt     what memory that is saved now would be called.
    can_go_on   its storage answers again, after an I/O error stopped its guest.
    is_cut_off  its node lost a disk of it, and it is to move then.
    can_write   its shared disks would take its writes here now.
    """
    now = Situation(
        ownership=ownership,
        spec=spec,
        now_ms=now_ms,
        is_frozen=is_frozen,
        memory_id=memory_id,
        attempt=attempt,
        can_go_on=can_go_on,
        is_cut_off=is_cut_off,
        can_write=can_write,
    )
    return TABLE[ownership.phase, guest](now)


def after_failed_start(
    ownership: Ownership, spec: RoleSpec, detail: str, now_ms: int, *, is_frozen: bool = False
) -> Ownership:
    """Return the record after a start that certainly left nothing running: try again here, or give the role up."""
    now = Situation(ownership=ownership, spec=spec, now_ms=now_ms, is_frozen=is_frozen)
    reason = because(ReasonCode.GUEST_START_FAILED, spec.name, detail=detail)
    return replace(now.given_up(reason), failed_on=now.failed_here()) if is_frozen else now.restarted(reason)


def after_refusal(ownership: Ownership, spec: RoleSpec, detail: str, now_ms: int) -> Ownership:
    """Return the record of a role of which nothing runs, and which its owner may not start: others may. SAFE-5."""
    reason = because(ReasonCode.NODE_NOT_READY, str(ownership.owner), detail=detail)
    return Situation(ownership=ownership, spec=spec, now_ms=now_ms).released(reason)


def _idle(_: Situation) -> Step:
    return Step()


def _claim(now: Situation) -> Step:
    if now.is_over:
        return _release(now)
    if now.ownership.memory is not None:
        return memory.start_from(now, now.ownership.memory)
    return Step(record=now.executes(None), act=Act.BRING_ONLINE)


def _adopt(now: Situation) -> Step:
    """Claim what is there already: somebody started it."""
    if now.is_over or now.ownership.memory is None:
        return _claim(now)
    return Step(record=now.becomes(Phase.STARTING))


def _claim_clean(now: Situation) -> Step:
    """Claim it, and remove what was made from memory that the record does not mean. Source: SAFE-7."""
    if now.is_over or (now.ownership.memory is None and not now.memory_id):
        return _claim(now)
    return Step(record=now.becomes(Phase.STARTING), act=Act.DESTROY)


def _start(now: Situation) -> Step:
    """Start again what was claimed and is not there; the claim is committed anew, so a late start is refused."""
    if now.ownership.memory is not None:
        return memory.start_from(now, now.ownership.memory)
    return _claim(now)


def _observed_online(now: Situation) -> Step:
    """Online; a move that ends here is over, and so is what was kept of its memory: the guest has gone on from it.

    It executes, so its start saw to what earlier guests of the role may have left under way. Source: SAFE-1.
    """
    kept = now.ownership.memory
    reasons = now.ownership.reasons
    if kept is not None and not kept.is_consumed:
        reasons = (because(ReasonCode.MEMORY_OVERTAKEN, now.spec.name),)
    record = _served(now.becomes(Phase.ONLINE, *reasons), now.spec)
    record = replace(record, memory=None, lingering=() if now.spec.disks else None)
    return Step(record=record if record.is_leaving else moved(record))


def _served(ownership: Ownership, spec: RoleSpec) -> Ownership:
    """The record of a role that runs as a person asked: served, the request stands for no later start any more."""
    if ownership.generation == spec.generation:
        return ownership
    return replace(ownership, generation=spec.generation, failovers=(), failed_on=())


def _let_run(now: Situation) -> Step:
    """Its process exists and does not execute yet: the claim is committed anew, so that a late step is refused."""
    if now.ownership.memory is not None:
        return memory.go_on_from(now, now.ownership.memory)
    if now.memory_id:
        return Step(act=Act.DESTROY)
    if now.is_over:
        record = _observed_online(now).record
        return Step(record=record and replace(record, lingering=now.ownership.lingering))
    return _claim(now)


def _keep(now: Situation) -> Step:
    if not now.is_over:
        if now.ownership.target is not None:
            return _observed_online(now)
        served = _served(now.ownership, now.spec)
        return Step(record=served) if served != now.ownership else Step()
    if now.spec.wanted is Wanted.OFFLINE:
        unwanted = because(ReasonCode.WANTED_OFFLINE, now.spec.name)
        return Step(record=_stopping(now.becomes(Phase.STOPPING, unwanted)), act=now.ending)
    if now.ownership.method is MoveMethod.QUICK:
        return memory.save(now)
    if now.ownership.method is MoveMethod.LIVE:
        return memory.copy(now)
    return Step(record=_stopping(now.becomes(Phase.STOPPING)), act=now.ending)


def _go_on(now: Situation) -> Step:
    """Its storage stopped it: let it go on when that is back. It counts as executing meanwhile. Source: DESIGN 8."""
    step = _keep(now)
    return Step(act=Act.RESUME) if step == Step() and now.can_go_on else step


def _stopping(ownership: Ownership) -> Ownership:
    return replace(ownership, making=None, receiving=None)


def _take_offline(now: Situation) -> Step:
    return Step(act=now.ending)


def _release(now: Situation) -> Step:
    if now.spec.wanted is Wanted.ONLINE and now.ownership.target is not None:
        return Step(record=now.released(*now.ownership.reasons))
    return Step(record=now.released(because(ReasonCode.WANTED_OFFLINE, now.spec.name)))


def _ended(now: Situation) -> Step:
    return now.ended(because(ReasonCode.GUEST_ENDED, now.spec.name, detail="its QEMU process is gone"))


Handler = Callable[[Situation], Step]

TABLE: Final[dict[tuple[Phase, GuestObservation], Handler]] = {
    (Phase.VACANT, GuestObservation.ABSENT): _idle,
    (Phase.VACANT, GuestObservation.RUNNING): _take_offline,
    (Phase.VACANT, GuestObservation.PAUSED): _take_offline,
    (Phase.VACANT, GuestObservation.STALLED): _take_offline,
    (Phase.VACANT, GuestObservation.UNKNOWN): _idle,
    (Phase.ASSIGNED, GuestObservation.ABSENT): _claim,
    (Phase.ASSIGNED, GuestObservation.RUNNING): _adopt,
    (Phase.ASSIGNED, GuestObservation.PAUSED): _claim_clean,
    (Phase.ASSIGNED, GuestObservation.STALLED): _adopt,
    (Phase.ASSIGNED, GuestObservation.UNKNOWN): _idle,
    (Phase.STARTING, GuestObservation.ABSENT): _start,
    (Phase.STARTING, GuestObservation.RUNNING): _observed_online,
    (Phase.STARTING, GuestObservation.PAUSED): _let_run,
    (Phase.STARTING, GuestObservation.STALLED): _observed_online,
    (Phase.STARTING, GuestObservation.UNKNOWN): _idle,
    (Phase.ONLINE, GuestObservation.ABSENT): _ended,
    (Phase.ONLINE, GuestObservation.RUNNING): _keep,
    (Phase.ONLINE, GuestObservation.PAUSED): _keep,
    (Phase.ONLINE, GuestObservation.STALLED): _go_on,
    (Phase.ONLINE, GuestObservation.UNKNOWN): _idle,
    (Phase.STOPPING, GuestObservation.ABSENT): _release,
    (Phase.STOPPING, GuestObservation.RUNNING): _take_offline,
    (Phase.STOPPING, GuestObservation.PAUSED): _take_offline,
    (Phase.STOPPING, GuestObservation.STALLED): _take_offline,
    (Phase.STOPPING, GuestObservation.UNKNOWN): _idle,
    (Phase.SAVING, GuestObservation.ABSENT): memory.settle_save,
    (Phase.SAVING, GuestObservation.RUNNING): memory.save_anew,
    (Phase.SAVING, GuestObservation.PAUSED): memory.save_again,
    (Phase.SAVING, GuestObservation.STALLED): memory.save_again,
    (Phase.SAVING, GuestObservation.UNKNOWN): _idle,
    (Phase.MIGRATING, GuestObservation.ABSENT): memory.settle_copy,
    (Phase.MIGRATING, GuestObservation.RUNNING): memory.settle_copy,
    (Phase.MIGRATING, GuestObservation.PAUSED): memory.settle_copy,
    (Phase.MIGRATING, GuestObservation.STALLED): memory.settle_copy,
    (Phase.MIGRATING, GuestObservation.UNKNOWN): _idle,
}
