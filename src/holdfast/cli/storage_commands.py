"""`holdfast storage …`."""

from __future__ import annotations

from typing import Literal, TextIO

import click

from holdfast.cli.connection import ask
from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put, put_json, show
from holdfast.cli.parameters import chap_of, complete_disk, disk_argument
from holdfast.cli.session_commands import login, logout, rescan, sessions
from holdfast.cli.vm_commands import no_wait_option
from holdfast.cli.words import count, printable
from holdfast.client import storage_requests
from holdfast.model.disk_status import CheckResult, DiskCheck, DiskStatus
from holdfast.model.disks import DiskState, Protection


@click.group(
    cls=Group,
    examples=(
        "holdfast storage discover",
        "holdfast storage list",
        "holdfast storage validate data",
    ),
)
def storage() -> None:
    """Shared disks: find, check, add, show."""


storage.add_command(login)
storage.add_command(logout)
storage.add_command(sessions)
storage.add_command(rescan)


@storage.command(
    "discover",
    examples=(
        "holdfast storage discover",
        "holdfast storage discover --via 'helper:/run/adapter/*.reservations'",
        "holdfast storage discover --portal 192.0.2.1:3260 --chap-user node1 --chap-password-file secret",
    ),
)
@click.option("--portal", metavar="ADDRESS:PORT", help="Ask an iSCSI portal instead of this node's own devices.")
@click.option("--chap-user", metavar="USER", help="Who this node is to the portal's targets.")
@click.option("--chap-password-file", type=click.File(), help='The password, on its first line; "-" is standard input.')
@click.option("--initiator", metavar="IQN", help="The iSCSI name that the portal's targets know this node by.")
@click.option(
    "--via", "ways", metavar="WAY", multiple=True, help="Look here, * stands for anything; as in: storage add."
)
@json_option
def discover(
    *,
    portal: str | None,
    chap_user: str | None,
    chap_password_file: TextIO | None,
    initiator: str | None,
    ways: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show which disks this node sees, and whether they can be shared. Changes nothing.

    KEEPS tells whether the target keeps reservations when it loses power.
    """
    if portal is not None and ways:
        raise click.UsageError("--portal and --via exclude each other")
    if portal is None and (chap_user or initiator):
        raise click.UsageError("--chap-user and --initiator are for a --portal")
    chap = chap_of(chap_user, chap_password_file)
    seen = ask(storage_requests.discover_disks(ways=ways, portal=portal, chap=chap, initiator=initiator))
    if as_json:
        put_json(seen)
        return
    if not seen:
        click.echo("no disk is seen; look elsewhere: holdfast storage discover --portal ADDRESS:PORT, or --via WAY")
        return
    from holdfast.cli.disk_pages import seen_page

    show(seen_page(seen))


@storage.command(
    "add",
    examples=(
        "holdfast storage add data --designator naa.6001405a1 \\\n"
        "    --reservations sg:/dev/disk/by-id/wwn-0x6001405a1",
        "holdfast storage add data --designator naa.6001405a1 --accept-forgetful \\\n"
        "    --reservations 'helper:/run/adapter/{designator}.reservations' \\\n"
        "    --guest-source 'nbd+unix:///{designator}?socket=/run/adapter/{designator}.sock'",
        "holdfast storage add ledger --protection role --designator naa.6001405c3 \\\n"
        "    --reservations sg:/dev/disk/by-id/wwn-0x6001405c3",
        "holdfast storage add beat --heartbeat --designator naa.6001405b7 \\\n"
        "    --reservations sg:/dev/disk/by-id/wwn-0x6001405b7",
    ),
)
@disk_argument
@click.option("--designator", required=True, metavar="NAME", help="Who the disk is, as discover shows it.")
@click.option(
    "--reservations",
    required=True,
    metavar="WAY",
    help="How every node sends it commands, over the path that guests write by: sg:DEVICE, multipath:DEVICE or "
    "helper:SOCKET. {designator} is filled in.",
)
@click.option(
    "--guest-source",
    metavar="SOURCE",
    help="What QEMU opens on every node: a device, or nbd+unix:///EXPORT?socket=SOCKET; by default the device of "
    "--reservations. {designator} is filled in.",
)
@click.option(
    "--heartbeat", is_flag=True, help="No guest uses it: each node stamps it twice a second, as a second sign of life."
)
@click.option(
    "--accept-forgetful", is_flag=True, help="Take it although its target forgets reservations when it loses power."
)
@click.option(
    "--clear-keys", is_flag=True, help="Remove what others registered before. Only when nobody uses the disk any more."
)
@click.option(
    "--protection",
    type=click.Choice([str(one) for one in Protection]),
    default=str(Protection.NODE),
    show_default=True,
    help="Who is registered: every node, or only the node whose role uses it. It cannot be changed later.",
)
@no_wait_option
@json_option
def add(
    *,
    disk: str,
    designator: str,
    reservations: str,
    guest_source: str | None,
    heartbeat: bool,
    accept_forgetful: bool,
    clear_keys: bool,
    protection: Literal["node", "role"],
    no_wait: bool,
    as_json: bool,
) -> None:
    """Let the cluster's guests use a disk, and protect it.

    First it is checked from this node, with a throw-away key; other hosts that write to it meanwhile are refused. In a
    guest's XML it is then: <disk type='volume'><source pool='holdfast' volume='NAME'/>.
    """
    request = storage_requests.add_disk(
        disk,
        designator=designator,
        reservations=reservations,
        guest_source=guest_source,
        heartbeat=heartbeat,
        accept_forgetful=accept_forgetful,
        clear_keys=clear_keys,
        protection=protection,
        wait=not no_wait,
    )
    answer = ask(request)
    put(answer, _added(answer.disk), as_json=as_json)


@storage.command("list", examples=("holdfast storage list", "holdfast storage list --json"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the disks of the cluster, and where they are ready."""
    disks = ask(storage_requests.list_disks())
    if as_json:
        put_json(disks)
        return
    from holdfast.cli.disk_pages import disk_table

    show(disk_table(disks))


@storage.command("show", examples=("holdfast storage show data",))
@disk_argument
@json_option
def show_(*, disk: str, as_json: bool) -> None:
    """Show everything known of NAME, and how each node stands with it."""
    found = ask(storage_requests.show_disk(disk))
    if as_json:
        put_json(found)
        return
    from holdfast.cli.disk_pages import disk_sheet

    show(disk_sheet(found))


@storage.command("remove", examples=("holdfast storage remove data",))
@disk_argument
@json_option
def remove(*, disk: str, as_json: bool) -> None:
    """Take NAME out of the cluster. Refused while a role uses it; what it holds stays, and what is registered too."""
    answer = ask(storage_requests.remove_disk(disk))
    put(answer, f"{answer.name} is removed; what it holds is still there", as_json=as_json)


@storage.command(
    "validate",
    examples=("holdfast storage validate data", "holdfast storage validate sg:/dev/disk/by-id/wwn-0x6001405a1"),
)
@click.argument("disk", metavar="NAME|WAY", shell_complete=complete_disk)
@json_option
def validate(*, disk: str, as_json: bool) -> None:
    """Check a disk from this node, step by step.

    A disk of the cluster, by its NAME, is only read. One that is not, by a WAY to it, is tried out with a throw-away
    key if nobody is registered with it; other hosts that write to it meanwhile are refused.
    """
    check: DiskCheck = ask(
        storage_requests.rehearse_disk(disk) if ":" in disk else storage_requests.validate_disk(disk)
    )
    if as_json:
        put_json(check)
    else:
        from holdfast.cli.disk_pages import check_page

        show(check_page(check))
        click.echo(_verdict(check))
    if not check.is_fit:
        click.get_current_context().exit(ExitCode.FAILED)


def _added(disk: DiskStatus) -> str:
    """Say that a disk was added, and which nodes may use it by now."""
    usable = DiskState.READY if disk.protection == Protection.NODE else DiskState.STANDBY
    ready = [name for name, node in disk.nodes.items() if node.state == usable]
    others = [f"{name}: {node.state}, {node.detail}" for name, node in disk.nodes.items() if name not in ready]
    where = f"{usable} on {', '.join(ready)}" if ready else "not ready on any node yet"
    more = f"; {'; '.join(others)}" if others else ""
    return printable(f"{disk.name} is added, and {where}{more}", one_line=True)


def _verdict(check: DiskCheck) -> str:
    what = check.disk or check.way
    if check.is_fit:
        warnings = sum(1 for step in check.steps if step.result is CheckResult.WARNING)
        return f"{what} is fit for use, with {count(warnings, 'warning')}" if warnings else f"{what} is fit for use"
    return f"{what} is not fit for use; see docs/storage.md for what each step needs"
