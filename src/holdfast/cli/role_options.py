"""The options that say how a role is placed, shared by `vm add`, `vm set` and `role set`.

Rule of the file: what is not given is not asked for, so that it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

import click

from holdfast.cli.parameters import METHODS, PRIORITIES, complete_node, duration

F = TypeVar("F", bound=Callable[..., object])
Placement = dict[str, object]

_HARD: Final = ":hard"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def label(value: str) -> Placement:
    """Read LABEL or LABEL:hard."""
    name = value.removesuffix(_HARD)
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"{value!r} is no label, for example database, or database:hard")
    return {"name": name, "is_hard": value.endswith(_HARD)}


def failback(value: str) -> Placement:
    """Read never, at-once, or the hours of a window in UTC, FROM-UNTIL."""
    if value in {"never", "at-once"}:
        return {"policy": value}
    hours = re.fullmatch(r"([0-9]{1,2})-([0-9]{1,2})", value)
    if hours is None or int(hours[1]) > 23 or int(hours[2]) > 23 or int(hours[1]) == int(hours[2]):
        raise click.BadParameter(f"{value!r} is not never, at-once or two hours in UTC, for example 22-5")
    return {"policy": "window", "from_hour": int(hours[1]), "until_hour": int(hours[2])}


_LIMITS: Final = (
    click.option("--priority", type=click.Choice(PRIORITIES), help="Who is placed first."),
    click.option(
        "--preferred-owner",
        "preferred",
        multiple=True,
        metavar="NODE",
        shell_complete=complete_node,
        help="A node where it should run; several in order of preference.",
    ),
    click.option(
        "--possible-owner",
        "possible",
        multiple=True,
        metavar="NODE",
        shell_complete=complete_node,
        help="A node where it may run; without any, every node.",
    ),
    click.option("--preferred-site", metavar="SITE", help="The site where it should run, after its preferred owners."),
    click.option(
        "--affinity",
        type=label,
        multiple=True,
        metavar="LABEL[:hard]",
        help="A label: roles that share it are wished on one node; with :hard they must be.",
    ),
    click.option(
        "--anti-affinity",
        type=label,
        multiple=True,
        metavar="LABEL[:hard]",
        help="A label: roles that share it are wished on different nodes; with :hard they must be.",
    ),
    click.option(
        "--failback",
        type=failback,
        metavar="WHEN",
        help="When it returns to a node that it prefers: never, at-once, or between two hours in UTC, as 22-5.",
    ),
    click.option(
        "--move-method",
        type=click.Choice(METHODS),
        help="How it moves when nobody asks for another way; auto: live if it can be, else quick.",
    ),
    click.option(
        "--on-storage-loss",
        type=click.Choice(("wait", "move")),
        help="When its node loses a shared disk of it: wait there, or start anew on a node that reaches all of them.",
    ),
    click.option(
        "--restart-limit", type=click.IntRange(min=0), help="Restarts in place within a period before it fails over."
    ),
    click.option(
        "--failover-limit",
        type=click.IntRange(min=0),
        help="Failovers by its own failure within a period before it is blocked.",
    ),
    click.option(
        "--shutdown-timeout",
        type=duration,
        metavar="DURATION",
        help="How long the guest may take to shut down, for example 90s.",
    ),
)
_CLEARING: Final = (
    click.option("--no-preferred-owner", "no_preferred", is_flag=True, help="Prefer no node."),
    click.option("--any-owner", is_flag=True, help="Let it run on every node."),
    click.option("--no-preferred-site", is_flag=True, help="Prefer no site."),
    click.option("--no-affinity", is_flag=True, help="Take its affinity labels away."),
    click.option("--no-anti-affinity", is_flag=True, help="Take its anti-affinity labels away."),
)
_CLEARED: Final = {
    "no_preferred": ("preferred", ()),
    "any_owner": ("possible", ()),
    "no_preferred_site": ("preferred_site", ""),
    "no_affinity": ("affinity", ()),
    "no_anti_affinity": ("anti_affinity", ()),
}
_PARAMETER_OF: Final = {"preferred": "preferred_owners", "possible": "possible_owners"}


def placement_options(function: F) -> F:
    """Add the options that place a role and limit its failures."""
    for option in reversed(_LIMITS):
        function = option(function)
    return function


def clearing_options(function: F) -> F:
    """Add the options that take something away from a role."""
    for option in reversed(_CLEARING):
        function = option(function)
    return function


def placement(given: Placement) -> Placement:
    """Return what was given as the daemon takes it. Raises: click.UsageError when it is given and cleared at once."""
    found = {name: value for name, value in given.items() if name not in _CLEARED and value is not None and value != ()}
    for flag, (name, nothing) in _CLEARED.items():
        if given.get(flag):
            if name in found:
                raise click.UsageError(f"{_spoken(name)} is given and cleared at the same time")
            found[name] = nothing
    if (shutdown_s := found.pop("shutdown_timeout", None)) is not None:
        assert isinstance(shutdown_s, int), "a duration is read as seconds"
        found["shutdown_timeout_ms"] = shutdown_s * 1000
    parameters = {_PARAMETER_OF.get(name, name): value for name, value in found.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()}


def changes_to(role: str, given: Placement) -> Placement:
    """Return what is to change. Raises: click.UsageError when that is nothing."""
    changes = placement(given)
    if not changes:
        raise click.UsageError(f"nothing to change on {role!r} is given")
    return changes


def _spoken(name: str) -> str:
    return f"--{_PARAMETER_OF.get(name, name).rstrip('s').replace('_', '-')}"
