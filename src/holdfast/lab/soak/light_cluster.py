"""What a light cluster consists of: three nodes, two disks, a role on each.

Rule of the file: records only. The times are as short as the settings allow. Source: DESIGN section 5.
"""

from __future__ import annotations

from typing import Final

from holdfast.lab.bench.target import DISK_BYTES
from holdfast.lab.soak.light_node import node_specs
from holdfast.model.disks import DiskSpec
from holdfast.model.ids import ClusterId, DiskName, RoleName
from holdfast.model.roles import RoleSpec
from holdfast.model.settings import Settings, Timings
from holdfast.model.snapshot import ClusterRecord
from holdfast.store.port import Operation, Put
from holdfast.store.records import CLUSTER, disk_key, encode, node_key, spec_key

NODES: Final = ("node1", "node2", "node3")
ROLES: Final = (RoleName("web1"), RoleName("web2"))
TIMINGS: Final = Timings(
    heartbeat_interval_ms=100,
    suspect_after_ms=400,
    patience_ms=1500,
    guard_deadline_ms=1000,
    guard_kill_ms=500,
    proof_margin_ms=500,
    restart_grace_ms=0,
    claim_after_ms=2000,
    session_ttl_s=5,
)
SETTINGS: Final = Settings(timings=TIMINGS, quarantine_losses=10_000, events_kept=200)
_XML: Final = (
    "<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu></domain>"
)


def records_of(cluster_id: ClusterId, ports: dict[str, int], designators: list[str]) -> list[Operation]:
    """What the database of a light cluster begins with."""
    cluster = ClusterRecord(id=cluster_id, name="soak", created_at_ms=0, settings=SETTINGS)
    records: list[Operation] = [Put(CLUSTER, encode(cluster))]
    records += [Put(node_key(name), encode(spec)) for name, spec in node_specs(ports).items()]
    for number, designator in enumerate(designators, start=1):
        name = DiskName(f"disk{number}")
        disk = DiskSpec(
            name=name,
            designator=designator,
            size_bytes=DISK_BYTES,
            guest_source=f"/dev/disk/by-id/{name}",
            reservations=f"helper:/run/{name}",
            forgets_reservations=True,
        )
        records.append(Put(disk_key(name), encode(disk)))
    records += [Put(spec_key(role), encode(role_of(number))) for number, role in enumerate(ROLES)]
    return records


def uuid_of(number: int) -> str:
    """The uuid of a role's guest."""
    return f"00000000-0000-4000-8000-{number:012d}"


def role_of(number: int) -> RoleSpec:
    """The role with this number, from 0: its guest writes to the disk of the next number."""
    return RoleSpec(
        name=ROLES[number],
        uuid=uuid_of(number),
        domain_xml=_XML.format(name=ROLES[number], uuid=uuid_of(number)),
        memory_bytes=64 << 20,
        vcpus=1,
        disk_paths=(),
        disks=(DiskName(f"disk{number + 1}"),),
        restart_limit=10_000,
        failover_limit=10_000,
        shutdown_timeout_ms=1000,
    )
