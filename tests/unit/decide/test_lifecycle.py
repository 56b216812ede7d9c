"""The life of a role on its owner: every pair of phase and observation, and what must never come out of the table."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from tests.unit.decide.made_up import NOW_MS, cluster, frozen, new_role, owned, put, role_spec, up

from holdfast.decide.coordination import plan
from holdfast.decide.lifecycle import TABLE, after_failed_start, next_step
from holdfast.decide.steps import Act, Step
from holdfast.model.nodes import GuestObservation
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Ownership, Phase, Wanted

SEEN = GuestObservation
THERE = (SEEN.RUNNING, SEEN.PAUSED, SEEN.STALLED)
LIVING = tuple(phase for phase in Phase if phase is not Phase.VACANT)
LATER_MS = NOW_MS + 1000


def take(phase: Phase, guest: GuestObservation, wanted: Wanted = Wanted.ONLINE, **changes: Any) -> Step:
    ownership = owned("web", None if phase is Phase.VACANT else "a", phase, **changes)
    return next_step(ownership, role_spec("web", wanted=wanted), guest, LATER_MS)


Shape = tuple[Phase | None, Act]


def shape(step: Step) -> Shape:
    return (step.record.phase if step.record is not None else None, step.act)


NONE = (None, Act.NOTHING)
CLAIM = (Phase.STARTING, Act.BRING_ONLINE)
STOP = (Phase.STOPPING, Act.TAKE_OFFLINE)
TAKE_OFFLINE = (None, Act.TAKE_OFFLINE)
RELEASE = (Phase.VACANT, Act.NOTHING)
SHOW = (Phase.ONLINE, Act.NOTHING)

EXPECTED: dict[tuple[Phase, GuestObservation], tuple[Shape, Shape]] = {
    (Phase.VACANT, SEEN.ABSENT): (NONE, NONE),
    (Phase.VACANT, SEEN.RUNNING): (TAKE_OFFLINE, TAKE_OFFLINE),
    (Phase.VACANT, SEEN.PAUSED): (TAKE_OFFLINE, TAKE_OFFLINE),
    (Phase.VACANT, SEEN.STALLED): (TAKE_OFFLINE, TAKE_OFFLINE),
    (Phase.ASSIGNED, SEEN.ABSENT): (CLAIM, RELEASE),
    (Phase.ASSIGNED, SEEN.RUNNING): (CLAIM, RELEASE),
    (Phase.ASSIGNED, SEEN.PAUSED): (CLAIM, RELEASE),
    (Phase.ASSIGNED, SEEN.STALLED): (CLAIM, RELEASE),
    (Phase.STARTING, SEEN.ABSENT): (CLAIM, RELEASE),
    (Phase.STARTING, SEEN.RUNNING): (SHOW, SHOW),
    (Phase.STARTING, SEEN.PAUSED): (CLAIM, SHOW),
    (Phase.STARTING, SEEN.STALLED): (SHOW, SHOW),
    (Phase.ONLINE, SEEN.ABSENT): (CLAIM, RELEASE),
    (Phase.ONLINE, SEEN.RUNNING): (NONE, STOP),
    (Phase.ONLINE, SEEN.PAUSED): (NONE, STOP),
    (Phase.ONLINE, SEEN.STALLED): (NONE, STOP),
    (Phase.STOPPING, SEEN.ABSENT): (RELEASE, RELEASE),
    (Phase.STOPPING, SEEN.RUNNING): (TAKE_OFFLINE, TAKE_OFFLINE),
    (Phase.STOPPING, SEEN.PAUSED): (TAKE_OFFLINE, TAKE_OFFLINE),
    (Phase.STOPPING, SEEN.STALLED): (TAKE_OFFLINE, TAKE_OFFLINE),
    (Phase.SAVING, SEEN.ABSENT): ((None, Act.SETTLE_SAVE),) * 2,
    (Phase.SAVING, SEEN.RUNNING): (SHOW, SHOW),
    (Phase.SAVING, SEEN.PAUSED): ((None, Act.SAVE),) * 2,
    (Phase.SAVING, SEEN.STALLED): ((None, Act.SAVE),) * 2,
    **{(Phase.MIGRATING, seen): ((None, Act.SETTLE_MIGRATION),) * 2 for seen in SEEN if seen is not SEEN.UNKNOWN},
    **{(phase, SEEN.UNKNOWN): (NONE, NONE) for phase in Phase},
}


def test_every_pair_is_handled() -> None:
    assert set(TABLE) == set(product(Phase, GuestObservation)) == set(EXPECTED)


@pytest.mark.parametrize("pair", EXPECTED, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_the_table(pair: tuple[Phase, GuestObservation]) -> None:
    online, offline = EXPECTED[pair]
    assert shape(take(*pair, wanted=Wanted.ONLINE)) == online
    assert shape(take(*pair, wanted=Wanted.OFFLINE)) == offline


@pytest.mark.parametrize("wanted", Wanted)
@pytest.mark.parametrize("phase", Phase)
def test_safe_2_unknown_leads_to_nothing_at_all(phase: Phase, wanted: Wanted) -> None:
    assert take(phase, SEEN.UNKNOWN, wanted) == Step()


@pytest.mark.parametrize("wanted", Wanted)
@pytest.mark.parametrize("guest", GuestObservation)
@pytest.mark.parametrize("phase", LIVING)
def test_safe_2_a_role_is_released_only_when_absent_or_not_begun(
    phase: Phase, guest: GuestObservation, wanted: Wanted
) -> None:
    step = take(phase, guest, wanted)
    if step.record is not None and step.record.phase is Phase.VACANT:
        assert guest is SEEN.ABSENT or phase is Phase.ASSIGNED
        assert step.act is Act.NOTHING


@pytest.mark.parametrize("wanted", Wanted)
@pytest.mark.parametrize("guest", GuestObservation)
@pytest.mark.parametrize("phase", Phase)
def test_safe_3_every_start_is_said_first_in_a_record(phase: Phase, guest: GuestObservation, wanted: Wanted) -> None:
    step = take(phase, guest, wanted)
    if step.act is Act.BRING_ONLINE:
        assert step.record is not None
        assert step.record.phase is Phase.STARTING
        assert step.record.epoch == 1


@pytest.mark.parametrize("wanted", Wanted)
@pytest.mark.parametrize("guest", GuestObservation)
@pytest.mark.parametrize("phase", LIVING)
def test_safe_3_the_owner_never_changes_epoch_or_owner_but_by_release(
    phase: Phase, guest: GuestObservation, wanted: Wanted
) -> None:
    before = owned("web", "a", phase)
    record = take(phase, guest, wanted).record
    if record is None:
        return
    assert (record.role, record.epoch) == (before.role, before.epoch)
    if record.phase is Phase.VACANT:
        assert (record.owner, record.incarnation, record.last_owner) == (None, None, before.owner)
    else:
        assert (record.owner, record.incarnation) == (before.owner, before.incarnation)


@pytest.mark.parametrize("guest", [SEEN.RUNNING, SEEN.STALLED])
def test_a_guest_that_is_there_is_adopted_with_the_reasons_of_its_start(guest: GuestObservation) -> None:
    assert take(Phase.STARTING, guest).record == replace(
        owned("web", "a", Phase.STARTING), phase=Phase.ONLINE, since_ms=LATER_MS
    )


def ended(ownership: Ownership, **changes: Any) -> Step:
    return next_step(ownership, role_spec("web", **changes), SEEN.ABSENT, LATER_MS)


def test_a_guest_that_ended_is_counted_and_started_in_place() -> None:
    step = ended(owned("web", "a"))
    assert step.record is not None
    assert step.record.restarts == (LATER_MS,)
    assert [reason.code for reason in step.record.reasons] == [ReasonCode.GUEST_ENDED]


def test_restarts_beyond_the_limit_give_the_role_up() -> None:
    recent = (LATER_MS - 2000, LATER_MS - 1000)
    step = ended(owned("web", "a", restarts=recent, failed_on=("z",), failovers=(1,)), restart_limit=2)
    assert shape(step) == RELEASE
    assert step.record is not None
    assert step.record.restarts == ()
    assert step.record.failovers == (1, LATER_MS)
    assert step.record.failed_on == ("z", "a")
    assert [reason.code for reason in step.record.reasons] == [ReasonCode.GUEST_ENDED, ReasonCode.RESTART_LIMIT]


def test_restarts_outside_the_period_are_forgotten() -> None:
    old = (LATER_MS - 900_001, LATER_MS - 900_000)
    step = ended(owned("web", "a", restarts=old), restart_limit=2, restart_period_s=900)
    assert shape(step) == CLAIM
    assert step.record is not None
    assert step.record.restarts == (LATER_MS - 900_000, LATER_MS)


def test_no_restart_in_place_when_the_limit_is_zero() -> None:
    assert shape(ended(owned("web", "a"), restart_limit=0)) == RELEASE


def test_a_failed_start_counts_as_a_restart_and_then_gives_the_role_up() -> None:
    spec = role_spec("web", restart_limit=1)
    first = after_failed_start(owned("web", "a", Phase.STARTING), spec, "no such disk", LATER_MS)
    assert (first.phase, first.restarts) == (Phase.STARTING, (LATER_MS,))
    second = after_failed_start(first, spec, "no such disk", LATER_MS)
    assert (second.phase, second.failed_on) == (Phase.VACANT, ("a",))
    assert "no such disk" in str(second.reasons[0])


MOVES: Any = {"target": "b", "source": "a"}
ARRIVES: Any = {"target": "a", "source": "z"}


@pytest.mark.parametrize("guest", GuestObservation)
@pytest.mark.parametrize("phase", LIVING)
def test_safe_2_a_role_that_is_wanted_elsewhere_is_released_only_when_absent_or_not_begun(
    phase: Phase, guest: GuestObservation
) -> None:
    step = take(phase, guest, **MOVES)
    assert step.act is not Act.BRING_ONLINE
    if step.record is not None and step.record.phase is Phase.VACANT:
        assert guest is SEEN.ABSENT or phase is Phase.ASSIGNED
        assert (step.record.target, step.record.source, step.record.last_owner) == ("b", "a", "a")


def test_a_move_stops_what_runs_and_then_releases_it_with_its_target() -> None:
    assert shape(take(Phase.ONLINE, SEEN.RUNNING, **MOVES)) == STOP
    assert shape(take(Phase.STOPPING, SEEN.ABSENT, **MOVES)) == RELEASE
    assert shape(take(Phase.ONLINE, SEEN.ABSENT, **MOVES)) == RELEASE
    assert shape(take(Phase.STARTING, SEEN.ABSENT, **MOVES)) == RELEASE


@pytest.mark.parametrize("guest", THERE)
def test_a_role_that_leaves_while_it_starts_is_shown_online_first_and_leaves_then(guest: GuestObservation) -> None:
    record = take(Phase.STARTING, guest, **MOVES).record
    assert record is not None
    assert (record.phase, record.target) == (Phase.ONLINE, "b")


def test_a_move_is_over_when_the_role_is_online_at_its_target() -> None:
    for phase in (Phase.STARTING, Phase.ONLINE):
        record = take(phase, SEEN.RUNNING, **ARRIVES).record
        assert record is not None
        assert (record.phase, record.target, record.source) == (Phase.ONLINE, None, None)


def test_a_cancelled_move_that_was_stopping_still_ends_vacant_and_comes_back_from_there() -> None:
    record = take(Phase.STOPPING, SEEN.ABSENT, target="a", source="a").record
    assert record is not None
    assert (record.phase, record.target) == (Phase.VACANT, "a")


def test_a_role_on_the_move_that_nobody_wants_any_more_forgets_its_move() -> None:
    record = take(Phase.STOPPING, SEEN.ABSENT, Wanted.OFFLINE, drained_from="z", **MOVES).record
    assert record is not None
    assert (record.target, record.source, record.drained_from) == (None, None, None)


def test_a_failed_start_on_the_move_counts_against_the_node_and_not_as_a_failover() -> None:
    gone = after_failed_start(owned("web", "a", Phase.STARTING, **ARRIVES), role_spec("web", restart_limit=0), "x", 0)
    assert (gone.phase, gone.failed_on, gone.failovers, gone.target) == (Phase.VACANT, ("a",), (), "a")


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ONLINE])
def test_a_request_is_served_once_the_role_runs_and_counts_for_no_later_start(phase: Phase) -> None:
    before = owned("web", "a", phase, failovers=(NOW_MS,), failed_on=("b",))
    record = next_step(before, role_spec("web", generation=2), SEEN.RUNNING, LATER_MS).record
    assert record is not None
    assert (record.phase, record.generation, record.failovers, record.failed_on) == (Phase.ONLINE, 2, (), ())
    assert next_step(record, role_spec("web", generation=2), SEEN.RUNNING, LATER_MS) == Step()
    gone = next_step(record, role_spec("web", generation=2), SEEN.ABSENT, LATER_MS, is_frozen=True).record
    snapshot = cluster(frozen(), up("a"), new_role("web", generation=2), put("ownerships", record.role, gone))
    assert plan(snapshot, LATER_MS).blocked.keys() == {"web"}


def test_a_frozen_cluster_starts_nothing_again() -> None:
    ended_now = next_step(owned("web", "a"), role_spec("web"), SEEN.ABSENT, LATER_MS, is_frozen=True)
    assert shape(ended_now) == RELEASE
    assert ended_now.record is not None
    assert [reason.code for reason in ended_now.record.reasons] == [ReasonCode.GUEST_ENDED, ReasonCode.FROZEN]
    assert (ended_now.record.failed_on, ended_now.record.failovers) == ((), ())
    failed = after_failed_start(owned("web", "a", Phase.STARTING), role_spec("web"), "x", LATER_MS, is_frozen=True)
    assert (failed.phase, failed.failed_on, failed.failovers) == (Phase.VACANT, ("a",), ())
