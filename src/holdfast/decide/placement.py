"""Where a role can go and where it goes best: filter, then score, each with its reasons.

Rule of the file: `refusals` and `score` say it for one node; `best` looks only at nodes that can win, `explain` at all.
Both give the same node, which a property test holds them to. Source: DESIGN section 10, docs/placement.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from holdfast.decide.layout import Layout, Neighbours
from holdfast.model.ids import NodeName, SiteName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Ownership, RoleSpec

NODES_NAMED: Final = 16
"""A role that nobody can take names the reasons of so many nodes; `explain` names all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where a role goes (None: nowhere), why there, and per other node why not."""

    node: NodeName | None
    reasons: tuple[Reason, ...]
    refused: Mapping[NodeName, tuple[Reason, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy:
    """One role that looks for a node.

    avoid      nodes that are taken only when no other can take the role.
    left_out   nodes that are not taken at all.
    slow       nodes whose way to a disk of the role is slow: any other that can take the role is better.
    """

    spec: RoleSpec
    ownership: Ownership
    layout: Layout
    neighbours: Neighbours
    avoid: frozenset[NodeName] = frozenset()
    left_out: frozenset[NodeName] = frozenset()
    slow: frozenset[NodeName] = frozenset()

    @property
    def last_site(self) -> SiteName | None:
        """Where it was before."""
        return self.layout.site_of(self.ownership.owner or self.ownership.last_owner)


def candidacy(
    spec: RoleSpec,
    ownership: Ownership,
    layout: Layout,
    *,
    avoid: Iterable[NodeName] = (),
    left_out: Iterable[NodeName] = (),
) -> Candidacy:
    """Prepare the search."""
    return Candidacy(
        spec=spec,
        ownership=ownership,
        layout=layout,
        neighbours=layout.neighbours(spec),
        avoid=frozenset(avoid),
        left_out=frozenset(left_out),
        slow=frozenset().union(*(layout.slow.get(disk, frozenset()) for disk in spec.disks)),
    )


def best(search: Candidacy) -> NodeName | None:
    """Return the best node that can take the role, or None."""
    return min(
        (node for node in _contenders(search) if node not in search.left_out and not refusals(search, node)),
        key=lambda node: score(search, node),
        default=None,
    )


def choose(search: Candidacy) -> Choice:
    """Choose the node for a role, and say why; when there is none, say of the first nodes why not."""
    node = best(search)
    if node is not None:
        return Choice(node=node, reasons=why(search, node), refused={})
    nodes = [name for name in sorted(search.layout.snapshot.nodes) if name not in search.left_out]
    refused = {name: refusals(search, name) for name in nodes[:NODES_NAMED]}
    reasons = [because(ReasonCode.NO_CANDIDATE, search.spec.name)]
    if len(nodes) > NODES_NAMED:
        reasons.append(because(ReasonCode.MORE_NODES, search.spec.name, nodes=len(nodes) - NODES_NAMED))
    return Choice(node=None, reasons=tuple(reasons), refused=refused)


def refusals(search: Candidacy, node: NodeName) -> tuple[Reason, ...]:
    """Return every reason why `node` cannot take the role; empty when it can.

    A pause does not keep a role from coming back to where its move began.
    """
    spec, ownership, layout = search.spec, search.ownership, search.layout
    found: list[Reason] = []
    if spec.possible_owners and node not in spec.possible_owners:
        found.append(because(ReasonCode.NOT_POSSIBLE_OWNER, node))
    if node in layout.closed:
        comes_back = node == ownership.source
        found += [why for why in layout.closed[node] if not (comes_back and why.code is ReasonCode.NODE_PAUSED)]
    if node in ownership.failed_on and ownership.generation == spec.generation:
        found.append(because(ReasonCode.START_FAILED_HERE, node))
    found += _disks_not_ready(search, node)
    found += _at_odds(search.neighbours, node)
    left = layout.free.get(node)
    if left is not None and left.memory_bytes < spec.memory_bytes:
        sizes = {"free_bytes": max(0, left.memory_bytes), "needed_bytes": spec.memory_bytes}
        found.append(because(ReasonCode.MEMORY_SHORT, node, **sizes))
    if left is not None and left.vcpus < spec.vcpus:
        found.append(because(ReasonCode.VCPUS_SHORT, node, free_vcpus=max(0, left.vcpus), needed_vcpus=spec.vcpus))
    return tuple(found)


def _disks_not_ready(search: Candidacy, node: NodeName) -> Iterator[Reason]:
    """What the node's own report has against the disks of the role; a disk that it does not name is not ready."""
    report = search.layout.snapshot.reports.get(node)
    for disk in search.spec.disks:
        health = report.value.disks.get(disk) if report is not None else None
        if health is None or not health.can_become_ready:
            detail = (health.detail or health.state) if health is not None else "it has not looked at it yet"
            yield because(ReasonCode.DISK_NOT_READY, node, disk=disk, detail=detail)


def _at_odds(neighbours: Neighbours, node: NodeName) -> Iterator[Reason]:
    """What hard labels have against a node."""
    for home, joined in sorted(neighbours.must_join.items()):
        if home != node:
            yield because(ReasonCode.MUST_JOIN, node, role=joined.role, home=home, label=joined.label)
            break
    if (avoided := neighbours.must_avoid.get(node)) is not None:
        yield because(ReasonCode.MUST_AVOID, node, role=avoided.role, label=avoided.label)


def _contenders(search: Candidacy) -> Iterable[NodeName]:
    """The nodes among which the best one is: those that something speaks for or against, and the roomiest others.

    Where some are slow, the roomiest of those that are not is among them too.
    """
    spec, ownership, neighbours = search.spec, search.ownership, search.neighbours
    nodes = search.layout.snapshot.nodes
    if neighbours.must_join:
        return [node for node in neighbours.must_join if node in nodes]
    if spec.possible_owners:
        return [node for node in dict.fromkeys(spec.possible_owners) if node in nodes]
    back = () if ownership.source is None else (ownership.source,)
    special = dict.fromkeys((*spec.preferred_owners, *sorted(search.avoid), *ownership.failed_on, *back))
    special |= dict.fromkeys((*neighbours.must_avoid, *neighbours.joins, *neighbours.avoids))
    found = {node: None for node in special if node in nodes}
    for site in dict.fromkeys((None, spec.preferred_site, search.last_site)):
        for passed_over in (special, (*special, *search.slow)) if search.slow else (special,):
            if (roomiest := _roomiest(search, site, passed_over)) is not None:
                found[roomiest] = None
    return found


def _roomiest(search: Candidacy, site: SiteName | None, special: Collection[NodeName]) -> NodeName | None:
    layout, spec = search.layout, search.spec
    for node in layout.by_room(site):
        left = layout.free[node]
        if left.memory_bytes < spec.memory_bytes:
            return None
        fits = left.vcpus >= spec.vcpus and node not in special and node not in search.left_out
        if fits and not any(_disks_not_ready(search, node)):
            return node
    return None


def score(search: Candidacy, node: NodeName) -> tuple[bool, bool, int, bool, bool, int, int, int, NodeName]:
    """Lower is better: quick disks, preferred owners in order, sites, labels, free memory, fewer roles, the name."""
    spec, left, neighbours = search.spec, search.layout.free[node], search.neighbours
    site = search.layout.site_of(node)
    return (
        node in search.avoid,
        node in search.slow,
        rank(spec, node),
        spec.preferred_site is not None and site != spec.preferred_site,
        search.last_site is not None and site != search.last_site,
        neighbours.avoids.get(node, 0) - neighbours.joins.get(node, 0),
        -left.memory_bytes,
        left.roles,
        node,
    )


def rank(spec: RoleSpec, node: NodeName | None) -> int:
    """Where a node stands among the preferred owners, from 0; all that are not preferred stand behind them."""
    return spec.preferred_owners.index(node) if node in spec.preferred_owners else len(spec.preferred_owners)


def why(search: Candidacy, node: NodeName) -> tuple[Reason, ...]:
    """Say what decided for a node that was chosen."""
    return (*_what_speaks_for(search, node), *_slow_disks(search, node))


def _slow_disks(search: Candidacy, node: NodeName) -> Iterator[Reason]:
    """Say of a node that it was chosen although its disks are slow, or of which better one they kept the role away."""
    slow = node if node in search.slow else best(replace(search, slow=frozenset())) if search.slow else node
    for disk in search.spec.disks:
        if slow is not None and slow in search.layout.slow.get(disk, ()):
            yield because(ReasonCode.DISK_SLOW, slow, disk=disk)


def _what_speaks_for(search: Candidacy, node: NodeName) -> tuple[Reason, ...]:
    spec, site = search.spec, search.layout.site_of(node)
    if node in spec.preferred_owners:
        return (because(ReasonCode.PREFERRED_OWNER, node, rank=rank(spec, node) + 1),)
    if (joined := search.neighbours.must_join.get(node)) is not None:
        return (because(ReasonCode.JOINS, node, role=joined.role, label=joined.label),)
    others = replace(search, left_out=search.left_out | {node})
    if best(others) is None:
        return (because(ReasonCode.ONLY_CANDIDATE, node),)
    if site is not None and site == spec.preferred_site:
        return (because(ReasonCode.PREFERRED_SITE, node, site=site), because(ReasonCode.MOST_FREE, node))
    if site is not None and site == search.last_site:
        return (because(ReasonCode.SAME_SITE, node, site=site), because(ReasonCode.MOST_FREE, node))
    if node in search.neighbours.joins:
        return (because(ReasonCode.WISHED_NEIGHBOURS, node, roles=search.neighbours.joins[node]),)
    return (because(ReasonCode.MOST_FREE, node),)
