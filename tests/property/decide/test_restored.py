"""After a restore of any database, however old, nothing starts before every node of it is accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from tests.property.decide.clusters import NODES, snapshots
from tests.unit.decide.made_up import NOW_MS, cluster, coordinated_by, known, node_spec, put, up

from holdfast.decide.coordination import plan
from holdfast.decide.freedom import wants_owner
from holdfast.membership.identity import NodeIdentity
from holdfast.model.ids import ClusterId, NetworkName, NodeName, Revision, RoleName
from holdfast.model.nodes import Proof, ProofKind
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Ownership, Phase
from holdfast.model.snapshot import ClusterRecord, Snapshot, Versioned
from holdfast.node.mirror import apply
from holdfast.node.restored_records import STEP, Restoration
from holdfast.store.backup import Backup
from holdfast.store.port import KeyValue
from holdfast.store.records import (
    CLUSTER,
    encode,
    node_key,
    ownership_key,
    proof_key,
    spec_key,
    verdict_key,
)

ID = ClusterId("6a3f0f5e-0000-4000-8000-000000000001")
ME = NodeName("me")
LATER = NodeName("joined-later")
GENERATION = 7


def items(snapshot: Snapshot) -> tuple[tuple[str, bytes], ...]:
    """The records of a snapshot as a backup has them."""
    pairs: list[tuple[str, object]] = [(CLUSTER, ClusterRecord(id=ID, name="demo", created_at_ms=1))]
    kinds: list[tuple[Any, Mapping[Any, Versioned[object]]]] = [
        (node_key, snapshot.nodes),
        (verdict_key, snapshot.verdicts),
        (proof_key, snapshot.proofs),
        (spec_key, snapshot.specs),
        (ownership_key, snapshot.ownerships),
    ]
    pairs += [(key(name), record.value) for key, records in kinds for name, record in records.items()]
    return tuple((key, encode(record)) for key, record in sorted(pairs, key=lambda pair: pair[0]))


def restoration(snapshot: Snapshot, *, down: frozenset[NodeName] = frozenset(), me: NodeName = ME) -> Restoration:
    identity = NodeIdentity(
        cluster_id=ID,
        cluster_name="demo",
        node=me,
        node_id=ID,
        addresses={NetworkName("cluster-a"): "192.0.2.9", NetworkName("cluster-b"): "198.51.100.9"},
        is_voter=True,
        generation=GENERATION,
    )
    backup = Backup(
        cluster_id=ID,
        cluster_name="demo",
        generation=1,
        node="a",
        taken_at_ms=NOW_MS - 86_400_000,
        revision=42,
        cluster_key_hex="00" * 32,
        items=items(snapshot),
    )
    return Restoration(
        backup=backup,
        me=identity,
        own=node_spec(me, addresses=dict(identity.addresses)),
        known={LATER: node_spec(LATER)},
        down=down,
        person="somebody",
        now_ms=NOW_MS,
    )


def restored(made: Restoration) -> Snapshot:
    """What a node sees of the restored database, once this node is up, coordinates, and nobody is frozen any more."""
    changes = tuple(
        KeyValue(key=put.key, value=put.value, create_revision=1, mod_revision=1, version=1) for put in made.records()
    )
    snapshot = apply(Snapshot(), changes, 1)
    assert snapshot.cluster is not None
    assert snapshot.cluster.value.frozen is not None
    thawed = replace(snapshot.cluster, value=replace(snapshot.cluster.value, frozen=None))
    return coordinated_by(made.me.node)(up(made.me.node)(replace(snapshot, cluster=thawed)))


def owned(snapshot: Snapshot, role: RoleName) -> Ownership:
    return snapshot.ownerships[role].value if role in snapshot.ownerships else Ownership(role=role)


def proven(snapshot: Snapshot, node: NodeName, kind: ProofKind = ProofKind.RESTARTED) -> Snapshot:
    incarnation = snapshot.verdicts[node].value.incarnation
    record = Proof(node=node, incarnation=incarnation, kind=kind, at_ms=NOW_MS, by="x", reasons=())
    return put("proofs", incarnation, record)(snapshot)


@given(snapshots(), st.sets(st.sampled_from([*NODES, LATER])), st.booleans())
def test_safe_1_after_a_restore_no_role_gets_an_owner_while_a_node_is_not_accounted_for(
    old: Snapshot, down: set[NodeName], is_one_of_them: bool
) -> None:
    me = NODES[0] if is_one_of_them else ME
    made = restoration(old, me=me)
    down &= made.others().keys()
    made = replace(made, down=frozenset(down))
    now = restored(made)
    assert set(made.unaccounted()) == set(made.others()) - down
    assume(made.unaccounted())
    decided = plan(now, NOW_MS)
    assert decided.changes == ()
    for role, spec in now.specs.items():
        if wants_owner(spec.value, owned(now, role)):
            assert {why.code for why in decided.blocked[role]} == {ReasonCode.NOT_ACCOUNTED_FOR}
            assert {why.subject for why in decided.blocked[role]} == set(made.unaccounted())


@given(snapshots())
def test_safe_2_a_proof_about_disks_accounts_for_no_node(old: Snapshot) -> None:
    now = restored(restoration(old))
    for node in sorted(now.verdicts):
        now = proven(now, node, ProofKind.STORAGE_RESERVATION)
    assert plan(now, NOW_MS).changes == ()


@given(snapshots())
def test_safe_3_what_the_backup_says_of_owners_sessions_and_memory_holds_no_more(old: Snapshot) -> None:
    now = restored(restoration(old))
    assert set(now.sessions) == {ME}
    assert now.voters() == {ME}
    for role, ownership in now.ownerships.items():
        before = old.ownerships[role].value
        assert (ownership.value.phase, ownership.value.memory, ownership.value.target) == (Phase.VACANT, None, None)
        assert ownership.value.epoch == before.epoch + STEP
        assert ownership.value.disk_generation == before.disk_generation + STEP


@given(snapshots())
def test_safe_5_once_all_are_accounted_for_every_wanted_role_moves_or_says_why(old: Snapshot) -> None:
    now = restored(restoration(old))
    for node in sorted(now.verdicts):
        now = proven(now, node)
    decided = plan(replace(now, revision=Revision(99)), NOW_MS)
    assert not any(why.code is ReasonCode.NOT_ACCOUNTED_FOR for each in decided.blocked.values() for why in each)
    settled = {change.role for change in decided.changes} | decided.blocked.keys() | decided.waiting.keys()
    assert {role for role, spec in now.specs.items() if wants_owner(spec.value, owned(now, role))} <= settled


def test_what_people_set_for_the_node_that_restores_stays() -> None:
    me = NODES[0]
    old = cluster(known(me, fence=True, site="east", fault_domains=("power:A", "rack:3")))
    own = restored(restoration(old, me=me)).nodes[me].value
    assert own.fence is not None
    assert (own.site, own.fault_domains) == ("east", ("power:A", "rack:3"))
