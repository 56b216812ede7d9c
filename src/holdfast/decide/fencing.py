"""What to do next about a node that is lost, so that its roles may run elsewhere.

Rule of the file: the answer is a proof, an attempt to get one, or a reason to wait that a person can read. There is no
other way out. Source: DESIGN section 4 (proofs), SAFE-2, SAFE-8.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from holdfast.decide.detection import PowerEvidence
from holdfast.decide.freedom import is_covered
from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.nodes import NodeSpec, Verdict
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Phase
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
            deadline_ms=verdict.guard_deadline_ms,
            watchdog_timeout_ms=verdict.watchdog_timeout_ms,
            kill_bound_ms=verdict.guard_kill_ms,
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


def storm_guard(
    snapshot: Snapshot, lost: NodeName, *, suspects: Collection[NodeName] = (), window_ms: int = 60_000
) -> Reason | None:
    """Say why nobody may be ordered off now: the cluster is frozen, or too many vanished at once. Source: SAFE-8.

    Counted are nodes lost within `window_ms` of each other and not proven dead: a proof shows that it was no illusion.
    To have been expelled from disks is no such proof: it can be done to a node that lives.

    suspects   nodes that are silent now. They count too: the verdicts on nodes that vanish together come one by one.
    """
    if snapshot.is_frozen:
        return because(ReasonCode.FROZEN, lost)
    verdict = snapshot.verdicts[lost].value
    vanished = [
        other.value
        for name, other in snapshot.verdicts.items()
        if name not in snapshot.sessions and abs(other.value.at_ms - verdict.at_ms) <= window_ms
    ]
    unproven = [other for other in vanished if not is_proven_dead(other.incarnation, snapshot)]
    silent = snapshot.sessions.keys() & set(suspects)
    gone = len(unproven) + len(silent)
    alive_before = len(snapshot.sessions) + len(vanished)
    if gone * 2 <= alive_before:
        return None
    counts = {"vanished": gone, "alive_before": alive_before}
    return because(ReasonCode.STORM_GUARD, lost, **counts)


def lost_without_proof(snapshot: Snapshot) -> Mapping[NodeName, Verdict]:
    """The nodes that were agreed to be lost and of which not enough is proven yet for all of their roles."""
    return {
        name: verdict.value
        for name, verdict in snapshot.verdicts.items()
        if not is_proven_enough(verdict.value.incarnation, snapshot)
        and snapshot.session_of(name, verdict.value.incarnation) is None
        and name in snapshot.nodes
        and not snapshot.nodes[name].value.is_witness
    }


def is_proven_dead(incarnation: Incarnation, snapshot: Snapshot) -> bool:
    """Whether it is proven that the incarnation as a whole can do no harm."""
    proof = snapshot.proofs.get(incarnation)
    return proof is not None and proof.value.is_complete


def is_proven_enough(incarnation: Incarnation, snapshot: Snapshot) -> bool:
    """Whether what is proven frees every role that the incarnation may have begun. Source: SAFE-2."""
    proof = snapshot.proofs.get(incarnation)
    if proof is None or proof.value.is_complete:
        return proof is not None
    return all(
        is_covered(snapshot.specs.get(role), proof.value)
        for role, ownership in snapshot.ownerships.items()
        if ownership.value.incarnation == incarnation and ownership.value.phase is not Phase.ASSIGNED
    )
