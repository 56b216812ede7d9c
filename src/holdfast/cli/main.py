"""The entrance of `holdfast`: its commands, and what becomes of every error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from holdfast import __version__
from holdfast.cli.exit_codes import ExitCode, exit_code_of
from holdfast.cli.groups import LazyGroup
from holdfast.cli.words import printable
from holdfast.model.errors import HoldfastError

ENTRIES: Final[dict[str, tuple[str, str]]] = {
    "status": ("Show the cluster at a glance.", "holdfast.cli.status_command:status"),
    "explain": ("Explain why a role is where it is.", "holdfast.cli.explain_commands:explain"),
    "events": ("Show what happened, oldest first.", "holdfast.cli.events_command:events"),
    "vm": ("Virtual machines: add, start, stop, show.", "holdfast.cli.vm_commands:vm"),
    "role": ("Roles of any kind: move, set, history.", "holdfast.cli.role_commands:role"),
    "storage": ("Shared disks: find, check, add, show.", "holdfast.cli.storage_commands:storage"),
    "node": ("Nodes: join, show, drain, fence.", "holdfast.cli.node_commands:node"),
    "balance": (
        "Move the fewest guests that bring the loads of the nodes within a threshold.",
        "holdfast.cli.balance_command:balance",
    ),
    "cluster": ("The cluster: create it, set it, freeze it.", "holdfast.cli.cluster_commands:cluster"),
    "quorum": ("Quorum: who votes, what may fail.", "holdfast.cli.quorum_commands:quorum"),
    "witness": (
        "A witness: this machine votes in clusters and runs no guests.",
        "holdfast.cli.witness_commands:witness",
    ),
    "backup": (
        "Backups of the cluster database: create, list, verify, restore.",
        "holdfast.cli.backup_commands:backup",
    ),
    "certificate": (
        "The nodes' certificates: until when they are good, and new ones.",
        "holdfast.cli.certificate_commands:certificate",
    ),
    "token": ("Tokens that let nodes join.", "holdfast.cli.cluster_commands:token"),
    "lab": ("A whole cluster on this one machine, to try things.", "holdfast.lab.commands:group"),
    "sim": ("Simulate bad days: the real decisions, everything else made up.", "holdfast.cli.sim_command:sim"),
    "completion": ("Print a script for completion in a shell.", "holdfast.cli.completion_command:completion"),
}


@click.group(
    cls=LazyGroup,
    entries=ENTRIES,
    examples=(
        "holdfast status",
        "holdfast vm add web1.xml",
        "holdfast explain role web1",
        "holdfast events --follow",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="HOLDFAST_SOCKET",
    show_envvar=True,
    help="Socket of holdfastd, /run/holdfast/holdfastd.sock by default.",
)
@click.version_option(__version__, prog_name="holdfast", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, socket: Path | None) -> None:
    """Keep virtual machines available on a cluster of hosts."""
    context.obj = socket


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every expected error is shown as what it is and what to do next."""
    try:
        outcome = cli.main(arguments, prog_name="holdfast", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "holdfast"
        _complain(error.format_message(), f"{path} --help")
        return ExitCode.INVALID
    except click.ClickException as error:
        _complain(error.format_message(), "")
        return ExitCode.FAILED
    except HoldfastError as error:
        _complain(error.message, error.hint)
        return exit_code_of(error)
    except click.Abort:
        return ExitCode.INTERRUPTED
    return outcome if isinstance(outcome, int) else ExitCode.DONE


def main() -> None:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def _complain(message: str, hint: str) -> None:
    """Say on stderr what went wrong, and what to do next."""
    click.echo(f"error: {printable(message)}", err=True)
    if hint:
        click.echo(f"next: {printable(hint)}", err=True)
