"""`holdfast quorum …`."""

from __future__ import annotations

import click

from holdfast.cli.connection import ask
from holdfast.cli.force_command import force
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put
from holdfast.cli.parameters import node_argument
from holdfast.cli.words import printable
from holdfast.client import requests
from holdfast.model.status import QuorumStatus


@click.group(cls=Group, examples=("holdfast quorum show",))
def quorum() -> None:
    """Quorum: who votes, what may fail."""


quorum.add_command(force)


@quorum.command("show", examples=("holdfast quorum show", "holdfast quorum show --json"))
@json_option
def show(*, as_json: bool) -> None:
    """Show who votes, and what could fail now without loss of quorum."""
    answer = ask(requests.show_quorum())
    put(answer, printable(_words(answer)), as_json=as_json)


@quorum.command("restart", examples=("holdfast quorum restart node1",))
@node_argument
@json_option
def restart(*, node: str, as_json: bool) -> None:
    """Start NODE's member of the database again, here on NODE, to listen at all of its addresses.

    Refused while the other voters could not decide without it. Nothing else on the machine is restarted.
    """
    answer = ask(requests.restart_member(node))
    put(answer, answer.text, as_json=as_json)


def _words(answer: QuorumStatus) -> str:
    lines = [answer.may_fail]
    if not answer.database_answers and answer.spare >= 0:
        lines.append("The cluster database does not answer this node now.")
    for domain, gone in answer.fault_domains.items():
        lines.append(f"{domain} takes {', '.join(gone)}, and with them the majority.")
    for voter in answer.voters:
        place = f" in {voter.site}" if voter.site else ""
        vote = voter.kind if voter.votes else f"{voter.kind} to be"
        member = f", its member is {voter.member}" if voter.member is not None else ""
        lines.append(f"  {voter.name}: {vote}{place}, {voter.state}{member}")
    return "\n".join(lines)
