"""`holdfast status`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from holdfast.cli.connection import ask, follow
from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Command
from holdfast.cli.output import console, json_option, put_json, put_json_line, show
from holdfast.cli.words import instant
from holdfast.client import requests
from holdfast.model.status import ClusterStatus


@click.command(cls=Command, examples=("holdfast status", "holdfast status --watch", "holdfast status --json"))
@click.option(
    "--watch", is_flag=True, help="Follow it: redrawn on a terminal, else one line per change. Ctrl-C ends it."
)
@json_option
@click.pass_context
def status(context: click.Context, *, watch: bool, as_json: bool) -> None:
    """Show the cluster at a glance.

    Its verdict in words, the nodes, the roles, and then what is wrong with the next step. With --watch --json every
    change is one line of JSON.
    """
    if not watch:
        _once(as_json=as_json)
        return
    try:
        _watch(_changed(follow(requests.watch_status())), as_json=as_json)
    except KeyboardInterrupt:
        context.exit(ExitCode.INTERRUPTED)


def _once(*, as_json: bool) -> None:
    answer = ask(requests.status())
    if as_json:
        put_json(answer)
        return
    from holdfast.cli.status_page import status_page

    show(status_page(answer))


def _watch(stream: Iterator[ClusterStatus], *, as_json: bool) -> None:
    if as_json:
        for answer in stream:
            put_json_line(answer)
    elif sys.stdout.isatty():
        _redraw(stream)
    else:
        _print_changes(stream)


def _changed(stream: Iterator[ClusterStatus]) -> Iterator[ClusterStatus]:
    """Leave out what looks as before; the daemon also sends when only time has passed."""
    before: ClusterStatus | None = None
    for answer in stream:
        if answer != before:
            yield answer
        before = answer


def _redraw(stream: Iterator[ClusterStatus]) -> None:
    from rich.live import Live
    from rich.text import Text

    from holdfast.cli.status_page import status_page

    with Live(Text("waiting for holdfastd"), console=console(), auto_refresh=False) as live:
        for answer in stream:
            live.update(status_page(answer), refresh=True)


def _print_changes(stream: Iterator[ClusterStatus]) -> None:
    from holdfast.cli.changes import changes

    before: ClusterStatus | None = None
    for answer in stream:
        at = instant(int(datetime.now(UTC).timestamp() * 1000))
        for line in changes(before, answer):
            click.echo(f"{at}  {line}")
        before = answer
