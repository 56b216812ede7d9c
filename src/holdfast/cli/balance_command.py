"""`holdfast balance`."""

from __future__ import annotations

import click

from holdfast.cli.connection import ask
from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Command
from holdfast.cli.output import json_option, put
from holdfast.cli.words import count, printable, size
from holdfast.client import requests
from holdfast.model.status import BalanceReport


@click.command(cls=Command, examples=("holdfast balance --dry-run", "holdfast balance --threshold 10"))
@click.option(
    "--threshold",
    type=click.IntRange(1, 100),
    metavar="PERCENT",
    help="How far apart the loads of a site's nodes may be; else the setting balance_threshold_percent.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would move.")
@json_option
@click.pass_context
def balance(context: click.Context, *, threshold: int | None, dry_run: bool, as_json: bool) -> None:
    """Move the fewest guests that bring the loads of the nodes within a threshold.

    A node's load is the larger of two shares: of its memory, and of its vCPUs. No rule of placement is broken, and no
    role goes to a node or site that it prefers less. After Ctrl-C what has begun to move arrives, nothing more moves.
    When the threshold cannot be reached it gets as near as it can, and ends with exit code 1.
    """
    answer = ask(requests.balance_cluster(threshold_percent=threshold, dry_run=dry_run))
    put(answer, _words(answer), as_json=as_json)
    context.exit(ExitCode.DONE if answer.is_within else ExitCode.FAILED)


def _words(report: BalanceReport) -> str:
    verb = "would move" if report.is_dry_run else "moved"
    lines = [
        f"{move.role} {verb} from {move.source} to {move.target} ({size(move.memory_bytes)})" for move in report.moves
    ]
    lines += [
        f"{node}: {before:.0f} % full" + (f", then {report.after[node]:.0f} %" if report.moves else "")
        for node, before in report.before.items()
        if node in report.after
    ]
    limit = f"{report.threshold_percent} % of a node"
    if not report.is_within:
        lines.append(f"their loads {'would stay' if report.is_dry_run else 'are'} more than {limit} apart")
    elif not report.moves:
        lines.append(f"nothing has to move: their loads are within {limit}")
    else:
        would = "would be" if report.is_dry_run else "are"
        lines.append(f"{count(len(report.moves), 'role')} {verb}; loads {would} within {limit}")
    return printable("\n".join(lines))
