"""The watchdog device, on a real FIFO."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.lab.watchdog import Watchdog

TIMEOUT_S = 0.4


class Rig:
    """A watchdog and the count of its bites."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bites = 0
        self.watchdog = Watchdog(path, TIMEOUT_S, self.bite)

    def bite(self) -> None:
        self.bites += 1


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "watchdog")
    yield made
    made.watchdog.close()


async def test_it_sleeps_until_the_first_write(rig: Rig) -> None:
    with rig.path.open("wb", buffering=0):
        await asyncio.sleep(2 * TIMEOUT_S)
    assert not rig.watchdog.is_armed
    await asyncio.sleep(2 * TIMEOUT_S)
    assert rig.bites == 0


async def test_it_bites_once_when_nobody_pets_it(rig: Rig) -> None:
    with rig.path.open("wb", buffering=0) as device:
        device.write(b"\0")
        await asyncio.sleep(4 * TIMEOUT_S)
    assert rig.bites == 1


async def test_petting_keeps_it_quiet(rig: Rig) -> None:
    with rig.path.open("wb", buffering=0) as device:
        for _ in range(16):
            device.write(b"\0")
            await asyncio.sleep(TIMEOUT_S / 8)
    assert rig.bites == 0
    assert rig.watchdog.is_armed


@pytest.mark.parametrize(("last_words", "bites"), [(b"V", 0), (b"\0V", 0), (b"Vx", 1), (b"x", 1)])
async def test_only_the_magic_character_as_the_last_one_disarms_it(rig: Rig, last_words: bytes, bites: int) -> None:
    with rig.path.open("wb", buffering=0) as device:
        device.write(last_words)
    await asyncio.sleep(3 * TIMEOUT_S)
    assert rig.bites == bites


async def test_it_serves_the_next_program_after_the_first_one_closed(rig: Rig) -> None:
    for last_words in (b"V", b"x"):
        with rig.path.open("wb", buffering=0) as device:
            device.write(last_words)
        await asyncio.sleep(TIMEOUT_S / 3)
    await asyncio.sleep(2 * TIMEOUT_S)
    assert rig.bites == 1
