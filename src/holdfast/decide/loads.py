"""How loaded nodes are, and how far from even: the arithmetic that balancing rests on.

Rule of the file: whole numbers only, so that every node that decides comes to the same result. A node's load is the
larger of two shares: of its memory, and of its vCPUs with overcommit; a role that moves counts where it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.roles import RoleSpec
from holdfast.model.snapshot import Snapshot

WHOLE: Final = 10_000
"""A full node: loads are in hundredths of a percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Memory in bytes and vCPUs: what a node has, or what roles take of it."""

    memory_bytes: int = 0
    vcpus: int = 0

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(memory_bytes=self.memory_bytes + other.memory_bytes, vcpus=self.vcpus + other.vcpus)

    def minus(self, other: Amount) -> Amount:
        """What is left without `other`."""
        return Amount(memory_bytes=self.memory_bytes - other.memory_bytes, vcpus=self.vcpus - other.vcpus)


def amount_of(specs: Iterable[RoleSpec]) -> Amount:
    """What roles take together."""
    taken = Amount()
    for spec in specs:
        taken = taken.plus(Amount(memory_bytes=spec.memory_bytes, vcpus=spec.vcpus))
    return taken


def rooms_of(snapshot: Snapshot) -> dict[NodeName, Amount]:
    """What each node that reports has for guests, by name; a node without memory or vCPUs is left out."""
    rooms = {}
    for name in sorted(snapshot.reports.keys() & snapshot.nodes.keys()):
        total = snapshot.nodes[name].value.capacity or snapshot.reports[name].value.capacity
        if total.memory_bytes > 0 and total.vcpus > 0:
            vcpus = total.vcpus * snapshot.settings.vcpu_overcommit
            rooms[name] = Amount(memory_bytes=total.memory_bytes, vcpus=vcpus)
    return rooms


def taken_of(snapshot: Snapshot, nodes: Iterable[NodeName]) -> dict[NodeName, Amount]:
    """What roles take of each of the nodes."""
    taken = {node: Amount() for node in nodes}
    for role, ownership in snapshot.ownerships.items():
        home = ownership.value.target or ownership.value.owner
        spec = snapshot.specs.get(role)
        if spec is not None and home in taken:
            taken[home] = taken[home].plus(amount_of((spec.value,)))
    return taken


def load(taken: Amount, room: Amount) -> int:
    """How full a node is, in hundredths of a percent; above `WHOLE` when it is promised more than it has."""
    return max(taken.memory_bytes * WHOLE // room.memory_bytes, taken.vcpus * WHOLE // room.vcpus)


def loads_of(taken: Mapping[NodeName, Amount], rooms: Mapping[NodeName, Amount]) -> dict[NodeName, int]:
    """How full each node is."""
    return {node: load(taken[node], rooms[node]) for node in taken}


def spread(loads: Sequence[int]) -> int:
    """How far the fullest and the emptiest node are apart."""
    return max(loads) - min(loads) if loads else 0


def moves_at_least(loads: Sequence[int], limit: int) -> int:
    """A number of moves below which no plan brings the loads within the limit.

    However wide the final range lies, what is above it has to give and what is below has to take, one node per move.
    """
    ordered = sorted(loads)
    above = (sum(1 for one in ordered if one > floor + limit) for floor in ordered)
    return min((max(below, over) for below, over in enumerate(above)), default=0)
