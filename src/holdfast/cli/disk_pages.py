"""How disks look: what a node sees, the disks of the cluster, one of them, and a check step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.cli.appearance import BAD, GOOD, IDLE, UNSURE, WARNING, Badge, Look
from holdfast.cli.words import listed, moment, printable, size
from holdfast.model.disk_status import CheckResult, CheckStep, DiskCheck, DiskStatus, SeenDisk
from holdfast.model.disks import DiskState, Protection

DISK_LOOKS: Final[dict[DiskState, Look]] = {
    DiskState.READY: GOOD,
    DiskState.UNREACHABLE: BAD,
    DiskState.NOT_REGISTERED: IDLE,
    DiskState.EXPELLED: BAD,
    DiskState.LAPSED: WARNING,
    DiskState.STANDBY: GOOD,
}
STEP_LOOKS: Final[dict[CheckResult, Look]] = {
    CheckResult.OK: GOOD,
    CheckResult.WARNING: WARNING,
    CheckResult.FAILED: BAD,
    CheckResult.SKIPPED: IDLE,
}


def seen_page(disks: Sequence[SeenDisk]) -> RenderableType:
    """Return a few lines per disk: names and ways are too long for a table of 80 columns."""
    return Group(*(_seen(disk) for disk in disks))


def _seen(disk: SeenDisk) -> RenderableType:
    facts = [
        ("way", disk.way),
        ("disk", f"{disk.vendor} {disk.product} {size(disk.size_bytes)}, serial number {disk.serial_number or '-'}"),
        ("in the cluster", f"as {disk.disk}" if disk.disk else "no"),
        ("reservations", _reservations(disk)),
    ]
    if not disk.designator:
        facts = facts[:1]
    if disk.problem:
        facts.append(("problem", disk.problem))
    return _grid(disk.designator or "no answer", facts)


def _reservations(disk: SeenDisk) -> str:
    if disk.keys is None:
        return "not supported: it cannot be shared"
    keeps = {True: "kept without power", False: "forgotten without power", None: "perhaps forgotten without power"}
    held = disk.reservation or "nobody reserved it"
    used = f"{disk.keys} registered, {held}" if disk.keys else "nobody is registered"
    return f"{used}; {keeps[disk.keeps_reservations]}"


def disk_table(disks: Sequence[DiskStatus]) -> Table:
    """Return one line per disk of the cluster. READY: on how many of those that reported it can be used."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in ("DISK", "READY", "SIZE", "USED BY", "DESIGNATOR"):
        table.add_column(header, overflow="fold")
    for disk in disks:
        ready = sum(1 for node in disk.nodes.values() if node.state in (DiskState.READY, DiskState.STANDBY))
        look = GOOD if ready == len(disk.nodes) and ready else WARNING
        words = f"{ready} of {len(disk.nodes)}"
        table.add_row(disk.name, Badge(look, words), size(disk.size_bytes), _users(disk), disk.designator)
    return table


def _users(disk: DiskStatus) -> str:
    return "heartbeats" if disk.is_heartbeat else listed(disk.used_by)


def disk_sheet(disk: DiskStatus) -> RenderableType:
    """Return the facts of a disk, and how each node stands with it."""
    forgets = "forgotten when its target loses power" if disk.forgets_reservations else "kept without power"
    facts = [
        ("designator", disk.designator),
        ("size", f"{size(disk.size_bytes)} ({disk.size_bytes} bytes)"),
        ("guests open", disk.guest_source or "nothing"),
        ("reservations", f"{disk.reservations}; {forgets}"),
        ("registered", "every node" if disk.protection == Protection.NODE else "the owner of its role only"),
        ("used by", _users(disk)),
        ("added", moment(disk.added_at_ms)),
    ]
    nodes = Table.grid(padding=(0, 2, 0, 0))
    for name, node in disk.nodes.items():
        known = node.state in set(DiskState)
        badge = Badge(DISK_LOOKS[DiskState(node.state)] if known else UNSURE, node.state)
        told = f"{node.latency_ms} ms{' slow' if node.is_slow else ''}" if node.latency_ms is not None else ""
        nodes.add_row(Text(name, style="dim"), badge, told, printable(node.detail))
    return Group(_grid(disk.name, facts), nodes)


def check_page(check: DiskCheck) -> RenderableType:
    """Return one line per step."""
    title = f"{check.disk or check.way}, checked from {check.node}"
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for step in check.steps:
        table.add_row(*_step(step))
    return Group(Text(title, style="bold"), table)


def _step(step: CheckStep) -> tuple[RenderableType, RenderableType, RenderableType]:
    return Badge(STEP_LOOKS[step.result], step.result), Text(step.name), Text(printable(step.words, one_line=True))


def _grid(title: str, facts: Sequence[tuple[str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts:
        table.add_row(Text(label, style="dim"), Text(printable(value, one_line=True)))
    return Group(Text(printable(title), style="bold"), table)
