"""The guard's decisions: nothing dies while the node is entitled, everything on the list dies after."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.fencing.guard.logic import (
    Action,
    Event,
    Exit,
    Extend,
    Kill,
    Notice,
    Order,
    Phase,
    Protect,
    Reply,
    Scanned,
    State,
    Unprotect,
    Victim,
    restored,
    step,
    wake_at,
)
from holdfast.fencing.guard.protocol import MAX_EXTENSION_S, ErrorCode

A, B = "0000000a-0000-4000-8000-000000000000", "0000000b-0000-4000-8000-000000000000"
QEMU_A = Victim(pid=100, start_time=1, uuid=A)
QEMU_B = Victim(pid=200, start_time=2, uuid=B)


def run(state: State, *events: tuple[float, Event]) -> tuple[State, list[Action]]:
    """Take all steps and return the last state and all actions."""
    actions: list[Action] = []
    for now, event in events:
        state, more = step(state, event, now)
        actions += more
    return state, actions


def seen(*victims: Victim, complete: bool = True) -> Scanned:
    return Scanned(alive=frozenset(victims), complete=complete)


ARMED = run(State(), (0.0, Protect(uuid=A)), (0.0, Extend(deadline=10.0)))[0]
KILLING = run(ARMED, (10.0, Notice.WAKE), (10.0, seen(QEMU_A)))[0]


def test_a_guest_is_recorded_before_it_is_acknowledged() -> None:
    _, actions = step(State(), Protect(uuid=A), 0.0)
    assert actions == (Order.PERSIST, Reply())


def test_without_a_deadline_the_node_is_not_entitled_and_nothing_is_killed() -> None:
    state, actions = run(State(), (0.0, Protect(uuid=A)), (1000.0, Notice.WAKE), (1000.0, seen(QEMU_A)))
    assert state.phase is Phase.UNARMED
    assert not [action for action in actions if isinstance(action, Kill)]


def test_nothing_is_even_looked_for_before_the_deadline() -> None:
    _, actions = run(ARMED, (9.999, Notice.WAKE))
    assert actions == []


def test_the_deadline_is_woken_for_exactly() -> None:
    assert wake_at(ARMED) == 10.0


def test_after_the_deadline_guests_on_the_list_are_killed_and_others_are_not() -> None:
    state, actions = run(ARMED, (10.0, Notice.WAKE), (10.01, seen(QEMU_A, QEMU_B)))
    assert actions == [Order.SCAN, Kill(victim=QEMU_A)]
    assert state.phase is Phase.KILLING


def test_killing_is_repeated_every_50_ms_until_a_scan_finds_none() -> None:
    state, actions = run(KILLING, (10.04, Notice.WAKE), (10.05, Notice.WAKE), (10.06, seen(QEMU_A)))
    assert actions == [Order.SCAN, Kill(victim=QEMU_A)]
    state, actions = run(state, (10.11, Notice.WAKE), (10.12, seen()))
    assert (actions, state.phase) == ([Order.SCAN], Phase.QUIET)
    assert [(death.victim, death.at) for death in state.deaths] == [(QEMU_A, 10.12)]


def test_an_incomplete_scan_proves_no_death() -> None:
    state, actions = run(KILLING, (10.05, seen(complete=False)))
    assert state.phase is Phase.KILLING
    assert state.deaths == ()
    assert actions == [Kill(victim=QEMU_A)]


def test_a_guest_born_late_dies_too() -> None:
    state, actions = run(KILLING, (10.1, seen()), (60.0, Notice.WAKE), (60.0, seen(QEMU_A)))
    assert actions == [Order.SCAN, Kill(victim=QEMU_A)]
    assert state.phase is Phase.KILLING


def test_no_extension_revives_the_deadline_before_all_are_dead() -> None:
    state, actions = run(KILLING, (10.02, Extend(deadline=20.0)))
    assert isinstance(actions[-1], Reply)
    assert actions[-1].error is ErrorCode.CONDEMNED
    assert state.deadline == 10.0
    state, _ = run(state, (10.1, seen()), (10.2, Extend(deadline=20.0)))
    assert (state.phase, state.deadline) == (Phase.ENTITLED, 20.0)


def test_an_extension_that_arrives_together_with_the_deadline_is_too_late() -> None:
    state, _ = run(ARMED, (10.0, Extend(deadline=20.0)))
    assert state.phase is Phase.KILLING


def test_a_condemned_guest_cannot_leave_the_list() -> None:
    state, actions = run(KILLING, (10.02, Unprotect(uuid=A)))
    assert isinstance(actions[-1], Reply)
    assert actions[-1].error is ErrorCode.CONDEMNED
    assert state.guests == {A}


@pytest.mark.parametrize("deadline", [5.0, 10.0])
def test_the_deadline_never_moves_back(deadline: float) -> None:
    state, actions = step(ARMED, Extend(deadline=deadline), 1.0)
    assert (state.deadline, actions) == (10.0, (Reply(),))


def test_a_deadline_absurdly_far_ahead_is_refused() -> None:
    state, actions = step(ARMED, Extend(deadline=1.0 + MAX_EXTENSION_S + 1), 1.0)
    assert isinstance(actions[-1], Reply)
    assert actions[-1].error is ErrorCode.BAD_REQUEST
    assert state == ARMED


def test_an_orderly_end_needs_an_empty_list_to_switch_the_watchdog_off() -> None:
    _, refused = step(ARMED, Notice.DISARM, 1.0)
    assert isinstance(refused[-1], Reply)
    assert refused[-1].error is ErrorCode.STILL_PROTECTED
    assert step(ARMED, Notice.TERMINATE, 1.0)[1] == (Exit(disarm=False),)
    empty, _ = step(ARMED, Unprotect(uuid=A), 1.0)
    assert step(empty, Notice.DISARM, 1.0)[1] == (Reply(), Exit(disarm=True))
    assert step(empty, Notice.TERMINATE, 1.0)[1] == (Exit(disarm=True),)


def test_a_restarted_guard_continues_and_kills_at_once_if_the_deadline_passed() -> None:
    state = restored(State(), deadline=10.0, guests=frozenset({A}))
    assert step(state, Notice.WAKE, 9.0)[1] == ()
    _, actions = run(state, (11.0, Notice.WAKE), (11.0, seen(QEMU_A)))
    assert actions == [Order.SCAN, Kill(victim=QEMU_A)]


def pets(state: State, *, until: float, alive: frozenset[Victim]) -> list[float]:
    """Let time pass as the process would, and return when the watchdog was petted."""
    times: list[float] = []
    now = 0.0
    while now < until:
        state, actions = step(state, Notice.WAKE, now)
        for action in actions:
            if action is Order.PET:
                times.append(now)
            if action is Order.SCAN:
                state, _ = step(state, Scanned(alive=alive, complete=True), now)
        due = wake_at(state)
        assert due is not None
        assert due > now or actions, "the guard would spin"
        now = max(due, now)
    return times


def test_petting_stops_at_the_kill_bound_if_a_guest_cannot_be_killed() -> None:
    """SAFE-2: the watchdog proof counts the watchdog's time-out from this moment."""
    times = pets(ARMED._replace(watchdog_timeout_s=3.0), until=60.0, alive=frozenset({QEMU_A}))
    assert times[:10] == [float(second) for second in range(10)]
    assert times[-1] < 10.0 + ARMED.kill_bound_s


@pytest.mark.parametrize("late_s", [0.6, 5.0])
def test_a_guard_that_wakes_too_late_to_pet_does_not_wake_for_it_again(late_s: float) -> None:
    frozen, _ = run(ARMED._replace(watchdog_timeout_s=3.0), (9.9, Notice.WAKE))
    now = 10.0 + late_s
    frozen = frozen._replace(next_pet_at=10.2)
    state, actions = run(frozen, (now, Notice.WAKE), (now, seen(QEMU_A)))
    assert Order.PET not in actions
    due = wake_at(state)
    assert due is not None
    assert due > now
    assert Order.PET in run(state, (due, Notice.WAKE), (due, seen()), (due, Notice.WAKE))[1]


def test_petting_goes_on_after_the_deadline_if_all_guests_are_dead() -> None:
    times = pets(ARMED._replace(watchdog_timeout_s=3.0), until=60.0, alive=frozenset())
    assert max(later - earlier for earlier, later in pairwise(times)) < 3.0
    assert times[-1] > 58.0


def test_a_guard_restarted_with_guests_that_cannot_be_killed_does_not_pet_once() -> None:
    state = restored(State(watchdog_timeout_s=3.0), deadline=-1.0, guests=frozenset({A}))
    assert pets(state, until=30.0, alive=frozenset({QEMU_A})) == []


uuids = st.sampled_from([A, B])
victims = st.frozensets(st.sampled_from([QEMU_A, QEMU_B, Victim(pid=300, start_time=3, uuid=A)]))
events = st.one_of(
    st.just(Notice.WAKE),
    st.builds(Extend, deadline=st.floats(0, 60)),
    st.builds(Protect, uuid=uuids),
    st.builds(Unprotect, uuid=uuids),
    st.builds(Scanned, alive=victims, complete=st.booleans()),
)
histories = st.lists(st.tuples(st.floats(0, 5), events), max_size=40)


@given(histories)
def test_nothing_is_killed_before_a_deadline_passed_nor_off_the_list(history: list[tuple[float, Event]]) -> None:
    state, now = State(watchdog_timeout_s=3.0), 0.0
    for pause, event in history:
        now += pause
        state, actions = step(state, event, now)
        killed = {action.victim.uuid for action in actions if isinstance(action, Kill)}
        assert killed <= state.guests
        if killed:
            assert state.deadline is not None
            assert now >= state.deadline


@given(histories)
def test_what_lives_on_the_list_after_the_deadline_is_killed(history: list[tuple[float, Event]]) -> None:
    state, now = State(), 0.0
    for pause, event in history:
        now += pause
        state, _ = step(state, event, now)
    if state.deadline is None:
        return
    late = max(now, state.deadline) + 1.0
    state, actions = step(state, Notice.WAKE, late)
    assert Order.SCAN in actions
    _, actions = step(state, seen(QEMU_A, QEMU_B), late)
    killed = {action.victim.uuid for action in actions if isinstance(action, Kill)}
    assert state.guests <= killed
