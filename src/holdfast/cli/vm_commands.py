"""`holdfast vm …`."""

from __future__ import annotations

from typing import BinaryIO, Final

import click

from holdfast.cli.connection import ask
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put, put_json, show
from holdfast.cli.parameters import role_argument
from holdfast.cli.role_options import changes_to, clearing_options, placement, placement_options
from holdfast.cli.verdict import standing
from holdfast.client import requests
from holdfast.model.errors import HoldfastError, InvalidInput, NotFound
from holdfast.model.roles import Wanted
from holdfast.model.status import RoleState, RoleStatus

no_wait_option: Final = click.option("--no-wait", is_flag=True, help="Return when it is ordered, not when it is done.")


class NotReached(HoldfastError):
    """What was asked is ordered and stays ordered, but waiting for it ended before it was reached."""

    code = "not-reached"


@click.group(
    cls=Group,
    examples=("holdfast vm add web1.xml", "holdfast vm list", "holdfast vm stop web1"),
)
def vm() -> None:
    """Virtual machines: add, start, stop, show."""


@vm.command(
    "add",
    examples=(
        "holdfast vm add web1.xml --priority high --preferred-owner node1 --preferred-owner node2",
        "virsh dumpxml web1 | holdfast vm add -",
    ),
)
@click.argument("file", metavar="FILE.xml", type=click.File("rb"))
@placement_options
@click.option("--offline", is_flag=True, help="Add it without starting it.")
@json_option
def add(*, file: BinaryIO, offline: bool, as_json: bool, **given: object) -> None:
    """Keep a libvirt guest available.

    FILE.xml is its domain, "-" is standard input. Its disks must lie below a shared directory. The name of the domain
    becomes the name of the role.
    """
    wanted = Wanted.OFFLINE if offline else Wanted.ONLINE
    answer = ask(requests.add_vm(_domain_xml(file), wanted=wanted, **placement(given)))
    put(answer, f"{answer.name} is added; {describe(answer)}", as_json=as_json)


@vm.command("start", examples=("holdfast vm start web1",))
@role_argument
@no_wait_option
@json_option
def start(*, role: str, no_wait: bool, as_json: bool) -> None:
    """Want NAME online, and wait until it is. Forgives its earlier failures."""
    answer = ask(requests.start_vm(role, wait=not no_wait))
    put_outcome(answer, RoleState.ONLINE, waited=not no_wait, as_json=as_json)


@vm.command("stop", examples=("holdfast vm stop web1", "holdfast vm stop web1 --no-wait"))
@role_argument
@no_wait_option
@json_option
def stop(*, role: str, no_wait: bool, as_json: bool) -> None:
    """Want NAME offline, and wait until it is. The guest is asked to shut down, and ended when it takes too long."""
    answer = ask(requests.stop_vm(role, wait=not no_wait))
    put_outcome(answer, RoleState.OFFLINE, waited=not no_wait, as_json=as_json)


@vm.command("remove", examples=("holdfast vm remove web1",))
@role_argument
@click.option("--force", is_flag=True, help="Stop it first when it runs.")
@json_option
def remove(*, role: str, force: bool, as_json: bool) -> None:
    """Keep NAME available no longer. Its disks stay; save its domain before by: holdfast vm show NAME --xml."""
    answer = ask(requests.remove_vm(role, force=force))
    put(answer, f"{answer.name} is removed; its disks are still there", as_json=as_json)


@vm.command("list", examples=("holdfast vm list", "holdfast vm list --json"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the virtual machines with their state and owner."""
    status = ask(requests.status())
    if as_json:
        put_json(status.roles)
        return
    from holdfast.cli.tables import role_table

    show(role_table(status.roles))


@vm.command("show", examples=("holdfast vm show web1", "holdfast vm show web1 --xml > web1.xml"))
@role_argument
@click.option("--xml", is_flag=True, help="Print its libvirt domain instead.")
@json_option
def show_(*, role: str, xml: bool, as_json: bool) -> None:
    """Show everything known of NAME."""
    if xml:
        domain = ask(requests.vm_xml(role))
        put(domain, domain.domain_xml.rstrip("\n"), as_json=as_json)
        return
    status = ask(requests.status())
    found = next((candidate for candidate in status.roles if candidate.name == role), None)
    if found is None:
        known = ", ".join(candidate.name for candidate in status.roles) or "none yet"
        raise NotFound(f"there is no role {role!r}", hint=f"the roles of {status.cluster} are: {known}")
    if as_json:
        put_json(found)
        return
    from holdfast.cli.sheets import role_sheet

    show(role_sheet(found))


@vm.command(
    "set",
    examples=(
        "holdfast vm set web1 --priority high",
        "holdfast vm set web1 --preferred-owner node2",
        "holdfast vm set web1 --any-owner --failback 22-5",
        "holdfast vm set web1 --anti-affinity web:hard --preferred-site east",
    ),
)
@role_argument
@placement_options
@clearing_options
@json_option
def set_(*, role: str, as_json: bool, **given: object) -> None:
    """Change how NAME is placed and how often it may fail. Owners and labels given replace those from before."""
    answer = ask(requests.set_role(role, **changes_to(role, given)))
    put(answer, f"{answer.name} is changed; {describe(answer)}", as_json=as_json)


def _domain_xml(file: BinaryIO) -> str:
    """Read a domain file; whether it is a domain is the daemon's to say. Raises: InvalidInput."""
    try:
        return file.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{file.name!r} is no UTF-8 text (see its byte {error.start})",
            hint="virsh dumpxml GUEST > FILE.xml writes one",
        ) from error


def put_outcome(role: RoleStatus, goal: RoleState, *, waited: bool, as_json: bool) -> None:
    """Print where the role stands. Raises: NotReached when it was waited for and the goal is not reached."""
    reached = role.state is goal or not waited
    if as_json or reached:
        put(role, describe(role), as_json=as_json)
    if not reached:
        raise NotReached(
            f"{describe(role)}; it is wanted {role.wanted}, and becomes so when nothing stands against it any more",
            hint=f"holdfast explain role {role.name}",
        )


def describe(role: RoleStatus) -> str:
    """Return where a role stands, and why when it is not where it is wanted."""
    why = f": {'; '.join(role.reasons)}" if role.reasons and role.state != role.wanted else ""
    return standing(role.name, role.state, role.owner) + why
