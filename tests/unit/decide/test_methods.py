"""How a role moves: nobody gives memory up who was not asked to."""

from __future__ import annotations

import pytest
from tests.unit.decide.made_up import NOW_MS, Part, cluster, coordinated_by, role, up, with_settings

from holdfast.decide.orders import order_move
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import MemoryTarget
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import MoveMethod
from holdfast.model.settings import Settings

WEB, B = RoleName("web"), NodeName("b")
TAKES = MemoryTarget(uri="sim://x")
AUTO, LIVE, QUICK, RESTART = MoveMethod.AUTO, MoveMethod.LIVE, MoveMethod.QUICK, MoveMethod.RESTART
SAVES = with_settings(Settings(saved_state_directory="/saved"))


def ordered(asked: MoveMethod | None, *parts: Part, set_to: MoveMethod = AUTO) -> MoveMethod | tuple[ReasonCode, ...]:
    snapshot = cluster(coordinated_by("a"), *parts, role("web", owner="a", move_method=set_to))
    order = order_move(snapshot, WEB, B, NOW_MS, method=asked)
    if order.moves:
        method = order.moves[0].after.method
        assert method is not None
        return method
    return tuple(reason.code for reason in order.against)


COPIES = (up("a", takes_memory=TAKES), up("b", takes_memory=TAKES))
PLAIN = (up("a"), up("b"))
HALF = (up("a", takes_memory=TAKES), up("b"))


@pytest.mark.parametrize(
    ("asked", "parts", "expected"),
    [
        (AUTO, (*COPIES, SAVES), LIVE),
        (AUTO, (*PLAIN, SAVES), QUICK),
        (AUTO, PLAIN, RESTART),
        (None, (*HALF, SAVES), QUICK),
        (LIVE, COPIES, LIVE),
        (QUICK, (*COPIES, SAVES), QUICK),
        (RESTART, (*COPIES, SAVES), RESTART),
    ],
)
def test_the_best_way_that_there_is(asked: MoveMethod | None, parts: tuple[Part, ...], expected: MoveMethod) -> None:
    assert ordered(asked, *parts) is expected


def test_a_role_moves_as_it_is_set_unless_asked_otherwise() -> None:
    assert ordered(None, *COPIES, SAVES, set_to=QUICK) is QUICK
    assert ordered(LIVE, *COPIES, SAVES, set_to=QUICK) is LIVE


@pytest.mark.parametrize(
    ("asked", "parts", "missing"),
    [
        (LIVE, (*HALF, SAVES), {ReasonCode.COPIES_NO_MEMORY}),
        (QUICK, COPIES, {ReasonCode.NOWHERE_TO_SAVE}),
        (AUTO, HALF, {ReasonCode.COPIES_NO_MEMORY, ReasonCode.NOWHERE_TO_SAVE}),
    ],
)
def test_safe_7_what_cannot_keep_the_memory_is_refused_with_reasons(
    asked: MoveMethod, parts: tuple[Part, ...], missing: set[ReasonCode]
) -> None:
    against = ordered(asked, *parts)
    assert isinstance(against, tuple)
    assert missing <= set(against)
