"""How iSCSI sessions look: a few lines per session, for names are too long for a table of 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.cli.appearance import BAD, GOOD, WARNING, Badge
from holdfast.cli.words import printable
from holdfast.model.kernel_sessions import KernelSession, SessionDisk, SessionList


def sessions_page(found: SessionList) -> RenderableType:
    """Return every session with its disks, then what a person should mend."""
    warnings = [Badge(WARNING, printable(words, one_line=True)) for words in found.warnings]
    return Group(*(_session(one) for one in found.sessions), *warnings)


def _session(session: KernelSession) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    look = GOOD if session.is_logged_in else BAD
    table.add_row(Text("portal", style="dim"), Text(printable(session.portal, one_line=True)))
    table.add_row(Text("state", style="dim"), Badge(look, printable(session.state, one_line=True) or "unknown"))
    seconds = session.replacement_timeout_s
    waits = "unknown" if seconds is None else f"{seconds} s for a session that broke"
    table.add_row(Text("requests wait", style="dim"), Text(waits))
    for disk in session.disks:
        table.add_row(Text(f"LUN {disk.lun}", style="dim"), Text(printable(_disk(disk), one_line=True)))
    return Group(Text(printable(session.target, one_line=True), style="bold"), table)


def _disk(disk: SessionDisk) -> str:
    over = f", below {disk.multipath}" if disk.multipath else ""
    way = f": {disk.way}" if disk.way else f": {disk.wwid}" if disk.wwid else ""
    return f"{disk.device} {disk.state}{over}{way}"
