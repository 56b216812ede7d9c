"""The failover benchmark: pulled plugs, a crashed QEMU, and what an idle node costs.

Rule of the file: a run that fails is told, counted and followed by a repair; it never adds a value and never ends the
benchmark, which always takes its lab down.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from holdfast.lab.bench.host import describe_host
from holdfast.lab.bench.idle import Cost
from holdfast.lab.bench.report import Report, Target, print_failures, target_table
from holdfast.lab.bench.scene import Scene
from holdfast.lab.bench.trials import Kind, Trials, measure_of
from holdfast.lab.exclusive import exclusively
from holdfast.lab.failover import Stage
from holdfast.lab.lab import Lab
from holdfast.model.errors import HoldfastError

TARGETS = (
    Target(measure="power_cut_to_qemu_ms", title="power cut → QEMU, ms", median=1500, worst=2500),
    Target(measure="power_cut_to_qemu_ms.leader", title="… of the database's leader", median=1500, worst=2500),
    Target(measure="power_cut_to_qemu_ms.coordinator", title="… of the coordinator", median=1500, worst=2500),
    Target(measure="power_cut_to_qemu_ms.eight_last", title="… last of eight guests", median=2500),
    Target(measure="power_cut_to_qemu_ms.reservation", title="… by reservation alone", median=2500),
    Target(measure="qemu_crash_to_qemu_ms", title="QEMU killed → QEMU, ms", median=500),
    Target(measure="idle_cpu_percent", title="idle node, % of a core", median=1.5),
    Target(measure="idle_pss_mib", title="idle node, MiB PSS", median=120),
)
COLUMNS = {"plain": "", "leader": ".leader", "coordinator": ".coordinator"} | {
    "first of eight": ".eight_first",
    "last of eight": ".eight_last",
    "reservation": ".reservation",
}
LASTS_S = {Kind.PLAIN: 30, Kind.LEADER: 30, Kind.COORDINATOR: 30, Kind.EIGHT: 150, Kind.CRASH: 12, Kind.IDLE: 70}
"""Roughly, to forecast the end before the benchmark knows its own pace."""


class Progress:
    """Tells on stderr what goes on, with a forecast of the end that learns from the runs so far."""

    def __init__(self, plan: Sequence[Kind]) -> None:
        self._plan = plan
        self._began_at = asyncio.get_running_loop().time()
        self._built_s = 0.0

    def say(self, line: str) -> None:
        """Print a line with the time since the beginning."""
        minutes, seconds = divmod(int(self._elapsed_s()), 60)
        print(f"{minutes:3d}:{seconds:02d}  {line}", file=sys.stderr, flush=True)

    def built(self) -> None:
        """The lab stands; the runs begin."""
        self._built_s = self._elapsed_s()

    def left(self, done: int) -> str:
        """Return the forecast after so many runs."""
        forecast_s: float = sum(LASTS_S[kind] for kind in self._plan[done:])
        if done:
            forecast_s *= (self._elapsed_s() - self._built_s) / sum(LASTS_S[kind] for kind in self._plan[:done])
        return f"about {max(1, round(forecast_s / 60))} min left"

    def _elapsed_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began_at


@click.command(epilog="Example: ./dev bench failover --runs 10 --json failover.json")
@click.option("--runs", default=10, show_default=True, type=click.IntRange(1, 1000), help="Runs of each kind.")
@click.option("--eight-runs", type=click.IntRange(0, 1000), help="Runs with eight guests.  [default: half of --runs]")
@click.option(
    "--only", type=click.Choice([kind.value for kind in Kind]), multiple=True, help="Only this kind; may be repeated."
)
@click.option("--disks", is_flag=True, help="Plain runs on a shared disk, where nothing but its reservations fences.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report there.")
@click.option("--name", default="bench", show_default=True, help="Name of the lab, which is built anew.")
def failover(
    *, runs: int, eight_runs: int | None, only: tuple[str, ...], disks: bool, json_file: Path | None, name: str
) -> None:
    """Pull plugs and measure how long the guests are gone."""
    if disks and only:
        raise click.UsageError("--disks has plain runs only, so --only cannot be given with it")
    only = (Kind.PLAIN.value,) if disks else only
    each = dict.fromkeys(Kind, runs) | {Kind.IDLE: 1, Kind.EIGHT: (runs + 1) // 2 if eight_runs is None else eight_runs}
    plan = [kind for kind in Kind for _ in range(each[kind]) if not only or kind in only]
    try:
        lab = Lab(name)
        with exclusively(lab):
            report = asyncio.run(_bench(lab, plan, runs, json_file, has_disks=disks))
    except HoldfastError as error:
        sys.exit(f"error: {error}\n" + (f"next: {error.hint}\n" if error.hint else ""))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if report.failures else 0)


async def _bench(lab: Lab, plan: Sequence[Kind], runs: int, json_file: Path | None, *, has_disks: bool) -> Report:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    progress = Progress(plan)
    try:
        scene = Scene(lab, progress.say, has_disks=has_disks)
        await scene.build()
        report = Report(benchmark="failover", runs=runs, host=await describe_host(has_kvm=lab.spec.has_kvm))
        trials = Trials(scene, report, progress.say)
        progress.built()
        for number, kind in enumerate(plan):
            progress.say(f"run {number + 1} of {len(plan)} ({kind}), {progress.left(number)}")
            await _run(trials, scene, kind, report, progress)
        report.failures += scene.double_runs()
    finally:
        await lab.down(progress=progress.say)
    if json_file is not None:
        report.write(json_file)
    _print(report, trials.idle_programs)
    return report


async def _run(trials: Trials, scene: Scene, kind: Kind, report: Report, progress: Progress) -> None:
    try:
        progress.say(await trials.run(kind))
    except (HoldfastError, TimeoutError) as error:
        report.failures.append(f"{kind}: {str(error) or type(error).__name__}")
        progress.say(f"FAILED: {report.failures[-1]}")
        try:
            await scene.repair()
        except HoldfastError as worse:
            progress.say(f"building the lab anew: {worse}")
            await scene.build()


def _print(report: Report, idle_programs: dict[str, Cost]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    host = report.host
    console.print(f"{host['cpu']}, {host['cores']} cores, guests under {host['accel'].upper()}")
    console.print(", ".join(f"{name} {version}" for name, version in host["versions"].items()))
    console.print(_stage_table(report))
    console.print(target_table(report, TARGETS))
    for name, cost in idle_programs.items():
        console.print(f"idle {name}: {cost.cpu_percent:.2f} % of a core, {cost.pss_mib:.1f} MiB")
    print_failures(report, console)


def _stage_table(report: Report) -> Table:
    """Return median and worst case of every stage, one column per kind of victim."""
    table = Table(title="ms after the power cut: median (worst)", title_justify="left", box=None, pad_edge=False)
    table.add_column("until")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for stage in Stage:
        cells = []
        for suffix in COLUMNS.values():
            values = report.measures.get(measure_of(stage, suffix))
            cells.append(f"{statistics.median(values):.0f} ({max(values):.0f})" if values else "-")
        table.add_row(stage, *cells)
    return table
