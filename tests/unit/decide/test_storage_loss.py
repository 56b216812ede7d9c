"""A role whose node lost one of its disks: it moves if it is to, and if somebody else reaches all of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.decide.made_up import NOW_MS, cluster, frozen, node_spec, owned, put, record, role, role_spec, up

from holdfast.decide.balance import balance
from holdfast.decide.coordination import Change, plan
from holdfast.decide.explain import explain_role
from holdfast.decide.lifecycle import next_step
from holdfast.decide.steps import Act, Step
from holdfast.model.disks import DiskHealth, DiskState
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import DiskName, NodeName, RoleName
from holdfast.model.nodes import GuestObservation
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.roles import Failback, FailbackPolicy, Label, MoveMethod, Phase, StorageLoss, Wanted
from holdfast.model.settings import Settings

ONE, TWO = DiskName("one"), DiskName("two")
READY = DiskHealth(state=DiskState.READY, is_steady=True)
BACK = DiskHealth(state=DiskState.READY)
OUT = DiskHealth(state=DiskState.UNREACHABLE)
LOST = DiskHealth(state=DiskState.UNREACHABLE, is_lost=True)
HERE = {ONE: READY, TWO: LOST}
THERE = {ONE: READY, TWO: READY}
MOVES: dict[str, Any] = {"disks": (ONE, TWO), "disk_paths": (), "on_storage_loss": StorageLoss.MOVE}


def changes(*parts: Any, here: Any = HERE, there: Any = THERE, phase: Phase = Phase.ONLINE, **role_is: Any) -> Any:
    nodes = up("a", disks=here), up("b", disks=there)
    return plan(cluster(*nodes, role("web", owner="a", phase=phase, **(MOVES | role_is)), *parts), NOW_MS).changes


def test_it_moves_by_restart_to_a_node_that_reaches_all_its_disks() -> None:
    (change,) = changes()
    assert isinstance(change, Change)
    assert (change.after.owner, change.after.phase, change.after.epoch) == ("a", Phase.ONLINE, 1)
    assert (change.after.target, change.after.method) == ("b", MoveMethod.RESTART)
    assert change.after.reasons[0].code is ReasonCode.STORAGE_LOST
    assert change.after.reasons[0].facts["disk"] == TWO


def test_it_waits_where_nobody_asked_for_a_move() -> None:
    assert changes(on_storage_loss=StorageLoss.WAIT) == ()


def test_nothing_moves_when_nobody_reaches_the_disks() -> None:
    assert changes(there={ONE: READY, TWO: OUT}) == ()
    assert changes(there=HERE) == ()
    assert changes(there={}) == ()


def test_nothing_moves_to_a_node_that_has_only_just_come_back_like_its_own_is_about_to() -> None:
    assert changes(there={ONE: READY, TWO: BACK}) == ()


def test_nothing_moves_before_its_time() -> None:
    assert changes(here={ONE: READY, TWO: OUT}) == ()
    assert changes(here=THERE) == ()


def test_a_drain_goes_on_where_nobody_is_known_to_reach_them_for_long_and_remembers_its_node() -> None:
    draining = put("nodes", NodeName("a"), node_spec("a", is_paused=True, is_draining=True))
    for there, code in ((THERE, ReasonCode.STORAGE_LOST), ({ONE: READY, TWO: BACK}, ReasonCode.DRAINED)):
        (change,) = changes(draining, there=there)
        assert (change.after.target, change.after.drained_from) == ("b", "a")
        assert change.after.reasons[0].code is code


def test_a_frozen_cluster_moves_nothing_by_itself() -> None:
    assert changes(frozen()) == ()


def test_what_is_on_the_move_or_not_wanted_is_left_alone() -> None:
    on_its_way = owned("web", "a", target=NodeName("b"), source=NodeName("a"), method=MoveMethod.QUICK)
    assert changes(record(on_its_way)) == ()
    assert changes(phase=Phase.STOPPING) == ()
    assert changes(wanted=Wanted.OFFLINE) == ()


def test_it_moves_by_restart_however_it_moves_else_for_its_memory_cannot_be_saved() -> None:
    (change,) = changes(move_method=MoveMethod.QUICK)
    assert change.after.method is MoveMethod.RESTART


FOND: dict[str, Any] = {"preferred_owners": ("b",), "failback": Failback(policy=FailbackPolicy.AT_ONCE)}
NO_MORE = {"failovers": 3, "period_s": 21_600, "limit": 3}


def test_it_fails_back_only_to_a_node_that_has_reached_all_its_disks_for_a_while() -> None:
    for there in ({ONE: READY, TWO: BACK}, {ONE: READY}):
        assert changes(here=THERE, there=there, **FOND) == ()
    (change,) = changes(here=THERE, there=THERE, **FOND)
    assert change.after.target == "b"
    assert changes(here=THERE, there={ONE: READY, TWO: BACK}, on_storage_loss=StorageLoss.WAIT, **FOND) != ()


def test_one_that_waits_takes_one_that_moves_along_only_to_disks_that_are_reached_for_a_while() -> None:
    pair: dict[str, Any] = {"affinity": (Label(name="pair", is_hard=True),)}
    beside = role("db", owner="a", **MOVES, **pair)
    for there, moved in (({ONE: READY, TWO: BACK}, []), (THERE, ["db", "web"])):
        begun = changes(beside, here=THERE, there=there, on_storage_loss=StorageLoss.WAIT, **FOND, **pair)
        assert sorted(change.after.role for change in begun) == moved


def test_it_is_balanced_only_to_a_node_that_has_reached_all_its_disks_for_a_while() -> None:
    crowd = [role(f"web{number}", owner="a", **MOVES) for number in range(6)]
    for there, shifts in (({ONE: READY, TWO: BACK}, 0), (THERE, 3)):
        snapshot = cluster(up("a", disks=THERE), up("b", disks=there), *crowd)
        assert len(balance(snapshot, NOW_MS, 20).shifts) == shifts


def test_every_such_move_counts_as_a_failover_and_no_other_one_does() -> None:
    earlier = owned("web", "a", failovers=(NOW_MS - 5,))
    (change,) = changes(record(earlier))
    assert change.after.failovers == (NOW_MS - 5, NOW_MS)
    (back,) = changes(record(earlier), here=THERE, **FOND)
    assert back.after.failovers == (NOW_MS - 5,)


def test_a_loss_that_follows_it_moves_it_as_often_as_it_may_fail_over_and_says_so() -> None:
    """Until a person starts it again, or the first of these is long ago."""
    times = (NOW_MS - 21_600_000, NOW_MS - 2, NOW_MS - 1)
    snapshot = cluster(up("a", disks=HERE), up("b", disks=THERE), role("web", owner="a", **MOVES))
    often = record(owned("web", "a", failovers=times))(snapshot)
    stays = plan(often, NOW_MS)
    assert stays.changes == ()
    assert stays.staying == {"web": (because(ReasonCode.FAILOVER_LIMIT, RoleName("web"), **NO_MORE),)}
    assert explain_role(often, RoleName("web"), NOW_MS, {}).here[-1].code is ReasonCode.FAILOVER_LIMIT
    assert len(plan(record(owned("web", "a", failovers=times[1:]))(snapshot), NOW_MS).changes) == 1
    assert len(plan(often, NOW_MS + 1).changes) == 1


def test_a_role_that_may_not_fail_over_any_more_is_drained_all_the_same() -> None:
    draining = put("nodes", NodeName("a"), node_spec("a", is_paused=True, is_draining=True))
    (change,) = changes(draining, record(owned("web", "a", failovers=(NOW_MS,) * 3)))
    assert change.after.reasons[0].code is ReasonCode.DRAINED
    assert change.after.failovers == (NOW_MS,) * 3


def test_bound_roles_move_as_often_as_the_one_that_may_least() -> None:
    pair: dict[str, Any] = {"affinity": (Label(name="pair", is_hard=True),)}
    beside = role("db", owner="a", **MOVES, **pair)
    assert len(changes(beside, **pair)) == 2
    assert changes(beside, record(owned("db", "a", failovers=(NOW_MS,) * 3)), **pair) == ()


def ending(
    phase: Phase, guest: GuestObservation, *, is_cut_off: bool, code: ReasonCode = ReasonCode.STORAGE_LOST, **role: Any
) -> Step:
    facts: dict[str, Any] = {"disk": TWO, "limit_ms": 15_000} if code is ReasonCode.STORAGE_LOST else {}
    move: dict[str, Any] = {"target": NodeName("b"), "source": NodeName("a"), "method": MoveMethod.RESTART}
    leaving = owned("web", "a", phase, **move, reasons=(because(code, "a", **facts),))
    return next_step(leaving, role_spec("web", **MOVES, **role), guest, NOW_MS, is_cut_off=is_cut_off)


@pytest.mark.parametrize("guest", [GuestObservation.RUNNING, GuestObservation.STALLED, GuestObservation.PAUSED])
def test_the_plug_of_a_guest_without_its_disks_is_pulled_and_every_other_one_is_shut_down(
    guest: GuestObservation,
) -> None:
    for phase in (Phase.ONLINE, Phase.STOPPING):
        assert ending(phase, guest, is_cut_off=True).act is Act.DESTROY
        assert ending(phase, guest, is_cut_off=False).act is Act.TAKE_OFFLINE


def test_a_guest_that_is_stopped_or_moved_for_another_reason_is_shut_down_however_its_disks_are() -> None:
    for phase in (Phase.ONLINE, Phase.STOPPING):
        stopped = ending(phase, GuestObservation.STALLED, is_cut_off=True, wanted=Wanted.OFFLINE)
        drained = ending(phase, GuestObservation.STALLED, is_cut_off=True, code=ReasonCode.DRAINED)
        assert (stopped.act, drained.act) == (Act.TAKE_OFFLINE, Act.TAKE_OFFLINE)


def test_a_guest_without_its_disks_that_is_to_stay_is_left_alone() -> None:
    step = next_step(owned("web", "a"), role_spec("web", **MOVES), GuestObservation.RUNNING, NOW_MS, is_cut_off=True)
    assert step.act is Act.NOTHING


def test_a_time_in_which_a_look_may_not_have_shown_the_loss_is_refused() -> None:
    assert Settings(storage_loss_move_ms=12_000).storage_loss_move_ms == 12_000
    with pytest.raises(InvalidInput, match="a look may hang"):
        Settings(storage_loss_move_ms=11_999)
