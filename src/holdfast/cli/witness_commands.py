"""`holdfast witness …`: a machine that votes and runs no guests."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path

import click

from holdfast.cli.backup_commands import confirm
from holdfast.cli.connection import ask
from holdfast.cli.groups import Group
from holdfast.cli.node_commands import put_left
from holdfast.cli.output import json_option, put
from holdfast.cli.parameters import fault_domain_option
from holdfast.client import requests
from holdfast.model.errors import Refused

_STDIN = "-"
_VIRTUAL = (
    "this machine is a virtual machine: the host and the storage below it must not be the cluster's; say, on a node of "
    "the cluster, what it depends on"
)
DATA_DIR = "/var/lib/holdfast-witness"
data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), default=DATA_DIR, help=f"{DATA_DIR} by default."
)


@click.group(cls=Group, examples=("holdfast witness join - < token", "holdfast witness run", "holdfast witness list"))
def witness() -> None:
    """A witness: this machine votes in clusters and runs no guests."""


@witness.command(
    "join",
    examples=("holdfast witness join hf1.kq3v", "holdfast witness join - --name attic --fault-domain power:B < token"),
)
@click.argument("token")
@click.option("--name", metavar="NAME", help="Name of the witness in the cluster; witness-HOSTNAME by default.")
@fault_domain_option
@data_dir_option
@json_option
def join(*, token: str, name: str | None, fault_domains: tuple[str, ...], data_dir: Path, as_json: bool) -> None:
    """Make this machine a witness of the cluster that issued TOKEN; "-" reads it from standard input.

    Its addresses follow from how it reaches the nodes. It takes effect while `holdfast witness run` runs.
    """
    from holdfast.node import residence, witness_host

    text = sys.stdin.readline().strip() if token == _STDIN else token
    chosen = name or f"witness-{socket.gethostname().split('.')[0].lower()}"
    identity = asyncio.run(witness_host.join(text, name=chosen, fault_domains=fault_domains, state=data_dir))
    answer = {"node": identity.node, "cluster": identity.cluster_name, "addresses": identity.addresses}
    put(answer, f"this machine is witness {identity.node} of cluster {identity.cluster_name}", as_json=as_json)
    if residence.is_virtual_machine() and not fault_domains:
        click.echo(f"{_VIRTUAL}: holdfast node set {identity.node} --fault-domain KIND:NAME", err=True)


@witness.command("run", examples=("holdfast witness run", "holdfast witness run --data-dir /srv/witness"))
@data_dir_option
def run(*, data_dir: Path) -> None:
    """Run the witnesses of this machine until it is stopped; made for a service."""
    from holdfast.node import witness_host

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    asyncio.run(witness_host.run(data_dir))


@witness.command("leave", examples=("holdfast witness leave attic",))
@click.argument("name")
@json_option
def leave(*, name: str, as_json: bool) -> None:
    """Have the witness NAME leave the cluster of this machine; to be run on a node of that cluster.

    Its vote is taken back first; its machine forgets the cluster by itself. One that is down is taken out with
    holdfast node evict.
    """
    kinds = {voter.name: voter.is_witness for voter in ask(requests.status()).nodes}
    if kinds.get(name) is False:
        raise Refused(f"{name} is a host and no witness", hint=f"holdfast node leave {name}")
    put_left(ask(requests.leave_cluster(name)), as_json=as_json)


@witness.command("forget", examples=("holdfast witness forget demo", "holdfast witness forget demo --yes"))
@click.argument("cluster")
@click.option("--yes", is_flag=True, help="Do not ask to type the cluster's name.")
@data_dir_option
@json_option
def forget(*, cluster: str, yes: bool, data_dir: Path, as_json: bool) -> None:
    """Have this machine forget CLUSTER, of which it was a witness, so that it can join anew.

    For a witness that was evicted or left while it was off: no voter answers it any more, so it cannot learn of it. It
    is refused while the cluster answers. Witnesses of other clusters on this machine run on. What the machine had of
    the cluster is kept in a folder.
    """
    from holdfast.node import witness_host

    one = witness_host.named(cluster, data_dir).identity
    if not yes:
        click.echo(
            f"This machine forgets cluster {one.cluster_name}, of which it is witness {one.node}. If the\n"
            f"cluster still has it, evict it there as well: holdfast node evict {one.node}.",
            err=True,
        )
        confirm(cluster)
    answer = asyncio.run(witness_host.forget(cluster, state=data_dir))
    told = f"what it had of it is kept in {answer['kept']}; to be let in again: holdfast witness join TOKEN"
    put(
        answer,
        f"this machine is not witness {answer['node']} of cluster {answer['cluster']} any more; {told}",
        as_json=as_json,
    )


@witness.command("list", examples=("holdfast witness list", "holdfast witness list --json"))
@data_dir_option
@json_option
def list_(*, data_dir: Path, as_json: bool) -> None:
    """List the clusters that this machine is a witness of."""
    from holdfast.node import witness_host

    found = [one.identity for one in witness_host.instances(data_dir)]
    lines = [f"{one.cluster_name}: {one.node}, heartbeats on port {one.ports.heartbeat}" for one in found]
    answer = [{"cluster": one.cluster_name, "node": one.node, "ports": one.ports.model_dump()} for one in found]
    put(answer, "\n".join(lines) or "this machine is no witness yet", as_json=as_json)
