"""Whether the rest of the cluster can hold what drains take away, asked before a drain begins.

Rule of the file: all nodes that are being drained count together, so that two people who drain two nodes at once are
told so before their guests are under way. Source: docs/maintenance.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from holdfast.decide.freedom import has_living_owner
from holdfast.decide.layout import Layout
from holdfast.decide.moves import Movers
from holdfast.decide.orders import drained_node
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Ownership, Phase
from holdfast.model.snapshot import Snapshot, Versioned

_WANT_OF_ROOM: Final = (ReasonCode.MEMORY_SHORT, ReasonCode.VCPUS_SHORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """What drains want of the nodes that stay, and what there is. Bytes of memory, and vCPUs with overcommit.

    nodes      those that are drained, the new one among them.
    leaving    the roles that they own now, but for those that are on their way to a node that stays.
    homeless   those of them that no node has room for.
    remaining  the nodes that take roles.
    """

    nodes: tuple[NodeName, ...]
    leaving: tuple[RoleName, ...]
    homeless: tuple[RoleName, ...]
    remaining: tuple[NodeName, ...]
    wanted_bytes: int
    free_bytes: int
    wanted_vcpus: int
    free_vcpus: int


def shortage(snapshot: Snapshot, node: NodeName, now_ms: int) -> Shortage | None:
    """Return what is missing when `node` is drained besides those that are already; None when all finds room.

    A role that stays for another reason than room is no shortage: it is named, and runs on where it is.
    """
    drained = drained_node(snapshot, node)
    nodes = tuple(name for name in sorted(drained.nodes) if drained.nodes[name].value.is_draining)
    drained = _turned_back(drained, nodes)
    movers, layout = Movers(drained, now_ms, at_once=len(snapshot.specs)), Layout(drained, now_ms)
    free = {name: left for name, left in sorted(layout.free.items()) if name not in layout.closed}
    free_bytes = sum(max(0, left.memory_bytes) for left in free.values())
    free_vcpus = sum(max(0, left.vcpus) for left in free.values())
    leaving = []
    for role in sorted(drained.specs.keys() & drained.ownerships.keys()):
        ownership = drained.ownerships[role].value
        on_its_way = ownership.target is not None and ownership.is_leaving
        if ownership.owner in nodes and not on_its_way and has_living_owner(ownership, drained):
            leaving.append(role)
            movers.look_at(drained.specs[role].value, ownership)
    staying = movers.decide(layout).staying if movers.has_work else {}
    homeless = tuple(role for role in leaving if any(why.code in _WANT_OF_ROOM for why in staying.get(role, ())))
    if not homeless:
        return None
    return Shortage(
        nodes=nodes,
        leaving=tuple(leaving),
        homeless=homeless,
        remaining=tuple(free),
        wanted_bytes=sum(drained.specs[role].value.memory_bytes for role in leaving),
        free_bytes=free_bytes,
        wanted_vcpus=sum(drained.specs[role].value.vcpus for role in leaving),
        free_vcpus=free_vcpus,
    )


def _turned_back(snapshot: Snapshot, nodes: Collection[NodeName]) -> Snapshot:
    """The snapshot as if nothing were on its way from one of these nodes to another: all of it has to go elsewhere."""

    def turned_back(before: Versioned[Ownership]) -> Versioned[Ownership]:
        ownership = before.value
        if not ownership.is_leaving or ownership.owner not in nodes or ownership.target not in nodes:
            return before
        stayed = replace(ownership, phase=Phase.ONLINE, target=None, source=None, method=None)
        return replace(before, value=stayed)

    return replace(snapshot, ownerships={role: turned_back(one) for role, one in snapshot.ownerships.items()})
