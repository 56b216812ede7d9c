"""A role's memory, step by step: consumed before it executes, never executed twice, never dropped without cause."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from tests.unit.decide.made_up import NOW_MS, cluster, coordinated_by, incarnation, owned, put, record, role_spec, up

from holdfast.decide.coordination import plan
from holdfast.decide.lifecycle import next_step
from holdfast.decide.memory_steps import (
    Present,
    after_failed_move,
    after_failed_restore,
    after_save,
    handed_over,
    received,
    receives,
)
from holdfast.decide.orders import discard_memory
from holdfast.decide.steps import Act, Attempt, Situation, Step
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import GuestObservation as Seen
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Memory, MemoryKind, MoveMethod, Ownership, Phase, Receiver, Wanted

SAVED = Memory(kind=MemoryKind.SAVED, id="m", path="/saved/web.m.state", disk_generation=3)
COPIED = Memory(kind=MemoryKind.COPIED, id="m", disk_generation=3)
ATTEMPT = Attempt(id="new", directory="/saved", mark="here.1")
TO_B: dict[str, Any] = {"target": NodeName("b"), "source": NodeName("a")}
B1 = Receiver(node=NodeName("b"), incarnation=incarnation("b"))


def starting(memory: Memory | None, **changes: Any) -> Ownership:
    return owned("web", "a", Phase.STARTING, memory=memory, disk_generation=3, **changes)


def take(
    ownership: Ownership, seen: Seen, memory_id: str = "", wanted: Wanted = Wanted.ONLINE, *, can_write: bool = True
) -> Step:
    spec = role_spec("web", wanted=wanted)
    return next_step(ownership, spec, seen, NOW_MS, memory_id=memory_id, attempt=ATTEMPT, can_write=can_write)


def situation(ownership: Ownership) -> Situation:
    return Situation(ownership=ownership, spec=role_spec("web"), now_ms=NOW_MS, attempt=ATTEMPT)


@pytest.mark.parametrize("memory", [SAVED, COPIED])
def test_safe_7_memory_is_consumed_in_the_record_before_its_process_goes_on(memory: Memory) -> None:
    step = take(starting(memory), Seen.PAUSED, "m")
    assert step.act is Act.RESUME
    assert step.record is not None
    assert step.record.memory == replace(memory, is_consumed=True)
    assert step.record.disk_generation == 4


@pytest.mark.parametrize("memory", [None, SAVED, COPIED, replace(SAVED, is_consumed=True)])
def test_safe_7_a_process_made_from_anything_else_is_removed(memory: Memory | None) -> None:
    assert take(starting(memory), Seen.PAUSED, "other") == Step(act=Act.DESTROY)


def test_safe_7_consumed_memory_is_never_restored() -> None:
    step = take(starting(replace(SAVED, is_consumed=True)), Seen.ABSENT)
    assert step.act is Act.BRING_ONLINE
    assert step.record is not None
    assert step.record.memory is None


def test_safe_7_memory_older_than_the_disks_is_not_restored() -> None:
    step = take(starting(replace(SAVED, disk_generation=2)), Seen.ABSENT)
    assert step.act is Act.NOTHING
    assert step.record is not None
    assert (step.record.memory, step.record.reasons[0].code) == (None, ReasonCode.MEMORY_LOST)
    assert take(starting(replace(SAVED, disk_generation=2)), Seen.PAUSED, "m") == Step(act=Act.DESTROY)


@pytest.mark.parametrize(("phase", "wanted"), [*product((Phase.ASSIGNED, Phase.STARTING), Wanted)])
def test_safe_7_nothing_starts_afresh_while_saved_memory_is_there(phase: Phase, wanted: Wanted) -> None:
    for seen, memory_id in product(Seen, ("", "m", "other")):
        step = take(replace(starting(SAVED), phase=phase), seen, memory_id, wanted)
        assert step.act is not Act.BRING_ONLINE
        if step.record is not None and seen in (Seen.ABSENT, Seen.PAUSED):
            assert step.record.memory is not None


def test_safe_7_a_guest_that_executes_makes_what_was_kept_of_it_old() -> None:
    step = take(starting(SAVED), Seen.RUNNING)
    assert step.record is not None
    assert (step.record.phase, step.record.memory) == (Phase.ONLINE, None)
    assert step.record.reasons[0].code is ReasonCode.MEMORY_OVERTAKEN


@pytest.mark.parametrize("memory", [COPIED, replace(COPIED, is_consumed=True), replace(SAVED, is_consumed=True)])
def test_safe_7_a_process_with_the_only_copy_waits_for_its_disks_under_an_unchanged_record(memory: Memory) -> None:
    came = starting(memory, since_ms=0)
    leaving = replace(came, target=NodeName("b"), source=NodeName("a"))
    for there in (came, leaving):
        assert take(there, Seen.PAUSED, "m", can_write=False) == Step(act=Act.WAIT)
        assert take(there, Seen.PAUSED, "m").act is Act.RESUME


@pytest.mark.parametrize("memory", [COPIED, replace(COPIED, is_consumed=True), replace(SAVED, is_consumed=True)])
def test_who_stops_a_role_that_waits_for_its_disks_waits_no_longer_than_for_a_shutdown(memory: Memory) -> None:
    limit_ms = role_spec("web").shutdown_timeout_ms
    for since_ms, act in ((NOW_MS - limit_ms + 1, Act.WAIT), (NOW_MS - limit_ms, Act.DESTROY)):
        came = starting(memory, since_ms=since_ms)
        assert take(came, Seen.PAUSED, "m", Wanted.OFFLINE, can_write=False) == Step(act=act)
        assert take(came, Seen.PAUSED, "m", Wanted.OFFLINE).act is Act.RESUME, "it could shut down in order"


def test_safe_7_a_process_from_a_file_is_removed_where_its_disks_do_not_get_ready_and_the_file_stays() -> None:
    limit_ms = role_spec("web").shutdown_timeout_ms
    for since_ms, act in ((NOW_MS - limit_ms + 1, Act.WAIT), (NOW_MS - limit_ms, Act.DESTROY)):
        assert take(starting(SAVED, since_ms=since_ms), Seen.PAUSED, "m", can_write=False) == Step(act=act)
    assert take(starting(SAVED), Seen.ABSENT, can_write=False).act is Act.RESTORE


def test_safe_7_each_attempt_to_save_has_a_name_of_its_own_and_is_void_once_the_guest_executes() -> None:
    leaving = owned("web", "a", method=MoveMethod.QUICK, **TO_B)
    step = take(leaving, Seen.RUNNING)
    assert step.act is Act.SAVE
    assert step.record is not None
    assert step.record.making is not None
    assert (step.record.phase, step.record.making.path) == (Phase.SAVING, "/saved/web.here.1.new.state")
    again = take(step.record, Seen.RUNNING)
    assert again.record is not None
    assert (again.record.phase, again.record.making, again.act) == (Phase.ONLINE, None, Act.NOTHING)


def test_safe_7_a_suspended_guest_goes_on_only_under_a_record_that_gave_the_attempt_up() -> None:
    saving = owned("web", "a", Phase.SAVING, method=MoveMethod.QUICK, making=SAVED, **TO_B)
    after = after_failed_move(situation(saving), Present(executes=False, memory_id="old"), "full")
    assert (after.phase, after.making, after.target, after.failed_ms) == (Phase.STARTING, None, None, NOW_MS)
    assert take(after, Seen.PAUSED, "old").act is Act.RESUME
    assert take(saving, Seen.PAUSED).act is Act.SAVE


def test_safe_7_a_role_is_released_with_memory_only_when_its_file_is_whole() -> None:
    saving = owned("web", "a", Phase.SAVING, method=MoveMethod.QUICK, making=SAVED, **TO_B)
    assert after_save(situation(saving), 7).memory == replace(SAVED, bytes=7)
    assert after_save(situation(saving), None).memory is None


def test_safe_7_a_failed_restore_keeps_the_memory_and_leaves_the_node() -> None:
    after = after_failed_restore(situation(starting(SAVED)), "no")
    assert (after.phase, after.memory, after.failed_on) == (Phase.VACANT, SAVED, (NodeName("a"),))


def test_a_role_that_nobody_can_restore_says_how_to_give_its_memory_up() -> None:
    vacant = owned("web", None, memory=SAVED, failed_on=(NodeName("a"),))
    snapshot = cluster(up("a"), coordinated_by("a"), put("specs", RoleName("web"), role_spec("web")), record(vacant))
    assert plan(snapshot, NOW_MS).blocked[RoleName("web")][-1].code is ReasonCode.MEMORY_KEPT
    after = discard_memory(snapshot, RoleName("web"), "Ada")
    assert after is not None
    assert (after.memory, after.failed_on) == (None, ())


def test_safe_7_only_a_file_that_is_not_consumed_passes_to_another_owner() -> None:
    for memory, kept in ((SAVED, SAVED), (replace(SAVED, is_consumed=True), None), (COPIED, None)):
        vacant = owned("web", None, memory=memory)
        snapshot = cluster(
            up("a"), coordinated_by("a"), put("specs", RoleName("web"), role_spec("web")), record(vacant)
        )
        assert plan(snapshot, NOW_MS).changes[0].after.memory == kept


def test_safe_1_a_copy_is_spared_only_by_the_incarnation_that_said_that_it_receives() -> None:
    leaving = owned("web", "a", method=MoveMethod.LIVE, **TO_B)
    after = received(leaving, B1, ATTEMPT)
    assert receives(after, incarnation("b"))
    assert not receives(after, incarnation("b", 2))
    assert take(leaving, Seen.RUNNING) == Step()
    assert take(after, Seen.RUNNING).act is Act.MIGRATE


def test_a_copy_is_handed_over_as_begun_in_a_new_epoch() -> None:
    copying = received(owned("web", "a", Phase.MIGRATING, method=MoveMethod.LIVE, **TO_B), B1, ATTEMPT)
    assert copying.making is not None
    after = handed_over(situation(copying), copying.making, B1)
    assert (after.owner, after.incarnation, after.epoch, after.phase) == ("b", "b-1", 2, Phase.STARTING)
    assert (after.memory, after.making, after.receiving) == (copying.making, None, None)


def test_safe_5_a_live_move_whose_target_never_answers_ends() -> None:
    leaving = owned("web", "a", method=MoveMethod.LIVE, ordered_ms=NOW_MS, **TO_B)
    spec = put("specs", RoleName("web"), role_spec("web"))
    snapshot = cluster(up("a"), up("b"), coordinated_by("a"), spec, record(leaving))
    assert plan(snapshot, NOW_MS).changes == ()
    after = plan(snapshot, NOW_MS + 10_000).changes[0].after
    assert (after.phase, after.owner, after.target, after.failed_ms) == (Phase.ONLINE, "a", None, NOW_MS + 10_000)
    alone = cluster(up("a"), coordinated_by("a"), spec, record(leaving))
    assert plan(alone, NOW_MS).changes[0].after.target is None
