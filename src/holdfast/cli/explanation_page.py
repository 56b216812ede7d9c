"""The page of `holdfast explain role`: why here, why not running and what would unblock it, why not elsewhere."""

from __future__ import annotations

import re
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from holdfast.cli.appearance import ROLE_LOOKS, Badge
from holdfast.cli.verdict import standing
from holdfast.cli.words import printable
from holdfast.model.status import RoleExplanation, RoleState

_COMMAND: Final = re.compile(r"holdfast (?:node|vm) [a-z-]+ [\w.-]*\w")
"""A command inside a reason's sentence; `holdfast.model.reasons` writes them so."""

_OTHERWISE: Final = "it starts by itself as soon as these reasons are gone"


def explanation_page(explanation: RoleExplanation) -> RenderableType:
    """Return the page of one role."""
    parts: list[RenderableType] = [
        Badge(ROLE_LOOKS[explanation.state], standing(explanation.name, explanation.state, explanation.owner))
    ]
    if explanation.not_running:
        parts += _section("Why it does not run:", explanation.not_running)
        parts += _section("What helps:", next_steps(explanation))
    if explanation.here:
        parts += _section("Why there:" if explanation.owner else "Why so:", explanation.here)
    if explanation.elsewhere:
        parts += [Text(), Text("Why not elsewhere:", style="bold"), Padding(_elsewhere(explanation), (0, 0, 0, 2))]
    return Group(*parts)


def next_steps(explanation: RoleExplanation) -> tuple[str, ...]:
    """Return what a person can do so that the role runs: the commands that its reasons name, else what to wait for."""
    if explanation.state is RoleState.OFFLINE:
        return (f"holdfast vm start {explanation.name}",)
    named = [command for reason in explanation.not_running for command in _COMMAND.findall(reason)]
    return (*dict.fromkeys(named), _OTHERWISE)


def _section(title: str, lines: tuple[str, ...]) -> list[RenderableType]:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("-", printable(line))
    return [Text(), Text(title, style="bold"), Padding(table, (0, 0, 0, 2))]


def _elsewhere(explanation: RoleExplanation) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for node, reasons in explanation.elsewhere.items():
        table.add_row(node, "\n".join(map(printable, reasons)) or "it could run there")
    return table
