"""A disk that only its owner is registered with: who registers, who defends, and who wins. Source: SAFE-1, SAFE-2."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from holdfast.decide.disks import DiskAct, DiskView, next_disk_step
from holdfast.decide.owned_disks import (
    DEFENCE_S,
    ChallengeAct,
    ChallengeView,
    next_challenge_act,
    next_owned_disk_step,
)
from holdfast.model.disks import DiskState

views = st.builds(DiskView, has_key=st.booleans(), is_protected=st.booleans(), is_foreign=st.booleans())


@given(views, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_safe_1_such_a_disk_is_never_registered_by_a_look(
    view: DiskView, has_others: bool, is_confirmed: bool, is_used_here: bool, is_used_elsewhere: bool
) -> None:
    step = next_owned_disk_step(
        view,
        has_others=has_others,
        is_confirmed=is_confirmed,
        is_used_here=is_used_here,
        is_used_elsewhere=is_used_elsewhere,
    )
    assert step.act is not DiskAct.REGISTER
    if step.state is DiskState.READY:
        assert view.has_key
        assert view.is_protected
        assert is_confirmed
    if step.act is DiskAct.DEFEND:
        assert view.has_key
        assert is_used_here
        assert has_others
    if step.state in (DiskState.STANDBY, DiskState.READY):
        assert not view.is_foreign
        assert view.has_key or not is_used_here


@given(views, st.booleans(), st.booleans(), st.booleans())
def test_safe_1_a_guest_without_its_key_fares_as_on_a_disk_that_every_node_is_registered_with(
    view: DiskView, has_others: bool, is_confirmed: bool, is_used_elsewhere: bool
) -> None:
    if view.has_key:
        return
    owned = next_owned_disk_step(
        view,
        has_others=has_others,
        is_confirmed=is_confirmed,
        is_used_here=True,
        is_used_elsewhere=is_used_elsewhere,
    )
    assert owned == next_disk_step(
        view, is_confirmed=is_confirmed, is_used_here=True, is_used_elsewhere=is_used_elsewhere
    )


@dataclass(slots=True)
class Target:
    """Who is registered, at one time."""

    keys: set[str] = field(default_factory=lambda: {"owner"})


@given(
    st.lists(st.tuples(st.sampled_from(["challenger", "owner"]), st.floats(0.05, 0.8)), max_size=80),
    st.booleans(),
)
def test_safe_2_an_owner_that_looks_in_time_keeps_its_disk_and_one_that_does_not_loses_it(
    steps: list[tuple[str, float]], is_alive: bool
) -> None:
    """Any order of looks: an owner that looks within the defence time is never expelled, and a dead one always is."""
    target, now, stood_since, seen_by_owner = Target(), 0.0, None, 0.0
    for who, pause in [*steps, *[("challenger", 0.5)] * 20]:
        now += pause
        if is_alive and (who == "owner" or now - seen_by_owner > DEFENCE_S / 2):
            target.keys.discard("challenger")  # DEFEND
            seen_by_owner = now
        if who == "owner":
            continue
        has_own = "challenger" in target.keys
        if has_own and stood_since is None:
            stood_since = now
        view = ChallengeView(has_own=has_own, has_owner="owner" in target.keys)
        stood_s = None if stood_since is None else now - stood_since
        match next_challenge_act(view, stood_s=stood_s):
            case ChallengeAct.REGISTER:
                target.keys.add("challenger")
                stood_since = now
            case ChallengeAct.EXPEL:
                assert not is_alive
                assert has_own
                target.keys.discard("owner")
                break
            case ChallengeAct.GIVE_UP:
                assert is_alive
                stood_since = None
            case ChallengeAct.WAIT:
                assert stood_s is not None
                assert stood_s < DEFENCE_S
    assert ("owner" in target.keys) is is_alive


@given(st.booleans(), st.booleans(), st.none() | st.floats(0, 100))
def test_safe_2_nobody_is_expelled_before_the_own_key_is_there(
    has_owner: bool, is_foreign: bool, stood_s: float | None
) -> None:
    missing = next_challenge_act(
        ChallengeView(has_own=False, has_owner=has_owner, is_foreign=is_foreign), stood_s=stood_s
    )
    assert missing is not ChallengeAct.EXPEL
    foreign = next_challenge_act(ChallengeView(has_own=True, has_owner=has_owner, is_foreign=True), stood_s=stood_s)
    assert foreign is ChallengeAct.GIVE_UP
