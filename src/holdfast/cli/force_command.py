"""`holdfast quorum force`: going on with one node's data when the majority is gone for good."""

from __future__ import annotations

import click

from holdfast.cli.backup_commands import confirm, put_restored, summary
from holdfast.cli.connection import ask
from holdfast.cli.groups import Command
from holdfast.cli.output import json_option
from holdfast.cli.parameters import login_name
from holdfast.cli.words import listed
from holdfast.client import requests


@click.command(
    "force",
    cls=Command,
    examples=(
        "holdfast quorum force --from node1",
        "holdfast quorum force --from node1 --yes-the-others-are-down node2 --yes-the-others-are-down node3",
    ),
)
@click.option("--from", "node", required=True, metavar="NODE", help="Whose data to go on with; run it on that node.")
@click.option("--yes-the-others-are-down", "down", multiple=True, metavar="NAME", help="Do not ask; once per host.")
@click.option("--by", metavar="NAME", help="Who says so; the login name by default.")
@json_option
def force(*, node: str, down: tuple[str, ...], by: str | None, as_json: bool) -> None:
    """Have the cluster go on with NODE's data alone, when the majority of its voters is gone for good.

    What the lost voters knew and NODE did not is lost. If another host still runs guests, they run twice and destroy
    their disks: make sure that every other host is off. They come back by joining anew.
    """
    person = by or login_name()
    found = ask(requests.look_at_own_copy(node, person=person))
    others = tuple(name for name in found.nodes if name != node)
    click.echo(f"{node} has stored: {summary(found)}\nsaved as {found.path}", err=True)
    click.echo("What was decided after that revision without it is lost.", err=True)
    if not down:
        click.echo(
            f"Every other host must be off, and stay off until it joins anew: {listed(others) or 'there is none'}.\n"
            "A guest that still runs there would run twice.",
            err=True,
        )
        for name in others:
            confirm(name)
        down = others
    put_restored(ask(requests.force_quorum(node, person=person, down=down)), as_json=as_json)
