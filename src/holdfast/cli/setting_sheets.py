"""The settings of the cluster on a page, and what a change of them did or would do."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.cli.words import printable
from holdfast.model.setting_pages import SettingsChange, SettingsPage, TimingSum


def settings_sheet(page: SettingsPage) -> RenderableType:
    """Return all settings, then the sums of the times, then who does not use the last change yet."""
    settings = Table.grid(padding=(0, 2, 0, 0))
    settings.add_column(no_wrap=True)
    settings.add_column(overflow="fold")
    settings.add_column()
    for line in page.settings:
        note = "" if line.is_default else f"default {_shown(line.default)}"
        settings.add_row(line.name, Text(_shown(line.value), style="" if line.is_default else "bold"), note)
    sums = [Text.assemble((one.name, "dim"), f"\n  {printable(one.text)}") for one in page.arithmetic]
    heads = Text(f"settings of {page.cluster}", style="bold"), Text("\nwhat the times add up to, in ms", style="bold")
    return Group(heads[0], settings, heads[1], *sums, *_under_way(page))


def _under_way(page: SettingsPage) -> tuple[RenderableType, ...]:
    if not page.is_changing:
        return ()
    lines = [f"  {node}: {printable(why)}" for node, why in sorted(page.waits_for.items())]
    head = "a change of the times is under way; until it is over, nodes use times that fit to the old and the new ones"
    return (Text(f"\n{head}", style="bold"), *lines)


def change_words(change: SettingsChange) -> str:
    """Say what was changed from what to what, and how the sums of the times are before and after."""
    verb = "would be" if change.is_dry_run else "is now"
    lines = [f"{name} {verb} {_shown(change.after[name])} (was {_shown(change.before[name])})" for name in change.after]
    before = {one.name: one.text for one in change.sums_before}
    lines += [line for one in change.sums_after if before.get(one.name) != one.text for line in _both(one, before)]
    if change.is_dry_run:
        lines.append("nothing was changed")
    return "\n".join(map(printable, lines))


def _both(one: TimingSum, before: dict[str, str]) -> tuple[str, ...]:
    was = before.get(one.name)
    after = f"{one.name}: {one.text}"
    return (after,) if was is None else (after, f"{' ' * len(one.name)}  was: {was}")


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value not in ("", None) else "none"
