"""Whose writes may still wait: of all who began a guest of the role since a start that saw to everybody before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.decide.made_up import (
    NOW_MS,
    cluster,
    incarnation,
    lost,
    owned,
    proven,
    put,
    record,
    role,
    role_spec,
    up,
)

from holdfast.decide.coordination import plan
from holdfast.decide.lifecycle import after_failed_start, after_refusal, next_step
from holdfast.decide.memory_steps import after_save
from holdfast.decide.steps import Situation, lingering_after
from holdfast.model.disks import DiskHealth, DiskState
from holdfast.model.ids import DiskName, NodeName
from holdfast.model.nodes import GuestObservation, ProofKind
from holdfast.model.roles import Ownership, Phase, RoleSpec, Wanted

DISK = DiskName("one")
A, B = incarnation("a"), incarnation("b")
ON_DISK: dict[str, Any] = {"disks": (DISK,), "disk_paths": ()}
BEGUN = tuple(phase for phase in Phase if phase not in (Phase.VACANT, Phase.ASSIGNED))
READY = {DISK: DiskHealth(state=DiskState.READY)}


def spec(**changes: Any) -> RoleSpec:
    return role_spec("web", **ON_DISK, **changes)


def stepped(phase: Phase, guest: GuestObservation, wanted: Wanted = Wanted.ONLINE, **changes: Any) -> Ownership:
    step = next_step(owned("web", "a", phase, **{"lingering": (), **changes}), spec(wanted=wanted), guest, NOW_MS)
    assert step.record is not None
    return step.record


@pytest.mark.parametrize("phase", Phase)
def test_safe_1_an_owner_that_has_begun_lingers_and_one_that_has_not_does_not(phase: Phase) -> None:
    ownership = owned("web", None if phase is Phase.VACANT else "a", phase, lingering=(B,))
    assert lingering_after(ownership) == ((B, A) if phase in BEGUN else (B,))


def test_safe_1_what_is_not_known_stays_unknown() -> None:
    assert lingering_after(owned("web", "a", lingering=None)) is None
    assert stepped(Phase.ONLINE, GuestObservation.ABSENT, lingering=None).lingering is None


def test_safe_1_whatever_ends_a_guest_leaves_its_incarnation_lingering() -> None:
    stopping = stepped(Phase.STOPPING, GuestObservation.ABSENT, Wanted.OFFLINE)
    crashed = stepped(Phase.ONLINE, GuestObservation.ABSENT)
    once_more = stepped(Phase.STARTING, GuestObservation.ABSENT)
    failed = after_failed_start(owned("web", "a", Phase.STARTING, lingering=(B,)), spec(restart_limit=0), "", NOW_MS)
    refused = after_refusal(owned("web", "a", Phase.STARTING, lingering=()), spec(), "", NOW_MS)
    saved = after_save(Situation(ownership=owned("web", "a", Phase.SAVING, lingering=()), spec=spec(), now_ms=0), None)
    assert (stopping.phase, stopping.lingering) == (Phase.VACANT, (A,))
    assert (crashed.phase, crashed.lingering) == (Phase.STARTING, (A,))
    assert (once_more.phase, once_more.lingering) == (Phase.STARTING, (A,))
    assert (failed.phase, failed.lingering) == (Phase.VACANT, (B, A))
    assert (refused.phase, refused.lingering) == (Phase.VACANT, (A,))
    assert saved.lingering == (A,)


def test_a_first_claim_keeps_what_lingers_and_adds_nobody() -> None:
    assert stepped(Phase.ASSIGNED, GuestObservation.ABSENT, lingering=(B,)).lingering == (B,)
    assert stepped(Phase.ASSIGNED, GuestObservation.ABSENT, Wanted.OFFLINE, lingering=(B,)).lingering == (B,)


def test_safe_1_only_a_guest_that_executes_shows_that_its_start_saw_to_all_before() -> None:
    assert stepped(Phase.STARTING, GuestObservation.RUNNING, lingering=(B,)).lingering == ()
    assert stepped(Phase.STARTING, GuestObservation.PAUSED, Wanted.OFFLINE, lingering=(B,)).lingering == (B,)


def test_a_role_without_shared_disks_keeps_no_list() -> None:
    step = next_step(owned("web", "a", Phase.STARTING), role_spec("web"), GuestObservation.RUNNING, NOW_MS)
    assert step.record is not None
    assert step.record.lingering is None


@pytest.mark.parametrize("kind", ProofKind)
@pytest.mark.parametrize("wanted", Wanted)
def test_safe_1_who_is_taken_over_from_lingers_unless_the_disks_refuse_it(kind: ProofKind, wanted: Wanted) -> None:
    snapshot = cluster(
        up("b", disks=READY),
        lost("a"),
        role("web", owner="a", wanted=wanted, **ON_DISK),
        record(owned("web", "a", lingering=())),
        proven("a", kind=kind),
    )
    if kind is ProofKind.STORAGE_RESERVATION:
        snapshot = put("proofs", A, replace(snapshot.proofs[A].value, disks=(DISK,)))(snapshot)
    (change,) = plan(snapshot, NOW_MS).changes
    assert change.after.owner == (NodeName("b") if wanted is Wanted.ONLINE else None)
    assert change.after.lingering == (() if kind is ProofKind.STORAGE_RESERVATION else (A,))


def test_an_owner_that_never_began_leaves_nothing() -> None:
    web = role("web", owner="a", phase=Phase.ASSIGNED, **ON_DISK)
    snapshot = cluster(up("b", disks=READY), web, record(owned("web", "a", Phase.ASSIGNED, lingering=(B,))))
    (change,) = plan(snapshot, NOW_MS).changes
    assert change.after.lingering == (B,)
