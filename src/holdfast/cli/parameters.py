"""Values on the command line: addresses, settings, times, sizes, and names that complete.

Rule of the file: a wrong value is refused before anything is asked, with the value seen and an example of a right one.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TextIO, TypeVar

import click
from click.shell_completion import CompletionItem

from holdfast.model.ids import FAULT_DOMAIN_PATTERN

if TYPE_CHECKING:
    from holdfast.client.blocking import BlockingClient

F = TypeVar("F", bound=Callable[..., object])
V = TypeVar("V")
Pair = tuple[str, str]

_SECONDS: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_BYTES: Final = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "k": 1 << 10,
    "mib": 1 << 20,
    "m": 1 << 20,
    "gib": 1 << 30,
    "g": 1 << 30,
}
_COMPLETION_S: Final = 2.0
PORTS: Final = ("heartbeat", "join", "etcd_client", "etcd_peer")
METHODS: Final = ("auto", "live", "quick", "restart")
PRIORITIES: Final = ("high", "medium", "low", "no-autostart")


def address(value: str) -> Pair:
    """Read NETWORK=IP. IP addresses only: a name would make failover depend on a name server."""
    network, text = _pair(value, "NETWORK=IP", "cluster-a=10.0.0.1")
    try:
        return network, str(ipaddress.ip_address(text))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} in {value!r} is not an IP address, for example cluster-a=10.0.0.1"
        ) from error


def setting(value: str) -> Pair:
    """Read NAME=VALUE of a setting."""
    return _pair(value, "NAME=VALUE", "timings.patience_ms=8000")


def fence_option(value: str) -> Pair:
    """Read NAME=VALUE of a fence agent."""
    return _pair(value, "NAME=VALUE", "ip=192.0.2.7")


def fault_domain(value: str) -> str:
    """Read KIND:NAME of what a machine depends on."""
    if re.fullmatch(FAULT_DOMAIN_PATTERN, value) is None:
        raise click.BadParameter(f"{value!r} is not KIND:NAME, for example power:A, rack:3 or storage:san1")
    return value


def port(value: str) -> tuple[str, int]:
    """Read NAME=NUMBER of a port."""
    name, number = _pair(value, "NAME=NUMBER", "heartbeat=7400")
    if name not in PORTS:
        raise click.BadParameter(f"there is no port {name!r}; ports are {', '.join(PORTS)}")
    if not re.fullmatch("[0-9]{1,5}", number) or not 0 < int(number) < 65_536:
        raise click.BadParameter(f"{number!r} in {value!r} is not 1 to 65535")
    return name, int(number)


def duration(value: str) -> int:
    """Read a time; returns seconds."""
    return _quantity(value, _SECONDS, "a duration, for example 90s, 15m, 1h or 2d")


def size(value: str) -> int:
    """Read a size; returns bytes."""
    return _quantity(value, _BYTES, "a size, for example 512MiB or 16GiB")


def _pair(value: str, form: str, example: str) -> Pair:
    name, equals, text = value.partition("=")
    if not (name and equals and text):
        raise click.BadParameter(f"{value!r} is not {form}, for example {example}")
    return name, text


def _quantity(value: str, units: dict[str, int], wanted: str) -> int:
    found = re.fullmatch(r"([0-9]{1,15})\s*([a-z]*)", value.lower())
    if found is None or found[2] not in units or int(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is not {wanted}")
    return int(found[1]) * units[found[2]]


def unique(pairs: tuple[tuple[str, V], ...], option: str) -> dict[str, V]:
    """Return pairs as a mapping. Raises: click.BadParameter when a name is given twice."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise click.BadParameter(f"{name!r} is given {names.count(name)} times", param_hint=option)
    return dict(pairs)


def place_options(function: F) -> F:
    """Add the options that place a node in its networks."""
    port_help = f"A port other than the usual one: {', '.join(PORTS)}."
    for option in (
        click.option("--port", "ports", type=port, metavar="NAME=NUMBER", multiple=True, help=port_help),
        click.option(
            "--address",
            "addresses",
            type=address,
            metavar="NETWORK=IP",
            multiple=True,
            required=True,
            help="This node's IP address on a network; once per network, the preferred network first.",
        ),
        click.option("--node", required=True, metavar="NAME", help="Name of this node in the cluster."),
    ):
        function = option(function)
    return function


def login_name() -> str:
    """Return who gives a command, also through sudo."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def complete_node(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of nodes, when the daemon answers."""
    return _offer(ctx, "nodes", incomplete)


def complete_role(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of roles, when the daemon answers."""
    return _offer(ctx, "roles", incomplete)


def chap_of(user: str | None, password_file: TextIO | None) -> dict[str, str] | None:
    """Read who a node is to a target. The password never stands in a command line."""
    if user is None and password_file is None:
        return None
    if user is None or password_file is None:
        raise click.UsageError("--chap-user and --chap-password-file go together")
    return {"user": user, "password": password_file.readline().rstrip("\n")}


def complete_disk(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of disks, when the daemon answers."""
    return _offer(ctx, "disks", incomplete)


def _offer(ctx: click.Context, kind: str, incomplete: str) -> list[CompletionItem]:
    from holdfast.client.blocking import BlockingClient
    from holdfast.model.errors import HoldfastError

    try:
        names = _names(BlockingClient(ctx.find_root().params.get("socket")), kind)
    except HoldfastError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _names(client: BlockingClient, kind: str) -> list[str]:
    """Ask for the names of one kind. Raises: HoldfastError."""
    from holdfast.client import requests, storage_requests

    if kind == "disks":
        return [disk.name for disk in client.call(replace(storage_requests.list_disks(), silence_s=_COMPLETION_S))]
    status = client.call(replace(requests.status(), silence_s=_COMPLETION_S))
    named = status.nodes if kind == "nodes" else status.roles
    return [thing.name for thing in named]


fault_domain_option: Final = click.option(
    "--fault-domain",
    "fault_domains",
    type=fault_domain,
    metavar="KIND:NAME",
    multiple=True,
    help="What the machine depends on: power:A, rack:3, storage:san1; once per thing.",
)
node_argument: Final = click.argument("node", metavar="NODE", shell_complete=complete_node)
role_argument: Final = click.argument("role", metavar="NAME", shell_complete=complete_role)
disk_argument: Final = click.argument("disk", metavar="NAME", shell_complete=complete_disk)
