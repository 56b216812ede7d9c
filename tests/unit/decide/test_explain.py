"""What is said of a role comes from the functions that decide about it."""

from __future__ import annotations

import pytest
from tests.unit.decide.made_up import (
    NOW_MS,
    Part,
    cluster,
    known,
    lost,
    new_role,
    owned,
    proven,
    record,
    role,
    up,
)

from holdfast.decide.coordination import plan
from holdfast.decide.explain import explain_role, why_not_running
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Ownership, Phase, Priority, Wanted

WEB = RoleName("web")
STUCK = because(ReasonCode.NO_FENCE_DEVICE, "b")
FENCING = {NodeName("b"): (STUCK,)}


def said(*parts: Part) -> list[ReasonCode]:
    return [reason.code for reason in why_not_running(cluster(*parts), WEB, NOW_MS, FENCING)]


def because_of(code: ReasonCode, subject: str) -> tuple[Reason, ...]:
    return (because(code, subject, limit_ms=1),)


def served() -> Ownership:
    """The record of a role that nobody owns, after the last request for it was carried out."""
    return owned("web", None, generation=1)


@pytest.mark.parametrize(
    ("parts", "codes"),
    [
        ((up("b"), role("web", owner="b")), []),
        ((up("b"), new_role("web", wanted=Wanted.OFFLINE)), [ReasonCode.WANTED_OFFLINE]),
        ((up("b"), new_role("web", priority=Priority.NO_AUTOSTART), record(served())), [ReasonCode.NO_AUTOSTART]),
        (
            (lost("b"), role("web", owner="b")),
            [ReasonCode.NODE_LOST, ReasonCode.NO_PROOF, ReasonCode.NO_FENCE_DEVICE],
        ),
        (
            (known("b"), role("web", owner="b")),
            [ReasonCode.NODE_ABSENT, ReasonCode.NO_PROOF, ReasonCode.NO_FENCE_DEVICE],
        ),
        ((lost("b"), proven("b"), up("a"), role("web", owner="b")), [ReasonCode.NODE_FENCED]),
        ((known("a"), new_role("web")), [ReasonCode.NO_CANDIDATE, ReasonCode.NODE_ABSENT]),
    ],
)
def test_why_a_role_does_not_run(parts: tuple[Part, ...], codes: list[ReasonCode]) -> None:
    assert said(*parts) == codes


def test_a_role_on_its_way_tells_the_reasons_of_its_record() -> None:
    starting = owned("web", "a", Phase.STARTING, reasons=because_of(ReasonCode.NOT_CLAIMED, "b"))
    assert said(up("a"), new_role("web"), record(starting)) == [ReasonCode.NOT_CLAIMED]


def test_a_role_that_failed_too_often_tells_its_last_failure_too() -> None:
    failed = owned("web", None, failovers=(NOW_MS,) * 4, reasons=because_of(ReasonCode.NOT_CLAIMED, "b"))
    assert said(up("a"), new_role("web"), record(failed)) == [ReasonCode.NOT_CLAIMED, ReasonCode.FAILOVER_LIMIT]


@pytest.mark.parametrize(
    "parts",
    [
        (lost("b"), up("a"), role("web", owner="b")),
        (known("a"), new_role("web")),
        (up("a"), new_role("web"), record(owned("web", None, failovers=(NOW_MS,) * 4))),
    ],
)
def test_explain_says_of_a_blocked_role_what_the_plan_says(parts: tuple[Part, ...]) -> None:
    snapshot = cluster(*parts)
    blocked = plan(snapshot, NOW_MS).blocked[WEB]
    assert blocked == why_not_running(snapshot, WEB, NOW_MS, {})


def test_elsewhere_has_every_other_node_and_an_empty_reason_means_it_could_go_there() -> None:
    snapshot = cluster(up("a"), up("b"), up("c", memory_bytes=1), known("d"), role("web", owner="a"))
    explained = explain_role(snapshot, WEB, NOW_MS, {})
    assert {node: [reason.code for reason in why] for node, why in explained.elsewhere.items()} == {
        "b": [],
        "c": [ReasonCode.MEMORY_SHORT],
        "d": [ReasonCode.NODE_ABSENT],
    }
    assert (explained.owner, explained.phase, explained.not_running) == ("a", Phase.ONLINE, ())
