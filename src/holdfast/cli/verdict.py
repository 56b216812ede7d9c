"""The state of a whole cluster in a few words, and what is wrong with it. Pure: a document in, words out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from holdfast.cli.words import count
from holdfast.model.nodes import Condition
from holdfast.model.status import ClusterStatus, NodeState, NodeStatus, RoleState, RoleStatus

_TROUBLED_NODES: Final = (
    NodeState.LOST,
    NodeState.SUSPECT,
    NodeState.FENCED,
    NodeState.DOWN,
    NodeState.BADLY_CONNECTED,
)
_TROUBLED_ROLES: Final = (RoleState.BLOCKED, RoleState.UNKNOWN)
_SPOKEN: Final = ("no-quorum", "cluster-frozen")
_MOVING_ROLES: Final = (RoleState.STARTING, RoleState.STOPPING, RoleState.SAVING, RoleState.MIGRATING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that is wrong: what, why, and what a person can do about it; `is_grave`: something does not run."""

    what: str
    why: tuple[str, ...]
    next_step: str
    is_grave: bool


def verdict(status: ClusterStatus) -> str:
    """Return the cluster's state in words: "all well", or what is wrong, counted."""
    if not status.database_answers:
        return f"NO QUORUM: decisions are frozen (as of revision {status.revision})"
    nodes = Counter(node.state for node in status.nodes)
    roles = Counter(role.state for role in status.roles)
    wrong = ["FROZEN"] if status.is_frozen else []
    wrong += [f"{count(nodes[state], 'node')} {state}" for state in _TROUBLED_NODES if nodes[state]]
    wrong += [f"{count(roles[state], 'role')} {state}" for state in _TROUBLED_ROLES if roles[state]]
    if warnings := _warnings(status):
        wrong.append(count(len(warnings), "condition"))
    moving = [f"{count(roles[state], 'role')} {state}" for state in _MOVING_ROLES if roles[state]]
    if nodes[NodeState.JOINING]:
        moving.append(f"{count(nodes[NodeState.JOINING], 'node')} joining")
    return ", ".join([*(wrong or ["all well"]), *moving])


def troubles(status: ClusterStatus) -> list[Trouble]:
    """Return everything that is wrong, the gravest first."""
    found = [] if status.database_answers else [_no_quorum(status)]
    found += [_of_role(role) for role in status.roles if role.state in _TROUBLED_ROLES]
    found += [_of_node(node, status.answered_by) for node in status.nodes if node.state in _TROUBLED_NODES]
    frozen = [condition for condition in status.conditions if condition.code == "cluster-frozen"]
    found += [Trouble(what=one.text, why=(), next_step="holdfast cluster unfreeze", is_grave=False) for one in frozen]
    found += [Trouble(what=condition.text, why=(), next_step="", is_grave=False) for condition in _warnings(status)]
    return found


def _warnings(status: ClusterStatus) -> tuple[Condition, ...]:
    """The conditions without those that have words of their own: a lost quorum, a freeze."""
    return tuple(condition for condition in status.conditions if condition.code not in _SPOKEN)


def standing(name: str, state: RoleState, owner: str | None) -> str:
    """Return where a role stands as a sentence; one that does not run is owned by a node, not on it. Source: SAFE-5."""
    if state is RoleState.UNKNOWN:
        return f"whether {name} still runs on {owner or 'its owner'} is unknown"
    if state is RoleState.BLOCKED:
        return f"{name} is blocked{f', owned by {owner}' if owner else ''}"
    return f"{name} is {state}{f' on {owner}' if owner else ''}"


def _no_quorum(status: ClusterStatus) -> Trouble:
    needed = status.voters // 2 + 1
    silent = [node.name for node in status.nodes if node.is_voter and node.state is not NodeState.UP]
    return Trouble(
        what=(
            f"the cluster database does not answer; it needs {needed} of {status.voters} voters, "
            f"{status.voters_up} are heard"
        ),
        why=(
            "what is shown was true at that revision",
            "guests run on where at least half of the voters hear their node; a node that fewer hear stops its own",
        ),
        next_step=f"bring voters back: {', '.join(silent) or 'see their etcd.log in /var/log/holdfast'}",
        is_grave=True,
    )


def _of_role(role: RoleStatus) -> Trouble:
    return Trouble(
        what=standing(role.name, role.state, role.owner),
        why=role.reasons,
        next_step=f"holdfast explain role {role.name}",
        is_grave=role.state is RoleState.BLOCKED,
    )


def _of_node(node: NodeStatus, answered_by: str) -> Trouble:
    service = "holdfast-witness" if node.is_witness else "holdfastd"
    next_steps = {
        NodeState.LOST: f"if its power is surely off: holdfast node confirm-down {node.name}",
        NodeState.FENCED: f"once mended, switch {node.name} on; it comes back by itself",
        # A daemon that answers and has no session says in its log what it waits for.
        NodeState.DOWN: f"on {node.name}: "
        + ("journalctl -u holdfastd" if node.name == answered_by else f"systemctl start {service}"),
        NodeState.BADLY_CONNECTED: f"holdfast node show {node.name}",
    }
    return Trouble(
        what=f"{node.name} is {node.state}",
        why=node.reasons,
        next_step=next_steps.get(node.state, ""),
        is_grave=node.state is NodeState.LOST,
    )
