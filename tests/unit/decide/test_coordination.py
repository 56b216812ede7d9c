"""Which role gets which owner next. What holds for every snapshot is in `tests/property/decide`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.decide.made_up import (
    GIB,
    NOW_MS,
    Part,
    cluster,
    coordinated_by,
    known,
    lost,
    new_role,
    owned,
    proven,
    record,
    role,
    role_spec,
    up,
)

from holdfast.decide.coordination import Change, Plan, owners_by_node, plan
from holdfast.model.ids import RoleName
from holdfast.model.nodes import ProofKind
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Phase, Priority, Wanted

WEB = RoleName("web")
CLAIM_AFTER_MS = 10_000


def decide(*parts: Part, now_ms: int = NOW_MS) -> Plan:
    return plan(cluster(coordinated_by("z"), *parts), now_ms)


def only_change(decided: Plan) -> Change:
    (change,) = decided.changes
    return change


def blocked_codes(decided: Plan) -> list[ReasonCode]:
    assert decided.changes == ()
    return [reason.code for reason in decided.blocked[WEB]]


def test_a_new_role_is_assigned_at_epoch_one() -> None:
    change = only_change(decide(up("a"), new_role("web")))
    assert change.before is None
    assert change.proof is None
    assert (change.after.phase, change.after.owner, change.after.epoch) == (Phase.ASSIGNED, "a", 1)
    assert change.after.incarnation == "a-1"
    assert change.session is not None
    assert change.session.value.incarnation == "a-1"


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ONLINE, Phase.STOPPING])
@pytest.mark.parametrize(
    ("parts", "codes"),
    [
        ((lost("b"),), [ReasonCode.NODE_LOST, ReasonCode.NO_PROOF]),
        ((known("b"),), [ReasonCode.NODE_ABSENT, ReasonCode.NO_PROOF]),
        ((lost("b", 2), proven("b", 2)), [ReasonCode.NODE_ABSENT, ReasonCode.NO_PROOF]),
        ((up("b", 2),), [ReasonCode.NODE_ABSENT, ReasonCode.NO_PROOF]),
        ((up("b", 2), lost("b", 1)), [ReasonCode.NODE_LOST, ReasonCode.NO_PROOF]),
    ],
)
def test_safe_2_without_a_proof_of_the_very_incarnation_a_role_stays(
    phase: Phase, parts: tuple[Part, ...], codes: list[ReasonCode]
) -> None:
    assert blocked_codes(decide(up("a"), *parts, role("web", owner="b", phase=phase))) == codes


@pytest.mark.parametrize("kind", [kind for kind in ProofKind if kind is not ProofKind.STORAGE_RESERVATION])
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ONLINE, Phase.STOPPING])
def test_safe_2_with_the_proof_it_moves_and_the_change_rests_on_that_proof(phase: Phase, kind: ProofKind) -> None:
    change = only_change(decide(up("a"), lost("b"), proven("b", kind=kind), role("web", owner="b", phase=phase)))
    assert change.proof == "b-1"
    assert (change.after.owner, change.after.last_owner, change.after.epoch) == ("a", "b", 2)
    assert change.after.reasons[0].code is ReasonCode.NODE_FENCED


@pytest.mark.parametrize("phase", [Phase.ASSIGNED, Phase.STARTING, Phase.ONLINE, Phase.STOPPING])
def test_a_role_with_a_living_owner_is_left_to_it(phase: Phase) -> None:
    decided = decide(up("a"), up("b"), role("web", owner="b", phase=phase))
    assert decided.changes == ()
    assert decided.blocked == {}
    assert decided.look_again_ms == (CLAIM_AFTER_MS if phase is Phase.ASSIGNED else None)


def test_a_role_that_was_not_taken_up_goes_to_another_node_without_any_proof() -> None:
    parts = (up("a"), up("b", memory_bytes=64 * GIB), role("web", owner="b", phase=Phase.ASSIGNED))
    assert decide(*parts, now_ms=NOW_MS + CLAIM_AFTER_MS - 1).changes == ()
    change = only_change(decide(*parts, now_ms=NOW_MS + CLAIM_AFTER_MS))
    assert (change.after.owner, change.after.epoch, change.proof) == ("a", 2, None)
    assert change.after.reasons[0].code is ReasonCode.NOT_CLAIMED


def test_a_role_assigned_to_a_node_that_went_moves_at_once() -> None:
    change = only_change(decide(up("a"), lost("b"), role("web", owner="b", phase=Phase.ASSIGNED)))
    assert (change.after.owner, change.proof) == ("a", None)


def test_a_role_wanted_offline_is_not_assigned() -> None:
    decided = decide(up("a"), new_role("web", wanted=Wanted.OFFLINE))
    assert decided == Plan()


def test_a_role_wanted_offline_on_a_proven_node_becomes_vacant_and_keeps_its_epoch() -> None:
    parts = (up("a"), lost("b"), proven("b"), role("web", owner="b", wanted=Wanted.OFFLINE))
    change = only_change(decide(*parts))
    assert (change.after.phase, change.after.owner, change.after.epoch) == (Phase.VACANT, None, 1)
    assert (change.session, change.proof) == (None, "b-1")


@pytest.mark.parametrize(("generation", "changes"), [(1, 0), (2, 1)])
def test_a_role_without_autostart_gets_an_owner_only_for_a_new_request(generation: int, changes: int) -> None:
    manual = role_spec("web", priority=Priority.NO_AUTOSTART, generation=generation)
    decided = decide(up("a"), new_role("web"), record(owned("web", None)), new_role("web"), _spec(manual))
    assert len(decided.changes) == changes


def _spec(spec: object) -> Part:
    return lambda snapshot: replace(
        snapshot,
        specs={WEB: replace(snapshot.specs[WEB], value=spec)},  # type: ignore[arg-type]
    )


def test_too_many_failovers_block_until_a_person_asks_again() -> None:
    failures = (NOW_MS - 4, NOW_MS - 3, NOW_MS - 2, NOW_MS - 1)
    tolerated = owned("web", None, failovers=failures[:3], failed_on=("b",))
    assert only_change(decide(up("a"), new_role("web"), record(tolerated))).after.owner == "a"
    failed = owned("web", None, failovers=failures, failed_on=("a",))
    assert blocked_codes(decide(up("a"), new_role("web"), record(failed))) == [ReasonCode.FAILOVER_LIMIT]
    asked = only_change(decide(up("a"), new_role("web", generation=2), record(failed)))
    assert (asked.after.failovers, asked.after.failed_on, asked.after.generation) == ((), (), 2)


def test_failovers_outside_the_period_do_not_count() -> None:
    old = owned("web", None, failovers=(NOW_MS - 21_600_001,) * 3)
    assert only_change(decide(up("a"), new_role("web"), record(old))).after.owner == "a"


def test_a_role_that_fits_nowhere_is_blocked_with_every_reason() -> None:
    decided = decide(up("a", memory_bytes=1), known("b"), new_role("web"))
    assert blocked_codes(decided) == [ReasonCode.NO_CANDIDATE, ReasonCode.MEMORY_SHORT, ReasonCode.NODE_ABSENT]


def test_the_urgent_and_the_large_are_placed_first() -> None:
    parts = [
        new_role("low", priority=Priority.LOW, memory_bytes=8 * GIB),
        new_role("small", memory_bytes=GIB),
        new_role("large", memory_bytes=2 * GIB),
        new_role("also-small", memory_bytes=GIB),
        new_role("high", priority=Priority.HIGH, memory_bytes=GIB),
    ]
    decided = decide(up("a", memory_bytes=5 * GIB, vcpus=64), *parts)
    assert [change.role for change in decided.changes] == ["high", "large", "also-small", "small"]
    assert set(decided.blocked) == {"low"}


def test_the_plan_counts_what_it_gives_away_itself() -> None:
    roles = [new_role(f"r{index}", memory_bytes=3 * GIB) for index in range(5)]
    decided = decide(up("a", memory_bytes=8 * GIB), up("b", memory_bytes=7 * GIB), *roles)
    assert [change.after.owner for change in decided.changes] == ["a", "b", "a", "b"]
    assert set(decided.blocked) == {"r4"}


def test_owners_by_node_lists_every_node() -> None:
    snapshot = cluster(up("a"), known("b"), role("two", owner="a"), role("one", owner="a"), role("gone", owner="c"))
    assert owners_by_node(snapshot) == {"a": ("one", "two"), "b": (), "c": ("gone",)}
