"""Random schedules of storage failures: a hundred on light worlds, and a mistake that they must find."""

from __future__ import annotations

import os

import pytest

from holdfast.lab.soak.blocks import (
    BLOCK_BYTES,
    REGION_BYTES,
    Block,
    block_of_record,
    encode,
    faults_of,
    read_regions,
)
from holdfast.lab.soak.campaign import Tally, soak
from holdfast.lab.soak.light_world import light_world
from holdfast.lab.soak.schedule import draw

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


@pytest.mark.timeout(300)
async def test_the_schedules_find_an_expulsion_that_asks_nobody() -> None:
    tally = await soak((draw(seed) for seed in range(1, 41)), lambda: light_world(breakage="expels-nobody"), worlds=3)
    assert "after" in told(tally), "nothing was found in 40 schedules"


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
