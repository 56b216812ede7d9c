"""The tables of nodes and roles, as `status` and the lists show them; they fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from holdfast.cli.appearance import NODE_LOOKS, ROLE_LOOKS, Badge
from holdfast.cli.words import instant, moment, size
from holdfast.model.backups import BackupInfo
from holdfast.model.status import NodeStatus, RoleState, RoleStatus


def node_table(nodes: Sequence[NodeStatus]) -> Table:
    """Return one line per node. FREE and MEMORY are what it has for guests."""
    table = _table("NODE", "STATE", "DUTY", "ROLES", "FREE", "MEMORY", "FENCED BY")
    for node in nodes:
        table.add_row(
            node.name,
            Badge(NODE_LOOKS[node.state], node.state + _held(node)),
            _duty(node),
            str(len(node.roles)),
            size(node.memory_free_bytes),
            size(node.memory_bytes),
            _fenced_by(node),
        )
    return table


def role_table(roles: Sequence[RoleStatus]) -> Table:
    """Return one line per role."""
    table = _table("ROLE", "STATE", "OWNER", "PRIORITY", "MEMORY", "SINCE")
    for role in roles:
        table.add_row(
            role.name,
            Badge(ROLE_LOOKS[role.state], shown_state(role)),
            _where(role),
            role.priority,
            size(role.memory_bytes),
            moment(role.since_ms),
        )
    return table


def backup_table(backups: Sequence[BackupInfo]) -> Table:
    """Return one line per backup."""
    table = _table("TAKEN", "CLUSTER", "REVISION", "ROLES", "SIZE", "FILE")
    for one in backups:
        if one.problem:
            table.add_row("damaged", "", "", "", "", f"{one.path}: {one.problem}")
            continue
        taken, revision = instant(one.taken_at_ms)[:19], str(one.revision)
        table.add_row(taken, one.cluster, revision, str(len(one.roles)), size(one.bytes), one.path)
    return table


def shown_state(role: RoleStatus) -> str:
    """The state in words: how far it is on its way, and whether memory is kept for it."""
    if role.transfer is not None:
        return f"{role.state} {role.transfer.percent} %"
    return "saved" if role.state is RoleState.OFFLINE and role.has_saved_memory else role.state


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        # A long name goes on in the next line: half a name is of no use.
        table.add_column(header, overflow="fold")
    return table


def _duty(node: NodeStatus) -> str:
    """What the node does besides running guests."""
    if node.is_coordinator or not node.is_voter:
        return "coordinator" if node.is_coordinator else "-"
    return "witness" if node.is_witness else "voter"


def _held(node: NodeStatus) -> str:
    """Why it takes no new roles."""
    return ", draining" if node.is_draining else ", paused" if node.is_paused else ""


def _where(role: RoleStatus) -> str:
    """Where it is, and where it goes."""
    goes = f" → {role.target}" if role.target not in {None, role.owner} else ""
    return f"{role.owner or '-'}{goes}"


def _fenced_by(node: NodeStatus) -> str:
    return node.fence_agent or ("watchdog" if node.watchdog else "nothing")
