"""What is done next about a lost node, and when fencing pauses. Source: SAFE-2, SAFE-8."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.decide.made_up import NOW_MS, Part, cluster, known, lost, node_spec, proven, up, verdict

from holdfast.decide.detection import PowerEvidence
from holdfast.decide.fencing import (
    FenceAct,
    FenceStep,
    Refusal,
    lost_without_proof,
    next_fence_step,
    storm_guard,
)
from holdfast.model.ids import NodeName
from holdfast.model.nodes import FenceSpec
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.settings import Timings

TIMINGS = Timings()
DEVICE = FenceSpec(agent="fence_test")
STORM = because(ReasonCode.STORM_GUARD, "b", vanished=3, alive_before=5)
OFF, ON, UNKNOWN = (PowerEvidence(is_off=is_off, detail="said") for is_off in (True, False, None))
PROVEN_AFTER_MS = 4000 + 500 + 10_000 + 1000


def step(
    *,
    fence: FenceSpec | None = DEVICE,
    power: PowerEvidence | None = None,
    refused_ms: int | None = None,
    watchdog_ms: int | None = None,
    storm: Reason | None = None,
    **changes: Any,
) -> FenceStep:
    return next_fence_step(
        spec=node_spec("b", fence=fence),
        verdict=verdict("b", watchdog_timeout_ms=watchdog_ms, **changes),
        power=power,
        refusal=Refusal(refusing_voters=2 if refused_ms is not None else 0, majority_since_ms=refused_ms),
        storm=storm,
        timings=TIMINGS,
    )


def codes(found: FenceStep) -> list[ReasonCode]:
    return [reason.code for reason in found.reasons]


@pytest.mark.parametrize(
    ("situation", "act", "said"),
    [
        ({"power": OFF}, FenceAct.PROVE_BY_POWER, [ReasonCode.POWER_OFF]),
        ({"power": OFF, "storm": STORM}, FenceAct.PROVE_BY_POWER, [ReasonCode.POWER_OFF]),
        ({}, FenceAct.ORDER_OFF, [ReasonCode.FENCE_ORDERED]),
        ({"power": UNKNOWN}, FenceAct.ORDER_OFF, [ReasonCode.FENCE_FAILED]),
        ({"power": ON}, FenceAct.ORDER_OFF, [ReasonCode.FENCE_FAILED]),
        ({"storm": STORM}, FenceAct.WAIT, [ReasonCode.STORM_GUARD]),
        ({"fence": None}, FenceAct.WAIT, [ReasonCode.NO_FENCE_DEVICE]),
        ({"fence": None, "refused_ms": 10**9}, FenceAct.WAIT, [ReasonCode.NO_FENCE_DEVICE]),
        (
            {"watchdog_ms": 10_000},
            FenceAct.ORDER_OFF,
            [ReasonCode.WAITING_FOR_WATCHDOG, ReasonCode.FENCE_ORDERED],
        ),
        (
            {"watchdog_ms": 10_000, "fence": None},
            FenceAct.WAIT,
            [ReasonCode.WAITING_FOR_WATCHDOG, ReasonCode.NO_FENCE_DEVICE],
        ),
        (
            {"watchdog_ms": 10_000, "refused_ms": PROVEN_AFTER_MS - 1},
            FenceAct.ORDER_OFF,
            [ReasonCode.WAITING_FOR_WATCHDOG, ReasonCode.FENCE_ORDERED],
        ),
        ({"watchdog_ms": 10_000, "refused_ms": PROVEN_AFTER_MS}, FenceAct.PROVE_BY_WATCHDOG, None),
        ({"watchdog_ms": 10_000, "refused_ms": PROVEN_AFTER_MS, "storm": STORM}, FenceAct.PROVE_BY_WATCHDOG, None),
    ],
)
def test_safe_2_every_way_out_is_a_proof_an_attempt_or_a_reason(
    situation: dict[str, Any], act: FenceAct, said: list[ReasonCode] | None
) -> None:
    found = step(**situation)
    assert found.act is act
    if said is not None:
        assert codes(found) == said


def test_safe_2_the_watchdog_proves_nothing_before_a_majority_of_voters_refused() -> None:
    found = step(watchdog_ms=10_000, refused_ms=None, fence=None)
    assert found.act is FenceAct.WAIT
    assert found.remaining_ms is None


def test_safe_2_the_wait_for_the_watchdog_follows_what_the_lost_node_promised() -> None:
    """An orderly stop had moved the guard's deadline 30 s ahead: the proof waits for that one."""
    almost = PROVEN_AFTER_MS + 26_000 - 1
    assert step(watchdog_ms=10_000, refused_ms=almost, guard_deadline_ms=30_000).act is FenceAct.ORDER_OFF
    found = step(watchdog_ms=10_000, refused_ms=almost + 1, guard_deadline_ms=30_000)
    assert found.act is FenceAct.PROVE_BY_WATCHDOG


def test_the_remaining_time_of_the_watchdog_is_told() -> None:
    assert step(watchdog_ms=10_000, refused_ms=500).remaining_ms == PROVEN_AFTER_MS - 500


def storm(*parts: Part) -> bool:
    return storm_guard(cluster(*parts), NodeName("x0")) is not None


def gone(count: int, *, proofs: int = 0, **changes: Any) -> list[Part]:
    """So many lost nodes x0, x1, …, the last `proofs` of them proven."""
    found = [lost(f"x{index}", **changes) for index in range(count)]
    return [*found, *(proven(f"x{index}") for index in range(count - proofs, count))]


def alive(count: int) -> list[Part]:
    return [up(f"s{index}") for index in range(count)]


@pytest.mark.parametrize(
    ("total", "vanished", "proofs", "pauses"),
    [
        (2, 1, 0, False),
        (3, 1, 0, False),
        (3, 2, 0, True),
        (4, 2, 0, False),
        (5, 2, 0, False),
        (5, 3, 0, True),
        (5, 3, 1, False),
        (5, 4, 1, True),
        (5, 4, 2, False),
    ],
)
def test_safe_8_more_than_half_of_those_alive_before_pauses_fencing(
    total: int, vanished: int, proofs: int, pauses: bool
) -> None:
    assert storm(*alive(total - vanished), *gone(vanished, proofs=proofs)) is pauses


def test_safe_8_losses_of_another_minute_are_another_storm() -> None:
    later = [lost(f"x{index}", at_ms=NOW_MS + 60_001) for index in (1, 2)]
    within = [lost(f"x{index}", at_ms=NOW_MS + 60_000) for index in (1, 2)]
    assert not storm(*alive(2), lost("x0"), *later)
    assert storm(*alive(2), lost("x0"), *within)


def test_safe_8_a_node_that_is_back_has_not_vanished() -> None:
    assert not storm(*alive(2), lost("x0"), lost("x1"), up("x1", 2), lost("x2"))


@pytest.mark.parametrize(
    ("total", "vanished", "suspects", "pauses"),
    [(5, 1, 1, False), (5, 1, 2, True), (3, 1, 1, True), (2, 1, 0, False), (9, 1, 4, True), (9, 1, 3, False)],
)
def test_safe_8_those_who_are_silent_count_before_their_verdict(
    total: int, vanished: int, suspects: int, pauses: bool
) -> None:
    """Nodes that vanish together are judged one by one: the first must not be switched off before the last."""
    snapshot = cluster(*alive(total - vanished), *gone(vanished))
    silent = [NodeName(f"s{index}") for index in range(suspects)]
    assert (storm_guard(snapshot, NodeName("x0"), suspects=silent) is not None) is pauses


def test_safe_8_a_silent_node_that_was_judged_counts_once() -> None:
    snapshot = cluster(*alive(3), *gone(2))
    assert storm_guard(snapshot, NodeName("x0"), suspects=[NodeName("x0"), NodeName("x1")]) is None


def test_safe_8_the_reason_counts_for_the_reader() -> None:
    reason = storm_guard(cluster(*alive(2), *gone(3)), NodeName("x0"))
    assert reason is not None
    assert reason.facts == {"vanished": 3, "alive_before": 5}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([lost("b")], {"b"}),
        ([lost("b"), proven("b")], set()),
        ([lost("b"), proven("b", 2)], {"b"}),
        ([lost("b"), up("b", 1)], set()),
        ([lost("b"), up("b", 2)], {"b"}),
        ([known("b")], set()),
    ],
)
def test_open_are_verdicts_without_a_proof_of_the_same_incarnation(parts: list[Part], expected: set[str]) -> None:
    assert set(lost_without_proof(cluster(*parts))) == expected


def test_safe_2_a_shorter_time_to_kill_does_not_shorten_what_the_lost_guard_said_it_takes() -> None:
    """`guard_kill_ms` is lowered after the node promised by a guard that takes 900 ms."""
    timings = Timings(guard_kill_ms=500)
    given = {"deadline_ms": 4000, "watchdog_timeout_ms": 10_000}
    assert timings.watchdog_proof_after_ms(**given, kill_bound_ms=900) == 15_900
    assert timings.watchdog_proof_after_ms(**given, kill_bound_ms=300) == 15_500
    convicted = verdict("b", watchdog_timeout_ms=10_000, guard_kill_ms=900)
    waiting = next_fence_step(
        spec=node_spec("b"),
        verdict=convicted,
        power=None,
        refusal=Refusal(refusing_voters=2, majority_since_ms=15_500),
        storm=None,
        timings=timings,
    )
    assert (waiting.act, waiting.remaining_ms) == (FenceAct.WAIT, 400)
