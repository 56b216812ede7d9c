"""Everything known of one node or one role, a line per fact."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.cli.appearance import NODE_LOOKS, ROLE_LOOKS, Badge
from holdfast.cli.tables import shown_state
from holdfast.cli.words import listed, moment, printable, size, transfer_words
from holdfast.model.status import NodeStatus, RoleStatus


def node_sheet(node: NodeStatus) -> RenderableType:
    """Return the facts of a node."""
    paused = "being drained" if node.is_draining else "paused: takes no new roles" if node.is_paused else ""
    state = f"{node.state}{f', {paused}' if paused else ''}"
    facts: list[tuple[str, RenderableType]] = [
        ("state", Badge(NODE_LOOKS[node.state], state)),
        ("coordinator", _yes(node.is_coordinator)),
        ("voter", "yes, a witness" if node.is_voter and node.is_witness else _yes(node.is_voter)),
        ("site", node.site or "-"),
        ("depends on", listed(node.fault_domains)),
        ("up since", moment(node.up_since_ms)),
        ("version", node.version or "-"),
        ("incarnation", node.incarnation or "-"),
        ("addresses", listed(f"{network} {address}" for network, address in node.addresses.items())),
        ("heard on", listed(node.heard_on)),
        ("memory", f"{size(node.memory_free_bytes)} free of {size(node.memory_bytes)}"),
        ("vCPUs", str(node.vcpus) if node.vcpus is not None else "-"),
        ("roles", listed(node.roles)),
        ("fence agent", node.fence_agent or f"none; give it one: holdfast node set {node.name} --fence-agent PROGRAM"),
        ("watchdog", node.watchdog or "none"),
    ]
    return _sheet(node.name, facts, node.reasons)


def role_sheet(role: RoleStatus) -> RenderableType:
    """Return the facts of a role."""
    facts: list[tuple[str, RenderableType]] = [
        ("state", Badge(ROLE_LOOKS[role.state], shown_state(role))),
        ("wanted", role.wanted),
        ("owner", role.owner or "-"),
        ("last owner", role.last_owner or "-"),
        ("moves to", f"{role.target} ({role.method})" if role.target else "-"),
        *([("memory moved", transfer_words(role.transfer))] if role.transfer is not None else []),
        ("phase", f"{role.phase}, epoch {role.epoch}"),
        ("since", moment(role.since_ms)),
        ("priority", role.priority),
        ("memory", size(role.memory_bytes)),
        ("vCPUs", str(role.vcpus)),
        ("preferred owners", listed(role.preferred_owners)),
        ("possible owners", listed(role.possible_owners) if role.possible_owners else "every node"),
        ("preferred site", role.preferred_site or "-"),
        ("together with", listed(role.affinity)),
        ("apart from", listed(role.anti_affinity)),
        ("failback", role.failback),
        ("moves by", role.move_method),
        ("on storage loss", role.on_storage_loss),
        ("restarts", f"{role.restarts} lately"),
        ("uuid", role.uuid),
        ("disks", "\n".join((*role.disks, *role.disk_paths)) or "-"),
    ]
    return _sheet(role.name, facts, role.reasons)


def _sheet(name: str, facts: Iterable[tuple[str, RenderableType]], reasons: tuple[str, ...]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts:
        table.add_row(Text(label, style="dim"), value)
    if reasons:
        table.add_row(Text("because", style="dim"), "\n".join(map(printable, reasons)))
    return Group(Text(name, style="bold"), table)


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
