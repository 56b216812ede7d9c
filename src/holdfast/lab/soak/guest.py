"""A guest that only writes: numbered, signed records through the nexus of its node, one at a time, until it is ended.

Rule of the file: it asks nobody whether it may. What ends without an answer is sent again, as a host bus adapter does;
a refusal stalls it, as QEMU pauses a guest whose disk reports an error. Between bursts it rests for longer than a look
of its node takes: so a node that was expelled and wrongly registers again can do so before its guest is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from holdfast.lab.soak.blocks import (
    BLOCK_BYTES,
    REGION_BLOCKS,
    REGIONS,
    Block,
    block_of_record,
    encode,
    is_free,
    read_region,
)
from holdfast.storage.outcome import Conflict, Done
from holdfast.storage.port import Lun

BEAT_S: Final = 0.02
BURST: Final = 20
"""Records between two rests."""
REST_S: Final = 0.8
AGAIN_S: Final = 0.03


class Stalled(Exception):
    """The disk refuses its writes."""


class Told(Protocol):
    """Whom a guest tells what the disk acknowledged."""

    def __call__(self, *, instance: str, region: int, number: int) -> None:
        """So many records are acknowledged."""


class WritingGuest:
    """One instance of a guest on one disk. `run` ends when it is cancelled or its writes are refused."""

    def __init__(self, instance: str, lun: Lun, *, acknowledged: Told, stalled: Callable[[], None]) -> None:
        self.instance = instance
        self._lun = lun
        self._acknowledged = acknowledged
        self._stalled = stalled
        self._region = -1
        self._number = 0

    async def run(self) -> None:
        """Write on. Called again, it goes on with the record that was refused."""
        try:
            if self._region < 0:
                await self._begin()
            while True:
                await self._write(Block(instance=self.instance, number=self._number + 1))
                self._number += 1
                self._acknowledged(instance=self.instance, region=self._region, number=self._number)
                await asyncio.sleep(BEAT_S if self._number % BURST else REST_S)
        except Stalled:
            self._stalled()

    async def _begin(self) -> None:
        """Take the next free region, and say what the earlier ones hold."""
        saw: list[int] = []
        for number in range(REGIONS):
            if is_free(await self._read(number * REGION_BLOCKS, 1)):
                self._region = number
                await self._write(Block(instance=self.instance, number=0, saw=tuple(saw)))
                self._acknowledged(instance=self.instance, region=number, number=0)
                return
            found = read_region(number, await self._read(number * REGION_BLOCKS, REGION_BLOCKS))
            saw.append(0 if found is None else found.count)
        raise AssertionError(f"guest {self.instance}: the LUN has no free region left")

    async def _read(self, block: int, count: int) -> bytes:
        while True:
            outcome = await self._lun.read(block=block, count=count)
            if isinstance(outcome, Done):
                return outcome.value
            await asyncio.sleep(AGAIN_S)

    async def _write(self, block: Block) -> None:
        data = encode(block)
        assert len(data) == BLOCK_BYTES
        while True:
            outcome = await self._lun.write(block=block_of_record(self._region, block.number), data=data)
            if isinstance(outcome, Done):
                return
            if isinstance(outcome, Conflict):
                raise Stalled
            await asyncio.sleep(AGAIN_S)
