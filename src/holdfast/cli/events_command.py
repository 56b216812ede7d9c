"""`holdfast events`."""

from __future__ import annotations

import click

from holdfast.cli.connection import ask, follow
from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Command
from holdfast.cli.output import json_option, put_json, put_json_line
from holdfast.cli.words import instant, printable
from holdfast.client import requests
from holdfast.model.status import EventLine


@click.command(cls=Command, examples=("holdfast events --limit 20", "holdfast events --follow --json"))
@click.option("--follow", "follows", is_flag=True, help="Go on with new events as they happen. Ctrl-C ends it.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="So many of the newest.")
@json_option
@click.pass_context
def events(context: click.Context, *, follows: bool, limit: int, as_json: bool) -> None:
    """Show what happened, oldest first.

    A line says when, seen by which node, and what. With --follow --json every event is one line of JSON.
    """
    if not follows:
        lines = ask(requests.events(limit=limit))
        if as_json:
            put_json(lines)
        for line in () if as_json else lines:
            click.echo(sentence(line))
        return
    try:
        for line in follow(requests.follow_events(limit=limit)):
            if as_json:
                put_json_line(line)
            else:
                click.echo(sentence(line))
    except KeyboardInterrupt:
        context.exit(ExitCode.INTERRUPTED)


def sentence(line: EventLine) -> str:
    """Return an event as one line, never wrapped, so that it can be searched."""
    return f"{instant(line.event.at_ms)}  {line.event.node}  {printable(line.text, one_line=True)}"
