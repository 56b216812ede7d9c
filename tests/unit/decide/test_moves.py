"""Planned moves, drains, returns, freezes, case by case. What holds for every snapshot: `tests/property/decide`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.decide.made_up import (
    GIB,
    NOW_MS,
    Part,
    cluster,
    coordinated_by,
    frozen,
    known,
    lost,
    new_role,
    owned,
    proven,
    put,
    record,
    role,
    session,
    up,
    with_settings,
)

from holdfast.decide.coordination import Plan, plan
from holdfast.decide.fencing import storm_guard
from holdfast.decide.orders import cancel_move, order_move, preview_drain
from holdfast.model.ids import NetworkName, NodeName, RoleName
from holdfast.model.nodes import MemoryTarget, Return
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Failback, FailbackPolicy, Label, MoveMethod, Phase, Priority, Wanted
from holdfast.model.settings import Settings

A, B, C = (NodeName(name) for name in "abc")
WEB = RoleName("web")
HOUR_MS = 3_600_000
AT_ONCE = Failback(policy=FailbackPolicy.AT_ONCE)


def decide(*parts: Part, now_ms: int = NOW_MS) -> Plan:
    return plan(cluster(coordinated_by("z"), *parts), now_ms)


def moves(decided: Plan) -> dict[str, str | None]:
    return {change.role: change.after.target for change in decided.changes if change.after.is_leaving}


def codes(decided: Plan, name: str = "web") -> list[ReasonCode]:
    (change,) = [change for change in decided.changes if change.role == name]
    return [reason.code for reason in change.after.reasons]


def moving(source: str, target: str, owner: str | None = None, **changes: Any) -> Part:
    """A role on the move; `owner` None: between the two."""
    made = owned("web", owner, changes.pop("phase", Phase.ONLINE))
    return record(replace(made, target=NodeName(target), source=NodeName(source), last_owner=A, **changes))


def test_a_drain_moves_by_priority_and_no_more_at_once_than_it_may() -> None:
    parts = (
        with_settings(Settings(moves_at_once=2)),
        known("a", is_paused=True, is_draining=True),
        up("a"),
        up("b"),
        role("low", owner="a", priority=Priority.LOW),
        role("high", owner="a", priority=Priority.HIGH),
        role("medium", owner="a"),
    )
    assert moves(decide(*parts)) == {"high": "b", "medium": "b"}
    under_way = (*parts, role("web", owner="b"), moving("b", "a", "b"))
    assert moves(decide(*under_way)) == {"high": "b"}
    full = (*under_way, new_role("more"), record(owned("more", "b", target=A, source=B)))
    assert moves(decide(*full)) == {}


def test_no_more_moves_begin_or_end_at_one_node_than_it_may_have() -> None:
    two = with_settings(Settings(moves_at_once=4, moves_per_node=2))
    nodes = known("a", is_paused=True, is_draining=True), up("a"), up("b"), up("c", memory_bytes=6 * GIB)
    roles = [role(f"web{number}", owner="a") for number in range(4)]
    assert moves(decide(two, *nodes, *roles)) == {"web0": "b", "web1": "b"}
    both = (*nodes, known("d", is_paused=True, is_draining=True), up("d"))
    spread = (role("ci", owner="d", preferred_owners=(B,)), role("db", owner="d", preferred_owners=(C,)))
    drained = decide(two, *both, *(role(f"web{n}", owner="a", preferred_owners=(B,)) for n in range(2)), *spread)
    assert moves(drained) == {"ci": "b", "db": "c", "web0": "b"}
    assert moves(decide(two, *both, *spread, moving("a", "c"), role("web", owner="a"), moving("a", "b", "a"))) == {
        "ci": "b",
        "db": "c",
    }


def test_no_more_live_moves_take_one_network_than_it_may_carry() -> None:
    one = with_settings(Settings(moves_per_network=1, saved_state_directory="/saved"))
    near, far = (MemoryTarget(uri="sim://x", network=NetworkName(name)) for name in ("near", "far"))
    draining = known("a", is_paused=True, is_draining=True), up("a", takes_memory=near)
    nodes = (*draining, up("b", takes_memory=near), up("c", takes_memory=far))
    to_b = [role(f"web{n}", owner="a", possible_owners=(B,)) for n in range(2)]
    to_c = role("db", owner="a", possible_owners=(C,))
    assert moves(decide(one, *nodes, *to_b, to_c)) == {"web0": "b", "db": "c"}
    live = replace(owned("ci", "a"), target=B, source=A, method=MoveMethod.LIVE, ordered_ms=NOW_MS)
    under_way = (*nodes, role("ci", owner="a"), record(live), *to_b, to_c)
    assert moves(decide(one, *under_way)) == {"db": "c"}
    quick = record(replace(live, method=MoveMethod.QUICK))
    assert moves(decide(one, *under_way, quick)) == {"web0": "b", "db": "c"}
    saved = [role(f"web{n}", owner="a", move_method=MoveMethod.QUICK, possible_owners=(B,)) for n in range(2)]
    assert moves(decide(one, *nodes, *saved)) == {"web0": "b", "web1": "b"}
    assert moves(decide(one, *under_way, *saved)) == {"db": "c", "web0": "b", "web1": "b"}


def test_live_moves_to_nodes_that_do_not_name_their_network_count_together() -> None:
    one = with_settings(Settings(moves_per_network=1))
    takes = MemoryTarget(uri="sim://x")
    nodes = known("a", is_paused=True, is_draining=True), *(up(name, takes_memory=takes) for name in "abc")
    roles = role("web", owner="a", possible_owners=(B,)), role("db", owner="a", possible_owners=(C,))
    assert moves(decide(one, *nodes, *roles)) == {"db": "c"}
    preview = preview_drain(cluster(one, *nodes, *roles), A, NOW_MS)
    assert preview.moves == {"web": "b", "db": "c"}


def test_a_move_that_failed_is_tried_again_after_a_minute_and_not_before() -> None:
    parts = known("a", is_paused=True, is_draining=True), up("a"), up("b"), role("web", owner="a")
    failed = record(replace(owned("web", "a"), failed_ms=NOW_MS - 59_000))
    early = decide(*parts, failed)
    assert (moves(early), early.look_again_ms) == ({}, 1000)
    assert moves(decide(*parts, failed, now_ms=NOW_MS + 1000)) == {"web": "b"}
    preview = preview_drain(cluster(*parts, failed), A, NOW_MS)
    assert preview.moves == {"web": "b"}


def test_what_waits_for_a_busy_node_takes_no_room_there() -> None:
    one = with_settings(Settings(moves_at_once=4, moves_per_node=1))
    draining = (
        known("a", is_paused=True, is_draining=True),
        up("a"),
        known("d", is_paused=True, is_draining=True),
        up("d"),
    )
    large = role("large", owner="d", memory_bytes=5 * GIB, preferred_owners=(B,), possible_owners=(B,))
    first = role("first", owner="a", priority=Priority.HIGH, possible_owners=(B,))
    third = role("third", owner="d", memory_bytes=4 * GIB, possible_owners=(B,))
    decided = decide(one, *draining, up("b"), up("c", memory_bytes=GIB), first, large, third)
    assert (moves(decided), decided.staying) == ({"first": "b"}, {})


def test_a_move_that_is_blocked_holds_no_other_one_up() -> None:
    parts = (
        with_settings(Settings(moves_at_once=1)),
        known("a", is_paused=True, is_draining=True),
        *(up(name) for name in "ab"),
        new_role("web", possible_owners=("c",)),
        moving("c", "c"),
    )
    decided = decide(*parts, known("c"), role("other", owner="a"))
    assert decided.blocked.keys() == {"web"}
    assert moves(decided) == {"other": "b"}
    assert moves(decide(*parts, up("c"), role("other", owner="a"))) == {}


def test_a_drain_names_what_stays_and_why() -> None:
    parts = (known("a", is_paused=True, is_draining=True), up("a"), up("b", memory_bytes=GIB), role("web", owner="a"))
    assert codes(decide(*parts)) == [ReasonCode.DRAINED, ReasonCode.ONLY_CANDIDATE]
    stays = decide(*parts, role("other", owner="b"))
    assert moves(stays) == {}
    assert [why.code for why in stays.staying[WEB]] == [ReasonCode.NO_CANDIDATE, ReasonCode.MEMORY_SHORT]


@pytest.mark.parametrize("phase", [Phase.ASSIGNED, Phase.STARTING, Phase.ONLINE])
def test_a_drain_moves_a_role_that_is_only_starting_too(phase: Phase) -> None:
    parts = (known("a", is_paused=True, is_draining=True), up("a"), up("b"), role("web", owner="a", phase=phase))
    assert moves(decide(*parts)) == {"web": "b"}


def test_a_drain_leaves_a_role_alone_that_is_being_stopped() -> None:
    drained = (known("a", is_paused=True, is_draining=True), up("a"), up("b"))
    assert moves(decide(*drained, role("web", owner="a", wanted=Wanted.OFFLINE))) == {}
    assert moves(decide(*drained, role("web", owner="a", phase=Phase.STOPPING))) == {}


def test_the_preview_of_a_drain_has_no_limit_and_names_moves_under_way() -> None:
    roles = [role(f"r{index}", owner="a") for index in range(6)]
    snapshot = cluster(up("a"), up("b", memory_bytes=64 * GIB, vcpus=16), *roles, role("web", owner="a"))
    under_way = cluster(lambda _: snapshot, moving("a", "b", "a"))
    assert preview_drain(under_way, A, NOW_MS).moves.keys() == {*(f"r{index}" for index in range(6)), "web"}


def test_roles_that_hard_labels_bind_leave_together_or_not_at_all() -> None:
    tied: dict[str, Any] = {"affinity": (Label(name="pair", is_hard=True),)}
    drained = (known("a", is_paused=True, is_draining=True), up("a"), up("c", memory_bytes=2 * GIB))
    pair = (role("app", owner="a", **tied), role("db", owner="a", **tied))
    assert moves(decide(*drained, *pair)) == {"app": "c", "db": "c"}
    stays = decide(*drained, *pair, role("other", owner="c"))
    assert moves(stays) == {}
    assert stays.staying.keys() == {"app", "db"}


def test_bound_roles_that_other_hard_labels_keep_apart_stay() -> None:
    torn: dict[str, Any] = {
        "affinity": (Label(name="pair", is_hard=True),),
        "anti_affinity": (Label(name="apart", is_hard=True),),
    }
    drained = (known("a", is_paused=True, is_draining=True), up("a"), up("c"))
    stays = decide(*drained, role("app", owner="a", **torn), role("db", owner="a", **torn))
    assert moves(stays) == {}
    assert [why.code for why in stays.staying[RoleName("app")]] == [ReasonCode.MUST_AVOID]


def test_a_failback_takes_bound_roles_along_only_when_none_of_them_prefers_to_stay() -> None:
    def tied(preferred: str) -> dict[str, Any]:
        pair = (Label(name="pair", is_hard=True),)
        return {"affinity": pair, "preferred_owners": (preferred,), "failback": AT_ONCE}

    parts = (up("a"), up("b"), role("app", owner="b", **tied("a")))
    assert moves(decide(*parts, role("db", owner="b", **tied("b")))) == {}
    assert moves(decide(*parts, role("db", owner="b", **tied("a")))) == {"app": "a", "db": "a"}


def test_a_role_on_the_move_keeps_others_away_from_both_ends() -> None:
    apart: dict[str, Any] = {"anti_affinity": (Label(name="web", is_hard=True),)}
    parts = (up("a"), up("b"), new_role("web", **apart), moving("a", "b", "a"))
    assert decide(*parts, new_role("other", **apart)).blocked.keys() == {"other"}
    assert decide(*parts, up("c"), new_role("other", **apart)).changes[0].after.owner == C


def test_a_bound_role_follows_one_that_is_on_its_way_already() -> None:
    tied: dict[str, Any] = {"affinity": (Label(name="pair", is_hard=True),)}
    drained = (known("a", is_paused=True, is_draining=True), up("a"), up("b"), up("c", memory_bytes=64 * GIB))
    parts = (*drained, new_role("web", **tied), moving("a", "b", "a"), role("db", owner="a", **tied))
    assert moves(decide(*parts)) == {"db": "b"}


def test_a_unit_larger_than_the_limit_moves_when_nothing_else_does() -> None:
    tied: dict[str, Any] = {"affinity": (Label(name="pair", is_hard=True),)}
    parts = (
        with_settings(Settings(moves_at_once=1)),
        known("a", is_paused=True, is_draining=True),
        up("a"),
        up("b"),
        role("app", owner="a", **tied),
        role("db", owner="a", **tied),
    )
    assert moves(decide(*parts)) == {"app": "b", "db": "b"}


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ((), (), "b"),
        ((Label(name="web", is_hard=True),), (Label(name="web"),), "c"),
        ((Label(name="web"),), (Label(name="web", is_hard=True),), "c"),
        ((Label(name="web"),), (Label(name="web"),), "c"),
        ((Label(name="web", is_hard=True),), (Label(name="db", is_hard=True),), "b"),
    ],
)
def test_anti_affinity_keeps_roles_apart(here: tuple[Label, ...], there: tuple[Label, ...], expected: str) -> None:
    parts = (up("b", memory_bytes=10 * GIB), up("c"), role("one", owner="b", anti_affinity=there))
    (change,) = decide(*parts, new_role("web", anti_affinity=here, memory_bytes=0)).changes
    assert change.after.owner == expected


def test_a_soft_label_gives_way_and_a_hard_one_blocks() -> None:
    parts = (up("b"), role("one", owner="b", anti_affinity=(Label(name="web"),)))
    assert decide(*parts, new_role("web", anti_affinity=(Label(name="web"),))).changes
    blocked = decide(*parts, new_role("web", anti_affinity=(Label(name="web", is_hard=True),))).blocked[WEB]
    assert [why.code for why in blocked] == [ReasonCode.NO_CANDIDATE, ReasonCode.MUST_AVOID]


def test_labels_count_among_roles_of_the_same_plan() -> None:
    apart: dict[str, Any] = {"anti_affinity": (Label(name="web", is_hard=True),)}
    decided = decide(up("a"), up("b"), *(new_role(f"r{index}", **apart) for index in range(3)))
    assert sorted(change.after.owner or "" for change in decided.changes) == ["a", "b"]
    assert decided.blocked.keys() == {"r2"}


def test_a_group_fails_over_to_a_node_with_room_for_all_of_it() -> None:
    tied: dict[str, Any] = {"affinity": (Label(name="pair", is_hard=True),), "preferred_owners": ("b",)}
    parts = (lost("a"), proven("a"), up("b", memory_bytes=GIB), up("c", memory_bytes=2 * GIB))
    decided = decide(*parts, role("app", owner="a", **tied), role("db", owner="a", **tied))
    assert {change.role: change.after.owner for change in decided.changes} == {"app": "c", "db": "c"}


def test_a_role_waits_for_the_one_it_must_be_together_with() -> None:
    tied: dict[str, Any] = {"affinity": (Label(name="pair", is_hard=True),)}
    decided = decide(lost("a"), up("b"), role("app", owner="a", **tied), new_role("web", **tied))
    assert [why.code for why in decided.blocked[WEB]] == [
        ReasonCode.NO_CANDIDATE,
        ReasonCode.NODE_ABSENT,
        ReasonCode.MUST_JOIN,
    ]


def sited(name: str, site: str | None, **changes: Any) -> tuple[Part, Part]:
    return known(name, site=site), up(name, **changes)


def test_sites_count_after_preferred_owners_and_before_room() -> None:
    parts = (*sited("a", "west"), *sited("b", "east", memory_bytes=4 * GIB), *sited("c", "east"), *sited("d", None))
    (change,) = decide(*parts, new_role("web", preferred_site="east")).changes
    assert change.after.owner == "c"
    assert [why.code for why in change.after.reasons] == [ReasonCode.PREFERRED_SITE, ReasonCode.MOST_FREE]
    (preferred,) = decide(*parts, new_role("web", preferred_site="east", preferred_owners=("a",))).changes
    assert preferred.after.owner == "a"


def test_a_failover_stays_in_the_site_while_it_can() -> None:
    gone = (known("a", site="east"), lost("a"), proven("a"))
    parts = (*gone, *sited("b", "west", memory_bytes=64 * GIB), *sited("c", "east"))
    assert decide(*parts, role("web", owner="a")).changes[0].after.owner == "c"
    assert decide(*parts, role("web", owner="a", preferred_site="west")).changes[0].after.owner == "b"


@pytest.mark.parametrize(
    ("hour", "returns", "again_ms"),
    [(21, False, HOUR_MS), (22, True, None), (3, True, None), (4, False, 18 * HOUR_MS), (23, True, None)],
)
def test_failback_within_a_window(hour: int, returns: bool, again_ms: int | None) -> None:
    now_ms = NOW_MS - NOW_MS % (24 * HOUR_MS) + hour * HOUR_MS
    window = Failback(policy=FailbackPolicy.WINDOW, from_hour=22, until_hour=4)
    since = put("sessions", A, session("a", started_at_ms=now_ms - 24 * HOUR_MS))
    decided = decide(
        up("a"), since, up("b"), role("web", owner="b", preferred_owners=("a",), failback=window), now_ms=now_ms
    )
    assert moves(decided) == ({"web": "a"} if returns else {})
    assert decided.look_again_ms == again_ms


def test_failback_waits_until_the_node_has_been_up_for_a_while() -> None:
    back = put("sessions", A, session("a", started_at_ms=NOW_MS - 59_000))
    parts = (up("a"), back, up("b"), role("web", owner="b", preferred_owners=("a",), failback=AT_ONCE))
    waits = decide(*parts)
    assert (moves(waits), waits.look_again_ms) == ({}, 1000)
    assert moves(decide(*parts, now_ms=NOW_MS + 1000)) == {"web": "a"}


def test_failback_goes_to_the_best_that_can_and_never_to_a_worse_one() -> None:
    wish: dict[str, Any] = {"preferred_owners": ("a", "b", "c"), "failback": AT_ONCE}
    assert moves(decide(known("a"), up("b"), up("c"), role("web", owner="c", **wish))) == {"web": "b"}
    assert moves(decide(known("a", is_paused=True), up("a"), up("b"), up("c"), role("web", owner="b", **wish))) == {}
    assert moves(decide(up("a", memory_bytes=0), up("b"), up("c"), role("web", owner="c", **wish))) == {"web": "b"}


@pytest.mark.parametrize(
    ("returns", "failback", "expected"),
    [
        (Return.NOW, Failback(), {"web": "a"}),
        (Return.NOW, AT_ONCE, {"web": "a"}),
        (Return.POLICY, Failback(), {}),
        (Return.POLICY, AT_ONCE, {"web": "a"}),
        (Return.NEVER, AT_ONCE, {}),
    ],
)
def test_what_a_drain_moved_comes_back_as_the_resumption_says(
    returns: Return, failback: Failback, expected: dict[str, str]
) -> None:
    drained = record(owned("web", "b", drained_from=A))
    parts = (known("a", returns=returns), up("a"), up("b"))
    assert moves(decide(*parts, new_role("web", preferred_owners=("a",), failback=failback), drained)) == expected


def test_a_role_on_the_move_is_assigned_to_its_target() -> None:
    (change,) = decide(up("a"), up("b"), up("c", memory_bytes=64 * GIB), new_role("web"), moving("a", "b")).changes
    after = change.after
    assert (after.phase, after.owner, after.target, after.source, after.epoch) == (Phase.ASSIGNED, B, B, A, 2)


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((lost("b"), up("c")), C),
        ((up("b", not_ready="no guard"), up("c")), C),
        ((lost("b"),), A),
        ((up("b", memory_bytes=0), up("c", memory_bytes=0)), A),
    ],
)
def test_safe_5_a_target_that_is_gone_is_replaced_and_the_way_back_is_the_last(
    parts: tuple[Part, ...], expected: NodeName, paused: bool
) -> None:
    home = (known("a", is_paused=paused, is_draining=paused), up("a", memory_bytes=64 * GIB))
    (change,) = decide(*home, *parts, new_role("web"), moving("a", "b")).changes
    assert (change.after.owner, change.after.target) == (expected, expected)


def test_a_target_that_did_not_take_it_up_is_not_tried_again() -> None:
    late = moving("a", "b", "b", phase=Phase.ASSIGNED)
    (change,) = decide(up("a"), up("b"), new_role("web"), late, now_ms=NOW_MS + 10_000).changes
    assert (change.after.owner, change.after.failed_on) == (A, (B,))


def test_a_target_that_is_gone_before_it_took_it_up_is_not_blamed() -> None:
    gone = moving("a", "b", "b", phase=Phase.ASSIGNED)
    (change,) = decide(up("a"), lost("b"), new_role("web"), gone, now_ms=NOW_MS + 10_000).changes
    assert (change.after.owner, change.after.failed_on) == (A, ())
    back = record(replace(change.after, phase=Phase.VACANT, owner=None, incarnation=None, target=B))
    assert decide(up("a"), up("b", 2), new_role("web"), back).changes[0].after.owner == B


def test_the_room_of_a_role_on_the_move_is_kept_at_both_ends() -> None:
    small: dict[str, Any] = {"memory_bytes": GIB}
    parts = (up("a", **small), up("b", **small), new_role("web"), moving("a", "b"))
    decided = decide(*parts, new_role("urgent", priority=Priority.HIGH))
    assert [(change.role, change.after.owner) for change in decided.changes] == [("web", B)]
    assert decided.blocked.keys() == {"urgent"}


def test_a_move_whose_target_is_gone_does_not_take_the_room_of_another_one() -> None:
    small: dict[str, Any] = {"memory_bytes": GIB}
    urgent = record(owned("urgent", None, target=C, source=C))
    parts = (lost("c"), up("a", **small), up("b", **small), new_role("web"), moving("a", "b"))
    decided = decide(*parts, new_role("urgent", priority=Priority.HIGH), urgent)
    assert [(change.role, change.after.owner) for change in decided.changes] == [("web", B)]
    assert decided.blocked.keys() == {"urgent"}


def test_a_move_that_nobody_wants_any_more_is_ended() -> None:
    (change,) = decide(up("a"), up("b"), new_role("web", wanted=Wanted.OFFLINE), moving("a", "b")).changes
    assert (change.after.phase, change.after.target, change.after.source) == (Phase.VACANT, None, None)


def test_a_role_without_autostart_is_moved_to_its_end() -> None:
    (change,) = decide(up("a"), up("b"), new_role("web", priority=Priority.NO_AUTOSTART), moving("a", "b")).changes
    assert change.after.owner == B


def test_a_move_is_finished_although_the_role_failed_over_often() -> None:
    often = (NOW_MS - 3, NOW_MS - 2, NOW_MS - 1)
    (change,) = decide(up("a"), up("b"), new_role("web"), moving("a", "b", failovers=often)).changes
    assert change.after.owner == B


def test_a_frozen_cluster_leaves_a_proven_role_and_a_failed_one_where_they_are() -> None:
    parts = (frozen(), up("a"), lost("b"), proven("b"))
    for old in (role("web", owner="b"), role("web")):
        decided = decide(*parts, old)
        assert decided.changes == ()
        assert decided.blocked[WEB][-1].code is ReasonCode.FROZEN


def test_in_a_frozen_cluster_what_a_person_asks_is_done() -> None:
    parts = (frozen(), up("a"), lost("b"), proven("b"))
    assert decide(*parts, new_role("web")).changes[0].after.owner == A
    asked = decide(*parts, role("web", owner="b"), new_role("web", generation=2), record(owned("web", "b")))
    assert asked.changes[0].after.owner == A
    assert decide(*parts, new_role("web"), moving("a", "b")).changes[0].after.owner == A
    drained = (frozen(), known("a", is_paused=True, is_draining=True), up("a"), up("c"))
    assert moves(decide(*drained, role("web", owner="a"))) == {"web": "c"}


def test_in_a_frozen_cluster_nothing_fails_back_and_nobody_is_ordered_off() -> None:
    back = (up("a"), up("b"), role("web", owner="b", preferred_owners=("a",), failback=AT_ONCE))
    assert moves(decide(*back)) == {"web": "a"}
    assert moves(decide(frozen(), *back)) == {}
    storm = storm_guard(cluster(up("a"), up("b"), lost("c"), frozen()), C)
    assert storm is not None
    assert storm.code is ReasonCode.FROZEN


def test_an_order_without_a_target_takes_the_best_other_node_and_forgets_the_drain() -> None:
    snapshot = cluster(up("a"), up("b"), up("c", memory_bytes=64 * GIB), new_role("web"))
    here = cluster(lambda _: snapshot, record(owned("web", "a", drained_from=B)))
    (move,) = order_move(here, WEB, None, NOW_MS).moves
    assert (move.target, move.after.source, move.after.drained_from) == (C, A, None)
    assert move.after.reasons[0].code is ReasonCode.MOVE_REQUESTED


@pytest.mark.parametrize(
    ("parts", "to", "code"),
    [
        ((role("web", owner="a"),), A, ReasonCode.ALREADY_HERE),
        ((role("web", owner="a", wanted=Wanted.OFFLINE),), B, ReasonCode.NOT_RUNNING),
        ((role("web"),), B, ReasonCode.NOT_RUNNING),
        ((role("web", owner="a", phase=Phase.STOPPING),), B, ReasonCode.NOT_RUNNING),
        ((role("web", owner="d"),), B, ReasonCode.NOT_RUNNING),
        ((role("web", owner="a", possible_owners=("a",)),), B, ReasonCode.NOT_POSSIBLE_OWNER),
        ((role("web", owner="a"), known("b", is_paused=True)), B, ReasonCode.NODE_PAUSED),
        (
            (new_role("web"), moving("b", "a", "a", phase=Phase.STARTING), known("b", is_paused=True)),
            B,
            ReasonCode.NODE_PAUSED,
        ),
    ],
)
def test_an_order_that_cannot_be_carried_out_says_why(parts: tuple[Part, ...], to: NodeName, code: ReasonCode) -> None:
    order = order_move(cluster(up("a"), up("b"), known("d"), *parts), WEB, to, NOW_MS)
    assert order.moves == ()
    assert code in {why.code for why in order.against}


def test_a_move_may_be_turned_to_another_node_on_its_way() -> None:
    snapshot = cluster(up("a"), up("b"), up("c"), new_role("web"), moving("a", "b", "a", phase=Phase.STOPPING))
    (move,) = order_move(snapshot, WEB, C, NOW_MS).moves
    assert (move.after.target, move.after.source, move.after.phase) == (C, A, Phase.STOPPING)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (moving("a", "b", "a"), (Phase.ONLINE, None)),
        (moving("a", "b", "a", phase=Phase.STARTING), (Phase.STARTING, None)),
        (moving("a", "b", "a", phase=Phase.STOPPING), (Phase.STOPPING, A)),
        (moving("a", "b"), (Phase.VACANT, A)),
        (moving("a", "b", "b", phase=Phase.STARTING), None),
        (record(owned("web", "a")), None),
    ],
)
def test_a_cancelled_move_ends_where_it_began(part: Part, expected: tuple[Phase, NodeName | None] | None) -> None:
    after = cancel_move(cluster(up("a"), up("b"), new_role("web"), part), WEB)
    assert expected == (None if after is None else (after.phase, after.target))


@pytest.mark.parametrize(
    ("others", "waits"),
    [
        ((known("c"),), True),
        ((put("sessions", C, session("c")),), True),
        ((up("c"),), False),
        ((lost("c"),), False),
    ],
)
@pytest.mark.parametrize("old", [new_role("web"), role("web", owner="d")])
def test_placement_waits_a_moment_for_nodes_that_are_about_to_come_up(
    others: tuple[Part, ...], waits: bool, old: Part
) -> None:
    fresh = put("sessions", A, session("a", started_at_ms=NOW_MS - 500))
    parts = (up("a"), fresh, up("b"), lost("d"), proven("d"), known("c"), *others, old)
    decided = decide(*parts)
    assert bool(decided.changes) is not waits
    assert decided.waiting.keys() == ({WEB} if waits else set())
    assert decided.look_again_ms == (1500 if waits else None)
    assert decide(*parts, now_ms=NOW_MS + 1500).changes


def test_a_cluster_that_has_been_up_for_longer_never_waits() -> None:
    assert decide(up("a"), known("c"), new_role("web")).changes
    ahead = put("sessions", A, session("a", started_at_ms=NOW_MS + 60_000))
    assert decide(up("a"), ahead, known("c"), new_role("web")).changes


def test_a_role_on_the_move_waits_for_nobody() -> None:
    fresh = put("sessions", A, session("a", started_at_ms=NOW_MS - 500))
    assert decide(up("a"), fresh, up("b"), known("c"), new_role("web"), moving("a", "b")).changes


def test_a_role_that_nobody_can_take_names_some_nodes_and_counts_the_rest() -> None:
    nodes = [known(f"n{index:02}") for index in range(20)]
    blocked = decide(*nodes, new_role("web")).blocked[WEB]
    assert [why.code for why in blocked[:2]] == [ReasonCode.NO_CANDIDATE, ReasonCode.MORE_NODES]
    assert "4 more nodes" in str(blocked[1])
    assert len(blocked) == 18
