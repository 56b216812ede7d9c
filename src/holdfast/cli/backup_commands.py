"""`holdfast backup …`: copies of the cluster database, and going on from one."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.connection import ask
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put, put_json, show
from holdfast.cli.parameters import Pair, address, login_name, port, unique
from holdfast.cli.tables import backup_table
from holdfast.cli.words import count, instant, listed, size
from holdfast.client import requests
from holdfast.model.backups import BackupInfo, RestoredCluster
from holdfast.model.errors import Refused

file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group(
    cls=Group,
    examples=("holdfast backup list", "holdfast backup create /root/demo.backup", "holdfast backup restore FILE"),
)
def backup() -> None:
    """Backups of the cluster database: create, list, verify, restore."""


@backup.command("create", examples=("holdfast backup create", "holdfast backup create /root/demo.backup"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@json_option
def create(*, file: Path | None, as_json: bool) -> None:
    """Take a backup now: into FILE on this node, or among those that it takes by itself.

    It holds everything that the database holds, and the secret of the heartbeats: keep it as safe as a key.
    """
    answer = ask(requests.create_backup(None if file is None else str(file.absolute())))
    put(answer, f"{answer.path}: {summary(answer)}", as_json=as_json)


@backup.command("list", examples=("holdfast backup list", "holdfast backup list --json"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the backups on this node, oldest first; each is read completely."""
    found = ask(requests.list_backups())
    if as_json:
        put_json(found)
    elif found:
        show(backup_table(found))
    else:
        click.echo("this node keeps no backup; a node that votes takes one by itself: holdfast quorum show")


@backup.command("verify", examples=("holdfast backup verify /root/demo.backup",))
@file_argument
@json_option
def verify(*, file: Path, as_json: bool) -> None:
    """Read FILE completely, check its digest and every record, and say what is in it. Works on any machine."""
    from holdfast.node import backups

    answer = backups.verify(file)
    put(answer, f"{answer.path} is whole: {summary(answer)}", as_json=as_json)


@backup.command(
    "restore",
    examples=(
        "holdfast backup restore /root/demo.backup",
        "holdfast backup restore /root/demo.backup --node node9 --address cluster-a=10.0.0.9",
        "holdfast backup restore /root/demo.backup --yes --down node2 --down node3",
    ),
)
@file_argument
@click.option("--node", metavar="NAME", help="Name of this machine, if it is in no cluster.")
@click.option(
    "--address", "addresses", type=address, metavar="NETWORK=IP", multiple=True, help="Its address on a network."
)
@click.option("--port", "ports", type=port, metavar="NAME=NUMBER", multiple=True, help="A port other than the usual.")
@click.option("--down", multiple=True, metavar="NAME", help="A node that is down, and stays so until it joins anew.")
@click.option("--by", metavar="NAME", help="Who says so; the login name by default.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def restore(
    *,
    file: Path,
    node: str | None,
    addresses: tuple[Pair, ...],
    ports: tuple[tuple[str, int], ...],
    down: tuple[str, ...],
    by: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Have the cluster go on from FILE, with this machine as its only node, when its database is lost.

    What was changed since the backup is forgotten. Guests on this machine are ended. The other nodes are left behind:
    they end their guests as soon as they hear of it, and join anew. The cluster stays frozen until a person unfreezes
    it, and no role starts before each other node has joined anew or is proven down.
    """
    from holdfast.node import backups

    found = backups.verify(file)
    click.echo(f"{file}: {summary(found)}; its nodes: {listed(found.nodes)}", err=True)
    if not yes:
        click.echo(
            "This machine's guests end, and its present copy of the database is set aside. Other nodes end\n"
            "their guests when they hear of it. A node that joined after the backup: switch it off first.",
            err=True,
        )
        confirm(found.cluster)
    request = requests.restore_backup(
        str(file.absolute()),
        person=by or login_name(),
        down=down,
        node=node,
        addresses=unique(addresses, "--address") or None,
        ports=unique(ports, "--port") or None,
    )
    put_restored(ask(request), as_json=as_json)


def confirm(wanted: str) -> None:
    """Have a person type a name. Raises: Refused."""
    typed = click.prompt(f"Type {wanted} to confirm", err=True, default="", show_default=False)
    if typed != wanted:
        raise Refused(f"not confirmed: {typed!r} is not {wanted}", hint="nothing was done")


def put_restored(answer: RestoredCluster, *, as_json: bool) -> None:
    """Say what became of it and what to do next."""
    lines = [f"cluster {answer.cluster} goes on with {answer.node} alone, as generation {answer.generation}; frozen"]
    if answer.unaccounted:
        lines += [
            f"no role starts before these are accounted for: {listed(answer.unaccounted)}",
            "  those that work join anew: holdfast token create, and there: holdfast node join TOKEN …",
            "  those that are off: holdfast node confirm-down NAME",
        ]
    put(answer, "\n".join([*lines, "then: holdfast cluster unfreeze"]), as_json=as_json)


def summary(found: BackupInfo) -> str:
    """A backup in a few words."""
    parts = f"{count(len(found.nodes), 'node')}, {count(len(found.roles), 'role')}, {size(found.bytes)}"
    taken = instant(found.taken_at_ms)[:19]
    return f"cluster {found.cluster}, taken {taken} by {found.taken_by} at revision {found.revision}: {parts}"
