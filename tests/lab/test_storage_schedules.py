"""Random schedules of storage failures: a hundred on light worlds, and the mistakes that they must find."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from holdfast.lab.errors import LabBroken
from holdfast.lab.soak.blocks import (
    BLOCK_BYTES,
    REGION_BYTES,
    Block,
    block_of_record,
    encode,
    faults_of,
    read_regions,
)
from holdfast.lab.soak.breakages import BREAKAGES
from holdfast.lab.soak.campaign import Tally, soak
from holdfast.lab.soak.light_world import MEMORY, light_world
from holdfast.lab.soak.schedule import Act, Schedule, Step, Who, draw

SCHEDULES = int(os.environ.get("HOLDFAST_TEST_SCHEDULES", "100"))
WORLDS = 5


def told(tally: Tally) -> str:
    """What went wrong, and how to see it again."""
    failed = tally.failed
    if failed is None:
        return ""
    again = f"./dev soak storage --seed {failed.schedule.seed} --schedules 1"
    return "\n".join([*failed.lines, str(failed.schedule), *failed.faults, again])


@pytest.mark.timeout(900)
async def test_a_hundred_schedules_on_light_worlds() -> None:
    tally = await soak((draw(seed) for seed in range(1, SCHEDULES + 1)), light_world, worlds=WORLDS)
    assert told(tally) == ""
    assert tally.played == SCHEDULES


LATE_WRITE, OUTLIVED = "had begun, which saw", "that node"
FOUND_BY = {
    "expels-nobody": (None, LATE_WRITE),
    "reads-nothing-back": (Act.REQUEST_LATE, LATE_WRITE),
    "unknown-is-done": (Act.REQUEST_LATE, LATE_WRITE),
    "registers-again": (None, OUTLIVED),
    "leaves-guests": (None, OUTLIVED),
}
"""Per mistake the trap that shows it, on top of a lost owner that writes on, and what shows."""
ATTEMPTS = 5
"""It takes luck: who is to run the role next must not be who preempts, and a guest may rest."""


@pytest.mark.timeout(600)
async def test_each_mistake_is_found() -> None:
    assert FOUND_BY.keys() == BREAKAGES.keys()
    assert [name for name in FOUND_BY if not await found(name, *FOUND_BY[name])] == []


async def found(breakage: str, trap: Act | None, words: str) -> bool:
    """Whether a mistake shows in a few schedules that fit it."""
    lost = Step(at=0.1, act=Act.CUT_CLUSTER, who=Who.OWNER, lasts=4.0)
    steps = (lost,) if trap is None else (Step(at=0.0, act=trap), lost)
    schedules = (Schedule(seed=0, steps=steps, is_guard_blunt=True) for _ in range(ATTEMPTS))
    tally = await soak(schedules, lambda: light_world(breakage=breakage), worlds=1)
    return tally.failed is not None and any(words in fault for fault in tally.failed.faults)


async def test_a_node_that_ends_by_itself_ends_the_run_with_its_words() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await soak((draw(seed) for seed in range(3)), lambda: light_world(breakage="none-such"), worlds=1)
    error: Exception = raised.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, LabBroken)
    assert "ended by itself, status 1" in error.message
    assert "there is no breakage none-such" in error.message


async def test_a_soak_that_is_told_to_end_leaves_nothing() -> None:
    before = {*MEMORY.glob("holdfast-soak-*")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "holdfast.lab.soak", "storage", "--worlds", "1"), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30):
            while not (  # noqa: ASYNC110 - another process makes it
                made := [path for path in MEMORY.glob("holdfast-soak-*/node3.board") if path.parent not in before]
            ):
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
            process.terminate()
            assert await process.wait() == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    [folder] = [path.parent for path in made]
    assert not folder.exists()
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert [command for command in commands if str(folder).encode() in command] == []


def test_the_same_seed_is_the_same_schedule() -> None:
    assert draw(7) == draw(7)
    assert len({str(draw(seed)) for seed in range(100)}) == 100


def written(*blocks: tuple[int, Block]) -> list[str]:
    """The faults of a LUN on which these blocks were written, each into a region."""
    raw = bytearray(4 * REGION_BYTES)
    for region, block in blocks:
        at = block_of_record(region, block.number) * BLOCK_BYTES
        raw[at : at + BLOCK_BYTES] = encode(block)
    return faults_of(read_regions(bytes(raw)))


def test_blocks_prove_who_wrote_late_and_what_was_lost() -> None:
    def a(number: int) -> tuple[int, Block]:
        return 0, Block(instance="a", number=number)

    def b(*saw: int) -> tuple[int, Block]:
        return 1, Block(instance="b", number=0, saw=saw)

    assert written(a(0), a(1), a(2), b(2)) == []
    assert "wrote record 2 after b had begun" in written(a(0), a(1), a(2), b(1))[0]
    assert "is not there" in written(a(0), a(1), b(2))[0]
    assert "none between 1 and 3" in written(a(0), a(1), a(3), b(3))[0]
    assert "is by b" in written(a(0), a(1), (0, Block(instance="b", number=2)))[0]
    assert "saw 0 regions" in written(a(0), b())[0]
