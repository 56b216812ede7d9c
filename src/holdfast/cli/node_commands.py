"""`holdfast node …`."""

from __future__ import annotations

import sys
from typing import Literal, TextIO

import click

from holdfast.cli.backup_commands import confirm
from holdfast.cli.connection import ask
from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put, put_json, show
from holdfast.cli.parameters import (
    METHODS,
    Pair,
    address,
    complete_node,
    fault_domain,
    fault_domain_option,
    fence_option,
    login_name,
    node_argument,
    place_options,
    size,
    unique,
)
from holdfast.cli.words import printable
from holdfast.client import requests
from holdfast.client.answers import EvictedNode
from holdfast.model.errors import NotFound, Refused
from holdfast.model.status import DrainReport, NodeStatus

_STDIN = "-"


@click.group(
    cls=Group,
    examples=(
        "holdfast node list",
        "holdfast node drain node2",
        "holdfast node set node2 --fence-agent fence_ipmilan --fence-option ip=192.0.2.7",
    ),
)
def node() -> None:
    """Nodes: join, show, drain, fence."""


@node.command(
    "join",
    examples=(
        "holdfast node join hf1.kq3v --node node2 --address cluster-a=10.0.0.2 --address cluster-b=10.0.1.2",
        "holdfast node join - --node node2 --address cluster-a=10.0.0.2 < token",
    ),
)
@click.argument("token")
@place_options
@json_option
def join(
    *, token: str, node: str, addresses: tuple[Pair, ...], ports: tuple[tuple[str, int], ...], as_json: bool
) -> None:
    """Join this machine to the cluster that issued TOKEN; "-" reads it from standard input."""
    text = sys.stdin.readline().strip() if token == _STDIN else token
    request = requests.join_node(
        token=text, node=node, addresses=unique(addresses, "--address"), ports=unique(ports, "--port") or None
    )
    answer = ask(request)
    put(answer, f"this machine is node {answer.node} of cluster {answer.cluster}", as_json=as_json)


@node.command("list", examples=("holdfast node list", "holdfast node list --json"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the nodes with their state."""
    status = ask(requests.status())
    if as_json:
        put_json(status.nodes)
        return
    from holdfast.cli.tables import node_table

    show(node_table(status.nodes))


@node.command("show", examples=("holdfast node show node2",))
@node_argument
@json_option
def show_(*, node: str, as_json: bool) -> None:
    """Show everything known of NODE."""
    status = ask(requests.status())
    found = next((candidate for candidate in status.nodes if candidate.name == node), None)
    if found is None:
        known = ", ".join(candidate.name for candidate in status.nodes)
        raise NotFound(f"there is no node {node!r}", hint=f"the nodes of {status.cluster} are {known}")
    if as_json:
        put_json(found)
        return
    from holdfast.cli.sheets import node_sheet

    show(node_sheet(found))


@node.command(
    "set",
    examples=(
        "holdfast node set node2 --fence-agent fence_ipmilan --fence-options-file ipmi.conf",
        "holdfast node set node2 --memory 48GiB --vcpus 16",
        "holdfast node set node2 --site east --fault-domain power:A --fault-domain rack:3",
        "holdfast node set node2 --no-fence",
        "holdfast node set node2 --address storage=10.0.2.2",
    ),
)
@node_argument
@click.option("--fence-agent", metavar="PROGRAM", help="A standard fence agent, for example fence_redfish.")
@click.option(
    "--fence-option",
    "options",
    type=fence_option,
    metavar="NAME=VALUE",
    multiple=True,
    help="An option of the fence agent.",
)
@click.option(
    "--fence-options-file",
    "options_file",
    type=click.File(),
    help='Options of the fence agent, one NAME=VALUE per line; "-" is standard input. Keeps passwords out of "ps".',
)
@click.option("--no-fence", is_flag=True, help="Remove the fence device.")
@click.option("--memory", type=size, metavar="SIZE", help="Memory for guests, for example 48GiB.")
@click.option("--vcpus", type=click.IntRange(min=1), help="CPUs for guests.")
@click.option("--site", metavar="SITE", help="The site that the node is in; roles may prefer one.")
@click.option("--no-site", is_flag=True, help="Take the node out of its site.")
@fault_domain_option
@click.option(
    "--no-fault-domain",
    "independent",
    type=fault_domain,
    metavar="KIND:NAME",
    multiple=True,
    help="What it does not depend on any more.",
)
@click.option("--paused/--not-paused", default=None, help="Whether the node takes no new roles.")
@click.option(
    "--address",
    "addresses",
    type=address,
    metavar="NETWORK=IP",
    multiple=True,
    help="Its IP address on a network, new or instead of the one it has there. Give it on the node itself.",
)
@click.option("--no-address", "gone", metavar="NETWORK", multiple=True, help="Take its address on a network away.")
@json_option
def set_(
    *,
    node: str,
    fence_agent: str | None,
    options: tuple[Pair, ...],
    options_file: TextIO | None,
    no_fence: bool,
    memory: int | None,
    vcpus: int | None,
    site: str | None,
    no_site: bool,
    fault_domains: tuple[str, ...],
    independent: tuple[str, ...],
    paused: bool | None,
    addresses: tuple[Pair, ...],
    gone: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change NODE: how it is fenced, what it has for guests, where it is, what it depends on, whether it takes roles.

    Its addresses change while it runs, in a command of their own that is given on the node itself: it is heard on a
    new network as soon as it is there, and the other networks go on.
    """
    changes: dict[str, object] = {"memory_bytes": memory, "vcpus": vcpus, "paused": paused, "site": site}
    changes = {name: value for name, value in changes.items() if value is not None}
    lines = [line.strip() for line in options_file or ()]
    from_file = tuple(fence_option(line) for line in lines if line and not line.startswith("#"))
    if (options or from_file) and fence_agent is None:
        raise click.UsageError("options of a fence agent are given without --fence-agent")
    if fence_agent is not None and no_fence:
        raise click.UsageError("--fence-agent and --no-fence contradict each other")
    if fence_agent is not None:
        pairs = unique(options + from_file, "--fence-option")
        changes["fence"] = {"agent": fence_agent, "options": pairs}
    elif no_fence:
        changes["fence"] = None
    if site is not None and no_site:
        raise click.UsageError("--site and --no-site contradict each other")
    if no_site:
        changes["site"] = None
    changes |= _fault_domains(fault_domains, independent)
    if addresses or gone:
        _set_addresses(node, addresses, gone, is_alone=not changes, as_json=as_json)
        return
    if not changes:
        raise click.UsageError(f"nothing to change on {node!r} is given")
    _change(node, changes, "is changed", as_json=as_json)


def _fault_domains(depends: tuple[str, ...], independent: tuple[str, ...]) -> dict[str, dict[str, bool]]:
    for domain in depends:
        if domain in independent:
            raise click.UsageError(f"--fault-domain and --no-fault-domain contradict each other about {domain!r}")
    changed = dict.fromkeys(depends, True) | dict.fromkeys(independent, False)
    return {"fault_domains": changed} if changed else {}


def _set_addresses(
    node: str, addresses: tuple[Pair, ...], gone: tuple[str, ...], *, is_alone: bool, as_json: bool
) -> None:
    if not is_alone:
        raise click.UsageError("--address and --no-address change nothing else: give the other options another command")
    wanted: dict[str, str | None] = {**unique(addresses, "--address")}
    for network in gone:
        if network in wanted:
            raise click.UsageError(f"--address and --no-address contradict each other about {network!r}")
        wanted[network] = None
    answer = ask(requests.set_addresses(node, wanted))
    put(answer, answer.text, as_json=as_json)


@node.command("pause", examples=("holdfast node pause node2",))
@node_argument
@json_option
def pause(*, node: str, as_json: bool) -> None:
    """Give NODE no new roles; those that it owns run on there."""
    _change(node, {"paused": True}, "takes no new roles; those that it owns run on", as_json=as_json)


@node.command(
    "drain",
    examples=("holdfast node drain node2 --dry-run", "holdfast node drain node2 --wait"),
)
@node_argument
@click.option("--dry-run", is_flag=True, help="Only say what would move, and what would stay and why.")
@click.option("--wait", is_flag=True, help="Return when all is moved that can move, not when it is ordered.")
@click.option("--force", is_flag=True, help="Also when some roles would find no room: those run on.")
@click.option("--method", type=click.Choice(METHODS), help="How they move; without it, each as it is set to.")
@json_option
def drain(*, node: str, dry_run: bool, wait: bool, force: bool, method: str | None, as_json: bool) -> None:
    """Move the roles of NODE away and give it no new ones, for example before it is switched off.

    It is refused, with the numbers, when the nodes that stay have no room for all roles of all nodes that are drained.
    Roles that no other node can take for another reason are named and run on where they are.
    """
    answer = ask(requests.drain_node(node, dry_run=dry_run, wait=wait, force=force, method=method))
    put(answer, _drain_words(answer, waited=wait), as_json=as_json)


def _drain_words(report: DrainReport, *, waited: bool) -> str:
    would = "would " if report.is_dry_run else ""
    lines = [
        f"{role} {would}{'move' if would else 'moves'} to {target}" + _by(report.methods.get(role))
        for role, target in report.moves.items()
    ]
    for role, reasons in report.staying.items():
        lines.append(f"{role} {would}{'stay' if would else 'stays'} on {report.node}: {'; '.join(reasons)}")
    if not lines:
        lines.append(f"{report.node} has no role {'to move' if report.is_dry_run else 'left'}")
    elif waited and not report.moves:
        lines.append(f"all that can leave {report.node} has left")
    if report.refused:
        lines.append(f"it would be refused without --force: {report.refused}")
    return printable("\n".join(lines))


def _by(method: str | None) -> str:
    return f" ({method})" if method is not None else ""


@node.command("resume", examples=("holdfast node resume node2", "holdfast node resume node2 --failback now"))
@node_argument
@click.option(
    "--failback",
    type=click.Choice(("policy", "now", "never")),
    default="policy",
    help="Whether what its drain moved away comes back: as each role's policy says, now, or never.",
)
@json_option
def resume(*, node: str, failback: Literal["policy", "now", "never"], as_json: bool) -> None:
    """Let NODE take roles again; ends its drain."""
    answer = ask(requests.resume_node(node, failback=failback))
    put(answer, f"{answer.name} takes roles again", as_json=as_json)


@node.command("prepare-shutdown", examples=("holdfast node prepare-shutdown",))
@json_option
def prepare_shutdown(*, as_json: bool) -> None:
    """Empty this node because its operating system goes down; holdfast-shutdown.service calls this.

    What is done is the setting shutdown_policy, for at most shutdown_timeout_s. The node takes roles again by itself
    when its system has started again.
    """
    answer = ask(requests.prepare_shutdown())
    put(answer, _drain_words(answer, waited=True), as_json=as_json)


@node.command("evict", examples=("holdfast node evict node3",))
@node_argument
@json_option
def evict(*, node: str, as_json: bool) -> None:
    """Take NODE out of the cluster for good: one that is drained, or down and proven so.

    Its vote is taken back, roles prefer it no longer, and its identity is worth nothing any more: to come back, its
    machine joins anew. A machine that is up forgets the cluster by itself; another one is told there when it has
    started: holdfast node forget.
    """
    answer = ask(requests.evict_node(node))
    later = (
        "its machine cannot learn of it; there, when it has started: holdfast node forget, "
        "or on a witness: holdfast witness forget CLUSTER"
    )
    told = "its machine forgets the cluster now" if answer.was_up else later
    put(answer, f"{answer.node} is no node of the cluster any more; {told}", as_json=as_json)


@node.command("leave", examples=("holdfast node leave", "holdfast node leave node3 --drain"))
@click.argument("node", metavar="[NODE]", required=False, shell_complete=complete_node)
@click.option("--drain", "drains", is_flag=True, help="Move its roles away first; stop when one has to stay.")
@json_option
def leave(*, node: str | None, drains: bool, as_json: bool) -> None:
    """Have NODE, by default this machine, leave the cluster in good order; it is up and owns no roles.

    Its vote goes to another node before it goes, and it is refused, with the numbers, when the others could not decide
    without it. One that is down is taken out with holdfast node evict.
    """
    name = node or ask(requests.ping()).node or ""
    if drains:
        ask(requests.drain_node(name, dry_run=False, wait=True))
    put_left(ask(requests.leave_cluster(name)), as_json=as_json)


def put_left(answer: EvictedNode, *, as_json: bool) -> None:
    """Say that a node has left, and how it comes back."""
    again = "to be let in again it needs a new token: holdfast token create"
    put(answer, f"{answer.node} has left the cluster, and its machine forgets it now; {again}", as_json=as_json)


@node.command("forget", examples=("holdfast node forget", "holdfast node forget --yes demo"))
@click.option("--yes", "cluster", metavar="CLUSTER", help="Do not ask; the name of the cluster to forget.")
@json_option
def forget(*, cluster: str | None, as_json: bool) -> None:
    """Have this machine forget the cluster that took it out, so that it can join anew.

    For a machine that was evicted or left while it was off: no voter answers it any more, so it cannot learn of it. It
    ends this machine's guests, works without the cluster's database, and is refused while this node is up. What the
    machine had of the cluster is kept in a folder.
    """
    if cluster is None:
        presence = ask(requests.ping())
        if presence.cluster is None:
            raise Refused("this machine is not in a cluster", hint="holdfast node join TOKEN")
        click.echo(
            f"{presence.node} ends the guests of roles on this machine and forgets cluster {presence.cluster}. If\n"
            "the cluster still has it as a node, evict it there as well: holdfast node evict.",
            err=True,
        )
        confirm(presence.cluster)
        cluster = presence.cluster
    answer = ask(requests.forget_cluster(cluster))
    told = f"what it had of it is kept in {answer.kept}; to be let in again: holdfast node join TOKEN"
    put(answer, f"this machine is not {answer.node} of cluster {answer.cluster} any more; {told}", as_json=as_json)


@node.command("fence-test", examples=("holdfast node fence-test node2",))
@node_argument
@json_option
@click.pass_context
def fence_test(context: click.Context, *, node: str, as_json: bool) -> None:
    """Ask the fence device of NODE for the power state; switches nothing. An unknown state ends with exit code 1."""
    answer = ask(requests.fence_test(node))
    put(answer, printable(f"the fence device reports {node} as {answer.state}: {answer.detail}"), as_json=as_json)
    context.exit(ExitCode.DONE if answer.state in {"on", "off"} else ExitCode.FAILED)


@node.command(
    "confirm-down",
    examples=("holdfast node confirm-down node3 --by 'Ada Lovelace' --reason 'mainboard removed'",),
)
@click.argument("node", metavar="NODE", shell_complete=complete_node)
@click.option("--reason", default="", metavar="TEXT", help="How you know; kept in the events.")
@click.option("--by", metavar="NAME", help="Who says so; the login name by default.")
@click.option("--yes", is_flag=True, help="Do not ask to type the node's name.")
@json_option
def confirm_down(*, node: str, reason: str, by: str | None, yes: bool, as_json: bool) -> None:
    """Say that NODE is surely down, so that its roles may start elsewhere.

    This is the only proof that the cluster cannot check. When the machine still runs, its guests run twice and destroy
    their disks: cut its power first.
    """
    if not yes:
        click.echo(
            f"If {node} still runs, its guests will run twice and destroy their disks. Is its power surely off?",
            err=True,
        )
        typed = click.prompt(f"Type {node} to confirm", err=True, default="", show_default=False)
        if typed != node:
            raise Refused(f"{typed!r} was typed, not {node!r}; nothing was done", hint="repeat when the power is off")
    person = by or login_name()
    answer = ask(requests.confirm_down(node, person=person, reason=reason or "no reason was given"))
    put(answer, f"{answer.node} is confirmed down by {person} (incarnation {answer.incarnation})", as_json=as_json)


def _change(node: str, changes: dict[str, object], done: str, *, as_json: bool) -> NodeStatus:
    answer = ask(requests.set_node(node, changes))
    put(answer, f"{answer.name} {done}", as_json=as_json)
    return answer
