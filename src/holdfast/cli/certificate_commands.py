"""`holdfast certificate …`: until when the nodes' certificates are good, and new ones."""

from __future__ import annotations

import click

from holdfast.cli.connection import ask
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put
from holdfast.cli.parameters import complete_node
from holdfast.cli.words import instant
from holdfast.client import requests
from holdfast.model.status import CertificateStatus


@click.group(cls=Group, examples=("holdfast certificate list", "holdfast certificate renew --all"))
def certificate() -> None:
    """The nodes' certificates: until when they are good, and new ones."""


@certificate.command("list", examples=("holdfast certificate list", "holdfast certificate list --json"))
@json_option
def list_(*, as_json: bool) -> None:
    """List until when each node's certificate is good."""
    found = ask(requests.list_certificates())
    put(found, _lines(found), as_json=as_json)


@certificate.command("renew", examples=("holdfast certificate renew node2", "holdfast certificate renew --all"))
@click.argument("node", metavar="[NODE]", required=False, shell_complete=complete_node)
@click.option("--all", "is_all", is_flag=True, help="Renew those of all nodes.")
@json_option
def renew(*, node: str | None, is_all: bool, as_json: bool) -> None:
    """Have NODE take a new certificate for its key, while everything goes on; nodes do so 120 days before the end.

    One that is down does so when it starts.
    """
    if is_all == (node is not None):
        raise click.UsageError("either NODE or --all")
    found = ask(requests.renew_certificates(node))
    put(found, _lines(found), as_json=as_json)


def _lines(found: tuple[CertificateStatus, ...]) -> str:
    return "\n".join(_line(one) for one in found)


def _line(one: CertificateStatus) -> str:
    if one.until_ms is None:
        return f"{one.node}: not known yet"
    later = "; a new one when it starts" if one.is_awaited else ""
    return f"{one.node}: good until {instant(one.until_ms)[:10]}, serial {one.serial}{later}"
