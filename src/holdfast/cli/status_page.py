"""The page of `holdfast status`: the verdict, the nodes, the roles, and what is wrong with the next step."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from holdfast.cli.appearance import BAD, GOOD, WARNING, Badge
from holdfast.cli.tables import node_table, role_table
from holdfast.cli.verdict import Trouble, troubles, verdict
from holdfast.cli.words import printable
from holdfast.model.status import ClusterStatus, NodeState


def status_page(status: ClusterStatus) -> RenderableType:
    """Return the page of one cluster."""
    found = troubles(status)
    parts: list[RenderableType] = [*_header(status, found), Text(), node_table(status.nodes), Text()]
    if status.roles:
        parts.append(role_table(status.roles))
    else:
        parts.append(Text("no roles yet; next: holdfast vm add FILE.xml"))
    if found:
        parts += [Text(), *(_trouble(trouble) for trouble in found)]
    return Group(*parts)


def _header(status: ClusterStatus, found: list[Trouble]) -> list[RenderableType]:
    look = BAD if any(trouble.is_grave for trouble in found) else WARNING if found else GOOD
    up = sum(node.state in {NodeState.UP, NodeState.BADLY_CONNECTED} for node in status.nodes)
    facts = (
        f"{up} of {len(status.nodes)} nodes up",
        f"{status.voters_up} of {status.voters} voters",
        f"coordinator {status.coordinator or 'none'}",
        f"as {status.answered_by} sees it",
    )
    return [Badge(look, f"{status.cluster}: {verdict(status)}"), Text(f"  {', '.join(facts)}", style="dim")]


def _trouble(trouble: Trouble) -> RenderableType:
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(overflow="fold")
    for reason in trouble.why:
        lines.add_row(printable(reason))
    if trouble.next_step:
        lines.add_row(Text(f"next: {trouble.next_step}", style="bold"))
    what = Badge(BAD if trouble.is_grave else WARNING, printable(trouble.what))
    return Group(what, Padding(lines, (0, 0, 0, 4))) if lines.row_count else what
