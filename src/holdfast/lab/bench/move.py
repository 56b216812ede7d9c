"""The benchmark of planned moves: quick, live, and the drain of a node; each beside plain libvirt in the same run.

Rule of the file: a guest of the cluster and a plain one take turns on the same nodes, so that what else the machine
does falls on both. Pauses are measured from inside the guests. A run that fails adds no value.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from holdfast.client import requests
from holdfast.lab.bench.host import describe_host, wait_quiet
from holdfast.lab.bench.report import Report, Target, print_failures, target_table
from holdfast.lab.bench.scene import GUESTS, Scene
from holdfast.lab.errors import LabBroken
from holdfast.lab.exclusive import exclusively
from holdfast.lab.guests import Guest
from holdfast.lab.lab import Lab
from holdfast.lab.layout import SHARED_MOUNT, Network, node_address, node_number
from holdfast.lab.pauses import giving_time
from holdfast.lab.provision import client_of
from holdfast.model.errors import HoldfastError
from holdfast.model.roles import MoveMethod

FROM, TO, OTHER = "node2", "node3", "node1"
AT_ONCE = 4
"""As many moves at once as the cluster makes by default (`moves_at_once`)."""
RUN_LIMIT_S = 300.0
QUIET_PERCENT, QUIET_LIMIT_S = 60.0, 15.0
SETTLE_S = 0.5
"""For the last answer to the guest's ticks to be counted."""
FIRST_PLAIN = 50
"""The index of the first guest that is no role."""
MEASURES = ("quick_total_ms", "quick_pause_ms", "live_total_ms", "live_pause_ms", "drain_eight_ms")


class Moves:
    """Makes moves of both kinds and adds what they took to the report."""

    def __init__(self, scene: Scene, report: Report, progress: Callable[[str], None]) -> None:
        self._scene = scene
        self._lab = scene.lab
        self._report = report
        self._progress = progress

    async def begin(self) -> None:
        """Have one guest of each kind run where the moves begin."""
        await self._scene.place({self._role.name: FROM})
        await self._start_plain(0)

    async def live(self) -> str:
        """There and back while running."""
        return await self._both(
            "live",
            lambda source, target: self._move_role(target, MoveMethod.LIVE),
            lambda source, target: self._migrate(self._plain(0), source, target),
        )

    async def quick(self) -> str:
        """There and back through a file."""
        return await self._both(
            "quick",
            lambda source, target: self._move_role(target, MoveMethod.QUICK),
            lambda source, target: self._save_and_restore(self._plain(0), source, target),
        )

    async def drain(self) -> str:
        """Empty a node of eight guests; then the same of plain ones."""
        await self._end_plain(0)
        await self._scene.place(dict.fromkeys(self._scene.guests, FROM))
        await self._quiet()
        client = await client_of(self._lab, OTHER)
        drain = requests.drain_node(FROM, dry_run=False, wait=True, method=MoveMethod.LIVE)
        ours = await self._timed(lambda: client.call(drain))
        await client.call(requests.resume_node(FROM, failback="never"))
        await self._scene.place({})
        for index in range(GUESTS):
            await self._start_plain(index)
        await self._quiet()
        plain = await self._timed(self._drain_plain)
        self._report.add("drain_eight_ms", ours)
        self._report.add("plain_drain_eight_ms", plain)
        await self.begin()
        return f"drain of eight {ours:.0f} ms, plain {plain:.0f} ms"

    async def _both(
        self,
        kind: str,
        ours: Callable[[str, str], Awaitable[object]],
        plain: Callable[[str, str], Awaitable[object]],
    ) -> str:
        told = []
        for source, target in ((FROM, TO), (TO, FROM)):
            for prefix, guest, move in (("", self._role, ours), ("plain_", self._plain(0), plain)):
                await self._quiet()
                total, pause = await self._measure(guest, partial(move, source, target))
                self._report.add(f"{prefix}{kind}_total_ms", total)
                self._report.add(f"{prefix}{kind}_pause_ms", pause)
                told.append(f"{prefix}{kind} {total:.0f} ms (pause {pause:.0f})")
        return ", ".join(told)

    async def _measure(self, guest: Guest, move: Callable[[], Awaitable[object]]) -> tuple[float, float]:
        """Return how long a move took, and the longest time within it that the guest stood still."""
        before = await guest.wait_answer()
        async with giving_time(guest) as pauses:
            await asyncio.sleep(SETTLE_S)
            total = await self._timed(move)
            await asyncio.sleep(SETTLE_S)
            after = await pauses.wait_answer()
        if after.boot_id != before.boot_id:
            raise LabBroken(f"{guest.name} was booted anew by the move: its memory was lost")
        return total, after.longest_gap_ms

    async def _timed(self, act: Callable[[], Awaitable[object]]) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(RUN_LIMIT_S):
            await act()
        return 1000 * (loop.time() - began)

    @property
    def _role(self) -> Guest:
        return next(iter(self._scene.guests.values()))

    def _plain(self, number: int) -> Guest:
        return self._lab.guest(f"plain{number + 1}", FIRST_PLAIN + number)

    async def _move_role(self, target: str, method: MoveMethod) -> None:
        client = await client_of(self._lab, OTHER)
        await client.call(requests.move_role(self._role.name, to=target, wait=True, method=method))

    async def _end_plain(self, number: int) -> None:
        for node in (FROM, TO, OTHER):
            await self._lab.execute(node, "virsh", "-q", "destroy", self._plain(number).name, check=False)

    async def _start_plain(self, number: int) -> None:
        """Boot it where the moves begin, wherever a run that failed left it."""
        await self._end_plain(number)
        guest = self._plain(number)
        guest.make_disk()
        await self._lab.execute(FROM, "virsh", "-q", "create", "/dev/stdin", stdin=self._lab.guest_xml(guest))
        await guest.wait_answer(timeout_s=120.0)

    async def _migrate(self, guest: Guest, source: str, target: str) -> None:
        address = node_address(Network.CLUSTER_A, node_number(target))
        # without shared storage that libvirt knows as such it wants to be told that this is safe
        how = ("--live", "--p2p", "--tls", "--unsafe", "--migrateuri", f"tcp://{address}")
        await self._lab.execute(source, "virsh", "-q", "migrate", *how, guest.name, f"qemu+tls://{address}/system")

    async def _save_and_restore(self, guest: Guest, source: str, target: str) -> None:
        path = f"{SHARED_MOUNT}/{guest.name}.state"
        await self._lab.execute(source, "virsh", "-q", "save", guest.name, path)
        await self._lab.execute(target, "virsh", "-q", "restore", path)

    async def _drain_plain(self) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def move(number: int) -> None:
            async with slots:
                await self._migrate(self._plain(number), FROM, (OTHER, TO)[number % 2])

        async with asyncio.TaskGroup() as tasks:
            for number in range(GUESTS):
                tasks.create_task(move(number))
        for number in range(GUESTS):
            await self._lab.execute((OTHER, TO)[number % 2], "virsh", "-q", "destroy", self._plain(number).name)

    async def _quiet(self) -> None:
        busy = await wait_quiet(limit_percent=QUIET_PERCENT, limit_s=QUIET_LIMIT_S, progress=self._progress)
        self._report.add("machine_busy_percent", busy)


@click.command(epilog="Example: ./dev bench move --runs 5 --json move.json")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1, 1000), help="Moves there and back.")
@click.option("--drains", default=2, show_default=True, type=click.IntRange(0, 1000), help="Drains of eight guests.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report there.")
@click.option("--name", default="bench", show_default=True, help="Name of the lab, which is built anew.")
def move(*, runs: int, drains: int, json_file: Path | None, name: str) -> None:
    """Move guests with their memory and measure how long that takes and how long they stand still."""
    try:
        lab = Lab(name)
        with exclusively(lab):
            report = asyncio.run(_bench(lab, runs, drains, json_file))
    except HoldfastError as error:
        sys.exit(f"error: {error}\n" + (f"next: {error.hint}\n" if error.hint else ""))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if report.failures else 0)


async def _bench(lab: Lab, runs: int, drains: int, json_file: Path | None) -> Report:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    try:
        scene = Scene(lab, _say)
        await scene.build()
        report = Report(benchmark="move", runs=runs, host=await describe_host(has_kvm=lab.spec.has_kvm))
        moves = Moves(scene, report, _say)
        await moves.begin()
        for number in range(runs):
            for act in (moves.quick, moves.live):
                await _run(f"run {number + 1} of {runs}", act, moves, report)
        for number in range(drains):
            await _run(f"drain {number + 1} of {drains}", moves.drain, moves, report)
        report.failures += scene.double_runs()
    finally:
        await lab.down(progress=_say)
    if json_file is not None:
        report.write(json_file)
    _print(report)
    return report


async def _run(name: str, act: Callable[[], Awaitable[str]], moves: Moves, report: Report) -> None:
    try:
        _say(f"{name}: {await act()}")
    except (HoldfastError, TimeoutError) as error:
        report.failures.append(f"{name}: {str(error) or type(error).__name__}")
        _say(f"FAILED: {report.failures[-1]}")
        await moves.begin()


def _print(report: Report) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    host = report.host
    console.print(f"{host['cpu']}, {host['cores']} cores, guests under {host['accel'].upper()}")
    console.print(target_table(report, _targets(report)))
    print_failures(report, console)


def _targets(report: Report) -> list[Target]:
    """Each measure beside plain libvirt's in the same run. Source: DESIGN section 14."""
    more = {"quick_pause_ms": 300.0, "live_total_ms": 200.0, "live_pause_ms": 0.0, "drain_eight_ms": 0.0}
    targets = []
    for name in MEASURES:
        plain = report.measures.get(f"plain_{name}")
        limit = statistics.median(plain) + more[name] if plain and name in more else None
        targets.append(Target(measure=name, title=name, median=limit))
        targets.append(Target(measure=f"plain_{name}", title="… by plain libvirt"))
    return targets


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
