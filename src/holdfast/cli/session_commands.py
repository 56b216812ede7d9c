"""`holdfast storage login`, `logout`, `sessions`, `rescan`: the iSCSI sessions of this node's kernel."""

from __future__ import annotations

from typing import TextIO

import click

from holdfast.cli.connection import ask
from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Command
from holdfast.cli.output import json_option, put, put_json, show
from holdfast.cli.parameters import chap_of
from holdfast.cli.words import count, listed
from holdfast.client import storage_requests
from holdfast.model.kernel_sessions import SessionList


@click.command(
    "login",
    cls=Command,
    examples=(
        "holdfast storage login 192.0.2.1:3260",
        "holdfast storage login 192.0.2.1:3260 iqn.2026-01.net.example:array",
        "holdfast storage login 192.0.2.1:3260 --chap-user node1 --chap-password-file secret",
    ),
)
@click.argument("portal", metavar="ADDRESS:PORT")
@click.argument("target", metavar="[TARGET]", required=False)
@click.option("--chap-user", metavar="USER", help="Who this node is to the target.")
@click.option("--chap-password-file", type=click.File(), help='The password, on its first line; "-" is standard input.')
@click.option(
    "--replacement-timeout",
    type=click.IntRange(0, 600),
    metavar="SECONDS",
    help="How long requests wait for a session that broke before they fail, or go on over another path. [default: 5]",
)
@json_option
def login(
    *,
    portal: str,
    target: str | None,
    chap_user: str | None,
    chap_password_file: TextIO | None,
    replacement_timeout: int | None,
    as_json: bool,
) -> None:
    """Have this node's kernel log in to TARGET, or to all that a portal offers.

    One session per portal of the target; they return when this node restarts. Run it on every node: each logs in for
    itself, under its own name.
    """
    chap = chap_of(chap_user, chap_password_file)
    request = storage_requests.log_in(portal, target=target, chap=chap, replacement_timeout_s=replacement_timeout)
    report = ask(request)
    failed = [one for one in report.logins if one.problem]
    if as_json:
        put_json(report)
    else:
        _show(report.now)
        for one in failed:
            click.echo(f"not logged in: {one.problem}")
        click.echo("see its disks: holdfast storage discover")
    if failed:
        click.get_current_context().exit(ExitCode.FAILED)


@click.command(
    "logout",
    cls=Command,
    examples=(
        "holdfast storage logout iqn.2026-01.net.example:array",
        "holdfast storage logout iqn.2026-01.net.example:array --portal 192.0.2.1:3260",
    ),
)
@click.argument("target", metavar="TARGET")
@click.option("--portal", metavar="ADDRESS:PORT", help="Only through this portal.")
@json_option
def logout(*, target: str, portal: str | None, as_json: bool) -> None:
    """Have this node's kernel log out of TARGET, and not return.

    Refused while a role on this node uses a disk that only these sessions lead to.
    """
    report = ask(storage_requests.log_out(target, portal=portal))
    through = f", through {listed(report.portals)}" if report.portals else "; there was no session"
    put(report, f"{report.node} is logged out of {report.target}{through}", as_json=as_json)


@click.command("sessions", cls=Command, examples=("holdfast storage sessions", "holdfast storage sessions --json"))
@json_option
def sessions(*, as_json: bool) -> None:
    """List the iSCSI sessions of this node's kernel, and their disks."""
    _put(ask(storage_requests.list_sessions()), as_json=as_json)


@click.command("rescan", cls=Command, examples=("holdfast storage rescan",))
@json_option
def rescan(*, as_json: bool) -> None:
    """Have this node's kernel look for LUNs that its targets added, or made larger."""
    _put(ask(storage_requests.rescan()), as_json=as_json)


def _put(found: SessionList, *, as_json: bool) -> None:
    if as_json:
        put_json(found)
    else:
        _show(found)


def _show(found: SessionList) -> None:
    from holdfast.cli.session_pages import sessions_page

    show(sessions_page(found))
    click.echo(f"{found.node} has {count(len(found.sessions), 'session')}, as {found.initiator}")
