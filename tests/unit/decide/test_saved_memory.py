"""Which files of saved memory nothing will ever start from, and whose memory needs the most room. Source: SAFE-7."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.decide.made_up import GIB, cluster, known, owned, put, role_spec

from holdfast.decide.saved_memory import attempt_of, largest_guest, left_over, mark_of, path_of, probe_of
from holdfast.decide.steps import Attempt
from holdfast.model.ids import ClusterId, Incarnation, NodeName, RoleName
from holdfast.model.roles import Memory, MemoryKind, MoveMethod, Ownership, Phase
from holdfast.model.snapshot import ClusterRecord

OURS = ClusterRecord(id=ClusterId("c1"), name="test", created_at_ms=0)
KEPT = Memory(kind=MemoryKind.SAVED, id="i-1", path="/saved/web.c1.1.i-1.state", disk_generation=1)
VACANT = Ownership(role=RoleName("web"))
SAVING = owned("web", "a", Phase.SAVING, method=MoveMethod.QUICK, target=NodeName("b"), source=NodeName("a"))


def name_of(cluster: ClusterRecord, role: str = "web", memory_id: str = "i-1") -> str:
    return path_of(RoleName(role), Attempt(id=memory_id, directory="", mark=mark_of(cluster))).removeprefix("/")


def test_a_file_that_no_record_names_is_left_over() -> None:
    assert left_over([name_of(OURS), name_of(OURS, "d.b")], OURS, []) == (name_of(OURS), name_of(OURS, "d.b"))


@pytest.mark.parametrize(
    "record",
    [
        replace(VACANT, memory=KEPT),
        replace(VACANT, memory=replace(KEPT, path="/elsewhere/web.c1.1.i-1.state")),
        replace(VACANT, memory=replace(KEPT, is_consumed=True)),
        replace(SAVING, making=KEPT),
    ],
)
def test_safe_7_a_file_whose_memory_a_record_names_is_kept_wherever_that_says_it_is(record: Ownership) -> None:
    other = owned("db", "b")
    assert left_over([name_of(OURS), name_of(OURS, memory_id="i-2")], OURS, [other, record]) == (
        name_of(OURS, memory_id="i-2"),
    )


@pytest.mark.parametrize(
    "name",
    [
        name_of(replace(OURS, id=ClusterId("c2"))),
        name_of(replace(OURS, id=ClusterId("xc1"))),
        name_of(replace(OURS, generation=2)),
        "web.i-1.state",
        "web.c1.1.i-1.qcow2",
        "web.c1.1.state",
        "c1.1.i-1.state",
        "state",
        probe_of(NodeName("a"), OURS),
    ],
)
def test_safe_7_a_file_that_may_be_anothers_is_never_left_over(name: str) -> None:
    assert left_over([name], OURS, []) == ()


def test_safe_7_each_attempt_has_a_file_of_its_own() -> None:
    seen = set()
    for number, revision in ((1, 255), (1, 256), (2, 255)):
        incarnation = Incarnation(f"{number:08x}-0000-4000-8000-000000000000")
        attempt = attempt_of(incarnation, revision, cluster())
        seen.add(path_of(RoleName("web"), attempt))
    assert len(seen) == 3


def test_the_largest_guest_of_a_node_is_its_own() -> None:
    sizes = (("web", "a", 1), ("db", "a", 2), ("mail", "b", 3))
    parts = []
    for role, owner, gib in sizes:
        parts += [
            put("specs", role, role_spec(role, memory_bytes=gib * GIB)),
            put("ownerships", role, owned(role, owner)),
        ]
    snapshot = cluster(known("a"), known("b"), known("c"), *parts)
    largest = largest_guest(snapshot, NodeName("a"))
    assert largest is not None
    assert largest.name == "db"
    assert largest_guest(snapshot, NodeName("c")) is None
