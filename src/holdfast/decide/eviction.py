"""Whether a node may be taken out of the cluster for good, and what of the roles goes with it.

Rule of the file: a node leaves only when nothing of any role can be on it: it is drained, or proven harmless, and no
record names it as an owner or as an end of a move. Source: SAFE-2, DESIGN section 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from holdfast.decide.fencing import is_proven_dead
from holdfast.model.ids import NodeName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import RoleSpec
from holdfast.model.snapshot import Snapshot


def against_eviction(snapshot: Snapshot, node: NodeName) -> tuple[Reason, ...]:
    """Return every reason why a node cannot be taken out now; empty when it can, once its vote is taken back."""
    return (*_of_the_node(snapshot, node), *_of_roles(snapshot, node))


def without_owner(spec: RoleSpec, node: NodeName) -> RoleSpec:
    """The role as it is set once a node is gone: it prefers it no longer, and may not run there."""
    preferred = tuple(one for one in spec.preferred_owners if one != node)
    possible = tuple(one for one in spec.possible_owners if one != node)
    return replace(spec, preferred_owners=preferred, possible_owners=possible)


def _of_the_node(snapshot: Snapshot, node: NodeName) -> Iterator[Reason]:
    spec, verdict = snapshot.nodes[node].value, snapshot.verdicts.get(node)
    if len(snapshot.nodes) == 1:
        yield because(ReasonCode.LAST_NODE, node)
    if node in snapshot.sessions:
        if not spec.is_paused and not spec.is_witness:
            yield because(ReasonCode.NOT_DRAINED, node)
    elif verdict is not None and not is_proven_dead(verdict.value.incarnation, snapshot):
        yield because(ReasonCode.NO_PROOF, node)


def _of_roles(snapshot: Snapshot, node: NodeName) -> Iterator[Reason]:
    for role, ownership in sorted(snapshot.ownerships.items()):
        if node in (ownership.value.owner, ownership.value.target, ownership.value.source):
            yield because(ReasonCode.STILL_WITH, node, role=role)
    for role, spec in sorted(snapshot.specs.items()):
        if spec.value.possible_owners == (node,):
            yield because(ReasonCode.ONLY_POSSIBLE_OWNER, node, role=role)
