"""What a node does about a shared disk, and what a proof about some disks is worth. Source: SAFE-1, SAFE-2."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from tests.unit.decide.made_up import NOW_MS, Part, cluster, incarnation, lost, proof, proven, put, role, up

from holdfast.decide.coordination import plan
from holdfast.decide.disks import DiskAct, DiskView, guests_of, may_run_elsewhere, next_disk_step
from holdfast.decide.explain import why_not_running
from holdfast.decide.fencing import is_proven_enough, lost_without_proof, storm_guard
from holdfast.decide.freedom import freedom_of
from holdfast.model.disks import DiskHealth, DiskState, reservation_key
from holdfast.model.ids import ClusterId, DiskName, NodeName, RoleName
from holdfast.model.nodes import ProofKind
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Phase

A, B, C = (NodeName(name) for name in "abc")
ONE, TWO = DiskName("one"), DiskName("two")
WEB = RoleName("web")
READY = {ONE: DiskHealth(state=DiskState.READY), TWO: DiskHealth(state=DiskState.READY)}
VIEWS = [DiskView(has_key=key, is_protected=held) for key, held in product((True, False), repeat=2)]
ALL = [(view, *rest) for view in VIEWS for rest in product((True, False), repeat=3)]


def kept_off(*disks: DiskName, node: str = "b") -> Part:
    """A proof that the node cannot write to these disks."""
    made = replace(proof(node, kind=ProofKind.STORAGE_RESERVATION), disks=disks)
    return put("proofs", incarnation(node), made)


@pytest.mark.parametrize(("view", "is_confirmed", "is_used_here", "is_used_elsewhere"), ALL)
def test_safe_1_a_node_registers_only_while_nothing_here_could_write(
    view: DiskView, is_confirmed: bool, is_used_here: bool, is_used_elsewhere: bool
) -> None:
    step = next_disk_step(
        view, is_confirmed=is_confirmed, is_used_here=is_used_here, is_used_elsewhere=is_used_elsewhere
    )
    if step.act is DiskAct.REGISTER:
        assert not view.has_key
        assert not is_used_here
        assert view.is_protected or not is_used_elsewhere
    if step.state is DiskState.READY:
        assert view.has_key
        assert view.is_protected
        assert is_confirmed
    if view.is_protected and not view.has_key and is_used_here:
        assert step.act is DiskAct.END_GUESTS


@pytest.mark.parametrize(
    ("view", "is_used_here", "is_used_elsewhere", "state", "act"),
    [
        (DiskView(has_key=False, is_protected=False), False, False, DiskState.NOT_REGISTERED, DiskAct.REGISTER),
        (DiskView(has_key=False, is_protected=True), False, True, DiskState.NOT_REGISTERED, DiskAct.REGISTER),
        (DiskView(has_key=False, is_protected=False), False, True, DiskState.LAPSED, DiskAct.NOTHING),
        (DiskView(has_key=False, is_protected=False), True, False, DiskState.LAPSED, DiskAct.NOTHING),
        (DiskView(has_key=False, is_protected=True), True, False, DiskState.EXPELLED, DiskAct.END_GUESTS),
        (DiskView(has_key=True, is_protected=False), True, True, DiskState.LAPSED, DiskAct.RESERVE),
        (DiskView(has_key=True, is_protected=True), True, True, DiskState.NOT_REGISTERED, DiskAct.CONFIRM),
        (
            DiskView(has_key=True, is_protected=False, is_foreign=True),
            True,
            True,
            DiskState.UNREACHABLE,
            DiskAct.NOTHING,
        ),
    ],
)
def test_what_follows_from_a_look(
    view: DiskView, is_used_here: bool, is_used_elsewhere: bool, state: DiskState, act: DiskAct
) -> None:
    step = next_disk_step(view, is_confirmed=False, is_used_here=is_used_here, is_used_elsewhere=is_used_elsewhere)
    assert (step.state, step.act) == (state, act)


def test_guests_of_a_disk_are_those_of_roles_that_name_it() -> None:
    snapshot = cluster(role("web", disks=(ONE, TWO)), role("db", disks=(TWO,)), role("file"))
    assert guests_of(ONE, snapshot) == {"uuid-of-web"}
    assert guests_of(TWO, snapshot) == {"uuid-of-web", "uuid-of-db"}


@pytest.mark.parametrize(
    ("owner", "phase", "parts", "expected"),
    [
        ("b", Phase.ONLINE, (), True),
        ("b", Phase.STARTING, (), True),
        ("b", Phase.STOPPING, (), True),
        ("b", Phase.ASSIGNED, (), False),
        (None, Phase.ONLINE, (), False),
        ("a", Phase.ONLINE, (), False),
        ("b", Phase.ONLINE, (lost("b"), proven("b")), False),
        ("b", Phase.ONLINE, (lost("b"), kept_off(ONE)), True),
    ],
)
def test_whether_a_guest_may_run_on_a_disk_elsewhere(
    owner: str | None, phase: Phase, parts: tuple[Part, ...], expected: bool
) -> None:
    snapshot = cluster(role("web", owner=owner, phase=phase, disks=(ONE,)), *parts)
    assert may_run_elsewhere(ONE, snapshot, A) is expected
    assert not may_run_elsewhere(TWO, snapshot, A)


@pytest.mark.parametrize(
    ("disks", "paths", "proven_for", "is_free"),
    [
        ((ONE,), (), (ONE,), True),
        ((ONE,), (), (ONE, TWO), True),
        ((ONE, TWO), (), (ONE,), False),
        ((ONE,), (), (), False),
        ((ONE,), ("/shared/web.qcow2",), (ONE,), False),
        ((), ("/shared/web.qcow2",), (ONE,), False),
        ((), (), (ONE,), False),
    ],
)
def test_safe_2_a_reservation_frees_only_what_writes_nowhere_else(
    disks: tuple[DiskName, ...], paths: tuple[str, ...], proven_for: tuple[DiskName, ...], is_free: bool
) -> None:
    snapshot = cluster(
        up("a", disks=READY), lost("b"), role("web", owner="b", disks=disks, disk_paths=paths), kept_off(*proven_for)
    )
    freedom = freedom_of(snapshot.ownerships[WEB].value, snapshot, NOW_MS)
    assert bool(freedom.blocked) is not is_free
    assert freedom.proof == (incarnation("b") if is_free else None)
    assert bool(plan(snapshot, NOW_MS).changes) is is_free
    assert is_proven_enough(incarnation("b"), snapshot) is is_free
    assert (B in lost_without_proof(snapshot)) is not is_free
    if not is_free:
        codes = [reason.code for reason in why_not_running(snapshot, WEB, NOW_MS, {})]
        assert ReasonCode.PARTLY_FENCED in codes


def test_safe_2_a_role_that_is_not_known_any_more_is_covered_by_no_reservation() -> None:
    snapshot = cluster(lost("b"), role("web", owner="b", disks=(ONE,)), kept_off(ONE))
    assert freedom_of(snapshot.ownerships[WEB].value, replace(snapshot, specs={}), NOW_MS).blocked


def test_safe_8_to_have_been_expelled_does_not_show_that_it_was_no_illusion() -> None:
    nodes = [up(name) for name in "ae"]
    vanished = [lost(name) for name in "bcd"]
    off = [kept_off(ONE, node=name) for name in "bcd"]
    assert storm_guard(cluster(*nodes, *vanished, *off), B) is not None
    assert storm_guard(cluster(*nodes, *vanished, proven("c")), B) is None


USABLE = (DiskState.READY, DiskState.STANDBY)


@pytest.mark.parametrize("state", [state for state in DiskState if state not in USABLE])
def test_a_node_that_cannot_use_a_disk_of_the_role_does_not_get_it(state: DiskState) -> None:
    health = {ONE: DiskHealth(state=state, detail="why")}
    snapshot = cluster(
        up("a", memory_bytes=64 * 2**30, disks=health), up("b"), up("c", disks=READY), role("web", disks=(ONE,))
    )
    (change,) = plan(snapshot, NOW_MS).changes
    assert change.after.owner == C
    refused = plan(cluster(up("a", disks=health), up("b"), role("web", disks=(ONE,))), NOW_MS).blocked[WEB]
    told = [(reason.code, reason.subject) for reason in refused[1:]]
    assert told == [(ReasonCode.DISK_NOT_READY, A), (ReasonCode.DISK_NOT_READY, B)]


def test_a_node_that_stands_by_gets_the_role_of_a_disk_that_only_its_owner_is_registered_with() -> None:
    health = {ONE: DiskHealth(state=DiskState.STANDBY)}
    (change,) = plan(cluster(up("a", disks=health), up("b"), role("web", disks=(ONE,))), NOW_MS).changes
    assert change.after.owner == A


def test_safe_1_the_key_of_an_incarnation_is_its_own_and_never_zero() -> None:
    keys = {
        reservation_key(ClusterId(cluster_id), incarnation(node, number))
        for cluster_id in ("one", "two")
        for node in "abc"
        for number in range(100)
    }
    assert len(keys) == 600
    assert all(0 < key < 2**64 for key in keys)
    assert reservation_key(ClusterId("one"), incarnation("a")) == reservation_key(ClusterId("one"), incarnation("a"))
