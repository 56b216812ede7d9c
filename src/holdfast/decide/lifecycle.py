"""The life of a role on its owner: everything that affects the phases there lives here.

Rule of the file: one table, (phase, what the hypervisor shows) -> handler. A step is the record to commit first,
then the act; nothing acts before its record is committed. UNKNOWN never counts as ABSENT. Source: SAFE-2, SAFE-3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.nodes import GuestObservation
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Ownership, Phase, RoleSpec, Wanted


class Act(StrEnum):
    """What the executor does with the hypervisor after the record is committed."""

    NOTHING = "nothing"
    BRING_ONLINE = "bring-online"
    TAKE_OFFLINE = "take-offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next step of a role on its owner. `record` None: nothing to commit."""

    record: Ownership | None = None
    act: Act = Act.NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything a handler may look at.

    now_ms      wall-clock time, counted against the restart period.
    is_frozen   the cluster does nothing by itself, so what ends is not started again.
    """

    ownership: Ownership
    spec: RoleSpec
    now_ms: int
    is_frozen: bool = False

    @property
    def is_over(self) -> bool:
        """Whether its owner is to give it up: nobody wants it online, or it is wanted elsewhere."""
        return self.spec.wanted is Wanted.OFFLINE or self.ownership.is_leaving

    def becomes(self, phase: Phase, *reasons: Reason) -> Ownership:
        """The record with another phase."""
        return replace(self.ownership, phase=phase, since_ms=self.now_ms, reasons=reasons or self.ownership.reasons)

    def released(self, *reasons: Reason) -> Ownership:
        """The record of a role that nobody owns any more; it is certain that nothing of it runs here.

        A move goes on from there, unless nobody wants the role online any more.
        """
        goes_on = self.spec.wanted is Wanted.ONLINE
        return replace(
            self.ownership,
            phase=Phase.VACANT,
            owner=None,
            incarnation=None,
            last_owner=self.ownership.owner,
            since_ms=self.now_ms,
            target=self.ownership.target if goes_on else None,
            source=self.ownership.source if goes_on else None,
            drained_from=self.ownership.drained_from if goes_on else None,
            reasons=reasons,
        )


def next_step(
    ownership: Ownership, spec: RoleSpec, guest: GuestObservation, now_ms: int, *, is_frozen: bool = False
) -> Step:
    """Return what the owner does next about a role that it owns."""
    return TABLE[ownership.phase, guest](Situation(ownership=ownership, spec=spec, now_ms=now_ms, is_frozen=is_frozen))


def after_failed_start(
    ownership: Ownership, spec: RoleSpec, detail: str, now_ms: int, *, is_frozen: bool = False
) -> Ownership:
    """Return the record after a start that certainly left nothing running: try again here, or give the role up."""
    now = Situation(ownership=ownership, spec=spec, now_ms=now_ms, is_frozen=is_frozen)
    reason = because(ReasonCode.GUEST_START_FAILED, spec.name, detail=detail)
    return replace(_frozen(now, reason), failed_on=_failed_here(now)) if is_frozen else _restarted(now, reason)


def after_refusal(ownership: Ownership, spec: RoleSpec, detail: str, now_ms: int) -> Ownership:
    """Return the record of a role of which nothing runs, and which its owner may not start: others may. SAFE-5."""
    reason = because(ReasonCode.NODE_NOT_READY, str(ownership.owner), detail=detail)
    return Situation(ownership=ownership, spec=spec, now_ms=now_ms).released(reason)


def _idle(_: Situation) -> Step:
    return Step()


def _claim(now: Situation) -> Step:
    if now.is_over:
        return _release(now)
    return Step(record=now.becomes(Phase.STARTING), act=Act.BRING_ONLINE)


def _start(now: Situation) -> Step:
    """Start again what was claimed and is not there; the claim is committed anew, so a late start is refused."""
    return _claim(now)


def _observed_online(now: Situation) -> Step:
    """Online; a move that ends here is over."""
    record = _served(replace(now.ownership, phase=Phase.ONLINE, since_ms=now.now_ms), now.spec)
    return Step(record=record if record.is_leaving else replace(record, target=None, source=None))


def _served(ownership: Ownership, spec: RoleSpec) -> Ownership:
    """The record of a role that runs as a person asked: served, the request stands for no later start any more."""
    if ownership.generation == spec.generation:
        return ownership
    return replace(ownership, generation=spec.generation, failovers=(), failed_on=())


def _let_run(now: Situation) -> Step:
    """Its process exists and does not execute yet: the claim is committed anew, so that a late step is refused."""
    return _observed_online(now) if now.is_over else _claim(now)


def _keep(now: Situation) -> Step:
    if not now.is_over:
        if now.ownership.target is not None:
            return _observed_online(now)
        served = _served(now.ownership, now.spec)
        return Step(record=served) if served != now.ownership else Step()
    unwanted = (because(ReasonCode.WANTED_OFFLINE, now.spec.name),) if now.spec.wanted is Wanted.OFFLINE else ()
    return Step(record=now.becomes(Phase.STOPPING, *unwanted), act=Act.TAKE_OFFLINE)


def _take_offline(_: Situation) -> Step:
    return Step(act=Act.TAKE_OFFLINE)


def _release(now: Situation) -> Step:
    if now.spec.wanted is Wanted.ONLINE and now.ownership.target is not None:
        return Step(record=now.released(*now.ownership.reasons))
    return Step(record=now.released(because(ReasonCode.WANTED_OFFLINE, now.spec.name)))


def _ended(now: Situation) -> Step:
    if now.is_over:
        return _release(now)
    reason = because(ReasonCode.GUEST_ENDED, now.spec.name, detail="its QEMU process is gone")
    record = _frozen(now, reason) if now.is_frozen else _restarted(now, reason)
    return Step(record=record, act=Act.BRING_ONLINE if record.phase is Phase.STARTING else Act.NOTHING)


def _frozen(now: Situation, reason: Reason) -> Ownership:
    """Give the role up without a restart; nobody is to blame, so it may come back here later."""
    return replace(now.released(reason, because(ReasonCode.FROZEN, now.spec.name)), restarts=())


def _restarted(now: Situation, reason: Reason) -> Ownership:
    """Count a restart in place, or give the role up when it was restarted too often.

    A role on the move is not counted as failed over: it has a place to go back to.
    """
    since_ms = now.now_ms - now.spec.restart_period_s * 1000
    restarts = tuple(at_ms for at_ms in now.ownership.restarts if at_ms >= since_ms)
    if len(restarts) < now.spec.restart_limit:
        return replace(now.becomes(Phase.STARTING, reason), restarts=(*restarts, now.now_ms))
    counts = {"restarts": len(restarts), "period_s": now.spec.restart_period_s, "limit": now.spec.restart_limit}
    gone = now.released(reason, because(ReasonCode.RESTART_LIMIT, now.spec.name, **counts))
    failovers = now.ownership.failovers
    if now.ownership.target is None:
        failovers = (*failovers, now.now_ms)
    return replace(gone, restarts=(), failovers=failovers, failed_on=_failed_here(now))


def _failed_here(now: Situation) -> tuple[NodeName, ...]:
    owner = now.ownership.owner
    return now.ownership.failed_on if owner is None else (*now.ownership.failed_on, owner)


Handler = Callable[[Situation], Step]

TABLE: Final[dict[tuple[Phase, GuestObservation], Handler]] = {
    (Phase.VACANT, GuestObservation.ABSENT): _idle,
    (Phase.VACANT, GuestObservation.RUNNING): _take_offline,
    (Phase.VACANT, GuestObservation.PAUSED): _take_offline,
    (Phase.VACANT, GuestObservation.STALLED): _take_offline,
    (Phase.VACANT, GuestObservation.UNKNOWN): _idle,
    (Phase.ASSIGNED, GuestObservation.ABSENT): _claim,
    (Phase.ASSIGNED, GuestObservation.RUNNING): _claim,
    (Phase.ASSIGNED, GuestObservation.PAUSED): _claim,
    (Phase.ASSIGNED, GuestObservation.STALLED): _claim,
    (Phase.ASSIGNED, GuestObservation.UNKNOWN): _idle,
    (Phase.STARTING, GuestObservation.ABSENT): _start,
    (Phase.STARTING, GuestObservation.RUNNING): _observed_online,
    (Phase.STARTING, GuestObservation.PAUSED): _let_run,
    (Phase.STARTING, GuestObservation.STALLED): _observed_online,
    (Phase.STARTING, GuestObservation.UNKNOWN): _idle,
    (Phase.ONLINE, GuestObservation.ABSENT): _ended,
    (Phase.ONLINE, GuestObservation.RUNNING): _keep,
    (Phase.ONLINE, GuestObservation.PAUSED): _keep,
    (Phase.ONLINE, GuestObservation.STALLED): _keep,
    (Phase.ONLINE, GuestObservation.UNKNOWN): _idle,
    (Phase.STOPPING, GuestObservation.ABSENT): _release,
    (Phase.STOPPING, GuestObservation.RUNNING): _take_offline,
    (Phase.STOPPING, GuestObservation.PAUSED): _take_offline,
    (Phase.STOPPING, GuestObservation.STALLED): _take_offline,
    (Phase.STOPPING, GuestObservation.UNKNOWN): _idle,
}
