"""`holdfast cluster …` and `holdfast token …`."""

from __future__ import annotations

import click

from holdfast.cli.connection import ask
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put, put_json, show
from holdfast.cli.parameters import Pair, duration, login_name, place_options, setting, unique
from holdfast.cli.words import instant
from holdfast.client import requests


@click.group(
    cls=Group,
    examples=(
        "holdfast cluster create demo --node node1 --address cluster-a=10.0.0.1 --shared-directory /srv/vms",
        "holdfast cluster show",
        "holdfast cluster set timings.patience_ms 8000",
        "holdfast cluster freeze --reason 'switches are replaced'",
    ),
)
def cluster() -> None:
    """The cluster: create it, set it, freeze it."""


@cluster.command(
    "create",
    examples=(
        "holdfast cluster create demo --node node1 \\",
        "    --address cluster-a=10.0.0.1 --address cluster-b=10.0.1.1 \\",
        "    --shared-directory /srv/vms --set timings.patience_ms=8000",
    ),
)
@click.argument("name")
@place_options
@click.option(
    "--shared-directory",
    "directories",
    multiple=True,
    metavar="PATH",
    help="A directory that every node mounts from the same storage; guests' disks must be below one.",
)
@click.option(
    "--set",
    "settings",
    type=setting,
    metavar="NAME=VALUE",
    multiple=True,
    help="A setting of the cluster other than its default.",
)
@json_option
def create(
    *,
    name: str,
    node: str,
    addresses: tuple[Pair, ...],
    ports: tuple[tuple[str, int], ...],
    directories: tuple[str, ...],
    settings: tuple[Pair, ...],
    as_json: bool,
) -> None:
    """Found a cluster called NAME, with this machine as its first node.

    A certificate authority, the keys and the cluster database are made; nothing else has to be set up. The other
    machines join with a token: holdfast token create.
    """
    request = requests.create_cluster(
        cluster=name,
        node=node,
        addresses=unique(addresses, "--address"),
        shared_directories=directories,
        ports=unique(ports, "--port") or None,
        settings=unique(settings, "--set") or None,
    )
    answer = ask(request)
    put(answer, f"cluster {answer.cluster} is created; this machine is its node {answer.node}", as_json=as_json)


@cluster.command("show", examples=("holdfast cluster show", "holdfast cluster show --json"))
@json_option
def show_(*, as_json: bool) -> None:
    """Show all settings of the cluster, what differs from the defaults, and what its times add up to."""
    answer = ask(requests.show_settings())
    if as_json:
        put_json(answer)
        return
    from holdfast.cli.setting_sheets import settings_sheet

    show(settings_sheet(answer))


@cluster.command(
    "set",
    examples=(
        "holdfast cluster set timings.patience_ms 8000",
        "holdfast cluster set --dry-run timings.guard_deadline_ms 2000 timings.patience_ms 2500",
    ),
)
@click.argument("words", metavar="NAME VALUE [NAME VALUE]...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only check it, and show what the times would add up to.")
@json_option
def set_(*, words: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Change settings of the whole cluster while it runs: all that are named at once, or none.

    Lists are written as JSON: '["/srv/vms"]'. Times that are not safe together are refused, with the numbers. The nodes
    use times that fit to the old and to the new ones until every node knows of a change.
    """
    if len(words) % 2:
        raise click.UsageError(f"{words[-1]!r} has no value: give NAME VALUE, as often as you like")
    pairs = tuple(zip(words[::2], words[1::2], strict=True))
    answer = ask(requests.change_settings(unique(pairs, "NAME"), dry_run=dry_run))
    from holdfast.cli.setting_sheets import change_words

    put(answer, change_words(answer), as_json=as_json)


@cluster.command("rotate-key", examples=("holdfast cluster rotate-key",))
@json_option
def rotate_key(*, as_json: bool) -> None:
    """Give the heartbeats another key while they go on, for example after a node was taken out.

    First every node accepts the new key beside the old one, then all use it, then the old one is dropped. Nodes that
    are down take it from the database when they start. Repeated while a change is under way it follows that one.
    """
    answer = ask(requests.rotate_key())
    put(answer, f"heartbeats have another key now ({answer.id}); the one before is worth nothing", as_json=as_json)


@cluster.command("freeze", examples=("holdfast cluster freeze --reason 'switches are replaced'",))
@click.option("--reason", default="", metavar="TEXT", help="Why; shown as long as it lasts.")
@click.option("--by", metavar="NAME", help="Who says so; the login name by default.")
@json_option
def freeze(*, reason: str, by: str | None, as_json: bool) -> None:
    """Have the cluster do nothing by itself: no failover, no failback, no restart of what ends.

    Guests run on, and what people order is still done. Nodes still watch each other, and a node that is cut off still
    ends its guests, for nobody else can know that it is frozen.
    """
    answer = ask(requests.freeze_cluster(person=by or login_name(), reason=reason))
    put(
        answer,
        f"cluster {answer.cluster} is frozen: nothing fails over until: holdfast cluster unfreeze",
        as_json=as_json,
    )


@cluster.command("unfreeze", examples=("holdfast cluster unfreeze",))
@json_option
def unfreeze(*, as_json: bool) -> None:
    """Have the cluster act by itself again; what waited meanwhile is done at once."""
    answer = ask(requests.unfreeze_cluster())
    put(answer, f"cluster {answer.cluster} acts by itself again", as_json=as_json)


@click.group(cls=Group, examples=("holdfast token create --ttl 1h",))
def token() -> None:
    """Tokens that let nodes join."""


@token.command("create", examples=("holdfast token create --ttl 1h", "TOKEN=$(holdfast token create)"))
@click.option("--ttl", type=duration, metavar="DURATION", help="How long it is valid, for example 30m or 1h.")
@json_option
def create_token(*, ttl: int | None, as_json: bool) -> None:
    """Issue a token that lets one machine join the cluster, once. Whoever has it can join: keep it secret."""
    answer = ask(requests.create_token(ttl_s=ttl))
    put(answer, answer.token, as_json=as_json)
    click.echo(
        f"valid until {instant(answer.expires_at_ms)[:19]}; on the machine that is to join:\n"
        "  holdfast node join TOKEN --node NAME --address NETWORK=IP",
        err=True,
    )
