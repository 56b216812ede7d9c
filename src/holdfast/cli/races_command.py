"""`holdfast sim races`: arbitration on a shared disk, raced by the hundred thousand."""

from __future__ import annotations

import time

import click

from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Command
from holdfast.cli.output import json_option, put_json


@click.command(
    name="races",
    cls=Command,
    examples=("holdfast sim races --count 100000", "holdfast sim races --first 329 --count 1"),
)
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="How many interleavings.")
@click.option("--first", type=click.IntRange(0), default=1, show_default=True, help="The number of the first.")
@json_option
@click.pass_context
def races_command(context: click.Context, *, count: int, first: int, as_json: bool) -> None:
    """Race nodes for a shared disk: who preempts, who is preempted, and what late writers still write.

    Each number is one interleaving of the commands of two or three nodes, by the real arbitration on a simulated
    target. The exit code is 1 when a write of an expelled node landed, or nobody was registered any more.
    """
    from holdfast.sim.races import races

    began = time.monotonic()
    ran = expelled = steps = 0
    failed = None
    for ending in races(first, count):
        ran, expelled, steps = ran + 1, expelled + ending.expelled, steps + ending.steps
        if ending.failures:
            failed = ending
            break
    took_s = time.monotonic() - began
    if as_json:
        put_json({"races": ran, "expelled": expelled, "steps": steps, "seconds": round(took_s, 1), "failed": failed})
    else:
        click.echo(f"{ran} interleavings of {steps} steps, {expelled} expulsions in {took_s:.0f} s")
        for failure in failed.failures if failed else ("nothing broke a rule",):
            click.echo(failure)
        if failed is not None:
            click.echo(f"replay: holdfast sim races --first {failed.number} --count 1")
    context.exit(ExitCode.FAILED if failed else ExitCode.DONE)
