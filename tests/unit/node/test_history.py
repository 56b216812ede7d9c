"""The moves of a role as its events tell them."""

from __future__ import annotations

from typing import Any

from tests.unit.decide.made_up import NOW_MS

from holdfast.model.events import Event, EventCode
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import MoveMethod, Phase
from holdfast.model.status import MoveOutcome, PastMove
from holdfast.node.history import moves_of

WEB = RoleName("web")
ASKED = because(ReasonCode.MOVE_REQUESTED, "b")
LIVE, QUICK, RESTART = MoveMethod.LIVE, MoveMethod.QUICK, MoveMethod.RESTART


def at(ms: int, code: EventCode, node: str, *reasons: Reason, **changes: Any) -> Event:
    if isinstance(changes.get("target"), str):
        changes["target"] = NodeName(changes["target"])
    subject = changes.pop("subject", "web")
    return Event(
        code=code,
        subject=subject,
        at_ms=NOW_MS + ms,
        monotonic_ms=ms,
        node=NodeName(node),
        reasons=reasons,
        **changes,
    )


ONLINE_ON_A = at(0, EventCode.ROLE_ONLINE, "a", phase=Phase.ONLINE)


def ordered(method: MoveMethod, ms: int = 1000) -> Event:
    """Answered by node c, which has nothing to do with the role."""
    return at(ms, EventCode.ROLE_MOVING, "c", ASKED, target="b", phase=Phase.ONLINE, method=method)


def only(*events: Event) -> PastMove:
    (move,) = moves_of(WEB, events)
    return move


def test_a_quick_move_that_arrived() -> None:
    move = only(
        ONLINE_ON_A,
        ordered(QUICK),
        at(1100, EventCode.ROLE_MOVING, "a", ASKED, target="b", phase=Phase.SAVING, method=QUICK),
        at(2000, EventCode.ROLE_OFFLINE, "a", target="b", phase=Phase.VACANT, method=QUICK),
        at(2100, EventCode.ROLE_ASSIGNED, "c", target="b", phase=Phase.ASSIGNED, method=QUICK),
        at(2200, EventCode.ROLE_STARTING, "b", target="b", phase=Phase.STARTING, method=QUICK),
        at(3000, EventCode.ROLE_ONLINE, "b", phase=Phase.ONLINE),
    )
    assert (move.source, move.target, move.owner, move.outcome) == ("a", "b", "b", MoveOutcome.ARRIVED)
    assert (move.method, move.at_ms, move.total_ms, move.pause_ms) == ("quick", NOW_MS + 1000, 2000, 1900)
    assert (move.why, move.trouble) == ((str(ASKED),), ())


def test_a_live_move_stands_still_from_the_hand_over() -> None:
    move = only(
        ONLINE_ON_A,
        ordered(LIVE),
        at(1100, EventCode.ROLE_MOVING, "a", target="b", phase=Phase.MIGRATING, method=LIVE),
        at(4000, EventCode.ROLE_STARTING, "a", target="b", phase=Phase.STARTING, method=LIVE),
        at(4030, EventCode.ROLE_ONLINE, "b", phase=Phase.ONLINE),
    )
    assert (move.outcome, move.total_ms, move.pause_ms) == (MoveOutcome.ARRIVED, 3030, 30)


def test_a_live_move_that_failed_left_the_role_where_it_was() -> None:
    failed = because(ReasonCode.MOVE_FAILED, "b", method="live", detail="no route")
    move = only(
        ONLINE_ON_A,
        ordered(LIVE),
        at(1100, EventCode.ROLE_MOVING, "a", target="b", phase=Phase.MIGRATING, method=LIVE),
        at(2000, EventCode.ROLE_ONLINE, "a", failed, phase=Phase.ONLINE),
    )
    assert (move.outcome, move.owner, move.trouble) == (MoveOutcome.RETURNED, "a", (str(failed),))
    assert move.pause_ms is None


def test_a_live_move_that_went_on_as_a_quick_one_says_both() -> None:
    failed = because(ReasonCode.MOVE_FAILED, "b", method="live", detail="no route")
    move = only(
        ONLINE_ON_A,
        ordered(LIVE),
        at(1500, EventCode.ROLE_MOVING, "a", failed, target="b", phase=Phase.ONLINE, method=QUICK),
        at(1600, EventCode.ROLE_MOVING, "a", target="b", phase=Phase.SAVING, method=QUICK),
        at(3000, EventCode.ROLE_ONLINE, "b", phase=Phase.ONLINE),
    )
    assert (move.method, move.outcome, move.trouble) == ("quick", MoveOutcome.ARRIVED, (str(failed),))


def test_a_move_whose_target_died_went_elsewhere() -> None:
    move = only(
        ONLINE_ON_A,
        ordered(RESTART),
        at(1100, EventCode.ROLE_STOPPING, "a", target="b", phase=Phase.STOPPING, method=RESTART),
        at(1900, EventCode.ROLE_ASSIGNED, "c", target="d", phase=Phase.ASSIGNED, method=RESTART),
        at(5000, EventCode.ROLE_ONLINE, "d", phase=Phase.ONLINE),
    )
    assert (move.target, move.owner, move.outcome) == ("b", "d", MoveOutcome.ELSEWHERE)


def test_a_move_that_was_cancelled_before_anything_was_done_is_over() -> None:
    cancelled = because(ReasonCode.MOVE_CANCELLED, "a")
    events = [ONLINE_ON_A, ordered(LIVE), at(1500, EventCode.ROLE_CHANGED, "c", cancelled, phase=Phase.ONLINE)]
    first, second = moves_of(WEB, [*events, ordered(QUICK, 9000)])
    assert (first.outcome, first.owner, first.trouble) == (MoveOutcome.RETURNED, "a", (str(cancelled),))
    assert (second.outcome, second.owner, second.total_ms) == (MoveOutcome.UNDER_WAY, None, None)


def test_a_move_whose_beginning_is_forgotten_takes_its_source_from_who_stops_it() -> None:
    move = only(
        ordered(RESTART),
        at(1100, EventCode.ROLE_STOPPING, "a", target="b", phase=Phase.STOPPING, method=RESTART),
        at(5000, EventCode.ROLE_ONLINE, "b", phase=Phase.ONLINE),
    )
    assert (move.source, move.outcome) == ("a", MoveOutcome.ARRIVED)


def test_failovers_and_other_roles_are_no_moves() -> None:
    failover = (
        ONLINE_ON_A,
        at(1000, EventCode.ROLE_ASSIGNED, "c", target="b", phase=Phase.ASSIGNED),
        at(2000, EventCode.ROLE_ONLINE, "b", phase=Phase.ONLINE),
        at(3000, EventCode.ROLE_MOVING, "c", target="b", phase=Phase.ONLINE, method=LIVE, subject="db"),
    )
    assert moves_of(WEB, failover) == ()
