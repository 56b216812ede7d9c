"""The transactions by which people say what there is and how it is to be: roles, disks, nodes and settings.

Rule of the file: as in `transactions`. A change is committed only on the very record that it was made from.
"""

from __future__ import annotations

from dataclasses import replace

from holdfast.model.disks import DiskSpec
from holdfast.model.nodes import NodeSpec
from holdfast.model.roles import Ownership, RoleSpec
from holdfast.model.snapshot import ClusterRecord, Snapshot, Versioned
from holdfast.node.transactions import revision_of
from holdfast.store.port import Delete, ModRevision, NoneNewer, Operation, Put, Txn
from holdfast.store.records import CLUSTER, NODES, disk_key, encode, node_key, ownership_key, spec_key


def add_role(
    spec: RoleSpec, *, cluster: Versioned[ClusterRecord], counted: ClusterRecord, events: tuple[Operation, ...]
) -> Txn:
    """Add a role; `counted` is the cluster record with the next `role_set`, so that two additions cannot cross."""
    return Txn(
        compares=(ModRevision(CLUSTER, equals=cluster.revision), ModRevision(spec_key(spec.name), equals=0)),
        then=(Put(CLUSTER, encode(counted)), Put(spec_key(spec.name), encode(spec)), *events),
    )


def add_disk(
    spec: DiskSpec, *, cluster: Versioned[ClusterRecord], counted: ClusterRecord, events: tuple[Operation, ...]
) -> Txn:
    """Add a shared disk. `counted` as for `add_role`: two additions of one LUN under two names cannot cross."""
    return Txn(
        compares=(ModRevision(CLUSTER, equals=cluster.revision), ModRevision(disk_key(spec.name), equals=0)),
        then=(Put(CLUSTER, encode(counted)), Put(disk_key(spec.name), encode(spec)), *events),
    )


def remove_disk(
    before: Versioned[DiskSpec],
    *,
    cluster: Versioned[ClusterRecord],
    counted: ClusterRecord,
    events: tuple[Operation, ...],
) -> Txn:
    """Remove a shared disk that no role names: fails when a role or a disk was added or removed meanwhile.

    So what a proof says of a disk by its name never comes to be about another one while a role uses it. Source: SAFE-2.
    """
    key = disk_key(before.value.name)
    return Txn(
        compares=(ModRevision(CLUSTER, equals=cluster.revision), ModRevision(key, equals=before.revision)),
        then=(Put(CLUSTER, encode(counted)), Delete(key), *events),
    )


def remove_role(
    spec: Versioned[RoleSpec], ownership: Versioned[Ownership] | None, *, events: tuple[Operation, ...]
) -> Txn:
    """Remove a role that nobody owns: fails when an owner was assigned meanwhile."""
    name = spec.value.name
    return Txn(
        compares=(
            ModRevision(spec_key(name), equals=spec.revision),
            ModRevision(ownership_key(name), equals=revision_of(ownership)),
        ),
        then=(Delete(spec_key(name)), Delete(ownership_key(name)), *events),
    )


def set_role(spec: RoleSpec, *, before: Versioned[RoleSpec], events: tuple[Operation, ...]) -> Txn:
    """Change what is wanted of a role; never what it writes to: a proof about disks rests on it. Source: SAFE-2.

    Raises: ValueError.
    """
    if (spec.disks, spec.disk_paths) != (before.value.disks, before.value.disk_paths):
        raise ValueError(f"role {spec.name}: what it writes to cannot be changed while it may run")
    return Txn(
        compares=(ModRevision(spec_key(spec.name), equals=before.revision),),
        then=(Put(spec_key(spec.name), encode(spec)), *events),
    )


def set_node(spec: NodeSpec, *, before: Versioned[NodeSpec] | None, events: tuple[Operation, ...]) -> Txn:
    """Add a node, or change what was set for it."""
    return Txn(
        compares=(ModRevision(node_key(spec.name), equals=revision_of(before)),),
        then=(Put(node_key(spec.name), encode(spec)), *events),
    )


def as_all_nodes_are(txn: Txn, snapshot: Snapshot) -> Txn:
    """Commit only while no node's record was written, nor a node added, since: for what was decided on all of them.

    Two drains cannot cross, nor two changes of addresses that together would leave two nodes no common network, nor a
    change of addresses and a join, or two joins, that give one address to two nodes. Source: SAFE-4.
    """
    return replace(txn, compares=(*txn.compares, NoneNewer(NODES, than=snapshot.revision)))


def set_cluster(record: ClusterRecord, *, before: Versioned[ClusterRecord], events: tuple[Operation, ...] = ()) -> Txn:
    """Change the cluster's own record, such as its settings."""
    return Txn(compares=(ModRevision(CLUSTER, equals=before.revision),), then=(Put(CLUSTER, encode(record)), *events))
