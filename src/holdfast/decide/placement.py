"""Where a role can go and where it goes best: filter, then score, each with its reasons.

Source: DESIGN section 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from holdfast.model.ids import NodeName
from holdfast.model.nodes import Capacity
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Ownership, RoleSpec
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where a role goes (None: nowhere), why there, and per other node why not."""

    node: NodeName | None
    reasons: tuple[Reason, ...]
    refused: Mapping[NodeName, tuple[Reason, ...]]


def free_capacity(snapshot: Snapshot) -> dict[NodeName, Free]:
    """What is left on every node that is up and reports. Every role counts on its owner in any phase."""
    free = {}
    for name, report in snapshot.reports.items():
        node = snapshot.nodes.get(name)
        if node is None or snapshot.session_of(name, report.value.incarnation) is None:
            continue
        total: Capacity = node.value.capacity or report.value.capacity
        vcpus = total.vcpus * snapshot.settings.vcpu_overcommit
        free[name] = Free(memory_bytes=total.memory_bytes, vcpus=vcpus, roles=0)
    for role, ownership in snapshot.ownerships.items():
        owner = ownership.value.owner
        if owner in free and role in snapshot.specs:
            free[owner] = free[owner].less(snapshot.specs[role].value)
    return free


def choose(
    spec: RoleSpec,
    ownership: Ownership,
    *,
    snapshot: Snapshot,
    free: Mapping[NodeName, Free],
    now_ms: int,
    avoid: Iterable[NodeName] = (),
) -> Choice:
    """Choose the node for a role. `free` may differ from the snapshot's by what is decided already.

    avoid   nodes that are taken only when no other can take the role.
    """
    refused = {
        node: reasons
        for node in sorted(snapshot.nodes)
        if (reasons := refusals(spec, ownership, node, snapshot=snapshot, free=free, now_ms=now_ms))
    }
    candidates = [node for node in sorted(snapshot.nodes) if node not in refused]
    if not candidates:
        return Choice(node=None, reasons=(because(ReasonCode.NO_CANDIDATE, spec.name),), refused=refused)
    avoided = frozenset(avoid)
    best = min(candidates, key=lambda node: (node in avoided, *_score(spec, node, free[node])))
    return Choice(node=best, reasons=(_why(spec, best, len(candidates)),), refused=refused)


def refusals(
    spec: RoleSpec,
    ownership: Ownership,
    node: NodeName,
    *,
    snapshot: Snapshot,
    free: Mapping[NodeName, Free],
    now_ms: int,
) -> tuple[Reason, ...]:
    """Return every reason why `node` cannot take the role; empty when it can."""
    found: list[Reason] = []
    if spec.possible_owners and node not in spec.possible_owners:
        found.append(because(ReasonCode.NOT_POSSIBLE_OWNER, node))
    if snapshot.nodes[node].value.is_paused:
        found.append(because(ReasonCode.NODE_PAUSED, node))
    if node in ownership.failed_on and ownership.generation == spec.generation:
        found.append(because(ReasonCode.START_FAILED_HERE, node))
    if (losses := quarantined(snapshot, node, now_ms)) is not None:
        found.append(because(ReasonCode.NODE_QUARANTINED, node, losses=losses))
    left = free.get(node)
    if left is None:
        return (*found, because(ReasonCode.NODE_ABSENT, node))
    if (detail := snapshot.reports[node].value.not_ready) is not None:
        found.append(because(ReasonCode.NODE_NOT_READY, node, detail=detail))
    if snapshot.sessions[node].value.stopping:
        found.append(because(ReasonCode.NODE_NOT_READY, node, detail="its holdfastd is stopping"))
    if left.memory_bytes < spec.memory_bytes:
        sizes = {"free_bytes": max(0, left.memory_bytes), "needed_bytes": spec.memory_bytes}
        found.append(because(ReasonCode.MEMORY_SHORT, node, **sizes))
    if left.vcpus < spec.vcpus:
        found.append(because(ReasonCode.VCPUS_SHORT, node, free_vcpus=max(0, left.vcpus), needed_vcpus=spec.vcpus))
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


def _score(spec: RoleSpec, node: NodeName, left: Free) -> tuple[int, int, int, NodeName]:
    """Lower is better: preferred owners in order, then fewer roles per free memory, then the name."""
    rank = spec.preferred_owners.index(node) if node in spec.preferred_owners else len(spec.preferred_owners)
    return rank, -left.memory_bytes, left.roles, node


def _why(spec: RoleSpec, node: NodeName, candidates: int) -> Reason:
    if node in spec.preferred_owners:
        return because(ReasonCode.PREFERRED_OWNER, node, rank=spec.preferred_owners.index(node) + 1)
    if candidates == 1:
        return because(ReasonCode.ONLY_CANDIDATE, node)
    return because(ReasonCode.MOST_FREE, node, candidates=candidates)
