"""`holdfast sim`: the simulator from the command line. It touches nothing of this machine and needs no cluster."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Command, Group
from holdfast.cli.mutations_command import mutations
from holdfast.cli.output import console, json_option, put_json
from holdfast.cli.races_command import races_command
from holdfast.cli.scenario_command import scenario_command, schema_command

if TYPE_CHECKING:
    from holdfast.sim.campaign import Result
    from holdfast.sim.run import Order, Outcome

TELL_S: Final = 60.0
"""How often the progress of a run is told where there is no terminal for a bar."""
PROFILES: Final = ("calm", "upgrade", "rough", "brutal")


class _Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in some versions of click only
    """Numbers of faults, such as 3,7,9; "none" for no fault at all."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return () if value == "none" else tuple(int(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 3,7,9", param, ctx)


@click.group(
    cls=Group,
    examples=(
        "holdfast sim run --seeds 200",
        "holdfast sim run --seed 28 --profile brutal",
        "holdfast sim scenario scenarios/plug-pulled.yaml",
    ),
)
def sim() -> None:
    """Simulate bad days: the real decisions, everything else made up.

    A seed is one cluster and one schedule of faults. The same seed gives the same run, step by step.
    """


sim.add_command(scenario_command)
sim.add_command(mutations)
sim.add_command(races_command)
sim.add_command(schema_command)


@sim.command(
    name="run",
    cls=Command,
    examples=(
        "holdfast sim run --seeds 200",
        "holdfast sim run --seeds 100000 --minutes 0.2 --keep-going",
        "holdfast sim run --seed 28 --nodes 5 --profile brutal",
    ),
)
@click.option("--seeds", type=click.IntRange(1), default=200, show_default=True, help="How many seeds to run.")
@click.option("--first", type=click.IntRange(0), default=1, show_default=True, help="The first of them.")
@click.option("--seed", type=click.IntRange(0), help="Run only this seed, and show its time line.")
@click.option("--nodes", type=click.IntRange(2, 64), default=3, show_default=True, help="Nodes of the cluster.")
@click.option("--profile", type=click.Choice(PROFILES), help="How bad the days are; all in turn when not given.")
@click.option("--minutes", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="How long they last.")
@click.option(
    "--disks", type=click.IntRange(0, 16), help="Shared disks that protect the roles alone; drawn when not given."
)
@click.option(
    "--votes/--no-votes",
    default=None,
    help="Whether votes move between the nodes, and a witness where one is drawn; drawn when not given.",
)
@click.option("--faults", help="Only these kinds of fault, such as partition,guard-crash.")
@click.option("--only", type=_Numbers(), help="With --seed: only these faults of its schedule, by number.")
@click.option("--break", "broken", help="Break something on purpose; docs/simulator.md names what.")
@click.option("--keep-going", is_flag=True, help="Run all seeds, and name each that fails instead of showing it.")
@click.option("--jobs", type=click.IntRange(1), help="Processes at once; one per core when not given.")
@json_option
@click.pass_context
def run_command(
    context: click.Context,
    *,
    seeds: int,
    first: int,
    seed: int | None,
    nodes: int,
    profile: str | None,
    minutes: float,
    disks: int | None,
    votes: bool | None,
    faults: str | None,
    only: tuple[int, ...] | None,
    broken: str | None,
    keep_going: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Run seeds until one fails; it is shrunk and shown with the command that replays it.

    The exit code is 1 when a run broke a rule.
    """
    from holdfast.sim.breakages import MUTATIONS
    from holdfast.sim.fault import FaultKind
    from holdfast.sim.mutation import BreakageKind
    from holdfast.sim.run import Order
    from holdfast.sim.schedule import Profile, askable_of

    if broken is not None and broken not in MUTATIONS:
        raise click.BadParameter(f"{broken!r} is none of {', '.join(MUTATIONS)}", param_hint="--break")
    unknown = [kind for kind in (faults or "").split(",") if faults and kind not in list(FaultKind)]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(FaultKind)}", param_hint="--faults")
    kinds = tuple(FaultKind(kind) for kind in faults.split(",")) if faults else None
    profiles = [Profile(profile)] if profile is not None else list(Profile)
    if kinds is not None:
        profiles = [one for one in profiles if not set(kinds).isdisjoint(askable_of(one))]
        if not profiles:
            raise click.BadParameter(f"the profile {profile} draws none of {faults}", param_hint="--faults")
    numbers = [seed] if seed is not None else range(first, first + seeds)
    orders = [
        Order(
            seed=number,
            nodes=nodes,
            profile=profiles[number % len(profiles)],
            minutes=minutes,
            disks=disks,
            votes=votes,
            kinds=kinds,
            kept=only,
            broken=BreakageKind(broken) if broken is not None else None,
        )
        for number in numbers
    ]
    one = seed is not None
    if one:
        has_failed = _run_one(orders[0], as_json=as_json)
    else:
        has_failed = _run_many(orders, jobs=jobs, keep_going=keep_going, as_json=as_json)
    context.exit(ExitCode.FAILED if has_failed else ExitCode.DONE)


def _run_one(order: Order, *, as_json: bool) -> bool:
    from holdfast.sim.run import run

    outcome = run(order)
    if as_json:
        put_json(outcome)
    else:
        _show(outcome)
    return bool(outcome.failures)


def _run_many(orders: Sequence[Order], *, jobs: int | None, keep_going: bool, as_json: bool) -> bool:
    from rich.progress import Progress

    from holdfast.sim.campaign import run_all

    began = told = time.monotonic()
    results: list[Result] = []
    with Progress(console=console(stderr=True), transient=True) as progress:
        bar = progress.add_task("seeds", total=len(orders))
        for result in run_all(orders, jobs=jobs):
            results.append(result)
            progress.advance(bar)
            if not progress.console.is_terminal and time.monotonic() - told >= TELL_S:
                told = time.monotonic()
                click.echo(f"{len(results)} of {len(orders)} seeds after {told - began:.0f} s", err=True)
            if result.failures and not keep_going:
                break
            if result.failures:
                click.echo(f"{result.order.replay()}\n  {result.failures[0]}", err=True)
    failed = [result for result in results if result.failures]
    if as_json:
        put_json({"runs": len(results), "failed": failed, "virtual_s": sum(result.virtual_s for result in results)})
    else:
        _summarize(results, time.monotonic() - began)
        for result in failed if not keep_going else ():
            _shrink_and_show(result.order)
    return bool(failed)


def _summarize(results: Sequence[Result], took_s: float) -> None:
    virtual_s = sum(result.virtual_s for result in results)
    profiles = Counter(str(result.order.profile) for result in results)
    words = ", ".join(f"{count} {profile}" for profile, count in sorted(profiles.items()))
    failed = sum(1 for result in results if result.failures)
    click.echo(
        f"{len(results)} runs ({words}): {failed} failed; {virtual_s / 3600:.1f} hours in {took_s:.0f} s, "
        f"{virtual_s / max(took_s, 0.001):.0f} times faster than real time"
    )


def _shrink_and_show(order: Order) -> None:
    from holdfast.sim.run import run, shrink

    click.echo("shrinking the schedule …", err=True)
    _show(shrink(run(order), tell=lambda text: click.echo(f"  {text}", err=True)))


def _show(outcome: Outcome) -> None:
    for entry in outcome.entries:
        click.echo(str(entry))
    click.echo("")
    click.echo("faults by number:")
    for number, fault in outcome.faults:
        click.echo(f"{number:5}  at {fault.at_s:8.3f} s  {fault}")
    click.echo("")
    for failure in outcome.failures or ("nothing broke a rule",):
        click.echo(failure)
    click.echo(f"replay: {outcome.order.replay()}")
