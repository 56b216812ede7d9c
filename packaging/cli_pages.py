"""Write what is derived from the commands: holdfast(1), the reference in docs/cli.md, and the completion scripts.

    python packaging/cli_pages.py            writes them

A test compares what is kept with what this file would write, so help texts are the only place to edit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from holdfast.cli.completion_command import SHELLS, completion_script
from holdfast.cli.exit_codes import MEANINGS
from holdfast.cli.groups import Command, Group
from holdfast.cli.main import cli

ROOT: Final = Path(__file__).parents[1]
MARK: Final = "<!-- from here on written by packaging/cli_pages.py -->\n"
COMPLETION_FILES: Final = {"bash": "holdfast", "zsh": "_holdfast", "fish": "holdfast.fish"}
# The lab is a tool for developers and the curious; its help is with it, and its options may change at any time.
WITHOUT_PAGES: Final = {"lab"}


def pages() -> dict[Path, str]:
    """Return the text of every derived file."""
    by_hand = (ROOT / "docs/cli.md").read_text().partition(MARK)[0]
    found = {ROOT / "docs/man/holdfast.1": man_page(), ROOT / "docs/cli.md": by_hand + MARK + reference()}
    for shell in SHELLS:
        found[ROOT / "packaging/completion" / COMPLETION_FILES[shell]] = completion_script(shell) + "\n"
    return found


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    """Yield every command that is not a group, in the order of help."""
    for name in group.list_commands(context):
        if name in WITHOUT_PAGES:
            continue
        command = group.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from commands(command, inner)
        else:
            yield inner, command


def root() -> click.Context:
    """Return the context of `holdfast` itself, with the width fixed: the pages must not depend on a terminal."""
    return click.Context(cli, info_name="holdfast", terminal_width=80, **cli.context_settings)


def reference() -> str:
    """Return the commands as Markdown."""
    parts = ["\n## Commands\n"]
    for context, command in commands(cli, root()):
        parts.append(f"\n### {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "".join(parts)


def man_page() -> str:
    """Return holdfast(1)."""
    lines = [
        '.\\" Written by packaging/cli_pages.py from the help texts.',
        '.TH HOLDFAST 1 "" "Holdfast" "User Commands"',
        ".SH NAME",
        "holdfast \\- keep virtual machines available on a cluster of hosts",
        ".SH SYNOPSIS",
        ".B holdfast",
        "[\\-\\-socket FILE] COMMAND [ARGUMENTS]",
        ".SH DESCRIPTION",
        *_paragraphs(
            "holdfast asks the daemon of this machine, holdfastd(8), through its socket. Answers go to standard "
            "output; progress and errors go to standard error, an error as 'error: MESSAGE' followed by "
            "'next: WHAT TO DO'. Every command that returns data takes \\-\\-json."
        ),
        ".SH COMMANDS",
    ]
    for context, command in commands(cli, root()):
        lines += _command(context, command)
    lines += [".SS holdfast lab", "A whole cluster on this one machine, to try things: holdfast lab \\-\\-help."]
    lines += [".SH EXIT STATUS"]
    for code, meaning in MEANINGS.items():
        lines += [".TP", f".B {code.value}", _escaped(meaning + ".")]
    lines += [
        ".SH ENVIRONMENT",
        ".TP",
        ".B HOLDFAST_SOCKET",
        "The socket of holdfastd; the option \\-\\-socket wins.",
        ".TP",
        ".B NO_COLOR",
        "When set, no colours are used. States are always shown as words.",
        ".SH FILES",
        ".TP",
        ".I /run/holdfast/holdfastd.sock",
        "The socket; root only.",
    ]
    return "\n".join(lines) + "\n"


def _command(context: click.Context, command: click.Command) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS {_escaped(f'{context.command_path} {usage}')}"
    yield from _paragraphs(command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            yield from (".TP", f".B {_escaped(record[0])}", _escaped(record[1]))
    if isinstance(command, Command | Group):
        yield from (".PP", "Example:", ".PP", ".nf", ".RS", *map(_escaped, command.examples), ".RE", ".fi")


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _escaped(text: str) -> str:
    """Return text that roff takes literally; what is escaped already stays."""
    literal = text.replace("\\-", "-").replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{literal}" if literal[:1] in {".", "'"} else literal


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
