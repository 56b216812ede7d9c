"""Snapshots written down in one line: `cluster(up("a"), lost("b"), role("web", owner="b"))`.

Rule of the file: each part adds its records the way the transactions of `node/transactions.py` would leave them, and
nothing else, so that a test shows everything that its answer depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any, TypeVar

from holdfast.model.ids import ClusterId, Epoch, Incarnation, NetworkName, NodeName, Revision, RoleName
from holdfast.model.nodes import (
    Capacity,
    FenceSpec,
    NodeReport,
    NodeSpec,
    Proof,
    ProofKind,
    Session,
    Verdict,
)
from holdfast.model.roles import Ownership, Phase, RoleSpec, Wanted
from holdfast.model.settings import Settings
from holdfast.model.snapshot import ClusterRecord, Coordinator, Freeze, Snapshot, Versioned

GIB = 2**30
NOW_MS = 1_700_000_000_000
Part = Callable[[Snapshot], Snapshot]
T = TypeVar("T")


def cluster(*parts: Part) -> Snapshot:
    """Return the snapshot that has all the parts, the later ones on top."""
    return reduce(lambda snapshot, part: part(snapshot), parts, Snapshot())


def incarnation(node: str, number: int = 1) -> Incarnation:
    """The incarnation of a made-up node."""
    return Incarnation(f"{node}-{number}")


def node_spec(name: str, **changes: Any) -> NodeSpec:
    """A node as it was set."""
    spec = NodeSpec(
        name=NodeName(name),
        addresses={NetworkName("cluster-a"): "192.0.2.1", NetworkName("cluster-b"): "198.51.100.1"},
        is_voter=True,
        etcd_client_port=2379,
        etcd_peer_port=2380,
        heartbeat_port=7400,
        join_port=7401,
    )
    return replace(spec, **changes)


def session(name: str, number: int = 1, **changes: Any) -> Session:
    """A node that is up."""
    made = Session(
        node=NodeName(name),
        incarnation=incarnation(name, number),
        version="0.1.0",
        started_at_ms=NOW_MS - 3_600_000,
        guard_deadline_ms=4000,
        watchdog_timeout_ms=None,
    )
    return replace(made, **changes)


def verdict(name: str, number: int = 1, **changes: Any) -> Verdict:
    """The agreement that a node is gone."""
    made = Verdict(
        node=NodeName(name),
        incarnation=incarnation(name, number),
        at_ms=NOW_MS,
        proposed_by=NodeName("judge"),
        guard_deadline_ms=4000,
        watchdog_timeout_ms=None,
        reasons=(),
        losses=(NOW_MS,),
    )
    return replace(made, **changes)


def proof(name: str, number: int = 1, kind: ProofKind = ProofKind.POWER) -> Proof:
    """The evidence that a node can do no harm."""
    return Proof(
        node=NodeName(name), incarnation=incarnation(name, number), kind=kind, at_ms=NOW_MS, by="judge", reasons=()
    )


def role_spec(name: str, **changes: Any) -> RoleSpec:
    """A role as a person set it."""
    spec = RoleSpec(
        name=RoleName(name),
        uuid=f"uuid-of-{name}",
        domain_xml="",
        memory_bytes=GIB,
        vcpus=1,
        disk_paths=(f"/shared/{name}.qcow2",),
    )
    return replace(spec, **changes)


def owned(name: str, owner: str | None, phase: Phase = Phase.ONLINE, number: int = 1, **changes: Any) -> Ownership:
    """Who owns a role; `owner` None: nobody."""
    made = Ownership(
        role=RoleName(name),
        phase=Phase.VACANT if owner is None else phase,
        epoch=Epoch(1),
        owner=None if owner is None else NodeName(owner),
        incarnation=None if owner is None else incarnation(owner, number),
        since_ms=NOW_MS,
        generation=1,
    )
    return replace(made, **changes)


def known(name: str, *, fence: bool = False, **changes: Any) -> Part:
    """A node that was added and is not up."""
    device = FenceSpec(agent="fence_test") if fence else None
    return put("nodes", NodeName(name), node_spec(name, fence=device, **changes))


def up(name: str, number: int = 1, *, memory_bytes: int = 8 * GIB, vcpus: int = 4, **changes: Any) -> Part:
    """A node that is up and reports; `changes` are of its report."""
    report = NodeReport(
        node=NodeName(name),
        incarnation=incarnation(name, number),
        capacity=Capacity(memory_bytes=memory_bytes, vcpus=vcpus),
        hears={},
    )

    def part(snapshot: Snapshot) -> Snapshot:
        added = snapshot if NodeName(name) in snapshot.nodes else known(name)(snapshot)
        added = put("sessions", NodeName(name), session(name, number))(added)
        return put("reports", NodeName(name), replace(report, **changes))(added)

    return part


def lost(name: str, number: int = 1, **changes: Any) -> Part:
    """A node with a verdict and without a session."""

    def part(snapshot: Snapshot) -> Snapshot:
        added = snapshot if NodeName(name) in snapshot.nodes else known(name)(snapshot)
        return put("verdicts", NodeName(name), verdict(name, number, **changes))(added)

    return part


def proven(name: str, number: int = 1, kind: ProofKind = ProofKind.POWER) -> Part:
    """A proof that an incarnation can do no harm."""
    return put("proofs", incarnation(name, number), proof(name, number, kind))


def role(name: str, *, owner: str | None = None, phase: Phase = Phase.ONLINE, number: int = 1, **changes: Any) -> Part:
    """A role with its record; `changes` are of its spec."""

    def part(snapshot: Snapshot) -> Snapshot:
        added = put("specs", RoleName(name), role_spec(name, **changes))(snapshot)
        return put("ownerships", RoleName(name), owned(name, owner, phase, number))(added)

    return part


def new_role(name: str, **changes: Any) -> Part:
    """A role that has no ownership record yet."""
    return put("specs", RoleName(name), role_spec(name, **changes))


def record(ownership: Ownership) -> Part:
    """An ownership record."""
    return put("ownerships", ownership.role, ownership)


def offline(name: str, **changes: Any) -> Part:
    """A role that is wanted offline and has no owner."""
    return role(name, wanted=Wanted.OFFLINE, **changes)


def coordinated_by(name: str) -> Part:
    """Who coordinates."""
    elected = Coordinator(node=NodeName(name), incarnation=incarnation(name))
    return lambda snapshot: replace(snapshot, coordinator=_versioned(elected, snapshot), revision=_next(snapshot))


def with_settings(settings: Settings) -> Part:
    """The cluster's own record."""
    made = ClusterRecord(id=ClusterId("cluster-id"), name="test", created_at_ms=0, settings=settings)
    return lambda snapshot: replace(snapshot, cluster=_versioned(made, snapshot), revision=_next(snapshot))


def frozen() -> Part:
    """A person froze the cluster."""
    freeze = Freeze(by="Ada", reason="switches", at_ms=NOW_MS)

    def part(snapshot: Snapshot) -> Snapshot:
        added = snapshot if snapshot.cluster is not None else with_settings(Settings())(snapshot)
        assert added.cluster is not None
        made = replace(added.cluster.value, frozen=freeze)
        return replace(added, cluster=_versioned(made, added), revision=_next(added))

    return part


def put(field: str, key: str, value: object) -> Part:
    """Any record under its key; a record that is there already keeps the revision of its creation."""

    def part(snapshot: Snapshot) -> Snapshot:
        records = dict(getattr(snapshot, field))
        before = records.get(key)
        made = _versioned(value, snapshot)
        records[key] = made if before is None else replace(made, created=before.created)
        changes: dict[str, Any] = {field: records, "revision": made.revision}
        return replace(snapshot, **changes)

    return part


def _next(snapshot: Snapshot) -> Revision:
    return Revision(snapshot.revision + 1)


def _versioned(value: T, snapshot: Snapshot) -> Versioned[T]:
    return Versioned(value=value, revision=_next(snapshot), created=_next(snapshot))
