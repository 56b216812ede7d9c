"""`holdfast completion`."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from holdfast.cli.groups import Command

SHELLS: Final[dict[str, type[ShellComplete]]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    cls=Command,
    examples=(
        "holdfast completion bash > /etc/bash_completion.d/holdfast",
        "source <(holdfast completion bash)",
    ),
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(*, shell: str) -> None:
    """Print a script for completion in a shell.

    It completes commands, options, and the names of nodes and roles.
    """
    click.echo(completion_script(shell))


def completion_script(shell: str) -> str:
    """Return the script of one shell; it asks `holdfast` itself for completions."""
    words = SHELLS[shell](click.Command("holdfast"), {}, "holdfast", "_HOLDFAST_COMPLETE")
    return (words.source_template % words.source_vars()).strip()
