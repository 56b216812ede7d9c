"""The reservation benchmark: expelling a node from 16 LUNs, and what protection costs a write.

Rule of the file: the target is a tgtd of our own on loopback with its disks in memory, so that what is measured is the
exchange of commands and not a disk. A run whose proof is not found is a failure and adds no value.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from holdfast.lab.bench.host import describe_host
from holdfast.lab.bench.report import Report, Target, print_failures, target_table
from holdfast.lab.bench.target import OwnTarget, own_target
from holdfast.lab.errors import LabBroken
from holdfast.lab.tools import run_tool
from holdfast.model.errors import HoldfastError
from holdfast.storage.arbitration import AbortMethod, Expelled, Protected, expel_everywhere, look, protect
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.outcome import Conflict, Done
from holdfast.storage.scsi_lun import ScsiLun

LUNS: Final = 16
WRITES: Final = 200
OURS, THEIRS = 0x0A11, 0x0B0B
MEMORY: Final = Path("/dev/shm")
TARGETS = (
    Target(measure="expel_16_luns_ms", title="expel from 16 LUNs, ms", median=50),
    Target(measure="expel_16_luns_ms.writing", title="… while the victim writes to all", median=50),
)


@click.command()
@click.option("--runs", type=click.IntRange(min=1), default=10, show_default=True, help="How often to expel.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write all measures to this file.",
)
def reservation(runs: int, json_file: Path | None) -> None:
    """Expel a node from 16 LUNs of a tgtd, and write with and without protection."""
    try:
        report = asyncio.run(_bench(runs))
    except HoldfastError as error:
        sys.exit(f"error: {error}\n" + (f"next: {error.hint}\n" if error.hint else ""))
    except KeyboardInterrupt:
        sys.exit(130)
    if json_file is not None:
        report.write(json_file)
    _print(report)
    sys.exit(1 if report.failures else 0)


async def _bench(runs: int) -> Report:
    host = await describe_host(has_kvm=Path("/dev/kvm").exists())
    host["versions"]["tgtd"] = (await run_tool("tgtd", "--version")).strip()
    report = Report(benchmark="reservation", runs=runs, host=host)
    async with own_target(disks=LUNS, folder=MEMORY) as target:
        for number in range(runs):
            for trial in (_expel_idle, _expel_writing, _write):
                try:
                    await trial(target, report)
                except (HoldfastError, TimeoutError) as error:
                    report.failures.append(f"run {number + 1}, {trial.__name__.strip('_')}: {error}")
    return report


class _Node:
    """One initiator with its session and all its LUNs."""

    def __init__(self, session: IscsiSession, key: int) -> None:
        self.key = key
        self.luns = [ScsiLun(session.lun(number)) for number in range(1, LUNS + 1)]

    async def protect(self) -> None:
        """Register everywhere. Raises LabBroken."""
        outcomes = await asyncio.gather(*(protect(lun, self.key) for lun in self.luns))
        wrong = [outcome for outcome in outcomes if not isinstance(outcome, Protected)]
        if wrong:
            raise LabBroken(f"not protected: {wrong[0]}")

    async def clear(self) -> None:
        """Leave every LUN without keys."""
        await asyncio.gather(*(lun.clear(key=self.key) for lun in self.luns))


@asynccontextmanager
async def _node(target: OwnTarget, name: str, key: int) -> AsyncIterator[_Node]:
    session = await IscsiSession.connect(target.address(name))
    try:
        yield _Node(session, key)
    finally:
        await session.close()


async def _expel_idle(target: OwnTarget, report: Report) -> None:
    async with _node(target, "ours", OURS) as ours, _node(target, "theirs", THEIRS) as theirs:
        report.add("protect_16_luns_ms", await _timed(ours.protect))
        await theirs.protect()
        report.add("look_16_luns_ms", await _timed(lambda: asyncio.gather(*map(look, ours.luns))))
        report.add("expel_16_luns_ms", await _expelled(ours))
        await ours.clear()


async def _expel_writing(target: OwnTarget, report: Report) -> None:
    async with _node(target, "ours", OURS) as ours, _node(target, "theirs", THEIRS) as theirs:
        await ours.protect()
        await theirs.protect()
        writers = [asyncio.create_task(_write_until_conflict(lun)) for lun in theirs.luns]
        try:
            await asyncio.sleep(0.2)
            report.add("expel_16_luns_ms.writing", await _expelled(ours))
            async with asyncio.timeout(10):
                await asyncio.gather(*writers)
        finally:
            for writer in writers:
                writer.cancel()
        await ours.clear()


async def _write(target: OwnTarget, report: Report) -> None:
    async with _node(target, "ours", OURS) as ours:
        report.add("write_us.unprotected", await _write_us(ours.luns[0]))
        await ours.protect()
        report.add("write_us.protected", await _write_us(ours.luns[0]))
        await ours.clear()


async def _expelled(ours: _Node) -> float:
    outcomes: list[object] = []

    async def act() -> None:
        outcomes.extend(await expel_everywhere(ours.luns, OURS, victim=THEIRS))

    elapsed_ms = await _timed(act)
    wrong = [outcome for outcome in outcomes if not isinstance(outcome, Expelled)]
    if wrong:
        raise LabBroken(f"not expelled: {wrong[0]}")
    return elapsed_ms


async def _write_until_conflict(lun: ScsiLun) -> None:
    """Write as a busy guest does, a hundred times a second."""
    block = 0
    while not isinstance(await lun.write(block=block, data=bytes(4096)), Conflict):
        block = (block + 8) % 4096
        await asyncio.sleep(0.01)


async def _write_us(lun: ScsiLun) -> float:
    values: list[float] = []
    for number in range(WRITES):
        began = asyncio.get_running_loop().time()
        if not isinstance(await lun.write(block=number * 8, data=bytes(4096)), Done):
            raise LabBroken("a write failed")
        values.append((asyncio.get_running_loop().time() - began) * 1e6)
    return statistics.median(values)


async def _timed(act: Callable[[], Awaitable[object]]) -> float:
    began = asyncio.get_running_loop().time()
    await act()
    return (asyncio.get_running_loop().time() - began) * 1000


def _print(report: Report) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    host = report.host
    console.print(f"{host['cpu']}, {host['cores']} cores; tgtd {host['versions']['tgtd']} ({AbortMethod.LUN_RESET})")
    for name, values in report.measures.items():
        console.print(f"{name}: median {statistics.median(values):.1f}, worst {max(values):.1f}, n {len(values)}")
    console.print(target_table(report, TARGETS))
    print_failures(report, console)
