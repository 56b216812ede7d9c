"""The quorum benchmark: how long nothing can be decided when a voter is lost, what a join takes, what idle nodes cost.

Rule of the file: a decision is a transaction that a surviving node's daemon has answered; the measure is the longest
time between two of them around the loss, beside the same with nothing lost, which is what the machine itself costs.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
from collections.abc import Awaitable, Callable
from itertools import cycle, pairwise
from pathlib import Path

import click
from rich.console import Console

from holdfast.client import requests
from holdfast.client.local import LocalClient
from holdfast.lab.bench.host import describe_host, wait_quiet
from holdfast.lab.bench.idle import COUNTED, idle_cost
from holdfast.lab.bench.report import Report, Target, print_failures, target_table
from holdfast.lab.bench.traffic import sent
from holdfast.lab.construction import LabOptions
from holdfast.lab.database import LabDatabase
from holdfast.lab.errors import LabBroken
from holdfast.lab.exclusive import exclusively
from holdfast.lab.lab import Lab
from holdfast.lab.layout import WITNESS
from holdfast.lab.provision import client_of, found, join, join_witness, services, wait_votes
from holdfast.model.errors import HoldfastError
from holdfast.model.status import NodeState

ASKED, OTHER = "node1", "node2"
LOSSES = {"nobody": None, "follower": OTHER, "leader": OTHER, "witness": WITNESS}
"""What each case pulls the plug of; `ASKED` leads the database in all but one of them."""
SETTING, VALUES = "moves_at_once", (3, 4)
"""What is decided, again and again."""
NEXT_AFTER_S = 0.1
"""The next decision is asked for when the one before is answered, or after so long."""
BEFORE_S, AFTER_S = 2.0, 6.0
SAMPLE_S = 20.0
QUIET_PERCENT, QUIET_LIMIT_S = 60.0, 15.0
REPAIR_S, UP_S = 90.0, 60.0
SIZES = (2, 4, 8, 16)
TARGETS = (
    Target(measure="undecided_ms.nobody", title="longest time between decisions, ms"),
    Target(measure="undecided_ms.follower", title="… a follower is lost"),
    Target(measure="undecided_ms.leader", title="… the leader is lost", median=1300),
    Target(measure="undecided_ms.witness", title="… the witness is lost"),
    Target(measure="join_ms", title="join → node up, ms", median=5000),
)


class Losses:
    """Two hosts and a witness, one of which loses power again and again."""

    def __init__(self, lab: Lab, report: Report) -> None:
        self._lab = lab
        self._report = report

    async def build(self) -> None:
        """Make the lab and its cluster anew."""
        await _build(self._lab, nodes=2, has_witness=True)
        await found(self._lab, ASKED)
        await join(self._lab, OTHER, asked=ASKED)
        await join_witness(self._lab, asked=ASKED)
        await self._all_vote()

    async def lose(self, case: str) -> str:
        """Pull the plug of a case's victim while decisions are made, and repair it."""
        victim = LOSSES[case]
        await LabDatabase(lab=self._lab, asked=ASKED).lead(OTHER if case == "leader" else ASKED)
        await _quiet(self._report)
        client = await client_of(self._lab, ASKED)
        deciding = asyncio.create_task(_decide(client, BEFORE_S + AFTER_S))
        await asyncio.sleep(BEFORE_S)
        if victim is not None:
            await self._lab.power_off(victim)
        decided_at = await deciding
        longest_ms = 1000 * max(after - before for before, after in pairwise(decided_at))
        self._report.add(f"undecided_ms.{case}", longest_ms)
        if victim is not None:
            await self._repair(victim)
        return f"{len(decided_at) - 2} decisions, {longest_ms:.0f} ms between two of them at most"

    async def _repair(self, victim: str) -> None:
        await self._lab.power_on(victim)
        await self._all_vote()

    async def _all_vote(self) -> None:
        client = await client_of(self._lab, ASKED)
        try:
            async with asyncio.timeout(REPAIR_S):
                while True:
                    status = await client.call(requests.status())
                    if status.voters == status.voters_up == len((ASKED, OTHER, WITNESS)):
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise LabBroken(f"not all voters are up after {REPAIR_S:g} s") from error


async def _decide(client: LocalClient, lasts_s: float) -> list[float]:
    """Ask for decisions, one after the other; returns when each was answered, between the beginning and the end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    decided_at = [began]

    async def decide(value: int) -> None:
        try:
            await client.call(requests.set_cluster(SETTING, value))
        except HoldfastError:
            return
        decided_at.append(loop.time())

    async with asyncio.TaskGroup() as tasks:
        for value in cycle(VALUES):
            await asyncio.wait({tasks.create_task(decide(value))}, timeout=NEXT_AFTER_S)
            if loop.time() > began + lasts_s:
                break
    return [*(at for at in decided_at if at <= began + lasts_s), began + lasts_s]


class Growth:
    """A cluster that nodes join one by one, watched while idle at some sizes."""

    def __init__(self, lab: Lab, report: Report) -> None:
        self._lab = lab
        self._report = report

    async def grow(self, sizes: tuple[int, ...], say: Callable[[str], None]) -> None:
        """Build as many nodes as the last size wants and have them join."""
        await _build(self._lab, nodes=sizes[-1])
        names = self._lab.spec.node_names
        await found(self._lab, ASKED)
        for number, node in enumerate(names[1:], 2):
            say(f"{node} joined in {await self._join(node):.0f} ms")
            if number in sizes:
                await wait_votes(self._lab, ASKED)
                say(await self._watch(names[:number]))

    async def _join(self, node: str) -> float:
        loop = asyncio.get_running_loop()
        client = await client_of(self._lab, ASKED)
        began = loop.time()
        await join(self._lab, node, asked=ASKED)
        async with asyncio.timeout(UP_S):
            while not await _is_up(client, node):  # noqa: ASYNC110 - the cluster tells nobody
                await asyncio.sleep(0.05)
        took_ms = 1000 * (loop.time() - began)
        self._report.add("join_ms", took_ms)
        return took_ms

    async def _watch(self, names: list[str]) -> str:
        await _quiet(self._report)
        nodes = [(await self._lab.status()).node(name) for name in names]
        before = [sent(node.init_pid) for node in nodes]
        async with asyncio.TaskGroup() as tasks:
            samples = [tasks.create_task(idle_cost(node.init_pid, SAMPLE_S)) for node in nodes]
        after = [sent(node.init_pid) for node in nodes]
        size = len(names)
        for sample in samples:
            counted = [cost for name, cost in sample.result().items() if name in COUNTED]
            self._report.add(f"idle_cpu_percent.{size}", sum(cost.cpu_percent for cost in counted))
            self._report.add(f"idle_pss_mib.{size}", sum(cost.pss_mib for cost in counted))
        for early, late in zip(before, after, strict=True):
            self._report.add(f"sent_kib_per_s.{size}", (late.cluster_bytes - early.cluster_bytes) / SAMPLE_S / 1024)
            self._report.add(f"sent_datagrams_per_s.{size}", (late.datagrams - early.datagrams) / SAMPLE_S)
        return f"{size} idle nodes watched for {SAMPLE_S:g} s"


async def _is_up(client: LocalClient, node: str) -> bool:
    return any(one.name == node and one.state is NodeState.UP for one in (await client.call(requests.status())).nodes)


async def _build(lab: Lab, *, nodes: int, has_witness: bool = False) -> None:
    await lab.down(progress=_say)
    programs = services(has_watchdog=False, watchdog_timeout_s=3.0)
    options = LabOptions(nodes=nodes, services=programs, has_fence=False, has_watchdog=False, has_witness=has_witness)
    await lab.up(options, progress=_say)


async def _quiet(report: Report) -> None:
    busy = await wait_quiet(limit_percent=QUIET_PERCENT, limit_s=QUIET_LIMIT_S, progress=_say)
    report.add("machine_busy_percent", busy)


@click.command(epilog="Example: ./dev bench quorum --runs 5 --nodes 16 --json quorum.json")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(0, 1000), help="Losses of each kind.")
@click.option("--nodes", default=16, show_default=True, type=click.IntRange(0, 16), help="Grow to so many; 0: not.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report there.")
@click.option("--name", default="bench", show_default=True, help="Name of the lab, which is built anew.")
def quorum(*, runs: int, nodes: int, json_file: Path | None, name: str) -> None:
    """Lose voters and measure how long nothing is decided; then let a cluster grow and measure what it costs."""
    try:
        lab = Lab(name)
        with exclusively(lab):
            report = asyncio.run(_bench(lab, runs, nodes, json_file))
    except HoldfastError as error:
        sys.exit(f"error: {error}\n" + (f"next: {error.hint}\n" if error.hint else ""))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if report.failures else 0)


async def _bench(lab: Lab, runs: int, nodes: int, json_file: Path | None) -> Report:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    report = Report(benchmark="quorum", runs=runs, host=await describe_host(has_kvm=False))
    try:
        if runs:
            losses = Losses(lab, report)
            await losses.build()
            for number in range(runs):
                for case in LOSSES:
                    await _run(f"run {number + 1} of {runs}, {case}", lambda case=case: losses.lose(case), report)  # type: ignore[misc]
        sizes = tuple(sorted({size for size in (*SIZES, nodes) if size <= nodes}))
        if nodes:
            await _run("growth", lambda: _grow(Growth(lab, report), sizes), report)
    finally:
        await lab.down(progress=_say)
    if json_file is not None:
        report.write(json_file)
    _print(report)
    return report


async def _grow(growth: Growth, sizes: tuple[int, ...]) -> str:
    await growth.grow(sizes, _say)
    return f"{sizes[-1]} nodes"


async def _run(name: str, act: Callable[[], Awaitable[str]], report: Report) -> None:
    try:
        _say(f"{name}: {await act()}")
    except (HoldfastError, TimeoutError) as error:
        report.failures.append(f"{name}: {str(error) or type(error).__name__}")
        _say(f"FAILED: {report.failures[-1]}")


def _print(report: Report) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(f"{report.host['cpu']}, {report.host['cores']} cores")
    console.print(target_table(report, TARGETS))
    for name, values in report.measures.items():
        if name.startswith(("idle", "sent")):
            console.print(f"{name}: median {statistics.median(values):g}, most {max(values):g}")
    print_failures(report, console)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
