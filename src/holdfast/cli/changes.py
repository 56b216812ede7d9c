"""What changed between two looks at a cluster, one line each: `holdfast status --watch` without a terminal.

Pure: two documents in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.cli.verdict import standing, verdict
from holdfast.cli.words import printable
from holdfast.model.status import ClusterStatus, NodeStatus, RoleStatus


def changes(before: ClusterStatus | None, now: ClusterStatus) -> list[str]:
    """Return what is new; without an earlier look, everything is."""
    lines = [f"cluster {now.cluster}: {verdict(now)}"] if before is None or verdict(before) != verdict(now) else []
    lines += _of_coordinator(before, now)
    lines += _of_nodes(before.nodes if before else (), now.nodes)
    lines += _of_roles(before.roles if before else (), now.roles)
    lines += _of_conditions(before, now)
    return [printable(line, one_line=True) for line in lines]


def _of_coordinator(before: ClusterStatus | None, now: ClusterStatus) -> Iterator[str]:
    if before is None or before.coordinator != now.coordinator:
        yield f"coordinator: {now.coordinator or 'none'}"


def _of_nodes(before: tuple[NodeStatus, ...], now: tuple[NodeStatus, ...]) -> Iterator[str]:
    old = {node.name: node for node in before}
    for node in now:
        known = old.pop(node.name, None)
        if known is None or _shown(known) != _shown(node):
            yield f"{node.name} is {_shown(node)}{_because(node.reasons)}"
    yield from (f"{name} left the cluster" for name in old)


def _of_roles(before: tuple[RoleStatus, ...], now: tuple[RoleStatus, ...]) -> Iterator[str]:
    old = {role.name: role for role in before}
    for role in now:
        known = old.pop(role.name, None)
        if known is None or (known.state, known.owner) != (role.state, role.owner):
            yield standing(role.name, role.state, role.owner) + _because(role.reasons)
    yield from (f"{name} is removed" for name in old)


def _of_conditions(before: ClusterStatus | None, now: ClusterStatus) -> Iterator[str]:
    old = set(before.conditions) if before else set()
    yield from (f"condition raised: {condition.text}" for condition in now.conditions if condition not in old)
    yield from (f"condition cleared: {condition.text}" for condition in old - set(now.conditions))


def _shown(node: NodeStatus) -> str:
    return f"{node.state}{', draining' if node.is_draining else ', paused' if node.is_paused else ''}"


def _because(reasons: tuple[str, ...]) -> str:
    return f", because {'; '.join(reasons)}" if reasons else ""
