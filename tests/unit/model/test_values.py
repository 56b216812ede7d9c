"""The invariants of the records, and what a snapshot answers."""

from __future__ import annotations

import pytest
from tests.unit.decide.made_up import cluster, known, lost, up, with_settings

from holdfast.model.errors import Conflict, HoldfastError, InvalidInput, OutcomeUnknown, Unavailable
from holdfast.model.ids import Incarnation, NodeName, RoleName
from holdfast.model.roles import Failback, FailbackPolicy, Ownership, Phase
from holdfast.model.settings import Settings
from holdfast.model.snapshot import Snapshot

A = NodeName("a")


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("owner", [None, A])
@pytest.mark.parametrize("incarnation", [None, Incarnation("a-1")])
def test_safe_1_a_role_has_an_owner_exactly_when_it_is_not_vacant(
    phase: Phase, owner: NodeName | None, incarnation: Incarnation | None
) -> None:
    valid = {owner is None, incarnation is None} == {phase is Phase.VACANT}
    if valid:
        Ownership(role=RoleName("web"), phase=phase, owner=owner, incarnation=incarnation)
        return
    with pytest.raises(ValueError, match="web"):
        Ownership(role=RoleName("web"), phase=phase, owner=owner, incarnation=incarnation)


@pytest.mark.parametrize(("target", "source"), [(A, None), (None, A)])
def test_a_move_has_a_target_and_a_source(target: NodeName | None, source: NodeName | None) -> None:
    with pytest.raises(ValueError, match="web"):
        Ownership(role=RoleName("web"), target=target, source=source)


def test_a_role_is_leaving_only_while_its_owner_is_not_where_it_goes() -> None:
    here = {"role": RoleName("web"), "phase": Phase.ONLINE, "owner": A, "incarnation": Incarnation("a-1"), "source": A}
    assert Ownership(**here, target=NodeName("b")).is_leaving  # type: ignore[arg-type]
    assert not Ownership(**here, target=A).is_leaving  # type: ignore[arg-type]
    assert not Ownership(role=RoleName("web"), target=A, source=A).is_leaving


@pytest.mark.parametrize(("from_hour", "until_hour"), [(-1, 3), (3, 24), (5, 5)])
def test_a_window_has_hours_of_a_day_and_a_length(from_hour: int, until_hour: int) -> None:
    with pytest.raises(InvalidInput):
        Failback(policy=FailbackPolicy.WINDOW, from_hour=from_hour, until_hour=until_hour)


def test_a_window_may_reach_over_midnight() -> None:
    assert Failback(policy=FailbackPolicy.WINDOW, from_hour=22, until_hour=5).until_hour == 5


def test_a_drain_that_could_never_move_anything_is_refused() -> None:
    with pytest.raises(InvalidInput, match="moves_at_once is 0"):
        Settings(moves_at_once=0)


def test_a_verdict_is_about_one_incarnation() -> None:
    snapshot = cluster(lost("a", 1), up("a", 2))
    assert snapshot.is_lost(A, Incarnation("a-1"))
    assert not snapshot.is_lost(A, Incarnation("a-2"))
    assert not snapshot.is_lost(NodeName("b"), Incarnation("a-1"))


def test_a_session_is_of_one_incarnation() -> None:
    snapshot = cluster(up("a", 2))
    assert snapshot.session_of(A, Incarnation("a-1")) is None
    assert snapshot.session_of(A, None) is None
    assert snapshot.session_of(A, Incarnation("a-2")) is snapshot.sessions[A]


def test_voters_are_those_with_a_vote_up_or_not() -> None:
    assert cluster(up("a"), known("b"), known("c", is_voter=False)).voters() == {"a", "b"}


def test_settings_are_the_defaults_until_the_cluster_is_known() -> None:
    assert Snapshot().settings == Settings()
    assert cluster(with_settings(Settings(events_kept=7))).settings.events_kept == 7


def test_an_unknown_outcome_is_a_kind_of_unavailable_and_can_be_tried_again() -> None:
    error = OutcomeUnknown("sent, no answer", hint="look")
    assert isinstance(error, Unavailable)
    assert (error.code, error.retryable, error.hint, str(error)) == ("outcome-unknown", True, "look", "sent, no answer")
    assert not Conflict("x").retryable


def test_every_error_has_a_code_of_its_own() -> None:
    def tree(kind: type[HoldfastError]) -> list[type[HoldfastError]]:
        return [kind, *(leaf for below in kind.__subclasses__() for leaf in tree(below))]

    codes = [kind.code for kind in tree(HoldfastError) if kind.__module__.startswith("holdfast.model")]
    assert len(codes) == len(set(codes))
