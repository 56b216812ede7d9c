"""When each step of a change of the heartbeats' secret may be taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.decide.made_up import Part, cluster, incarnation, owned, proven, put, session
from tests.unit.decide.made_up import known as known_node

from holdfast.decide.heartbeat_keys import lagging, next_keys
from holdfast.model.certificates import HeartbeatKey, HeartbeatKeys
from holdfast.model.ids import NodeName, Revision
from holdfast.model.nodes import Capacity, NodeReport
from holdfast.model.roles import Phase
from holdfast.model.snapshot import Snapshot, Versioned

OLD, NEW = HeartbeatKey(id="old", secret_hex="00"), HeartbeatKey(id="new", secret_hex="11")


def up(name: str, *keys: str, start: int = 1) -> Part:
    """A node that is up and reports these keys, in that start."""
    report = NodeReport(
        node=NodeName(name),
        incarnation=incarnation(name, start),
        capacity=Capacity(memory_bytes=0, vcpus=0),
        hears={},
        heartbeat_keys=keys,
    )

    def part(snapshot: Snapshot) -> Snapshot:
        with_session = put("sessions", name, session(name))(known_node(name)(snapshot))
        return put("reports", name, report)(with_session)

    return part


def record(*accepted: HeartbeatKey, used: str) -> Part:
    keys = Versioned(value=HeartbeatKeys(accepted=accepted, used=used), revision=Revision(1), created=Revision(1))
    return lambda snapshot: replace(snapshot, heartbeat_keys=keys)


def step(*parts: Part) -> tuple[tuple[str, ...], str] | None:
    found = next_keys(cluster(*parts))
    return None if found is None else (tuple(key.id for key in found.accepted), found.used)


ACCEPTING, USING = record(OLD, NEW, used="old"), record(OLD, NEW, used="new")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((up("a", "old"), up("b", "old")), None),
        ((ACCEPTING, up("a", "old", "new"), up("b", "old")), None),
        ((ACCEPTING, up("a", "old", "new"), up("b")), None),
        ((ACCEPTING, up("a", "old", "new"), up("b", "old", "new", start=2)), None),
        ((ACCEPTING, up("a", "old", "new"), up("b", "old", "new")), (("old", "new"), "new")),
        ((ACCEPTING, up("a", "old", "new"), known_node("b")), (("old", "new"), "new")),
        ((USING, up("a", "new", "old"), up("b", "old", "new")), None),
        ((USING, up("a", "new", "old"), up("b", "new", "old")), (("new",), "new")),
        ((record(NEW, used="new"), up("a", "new")), None),
    ],
    ids=["none", "not-accepted", "says-nothing", "another-start", "accepted", "down", "not-used", "used", "over"],
)
def test_a_step_waits_for_all_that_are_up(
    parts: tuple[Part, ...], expected: tuple[tuple[str, ...], str] | None
) -> None:
    assert step(*parts) == expected


def test_one_that_may_run_roles_is_waited_for_though_it_is_not_up() -> None:
    """It lost its way to the database, is heard, and cannot read the new secret: the others would hear it no more."""
    has_role = put("ownerships", "web", owned("web", "b", Phase.ONLINE))
    parts = (ACCEPTING, up("a", "old", "new"), known_node("b"), has_role)
    assert lagging(cluster(*parts)) == ("b",)
    assert step(*parts) is None
    assert lagging(cluster(*parts, proven("b"))) == ()


def test_who_is_waited_for_is_known() -> None:
    assert lagging(cluster(ACCEPTING, up("a", "old", "new"), up("b", "old"), known_node("c"))) == ("b",)
