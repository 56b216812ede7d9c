"""`holdfast role …`: what is the same for every kind of role."""

from __future__ import annotations

import click

from holdfast.cli.connection import ask
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put
from holdfast.cli.parameters import complete_node, role_argument
from holdfast.cli.role_options import changes_to, clearing_options, placement_options
from holdfast.cli.vm_commands import NotReached, describe
from holdfast.client import requests
from holdfast.model.status import RoleState


@click.group(
    cls=Group,
    examples=("holdfast role move web1 --to node2", "holdfast role set web1 --failback at-once"),
)
def role() -> None:
    """Roles of any kind: move, set."""


@role.command(
    "move",
    examples=("holdfast role move web1", "holdfast role move web1 --to node2", "holdfast role move web1 --cancel"),
)
@role_argument
@click.option(
    "--to", "to", metavar="NODE", shell_complete=complete_node, help="Where to; without it, the best other node."
)
@click.option("--wait/--no-wait", default=True, help="Return when it is there, or when it is ordered.")
@click.option("--cancel", is_flag=True, help="Take its move back.")
@json_option
def move(*, role: str, to: str | None, wait: bool, cancel: bool, as_json: bool) -> None:
    """Move NAME to another node: it is shut down here and started there.

    When no node can take it, the reasons of all are given and nothing is done. When the other node fails on the way,
    the best other one takes it, or the one where it was.
    """
    if cancel:
        if to is not None:
            raise click.UsageError("--to and --cancel contradict each other")
        answer = ask(requests.cancel_move(role))
        put(answer, f"the move of {answer.name} is cancelled; {describe(answer)}", as_json=as_json)
        return
    answer = ask(requests.move_role(role, to=to, wait=wait))
    done = not wait or (answer.state is RoleState.ONLINE and answer.target is None)
    if as_json or done:
        put(answer, describe(answer), as_json=as_json)
    if not done:
        raise NotReached(f"{describe(answer)}; its move goes on", hint=f"holdfast explain role {answer.name}")


@role.command(
    "set",
    examples=(
        "holdfast role set web1 --priority high --failback 22-5",
        "holdfast role set web1 --anti-affinity web:hard",
        "holdfast role set web1 --no-preferred-owner --preferred-site east",
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
