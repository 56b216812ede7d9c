"""What to do next about a node that is lost, so that its roles may run elsewhere.

Rule of the file: the answer is a proof, an attempt to get one, or a reason to wait that a person can read. There is no
other way out. Source: DESIGN section 4 (proofs), SAFE-2, SAFE-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from holdfast.decide.detection import PowerEvidence
from holdfast.model.ids import NodeName
from holdfast.model.nodes import NodeSpec, Verdict
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.settings import Timings
from holdfast.model.snapshot import Snapshot


class FenceAct(StrEnum):
    """The next act on a lost node."""

    PROVE_BY_POWER = "prove-by-power"
    PROVE_BY_WATCHDOG = "prove-by-watchdog"
    ORDER_OFF = "order-off"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """How far the voters have stopped acknowledging a lost incarnation.

    refusing_voters        voters that say so in their heartbeats, the observer included.
    majority_since_ms      time since the observer first knew a majority of them; None: no majority yet.
    """

    refusing_voters: int = 0
    majority_since_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceStep:
    """What to do next about a lost node, and why. `remaining_ms`: when to look again at the latest; None: on change."""

    act: FenceAct
    reasons: tuple[Reason, ...]
    remaining_ms: int | None = None


def next_fence_step(
    *,
    spec: NodeSpec,
    verdict: Verdict,
    power: PowerEvidence | None,
    refusal: Refusal,
    storm: Reason | None,
    timings: Timings,
) -> FenceStep:
    """Decide the next act on a lost node that has no proof yet.

    power   the outcome of the last status query or off-order made after the verdict; None: none yet.
    storm   why fencing pauses, from `storm_guard`, or None.
    """
    node = spec.name
    if power is not None and power.is_off:
        return FenceStep(act=FenceAct.PROVE_BY_POWER, reasons=(because(ReasonCode.POWER_OFF, node),))
    reasons: list[Reason] = []
    remaining_ms: int | None = None
    if verdict.watchdog_timeout_ms is not None:
        wait_ms = timings.watchdog_proof_after_ms(
            deadline_ms=verdict.guard_deadline_ms, watchdog_timeout_ms=verdict.watchdog_timeout_ms
        )
        if refusal.majority_since_ms is not None:
            remaining_ms = wait_ms - refusal.majority_since_ms
            if remaining_ms <= 0:
                fired = because(ReasonCode.WAITING_FOR_WATCHDOG, node, remaining_ms=0)
                return FenceStep(act=FenceAct.PROVE_BY_WATCHDOG, reasons=(fired,))
        shown_ms = wait_ms if remaining_ms is None else remaining_ms
        reasons.append(because(ReasonCode.WAITING_FOR_WATCHDOG, node, remaining_ms=shown_ms))
    if spec.fence is None:
        reasons.append(because(ReasonCode.NO_FENCE_DEVICE, node))
    elif power is not None:
        reasons.append(because(ReasonCode.FENCE_FAILED, node, detail=power.detail))
    elif storm is None:
        reasons.append(because(ReasonCode.FENCE_ORDERED, node))
    if storm is not None:
        return FenceStep(act=FenceAct.WAIT, reasons=(*reasons, storm), remaining_ms=remaining_ms)
    act = FenceAct.ORDER_OFF if spec.fence is not None else FenceAct.WAIT
    return FenceStep(act=act, reasons=tuple(reasons), remaining_ms=remaining_ms)


def storm_guard(snapshot: Snapshot, lost: NodeName, *, window_ms: int = 60_000) -> Reason | None:
    """Say why nobody may be ordered off now: the cluster is frozen, or too many vanished at once. Source: SAFE-8.

    Counted are nodes lost within `window_ms` of each other and not proven dead: a proof shows that it was no illusion.
    """
    if snapshot.is_frozen:
        return because(ReasonCode.FROZEN, lost)
    verdict = snapshot.verdicts[lost].value
    vanished = [
        other.value
        for name, other in snapshot.verdicts.items()
        if name not in snapshot.sessions and abs(other.value.at_ms - verdict.at_ms) <= window_ms
    ]
    unproven = [other for other in vanished if other.incarnation not in snapshot.proofs]
    alive_before = len(snapshot.sessions) + len(vanished)
    if len(unproven) * 2 <= alive_before:
        return None
    counts = {"vanished": len(unproven), "alive_before": alive_before}
    return because(ReasonCode.STORM_GUARD, lost, **counts)


def lost_without_proof(snapshot: Snapshot) -> Mapping[NodeName, Verdict]:
    """The nodes that were agreed to be lost and that nothing is proven of yet."""
    return {
        name: verdict.value
        for name, verdict in snapshot.verdicts.items()
        if verdict.value.incarnation not in snapshot.proofs
        and snapshot.session_of(name, verdict.value.incarnation) is None
        and name in snapshot.nodes
    }
