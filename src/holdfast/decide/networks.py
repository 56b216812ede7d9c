"""Whether the addresses of a node may be changed while the cluster runs, and what follows from it.

Rule of the file: pure; at every moment of the change each pair of nodes has a network whose addresses stay, over which
they hear each other and the members of the database reach each other. Source: docs/membership.md (changing addresses).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from holdfast.model.errors import Conflict, InvalidInput, NotFound, Refused
from holdfast.model.ids import NetworkName, NodeName
from holdfast.model.nodes import NodeSpec
from holdfast.model.snapshot import Snapshot

Addresses = Mapping[NetworkName, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the node that changes sees besides the records.

    heard_on   per node that is up, the networks on which it hears that node now.
    members    per node with a member of the database, the addresses at which the other members call it.
    """

    heard_on: Mapping[NodeName, Collection[str]]
    members: Mapping[NodeName, Collection[str]] = field(default_factory=dict)


def changed_addresses(spec: NodeSpec, changes: Mapping[str, str | None]) -> dict[NetworkName, str]:
    """Return a node's addresses with some set and some (None) taken away; the order of preference stays.

    Raises: NotFound, InvalidInput.
    """
    after = dict(spec.addresses)
    for name, address in changes.items():
        network = NetworkName(name)
        if address is not None:
            after[network] = address
        elif network not in after:
            has = ", ".join(spec.addresses)
            raise NotFound(f"node {spec.name} has no address on network {name}", hint=f"its networks are: {has}")
        else:
            del after[network]
    if not after:
        raise Refused(
            f"node {spec.name} would have no network left, and nobody could hear it",
            hint="give it an address on another network first: holdfast node set NODE --address NETWORK=IP",
        )
    if len(set(after.values())) < len(after):
        raise InvalidInput(
            f"node {spec.name} would have one address on two networks", hint="give each network an address of its own"
        )
    return after


def check_addresses(snapshot: Snapshot, node: NodeName, after: Addresses, reach: Reach) -> None:
    """Refuse a change of addresses that would part nodes, or that cannot be made now. Raises: Conflict, Refused."""
    _check_standing(snapshot, node)
    _check_taken(snapshot, node, after, reach)
    before = snapshot.nodes[node].value.addresses
    kept = {network for network, address in before.items() if after.get(network) == address}
    if kept == set(before):
        return  # what is only added parts nobody, and may be what mends a bad connection
    for name, other in sorted(snapshot.nodes.items()):
        if name != node:
            _check_pair(node, other.value, kept, reach, is_up=name in snapshot.sessions)
    _check_members(snapshot, node, after, reach)


def _check_standing(snapshot: Snapshot, node: NodeName) -> None:
    if snapshot.nodes[node].value.is_witness:
        raise Refused(
            f"{node} is a witness: its addresses follow from how it reached the nodes when it joined",
            hint=f"take it out and let it join anew: holdfast witness leave {node}, holdfast witness join TOKEN",
        )
    if node not in snapshot.sessions:
        raise Refused(
            f"node {node} is not up, and only it can say whether it has an address", hint="start it, then try again"
        )


def _check_taken(snapshot: Snapshot, node: NodeName, after: Addresses, reach: Reach) -> None:
    taken = {ip: name for name, other in sorted(snapshot.nodes.items()) for ip in other.value.addresses.values()}
    taken |= {ip: name for name, addresses in sorted(reach.members.items()) for ip in addresses if name != node}
    for address in after.values():
        owner = taken.get(address, node)
        if owner != node:
            raise Conflict(f"address {address} belongs to node {owner}", hint="give this node an address of its own")


def _check_pair(node: NodeName, other: NodeSpec, kept: Collection[NetworkName], reach: Reach, *, is_up: bool) -> None:
    common = sorted(network for network in other.addresses if network in kept)
    if not common:
        has = ", ".join(other.addresses)
        raise Refused(
            f"{node} and {other.name} would have no common network whose addresses stay ({other.name} has {has})",
            hint="give both an address on another network first, one node after the other",
        )
    heard = sorted(reach.heard_on.get(other.name, ()))
    if is_up and not set(heard) & set(common):
        raise Refused(
            f"{node} hears {other.name} on {', '.join(heard) or 'no network'} now, and of their common networks only "
            f"{', '.join(common)} would stay",
            hint="mend that network first: holdfast node show says where a node is heard",
        )


def _check_members(snapshot: Snapshot, node: NodeName, after: Addresses, reach: Reach) -> None:
    """The members of the database call each other where they listen since they were started; some of that stays."""
    left = members_addresses_left(reach.members.get(node, ()), after)
    if node in reach.members and not left:
        began = ", ".join(reach.members[node])
        raise Refused(
            f"the member of the cluster database on {node} is reached at {began} only; the others call it "
            "elsewhere once it listens there, which is from its next start on",
            hint=f"have it listen at the new addresses, then try again: holdfast quorum restart {node}",
        )
    for name, theirs in sorted(reach.members.items()):
        spec = snapshot.nodes[name].value if name in snapshot.nodes else None
        if name == node or spec is None or node not in reach.members:
            continue
        ours = {network for network, address in after.items() if address in left}
        if not ours & {network for network, address in spec.addresses.items() if address in theirs}:
            raise Refused(
                f"the members of the cluster database on {node} and {name} would have no common network",
                hint=f"have both listen at the new addresses first: holdfast quorum restart {node}, and {name} there",
            )


def members_addresses_left(called: Collection[str], after: Addresses) -> tuple[str, ...]:
    """Return at which of the addresses where it is called a member is still reached."""
    return tuple(address for address in called if address in after.values())


def consequence(node: NodeName, before: Addresses, after: Addresses) -> str:
    """Say on which networks a node is heard now, and was before."""
    return f"{node}: heartbeats on {', '.join(after)} (was: {', '.join(before)})"
