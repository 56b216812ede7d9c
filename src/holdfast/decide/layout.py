"""What stands where, as decided so far: room, neighbours and closed nodes of one plan.

Rule of the file: made once per plan from the whole snapshot, then kept current decision by decision, so that roles that
are decided together see each other; no look at one role walks over all roles. Source: DESIGN section 10.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from holdfast.model.ids import DiskName, NodeName, RoleName, SiteName
from holdfast.model.nodes import Capacity
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Label, Ownership, RoleSpec
from holdfast.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """What is left on a node, in bytes and vCPUs (overcommitted ones included)."""

    memory_bytes: int
    vcpus: int
    roles: int

    def less(self, spec: RoleSpec) -> Free:
        """What is left when `spec` runs there too."""
        return Free(
            memory_bytes=self.memory_bytes - spec.memory_bytes, vcpus=self.vcpus - spec.vcpus, roles=self.roles + 1
        )

    def more(self, spec: RoleSpec) -> Free:
        """What is left when `spec` runs there no more."""
        return Free(
            memory_bytes=self.memory_bytes + spec.memory_bytes, vcpus=self.vcpus + spec.vcpus, roles=self.roles - 1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A role with which another one shares a label, and the label."""

    role: RoleName
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Per node what stands there that a role wants to be with, or apart from.

    must_join, must_avoid   hard labels: one such neighbour per node.
    joins, avoids           soft labels: how many such neighbours each node has.
    """

    must_join: Mapping[NodeName, Neighbour] = field(default_factory=dict)
    must_avoid: Mapping[NodeName, Neighbour] = field(default_factory=dict)
    joins: Mapping[NodeName, int] = field(default_factory=dict)
    avoids: Mapping[NodeName, int] = field(default_factory=dict)


NOBODY: Final = Neighbours()

Key = tuple[int, int, NodeName]


class Layout:
    """Room and neighbours of every node at one moment of a plan.

    free     per node that is up and reports, what is left.
    closed   per node that takes no role at all, why.
    slow     per shared disk, the nodes whose way to it is slow.
    keeps_memory   whether the cluster is able to keep the memory of any guest that moves.
    """

    def __init__(self, snapshot: Snapshot, now_ms: int) -> None:
        self.snapshot = snapshot
        self.now_ms = now_ms
        self.free = _capacities(snapshot)
        self.closed = {node: why for node in sorted(snapshot.nodes) if (why := closed(snapshot, node, now_ms))}
        self.slow = _slow(snapshot)
        copies_memory = any(report.value.takes_memory is not None for report in snapshot.reports.values())
        self.keeps_memory = copies_memory or bool(snapshot.settings.saved_state_directory)
        self._together: _Shared = {}
        self._apart: _Shared = {}
        self._rankings: dict[SiteName | None, list[Key]] | None = None
        self._fill()

    def _fill(self) -> None:
        used: dict[NodeName, list[int]] = {node: [0, 0, 0] for node in self.free}
        for role, versioned in self.snapshot.ownerships.items():
            spec = self.snapshot.specs.get(role)
            if spec is None:
                continue
            for node in places(versioned.value):
                if node in used:
                    sums = used[node]
                    sums[0] += spec.value.memory_bytes
                    sums[1] += spec.value.vcpus
                    sums[2] += 1
            self._label(spec.value, versioned.value)
        for node, (memory_bytes, vcpus, roles) in used.items():
            has = self.free[node]
            self.free[node] = Free(memory_bytes=has.memory_bytes - memory_bytes, vcpus=has.vcpus - vcpus, roles=roles)

    def lift(self, spec: RoleSpec, ownership: Ownership) -> None:
        """Take a role away from wherever its record has it, in order to decide it anew."""
        self.lift_room(spec, ownership)
        self.lift_labels(spec)

    def lift_room(self, spec: RoleSpec, ownership: Ownership) -> None:
        """Give back the room that a role takes."""
        for node in places(ownership):
            if node in self.free:
                self._change(node, self.free[node].more(spec))

    def lift_labels(self, spec: RoleSpec) -> None:
        """Let a role be nobody's neighbour."""
        for label in spec.affinity:
            for holders in self._together.get(label.name, {}).values():
                holders.pop(spec.name, None)
        for label in spec.anti_affinity:
            for holders in self._apart.get(label.name, {}).values():
                holders.pop(spec.name, None)

    def put_back(self, spec: RoleSpec, ownership: Ownership) -> None:
        """Undo `lift`: the role could not be decided."""
        for node in places(ownership):
            if node in self.free:
                self._change(node, self.free[node].less(spec))
        self._label(spec, ownership)

    def put(self, spec: RoleSpec, node: NodeName) -> None:
        """Count a role on the node that it is given to; one that leaves another for it counts on both."""
        if node in self.free:
            self._change(node, self.free[node].less(spec))
        for label in spec.affinity:
            for holders in self._together.get(label.name, {}).values():
                holders.pop(spec.name, None)
        _note(self._together, spec.affinity, spec.name, node)
        _note(self._apart, spec.anti_affinity, spec.name, node)

    def neighbours(self, spec: RoleSpec) -> Neighbours:
        """Return who shares labels with a role."""
        if not spec.affinity and not spec.anti_affinity:
            return NOBODY
        must_join, joins = _sharing(self._together, spec.affinity, spec.name)
        must_avoid, avoids = _sharing(self._apart, spec.anti_affinity, spec.name)
        return Neighbours(must_join=must_join, must_avoid=must_avoid, joins=joins, avoids=avoids)

    def by_room(self, site: SiteName | None) -> Iterator[NodeName]:
        """The open nodes of a site (None: of all), those with the most free memory first."""
        if self._rankings is None:
            self._rankings = self._ranked()
        return (node for _, _, node in self._rankings.get(site, ()))

    def site_of(self, node: NodeName | None) -> SiteName | None:
        """The site of a node, or None."""
        spec = self.snapshot.nodes.get(node) if node is not None else None
        return spec.value.site if spec is not None else None

    def _ranked(self) -> dict[SiteName | None, list[Key]]:
        rankings: dict[SiteName | None, list[Key]] = {None: []}
        for node in self.free:
            if node not in self.closed:
                rankings[None].append(self._key(node))
                if (site := self.site_of(node)) is not None:
                    rankings.setdefault(site, []).append(self._key(node))
        for ranking in rankings.values():
            ranking.sort()
        return rankings

    def _change(self, node: NodeName, left: Free) -> None:
        before = self._key(node)
        self.free[node] = left
        if self._rankings is not None and node not in self.closed:
            for site in dict.fromkeys((None, self.site_of(node))):
                ranking = self._rankings[site]
                del ranking[bisect_left(ranking, before)]
                insort(ranking, self._key(node))

    def _key(self, node: NodeName) -> Key:
        left = self.free[node]
        return -left.memory_bytes, left.roles, node

    def _label(self, spec: RoleSpec, ownership: Ownership) -> None:
        home = ownership.target or ownership.owner
        if home is None:
            return
        _note(self._together, spec.affinity, spec.name, home)
        for node in places(ownership):
            _note(self._apart, spec.anti_affinity, spec.name, node)


def places(ownership: Ownership) -> tuple[NodeName, ...]:
    """Where a role takes room: on its owner, and during a move wherever it may yet end up."""
    if ownership.target is None:
        return () if ownership.owner is None else (ownership.owner,)
    found = (ownership.owner, ownership.target, ownership.source)
    return tuple(dict.fromkeys(node for node in found if node is not None))


def closed(snapshot: Snapshot, node: NodeName, now_ms: int) -> tuple[Reason, ...]:
    """Return why a node takes no role at all; empty when it does."""
    found: list[Reason] = []
    if snapshot.nodes[node].value.is_witness:
        return (because(ReasonCode.NODE_IS_WITNESS, node),)
    if snapshot.nodes[node].value.is_paused:
        found.append(because(ReasonCode.NODE_PAUSED, node))
    if (losses := quarantined(snapshot, node, now_ms)) is not None:
        found.append(because(ReasonCode.NODE_QUARANTINED, node, losses=losses))
    report = snapshot.reports.get(node)
    if report is None or snapshot.session_of(node, report.value.incarnation) is None:
        found.append(because(ReasonCode.NODE_ABSENT, node))
        return tuple(found)
    if report.value.not_ready is not None:
        found.append(because(ReasonCode.NODE_NOT_READY, node, detail=report.value.not_ready))
    if snapshot.sessions[node].value.stopping:
        found.append(because(ReasonCode.NODE_NOT_READY, node, detail="its holdfastd is stopping"))
    return tuple(found)


def quarantined(snapshot: Snapshot, node: NodeName, now_ms: int) -> int | None:
    """How often a node was lost lately when it was too often, else None. Source: DESIGN section 5."""
    verdict = snapshot.verdicts.get(node)
    if verdict is None:
        return None
    settings = snapshot.settings
    if now_ms - verdict.value.at_ms > settings.quarantine_s * 1000:
        return None
    since_ms = verdict.value.at_ms - settings.quarantine_period_s * 1000
    losses = sum(1 for at_ms in verdict.value.losses if at_ms >= since_ms)
    return losses if losses >= settings.quarantine_losses else None


_Shared = dict[str, dict[NodeName, dict[RoleName, bool]]]
"""Per label and node, the roles that carry it, and whether it is hard for them."""


def _note(shared: _Shared, labels: tuple[Label, ...], role: RoleName, node: NodeName) -> None:
    for label in labels:
        shared.setdefault(label.name, {}).setdefault(node, {})[role] = label.is_hard


def _sharing(
    shared: _Shared, labels: tuple[Label, ...], itself: RoleName
) -> tuple[dict[NodeName, Neighbour], dict[NodeName, int]]:
    must: dict[NodeName, Neighbour] = {}
    wish: dict[NodeName, int] = {}
    for label in labels:
        for node, holders in shared.get(label.name, {}).items():
            for role, is_hard in holders.items():
                if role == itself:
                    continue
                if not (label.is_hard or is_hard):
                    wish[node] = wish.get(node, 0) + 1
                elif node not in must or role < must[node].role:
                    must[node] = Neighbour(role=role, label=label.name)
    return must, wish


def _slow(snapshot: Snapshot) -> Mapping[DiskName, frozenset[NodeName]]:
    found: dict[DiskName, set[NodeName]] = {}
    for node, report in snapshot.reports.items():
        for disk, health in report.value.disks.items():
            if health.is_slow:
                found.setdefault(disk, set()).add(node)
    return {disk: frozenset(nodes) for disk, nodes in found.items()}


def _capacities(snapshot: Snapshot) -> dict[NodeName, Free]:
    free = {}
    for name, report in snapshot.reports.items():
        node = snapshot.nodes.get(name)
        if node is None or node.value.is_witness or snapshot.session_of(name, report.value.incarnation) is None:
            continue
        total: Capacity = node.value.capacity or report.value.capacity
        vcpus = total.vcpus * snapshot.settings.vcpu_overcommit
        free[name] = Free(memory_bytes=total.memory_bytes, vcpus=vcpus, roles=0)
    return free
