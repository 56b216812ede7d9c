"""SAFE-1 on any schedule: whatever is late, lost or torn, an expelled node changes no block after the proof."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sim.loop import VirtualLoop
from holdfast.storage.arbitration import Expelled, expel, protect
from holdfast.storage.outcome import Done
from holdfast.storage.port import Lun
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import ORDINARY, Fate, SimulatedTarget
from holdfast.storage.simulated_disk import FORGETFUL, DiskTraits, SimulatedDisk, WriteEffect

A, B, C = 0xA, 0xB, 0xC
delays = st.none() | st.sampled_from([0, 1, 5, 20, 80, 300])
fates = st.builds(
    Fate,
    request_ms=delays,
    execution_ms=delays,
    reply_ms=delays,
    blocks_written=st.none() | st.integers(0, 2),
) | st.just(ORDINARY)


class Race:
    """Node b writes all the time; nodes a and c expel it; every command has a fate of its own."""

    def __init__(self, fates_ahead: list[Fate], traits: DiskTraits) -> None:
        self.proven_at: float | None = None
        self.late: list[WriteEffect] = []
        self.fates_ahead = fates_ahead
        self.disk = SimulatedDisk(1, traits=traits, observe=self.observe)
        self.target = SimulatedTarget([self.disk])
        self.acknowledged_late = 0

    def observe(self, effect: WriteEffect) -> None:
        if self.proven_at is not None and effect.nexus.startswith("b"):
            self.late.append(effect)

    async def run(self) -> None:
        a, b, c = [ScsiLun(self.target.connect(name, self.disk.name), timeout_ms=100) for name in "abc"]
        for lun, key in ((a, A), (b, B), (c, C)):
            await protect(lun, key)
        fates_ahead: Iterator[Fate] = chain(self.fates_ahead, repeat(ORDINARY))
        self.target.fate = lambda _: next(fates_ahead)
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(self.write(b, number))
            group.create_task(self.expel(a, A))
            group.create_task(self.expel(c, C))
        await asyncio.sleep(2)

    async def write(self, lun: Lun, number: int) -> None:
        for block in range(4):
            began_after_proof = self.proven_at is not None
            outcome = await lun.write(block=number * 16 + block * 3, data=bytes([number]) * 1536)
            if began_after_proof and isinstance(outcome, Done):
                self.acknowledged_late += 1

    async def expel(self, lun: Lun, own: int) -> None:
        for _ in range(5):
            if isinstance(await expel(lun, own, victim=B), Expelled):
                self.proven_at = self.proven_at or asyncio.get_running_loop().time()
                return


@pytest.mark.parametrize("traits", [DiskTraits(), FORGETFUL], ids=["good", "forgetful"])
@given(fates_ahead=st.lists(fates, max_size=60))
def test_nothing_of_an_expelled_node_lands_after_the_proof(traits: DiskTraits, fates_ahead: list[Fate]) -> None:
    race = Race(fates_ahead, traits)
    VirtualLoop().run_until_complete(race.run())  # type: ignore[abstract]  # as in the world
    assert race.late == []
    assert race.acknowledged_late == 0


@pytest.mark.parametrize("traits", [DiskTraits(), FORGETFUL], ids=["good", "forgetful"])
def test_without_faults_the_proof_is_found(traits: DiskTraits) -> None:
    race = Race([], traits)
    VirtualLoop().run_until_complete(race.run())  # type: ignore[abstract]
    assert race.proven_at is not None
