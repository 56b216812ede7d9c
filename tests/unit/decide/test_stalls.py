"""When a guest that its storage stopped is let go on."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.decide.made_up import NOW_MS, owned, role_spec

from holdfast.decide.lifecycle import next_step
from holdfast.decide.stalls import FIRST_S, LONGEST_S, STEADY_S, Stall, stalled
from holdfast.decide.steps import Act, Step
from holdfast.model.nodes import GuestObservation
from holdfast.model.roles import Phase, Wanted


def test_it_goes_on_soon_at_first_and_less_and_less_often_when_it_stalls_again() -> None:
    stall, now, waits = stalled(None, 100.0, is_new=True), 100.0, []
    for _ in range(9):
        waits.append(stall.due_s - now)
        now = stall.due_s
        stall = stalled(stall.tried(now), now, is_new=True)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@given(st.floats(0, 1e6), st.integers(0, 2000))
def test_the_wait_is_bounded(now: float, tries: int) -> None:
    assert FIRST_S - 1e-6 <= Stall(since_s=0, tries=tries, tried_s=now).due_s - now <= LONGEST_S + 1e-6


def test_one_that_ran_steadily_stalls_for_a_new_reason() -> None:
    before = Stall(since_s=0, tries=5, tried_s=10)
    assert stalled(before, 10 + STEADY_S + 1, is_new=True).tries == 0
    assert stalled(before, 10 + STEADY_S + 1, is_new=False) == before, "it never ran in between"
    assert stalled(before, 10 + STEADY_S - 1, is_new=True).tries == 5


def step(phase: Phase, guest: GuestObservation, wanted: Wanted = Wanted.ONLINE, target: str | None = None) -> Step:
    changes: dict[str, Any] = {"target": target, "source": "a"} if target else {}
    ownership = owned("web", "a", phase, **changes)
    return next_step(ownership, role_spec("web", wanted=wanted), guest, NOW_MS, can_go_on=True)


def test_only_a_guest_that_an_io_error_stopped_goes_on_and_only_if_it_is_to_stay() -> None:
    assert step(Phase.ONLINE, GuestObservation.STALLED) == Step(act=Act.RESUME)
    assert step(Phase.ONLINE, GuestObservation.PAUSED) == Step(), "a person paused it"
    assert step(Phase.ONLINE, GuestObservation.RUNNING) == Step()
    assert step(Phase.ONLINE, GuestObservation.STALLED, Wanted.OFFLINE).act is Act.TAKE_OFFLINE
    assert step(Phase.ONLINE, GuestObservation.STALLED, target="b").act is Act.TAKE_OFFLINE
    for phase in (Phase.SAVING, Phase.MIGRATING, Phase.STOPPING):
        assert step(phase, GuestObservation.STALLED).act is not Act.RESUME, "what is suspended to be moved stays so"
