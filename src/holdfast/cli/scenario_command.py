"""`holdfast sim scenario` and `holdfast sim schema`: a cluster, a time line and expectations from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from holdfast.cli.exit_codes import ExitCode
from holdfast.cli.groups import Command
from holdfast.cli.output import json_option, put_json

if TYPE_CHECKING:
    from holdfast.sim.scenario import Scenario
    from holdfast.sim.scenario_result import ScenarioResult

SUFFIXES: Final = (".yaml", ".yml", ".json")


@click.command(
    name="scenario",
    cls=Command,
    examples=(
        "holdfast sim scenario scenarios/plug-pulled.yaml",
        "holdfast sim scenario scenarios",
        "holdfast sim scenario scenarios/plug-pulled.yaml --seed 7 --json",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(0), help="Run with this seed instead of the file's.")
@click.option("--nodes", type=click.IntRange(1, 64), help="So many nodes, for a file that gives their number only.")
@json_option
@click.pass_context
def scenario_command(
    context: click.Context, *, files: tuple[Path, ...], seed: int | None, nodes: int | None, as_json: bool
) -> None:
    """Run scenario files: a cluster, what happens to it, and what is expected.

    One file is shown in full; of several, or of a folder, each has one line. With --json one document, or a list of
    them. The exit code is 1 when an expectation was not met or a rule was broken, 2 when a file cannot be used.
    """
    paths = _all_files(files)
    is_one = paths == list(files)[:1]
    scenarios = _read_all(context, paths, nodes=nodes)
    results = []
    for path, scenario in scenarios:
        results.append(_run(path, scenario, seed))
        if not is_one and not as_json:
            click.echo(_line(results[-1]))
    if as_json:
        put_json(results[0] if is_one else results)
    elif is_one:
        _show(results[0])
    context.exit(ExitCode.DONE if all(result.passed for result in results) else ExitCode.FAILED)


@click.command(name="schema", cls=Command, examples=("holdfast sim schema", "holdfast sim schema --result"))
@click.option("--result", is_flag=True, help="The schema of what `holdfast sim scenario --json` prints instead.")
def schema_command(*, result: bool) -> None:
    """Print the JSON schema of scenario files, for editors and for programs that write them."""
    from holdfast.sim.scenario import schema
    from holdfast.sim.scenario_result import result_schema

    put_json(result_schema() if result else schema())


def _all_files(files: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for file in files:
        inside = sorted(one for one in file.rglob("*") if one.suffix in SUFFIXES) if file.is_dir() else [file]
        if not inside:
            raise click.BadParameter(f"there is no scenario file in {file}", param_hint="FILE")
        found += inside
    return found


def _read_all(context: click.Context, paths: Sequence[Path], *, nodes: int | None) -> list[tuple[Path, Scenario]]:
    """Read every file before any is run, and tell what is wrong with all of them."""
    from holdfast.model.errors import HoldfastError
    from holdfast.sim.scenario_reader import read_file

    found, problems = [], []
    for path in paths:
        try:
            found.append((path, read_file(path, nodes=nodes)))
        except HoldfastError as error:
            problems.append(error)
    for problem in problems:
        click.echo(problem.message, err=True)
    if problems:
        click.echo(f"hint: {problems[0].hint}", err=True)
        context.exit(ExitCode.INVALID)
    return found


def _run(path: Path, scenario: Scenario, seed: int | None) -> ScenarioResult:
    from holdfast.sim.scenario_run import run_scenario

    return run_scenario(scenario, file=str(path), seed=seed)


def _line(result: ScenarioResult) -> str:
    met = sum(1 for verdict in result.expectations if verdict.passed)
    words = f"{met} of {len(result.expectations)} expectations met"
    if result.broken_rules or result.setup_problems:
        words += f"; {'; '.join((*result.broken_rules, *result.setup_problems))}"
    return f"{'passed' if result.passed else 'FAILED'}  {result.file}: {words}"


def _show(result: ScenarioResult) -> None:
    click.echo(f"{result.scenario} (seed {result.seed})\n")
    for line in result.timeline:
        click.echo(f"{line.at:9.3f}  {line.source:8}  {line.text}")
    click.echo("\nowners:")
    for one in result.owners:
        until = "the end" if one.until is None else f"{one.until:.3f} s ({one.ended_by})"
        click.echo(f"  {one.role:12} {one.node:12} epoch {one.epoch:<3} {max(one.since, 0.0):9.3f} s to {until}")
    click.echo("\nexpectations:" if result.expectations else "")
    for verdict in result.expectations:
        click.echo(f"  {'met   ' if verdict.passed else 'FAILED'}  {verdict.expected}")
        if not verdict.passed:
            click.echo(f"          seen at {verdict.judged_at:.3f} s: {verdict.seen}")
    for text in (*result.broken_rules, *result.setup_problems):
        click.echo(f"  FAILED  {text}")
    click.echo(_line(result))
