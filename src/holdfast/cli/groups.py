"""Commands that carry working examples, and groups that load their commands when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NoReturn

import click

from holdfast.cli.exit_codes import ExitCode


class Command(click.Command):
    """A command whose help ends with examples. A test runs every one of them through the parser."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples: Final = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples unwrapped, so that they can be copied."""
        write_examples(self.examples, formatter)


class Group(click.Group):
    """A group whose help ends with examples; without a subcommand it shows its help."""

    command_class = Command

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **attributes: Any) -> None:
        attributes["no_args_is_help"] = False
        super().__init__(*args, **attributes)
        self.examples: Final = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without arguments the help is the most useful answer, though it is not what was asked for."""
        if not args and not ctx.resilient_parsing:
            _show_help(ctx)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples unwrapped, so that they can be copied."""
        write_examples(self.examples, formatter)


class LazyGroup(Group):
    """A group that knows its commands by name and summary, and loads the module of one when it is used.

    `entries`: per command its summary and where it is, as "module:attribute". A test compares the summaries.
    """

    def __init__(self, *args: Any, entries: dict[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.entries: Final = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were declared."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name not in self.entries:
            return None
        module, _, attribute = self.entries[cmd_name][1].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), f"{self.entries[cmd_name][1]} is no command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (summary, _) in self.entries.items()])


def write_examples(examples: tuple[str, ...], formatter: click.HelpFormatter) -> None:
    """Write an EXAMPLE section."""
    if examples:
        with formatter.section("EXAMPLE"):
            formatter.write("".join(f"{' ' * formatter.current_indent}{line}\n" for line in examples))


def _show_help(ctx: click.Context) -> NoReturn:
    click.echo(ctx.get_help(), err=True)
    ctx.exit(ExitCode.INVALID)
