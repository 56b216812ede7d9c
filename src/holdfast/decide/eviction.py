"""Whether a node may be taken out of the cluster for good or leave by itself, and what of the roles goes with it.

Rule of the file: a node leaves only when nothing of any role can be on it: it is drained, or proven harmless, and no
record names it as an owner or as an end of a move. Of a witness nothing needs proof: it takes no roles.
Source: SAFE-2, DESIGN section 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from holdfast.decide.fencing import is_proven_dead
from holdfast.decide.voters import votes_without
from holdfast.model.ids import NodeName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import RoleSpec
from holdfast.model.snapshot import Snapshot


def against_eviction(snapshot: Snapshot, node: NodeName) -> tuple[Reason, ...]:
    """Return every reason why a node cannot be taken out now; empty when it can, once its vote is taken back."""
    return (*_of_the_node(snapshot, node), *_of_roles(snapshot, node))


def against_leaving(snapshot: Snapshot, node: NodeName) -> tuple[Reason, ...]:
    """Return every reason why a node cannot leave in an orderly way now: it is up, empty, and its vote can go on."""
    return (*_of_leaving(snapshot, node), *_of_roles(snapshot, node))


def without_owner(spec: RoleSpec, node: NodeName) -> RoleSpec:
    """The role as it is set once a node is gone: it prefers it no longer, and may not run there."""
    preferred = tuple(one for one in spec.preferred_owners if one != node)
    possible = tuple(one for one in spec.possible_owners if one != node)
    return replace(spec, preferred_owners=preferred, possible_owners=possible)


def _of_the_node(snapshot: Snapshot, node: NodeName) -> Iterator[Reason]:
    spec, verdict = snapshot.nodes[node].value, snapshot.verdicts.get(node)
    if _is_last_host(snapshot, node):
        yield because(ReasonCode.LAST_NODE, node)
    if node in snapshot.sessions:
        if not spec.is_paused and not spec.is_witness:
            yield because(ReasonCode.NOT_DRAINED, node)
    elif verdict is not None and not spec.is_witness and not is_proven_dead(verdict.value.incarnation, snapshot):
        yield because(ReasonCode.NO_PROOF, node)


def _of_leaving(snapshot: Snapshot, node: NodeName) -> Iterator[Reason]:
    if _is_last_host(snapshot, node):
        yield because(ReasonCode.LAST_NODE, node)
        return
    if node not in snapshot.sessions:
        yield because(ReasonCode.CANNOT_LEAVE_DOWN, node)
    if not snapshot.nodes[node].value.is_voter:
        return
    voters = votes_without(snapshot, node)
    up = [name for name in voters if name in snapshot.sessions]
    needed = len(voters) // 2 + 1
    if len(up) < needed:
        down = ", ".join(name for name in voters if name not in up) or "no other node is up"
        yield because(ReasonCode.VOTES_TOO_FEW, node, voters=len(voters), needed=needed, up=len(up), down=down)


def _is_last_host(snapshot: Snapshot, node: NodeName) -> bool:
    """Whether the cluster would have no node left that can run anything. Of a witness alone nothing comes back."""
    others = (one.value.is_witness or one.value.is_leaving for name, one in snapshot.nodes.items() if name != node)
    return not snapshot.nodes[node].value.is_witness and all(others)


def _of_roles(snapshot: Snapshot, node: NodeName) -> Iterator[Reason]:
    for role, ownership in sorted(snapshot.ownerships.items()):
        if node in (ownership.value.owner, ownership.value.target, ownership.value.source):
            yield because(ReasonCode.STILL_WITH, node, role=role)
    for role, spec in sorted(snapshot.specs.items()):
        if spec.value.possible_owners == (node,):
            yield because(ReasonCode.ONLY_POSSIBLE_OWNER, node, role=role)
