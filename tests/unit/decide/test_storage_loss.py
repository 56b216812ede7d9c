"""A role whose node lost one of its disks: it moves if it is to, and if somebody else reaches all of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.decide.made_up import NOW_MS, cluster, frozen, node_spec, owned, put, record, role, role_spec, up

from holdfast.decide.coordination import Change, plan
from holdfast.decide.lifecycle import next_step
from holdfast.decide.steps import Act, Step
from holdfast.model.disks import DiskHealth, DiskState
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import DiskName, NodeName
from holdfast.model.nodes import GuestObservation
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import MoveMethod, Phase, StorageLoss, Wanted
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


def ending(phase: Phase, guest: GuestObservation, *, is_cut_off: bool) -> Step:
    leaving = owned("web", "a", phase, target=NodeName("b"), source=NodeName("a"), method=MoveMethod.RESTART)
    return next_step(leaving, role_spec("web", **MOVES), guest, NOW_MS, is_cut_off=is_cut_off)


@pytest.mark.parametrize("guest", [GuestObservation.RUNNING, GuestObservation.STALLED, GuestObservation.PAUSED])
def test_the_plug_of_a_guest_without_its_disks_is_pulled_and_every_other_one_is_shut_down(
    guest: GuestObservation,
) -> None:
    for phase in (Phase.ONLINE, Phase.STOPPING):
        assert ending(phase, guest, is_cut_off=True).act is Act.DESTROY
        assert ending(phase, guest, is_cut_off=False).act is Act.TAKE_OFFLINE


def test_a_guest_without_its_disks_that_is_to_stay_is_left_alone() -> None:
    step = next_step(owned("web", "a"), role_spec("web", **MOVES), GuestObservation.RUNNING, NOW_MS, is_cut_off=True)
    assert step.act is Act.NOTHING


def test_a_time_that_one_request_may_take_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Settings(storage_loss_move_ms=2_999)
