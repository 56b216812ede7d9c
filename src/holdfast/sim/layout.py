"""What a cluster is made of before anything happens: its nodes, roles and settings as records.

Rule of the file: pure. The same description gives the same records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast.model.disks import DiskSpec, Protection
from holdfast.model.ids import DiskName, NetworkName, NodeName, RoleName
from holdfast.model.nodes import FenceSpec, NodeSpec
from holdfast.model.roles import RoleSpec, StorageLoss, Wanted
from holdfast.model.settings import Settings
from holdfast.sim.shared_disks import designator_of
from holdfast.storage.simulated_disk import DiskTraits

GIB: Final = 2**30
MIB: Final = 2**20
SAVED_STATE_DIRECTORY: Final = "/saved"
MAX_VOTERS: Final = 5
WITNESS: Final = NodeName("witness")
LOSS_MS: Final = 12_000
"""Of `storage_loss_move_ms`: the least that is allowed, so that faults outlast it."""
DOMAIN_XML: Final = (
    "<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid>"
    "<memory unit='MiB'>{memory_mib}</memory><vcpu>{vcpus}</vcpu></domain>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """What a cluster is made of: nodes, roles, networks, and which protection its nodes have.

    clock_error    the largest share by which a machine's clock is too fast or too slow.
    quarantine_s   how long a node that was lost three times gets no roles; None: it is not kept from them.
    helped         so many of the other roles have one disk each that a helper reaches for its guest, and for holdfastd;
                   every other one of all roles moves off a node that lost its disks then, and soon.
    keeps_memory   whether guests can move with their memory.
    disks          so many shared disks with reservations; then each role writes to one or two of them.
    target, paths  what their target can do, and how many ways every node has to it.
    owned          so many of the roles have one disk that only their owner is registered with, instead of these.
    heartbeats     so many heartbeat disks beside them, behind the same target.
    votes          the database has members, and votes move as in a real cluster; otherwise the same nodes vote always.
    witness        a machine beside the nodes that votes and runs no guests; then there are votes.
    voters_at_most, replace_after_s   the settings of these names, where votes move.
    """

    nodes: int = 3
    roles: int = 4
    networks: tuple[NetworkName, ...] = (NetworkName("cluster-a"), NetworkName("cluster-b"))
    has_fence: bool = True
    watchdog_s: float | None = 3.0
    are_guests_deaf: bool = False
    clock_error: float = 0.0
    quarantine_s: int | None = None
    disks: int = 0
    owned: int = 0
    helped: int = 0
    keeps_memory: bool = False
    target: DiskTraits | None = None
    paths: int = 1
    heartbeats: int = 0
    votes: bool = False
    witness: bool = False
    voters_at_most: int = 5
    replace_after_s: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The records that a cluster begins with.

    watchdog_s    per node the time-out of its watchdog; None or absent: it has none.
    clock_drift   per node the share by which its clock is too fast; absent: it is drawn.
    """

    nodes: tuple[NodeSpec, ...]
    roles: tuple[RoleSpec, ...]
    settings: Settings
    disks: tuple[DiskSpec, ...] = ()
    watchdog_s: Mapping[NodeName, float | None] = field(default_factory=dict)
    clock_drift: Mapping[NodeName, float] = field(default_factory=dict)


def layout_of(make: Make) -> Layout:
    """The layout that a seed's draws describe."""
    nodes = tuple(_nodes(make))
    return Layout(
        nodes=nodes,
        roles=tuple(_roles(make)),
        settings=_settings(make),
        disks=tuple(_disks(make)),
        watchdog_s={node.name: make.watchdog_s for node in nodes},
    )


def _settings(make: Make) -> Settings:
    settings = Settings(saved_state_directory=SAVED_STATE_DIRECTORY if make.keeps_memory else "")
    if make.helped:
        settings = replace(settings, storage_loss_move_ms=LOSS_MS)
    if make.votes:
        settings = replace(settings, voters_at_most=make.voters_at_most, voter_replace_after_s=make.replace_after_s)
    if make.quarantine_s is None:
        return replace(settings, quarantine_losses=1000)
    return replace(settings, quarantine_s=make.quarantine_s)


def voters_among(nodes: int) -> int:
    """How many of so many nodes vote: an odd number up to 5, and both of two."""
    return nodes if nodes == 2 else min(MAX_VOTERS, nodes - 1 + nodes % 2)


def node_spec(number: int, *, name: NodeName, of: int, networks: tuple[NetworkName, ...], has_fence: bool) -> NodeSpec:
    """The record of the node with this number, from 1, of so many."""
    return NodeSpec(
        name=name,
        addresses={network: f"10.0.{index}.{number}" for index, network in enumerate(networks)},
        is_voter=number <= voters_among(of),
        etcd_client_port=7407,
        etcd_peer_port=7408,
        heartbeat_port=7405,
        join_port=7406,
        fence=FenceSpec(agent="fence_sim", options={"plug": name}) if has_fence else None,
    )


def uuid_of(number: int) -> str:
    """The uuid of the guest with this number."""
    return f"00000000-0000-4000-8000-{number:012d}"


def domain_xml(name: RoleName, uuid: str, *, memory_bytes: int, vcpus: int) -> str:
    """A guest with no disk."""
    return DOMAIN_XML.format(name=name, uuid=uuid, memory_mib=memory_bytes // MIB, vcpus=vcpus)


def disk_spec(number: int, name: DiskName, *, is_heartbeat: bool = False, has_helper: bool = False) -> DiskSpec:
    """The record of the target's disk with this number, from 1."""
    return DiskSpec(
        name=name,
        designator=designator_of(number),
        size_bytes=MIB,
        guest_source="" if is_heartbeat else f"/dev/disk/by-id/{name}",
        reservations=f"helper:/run/{name}" if has_helper else f"sg:/dev/disk/by-id/{name}",
        is_heartbeat=is_heartbeat,
    )


def _nodes(make: Make) -> Iterator[NodeSpec]:
    for number in range(1, make.nodes + 1):
        name = NodeName(f"node{number}")
        spec = node_spec(number, name=name, of=make.nodes, networks=make.networks, has_fence=make.has_fence)
        yield _seated(spec, number in _first_seats(make), number) if make.votes else spec
    if make.witness:
        number = make.nodes + 1
        spec = node_spec(number, name=WITNESS, of=number, networks=make.networks, has_fence=False)
        yield _seated(replace(spec, is_witness=True), number in _first_seats(make), number)


def _first_seats(make: Make) -> list[int]:
    """The numbers of those that vote at first: an odd number, the witness the second of them."""
    numbers = list(range(1, make.nodes + 1))
    if make.witness:
        numbers.insert(1, make.nodes + 1)
    count = min(len(numbers), make.voters_at_most)
    return numbers[: count - 1 + count % 2]


def _seated(spec: NodeSpec, is_voter: bool, member: int) -> NodeSpec:
    return replace(spec, is_voter=is_voter, seat=member if is_voter else None)


def _disks(make: Make) -> Iterator[DiskSpec]:
    for number in range(1, make.disks + make.heartbeats + 1):
        is_heartbeat = number > make.disks
        name = DiskName(f"beat{number - make.disks}" if is_heartbeat else f"disk{number}")
        yield disk_spec(number, name, is_heartbeat=is_heartbeat)
    for role in range(1, make.owned + 1):
        number = make.disks + make.heartbeats + role
        yield replace(disk_spec(number, DiskName(f"own{role}")), protection=Protection.ROLE)
    for index in range(1, make.helped + 1):
        role = make.owned + index
        number = make.disks + make.heartbeats + role
        yield disk_spec(number, DiskName(f"lone{role}"), has_helper=True)


def _disks_of(role: int, make: Make) -> tuple[DiskName, ...]:
    """Neighbours share a disk, and every third role has two."""
    if role <= make.owned:
        return (DiskName(f"own{role}"),)
    if role <= make.owned + make.helped:
        return (DiskName(f"lone{role}"),)
    count = min(make.disks, 2 if role % 3 == 0 else 1)
    return tuple(DiskName(f"disk{(role // 2 + index) % make.disks + 1}") for index in range(count))


def _roles(make: Make) -> Iterator[RoleSpec]:
    for number in range(1, make.roles + 1):
        name, uuid = RoleName(f"web{number}"), uuid_of(number)
        yield RoleSpec(
            name=name,
            uuid=uuid,
            domain_xml=domain_xml(name, uuid, memory_bytes=GIB, vcpus=1),
            memory_bytes=GIB,
            vcpus=1,
            disk_paths=(),
            disks=_disks_of(number, make),
            wanted=Wanted.ONLINE,
            shutdown_timeout_ms=5_000,
            on_storage_loss=StorageLoss.MOVE if make.helped and number % 2 else StorageLoss.WAIT,
        )
