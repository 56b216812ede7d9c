"""What holds for the plan of every snapshot, whatever the history behind it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, note
from tests.property.decide.clusters import snapshots
from tests.property.decide.lives import holds
from tests.unit.decide.made_up import NOW_MS

from holdfast.decide.coordination import Change, Plan, plan
from holdfast.model.ids import NodeName, Revision, RoleName
from holdfast.model.roles import Ownership, Phase, Priority, Wanted
from holdfast.model.snapshot import Snapshot, Versioned

CLAIM_AFTER_MS = 10_000


def before(snapshot: Snapshot, role: RoleName) -> Ownership:
    found = snapshot.ownerships.get(role)
    return found.value if found is not None else Ownership(role=role)


def is_wish(change: Change) -> bool:
    """Whether it only says where a role is wanted."""
    return (
        change.before is not None
        and change.after.phase is change.before.value.phase is not Phase.VACANT
        and (change.after.epoch == change.before.value.epoch)
    )


def has_living_owner(snapshot: Snapshot, ownership: Ownership) -> bool:
    if ownership.owner is None:
        return False
    session = snapshot.sessions.get(ownership.owner)
    return session is not None and session.value.incarnation == ownership.incarnation


def applied(snapshot: Snapshot, decided: Plan) -> Snapshot:
    """The snapshot after all changes were committed."""
    ownerships = dict(snapshot.ownerships)
    for index, change in enumerate(decided.changes, start=1):
        revision = Revision(snapshot.revision + index)
        ownerships[change.role] = Versioned(value=change.after, revision=revision, created=revision)
    changes: dict[str, Any] = {
        "ownerships": ownerships,
        "revision": Revision(snapshot.revision + len(decided.changes)),
    }
    return replace(snapshot, **changes)


@given(snapshots())
def test_safe_1_a_role_changes_once_and_only_from_the_record_it_was_decided_on(snapshot: Snapshot) -> None:
    decided = plan(snapshot, NOW_MS)
    assert max(Counter(change.role for change in decided.changes).values(), default=0) <= 1
    for change in decided.changes:
        assert change.before is snapshot.ownerships.get(change.role)
        assert change.role not in decided.blocked


@given(snapshots())
def test_safe_2_a_role_that_may_have_begun_changes_only_with_the_proof_of_its_incarnation(snapshot: Snapshot) -> None:
    for change in plan(snapshot, NOW_MS).changes:
        old = before(snapshot, change.role)
        if old.phase in (Phase.STARTING, Phase.ONLINE, Phase.STOPPING) and not is_wish(change):
            assert change.proof == old.incarnation
            assert old.incarnation in snapshot.proofs


@given(snapshots())
def test_safe_2_a_role_that_was_only_assigned_changes_when_its_owner_is_gone_or_too_late(snapshot: Snapshot) -> None:
    for change in plan(snapshot, NOW_MS).changes:
        old = before(snapshot, change.role)
        if old.phase is Phase.ASSIGNED and not is_wish(change):
            assert not has_living_owner(snapshot, old) or NOW_MS - old.since_ms >= CLAIM_AFTER_MS


@given(snapshots())
def test_safe_3_every_new_owner_has_a_higher_epoch_and_a_session_of_its_very_incarnation(snapshot: Snapshot) -> None:
    for change in plan(snapshot, NOW_MS).changes:
        old = before(snapshot, change.role)
        if change.after.owner is None:
            assert change.after.epoch == old.epoch
            continue
        if is_wish(change):
            continue
        assert change.after.phase is Phase.ASSIGNED
        assert change.after.epoch == old.epoch + 1
        assert change.session is not None
        assert change.session is snapshot.sessions[change.after.owner]
        assert change.after.incarnation == change.session.value.incarnation


@given(snapshots())
def test_safe_5_every_wanted_role_without_a_living_owner_moves_or_is_blocked_with_reasons(snapshot: Snapshot) -> None:
    decided = plan(snapshot, NOW_MS)
    changed = {change.role for change in decided.changes}
    for role, spec in snapshot.specs.items():
        old = before(snapshot, role)
        served = spec.value.priority is Priority.NO_AUTOSTART and spec.value.generation == old.generation
        served = served and old.target is None
        wanted = spec.value.wanted is Wanted.ONLINE and not served
        if (wanted or old.owner is not None) and not has_living_owner(snapshot, old):
            assert role in changed or decided.blocked.get(role) or decided.waiting[role]
            assert role not in decided.waiting or decided.look_again_ms is not None


@given(snapshots())
def test_the_plan_never_gives_a_node_more_than_it_has(snapshot: Snapshot) -> None:
    decided = plan(snapshot, NOW_MS)
    after = applied(snapshot, decided)
    takers = {change.after.target if is_wish(change) else change.after.owner for change in decided.changes}
    for node in takers - {None}:
        assert node is not None
        memory_bytes, vcpus = used(after, node)
        note(f"{node}: {memory_bytes} bytes, {vcpus} vCPUs")
        report = snapshot.reports[node].value
        has = snapshot.nodes[node].value.capacity or report.capacity
        assert memory_bytes <= has.memory_bytes
        assert vcpus <= has.vcpus * snapshot.settings.vcpu_overcommit


def used(snapshot: Snapshot, node: NodeName) -> tuple[int, int]:
    """Memory and vCPUs of all roles that a node owns or that are on their way to it."""
    there = [one.value for one in snapshot.ownerships.values() if node in (one.value.owner, one.value.target)]
    owned = [one.role for one in there if one.phase is Phase.VACANT or holds(snapshot, one)]
    specs = [snapshot.specs[role].value for role in owned if role in snapshot.specs]
    return sum(spec.memory_bytes for spec in specs), sum(spec.vcpus for spec in specs)


@given(snapshots())
def test_only_nodes_that_may_take_a_role_get_it(snapshot: Snapshot) -> None:
    for change in plan(snapshot, NOW_MS).changes:
        owner, spec = change.after.owner, snapshot.specs[change.role].value
        if owner is not None:
            goes_to = change.after.target if is_wish(change) else owner
            assert not spec.possible_owners or goes_to in spec.possible_owners
            taker = change.after.target if is_wish(change) else owner
            assert taker is not None
            comes_back = not is_wish(change) and taker == before(snapshot, change.role).source
            assert comes_back or not snapshot.nodes[taker].value.is_paused
            assert not snapshot.sessions[taker].value.stopping
            assert snapshot.reports[taker].value.not_ready is None
            assert spec.wanted is Wanted.ONLINE


@given(snapshots())
def test_the_same_snapshot_gives_the_same_plan_in_whatever_order_it_was_read(snapshot: Snapshot) -> None:
    turned: dict[str, Any] = {
        field: dict(reversed(getattr(snapshot, field).items()))
        for field in ("nodes", "sessions", "verdicts", "proofs", "reports", "specs", "ownerships")
    }
    assert plan(replace(snapshot, **turned), NOW_MS) == plan(snapshot, NOW_MS)


@given(snapshots())
def test_plans_that_are_carried_out_settle_and_move_no_role_twice(snapshot: Snapshot) -> None:
    """A role that leaves may make room for one that was blocked; nothing else may follow from a plan."""
    moved: set[RoleName] = set()
    for _ in range(len(snapshot.specs) + 1):
        decided = plan(snapshot, NOW_MS)
        if not decided.changes:
            return
        changed = {change.role for change in decided.changes}
        assert not changed & moved
        moved |= changed
        snapshot = applied(snapshot, decided)
    raise AssertionError(f"still changing: {plan(snapshot, NOW_MS).changes}")
