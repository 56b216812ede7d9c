"""`holdfast sim mutations`: whether the simulator would notice if something were broken."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import click

from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Command
from holdfast.cli.output import json_option, put_json

if TYPE_CHECKING:
    from holdfast.sim.mutations import Catch


@click.command(
    name="mutations",
    cls=Command,
    examples=("holdfast sim mutations", "holdfast sim mutations --only watchdog-at-once --seeds 500"),
)
@click.option("--only", "names", multiple=True, help="Only this breakage; may be given more than once.")
@click.option("--seeds", type=click.IntRange(1), help="Seeds for each, instead of as many as it is allowed.")
@click.option("--jobs", type=click.IntRange(1), help="Processes at once; one per core when not given.")
@json_option
@click.pass_context
def mutations(
    context: click.Context, *, names: tuple[str, ...], seeds: int | None, jobs: int | None, as_json: bool
) -> None:
    """Break one thing at a time, and see that the right checker notices.

    Each breakage in docs/simulator.md is run seed by seed until the rule that it must break is seen broken. The exit
    code is 1 when one survives: then a fault or a checker is missing.
    """
    from holdfast.sim.breakages import MUTATIONS
    from holdfast.sim.mutation import BreakageKind
    from holdfast.sim.mutations import catch

    for name in names:
        if name not in MUTATIONS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(MUTATIONS)}", param_hint="--only")
    catches: list[Catch] = []
    for kind in [BreakageKind(name) for name in names] or list(MUTATIONS):
        began = time.monotonic()
        catches.append(catch(kind, seeds=seeds, jobs=jobs))
        if not as_json:
            _show(catches[-1], time.monotonic() - began)
    if as_json:
        put_json([dataclasses.asdict(caught) for caught in catches])
    context.exit(ExitCode.FAILED if any(caught.caught is None for caught in catches) else ExitCode.DONE)


def _show(caught: Catch, took_s: float) -> None:
    if caught.caught is None:
        click.echo(f"{caught.kind}: SURVIVED {caught.tried} seeds ({took_s:.0f} s)")
        for failure in caught.failures:
            click.echo(f"    another checker: {failure}")
    else:
        click.echo(f"{caught.kind}: caught by seed {caught.caught} ({took_s:.0f} s): {caught.failures[0]}")
        click.echo(f"    replay: {caught.replay}")
