"""`holdfast role …`: what is the same for every kind of role."""

from __future__ import annotations

import click

from holdfast.cli.connection import ask
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put, put_json, put_json_line, show
from holdfast.cli.parameters import METHODS, complete_node, duration, login_name, role_argument
from holdfast.cli.role_options import changes_to, clearing_options, placement_options
from holdfast.cli.vm_commands import NotReached, describe
from holdfast.client import requests
from holdfast.model.errors import Refused
from holdfast.model.status import RoleState


@click.group(
    cls=Group,
    examples=("holdfast role move web1 --to node2 --method live", "holdfast role set web1 --failback at-once"),
)
def role() -> None:
    """Roles of any kind: move, set, history."""


@role.command(
    "move",
    examples=(
        "holdfast role move web1",
        "holdfast role move web1 --to node2 --method live",
        "holdfast role move web1 --timeout 10m",
        "holdfast role move web1 --cancel",
    ),
)
@role_argument
@click.option(
    "--to", "to", metavar="NODE", shell_complete=complete_node, help="Where to; without it, the best other node."
)
@click.option("--wait/--no-wait", default=True, help="Return when it is there, or when it is ordered.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="How: live copies its memory while it runs, quick saves it and restores it there, restart boots it anew; "
    "auto is live if it can be, else quick. Without it, as the role is set to.",
)
@click.option(
    "--timeout",
    type=duration,
    metavar="DURATION",
    help="Take the move back when it is not over by then, for example 10m.",
)
@click.option("--cancel", is_flag=True, help="Take its move back.")
@click.option("--json-lines", is_flag=True, help="Print each step and the answer as a line of JSON.")
@json_option
def move(
    *,
    role: str,
    to: str | None,
    wait: bool,
    method: str | None,
    timeout: int | None,
    cancel: bool,
    json_lines: bool,
    as_json: bool,
) -> None:
    """Move NAME to another node, with its memory where that can be.

    When no node can take it, the reasons of all are given and nothing is done. A move that fails leaves it running
    where it was, or has the best other node take it; its memory is never given up by that. After Ctrl-C, or when the
    connection ends, the move goes on: --cancel takes it back. How far it is: holdfast status --watch.
    """
    if cancel:
        if to is not None or method is not None or timeout is not None:
            raise click.UsageError("--cancel takes a move back and goes with no other option")
        answer = ask(requests.cancel_move(role))
        put(answer, f"the move of {answer.name} is cancelled; {describe(answer)}", as_json=as_json)
        return
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait: nobody would take the move back")
    request = requests.move_role(role, to=to, wait=wait, method=method, timeout_s=timeout)
    answer = ask(request, on_step=put_json_line if json_lines else None)
    done = not wait or (answer.state is RoleState.ONLINE and answer.target is None)
    if json_lines:
        put_json_line(answer)
    elif as_json or done:
        put(answer, describe(answer), as_json=as_json)
    if not done:
        raise NotReached(f"{describe(answer)}; its move goes on", hint=f"holdfast explain role {answer.name}")


@role.command("history", examples=("holdfast role history web1", "holdfast role history web1 --limit 3 --json"))
@role_argument
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="So many moves at most.")
@json_option
def history(*, role: str, limit: int, as_json: bool) -> None:
    """Show the planned moves of NAME, oldest first: from where to where, how, how long, why, and what came of it.

    They are read from the events, of which the cluster keeps the newest (setting events_kept).
    """
    answer = ask(requests.role_history(role, limit=limit))
    if as_json:
        put_json(answer)
        return
    from holdfast.cli.history_page import history_page

    show(history_page(role, answer))


@role.command("discard-saved-state", examples=("holdfast role discard-saved-state web1",))
@role_argument
@click.option("--by", metavar="NAME", help="Who says so; the login name by default.")
@click.option("--yes", is_flag=True, help="Do not ask to type the role's name.")
@json_option
def discard_saved_state(*, role: str, by: str | None, yes: bool, as_json: bool) -> None:
    """Give up the saved memory of NAME, which no node could restore, so that it boots afresh.

    What its guest had not written to its disks is lost, as by a pulled plug.
    """
    if not yes:
        click.echo(f"What the guest of {role} had in memory and not on its disks will be lost.", err=True)
        typed = click.prompt(f"Type {role} to confirm", err=True, default="", show_default=False)
        if typed != role:
            raise Refused(f"{typed!r} was typed, not {role!r}; nothing was done", hint="repeat when you are sure")
    answer = ask(requests.discard_saved_state(role, person=by or login_name()))
    put(answer, f"the saved memory of {answer.name} is discarded; {describe(answer)}", as_json=as_json)


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
