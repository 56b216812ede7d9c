"""Targets for the contract of `Lun`: a good array and a forgetful one in memory, and a real tgtd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from holdfast.lab.bench.target import OwnTarget, own_target
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.port import Lun
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import SimulatedPath, SimulatedTarget
from holdfast.storage.simulated_disk import FORGETFUL, DiskTraits, SimulatedDisk

DISKS = 2


class Bench(Protocol):
    """A target with two disks, initiators by name, and a plug to pull."""

    can_abort: bool
    """Whether it knows PREEMPT AND ABORT."""
    survives_power_loss: bool
    """Whether it can keep registrations without power."""
    is_exact: bool
    """False for tgtd 1.0.85, which lacks READ FULL STATUS, takes any key of a registered nexus when it reserves, tells
    nobody of a release, and calls a preempted registration a preempted reservation."""

    async def connect(self, initiator: str, disk: int = 1, timeout_ms: int = 5000) -> Lun: ...

    async def restart(self) -> None: ...

    def hang(self) -> None: ...

    def recover(self) -> None: ...


class SimulatedBench:
    """The simulated target."""

    is_exact = True

    def __init__(self, traits: DiskTraits) -> None:
        self.can_abort = traits.can_abort
        self.survives_power_loss = traits.can_survive_power_loss
        self.disks = [SimulatedDisk(number + 1, traits=traits) for number in range(DISKS)]
        self.target = SimulatedTarget(self.disks)
        self._paths: list[SimulatedPath] = []

    async def connect(self, initiator: str, disk: int = 1, timeout_ms: int = 5000) -> Lun:
        path = self.target.connect(f"iqn.2026-11.test:{initiator}", self.disks[disk - 1].name)
        self._paths.append(path)
        return ScsiLun(path, timeout_ms=timeout_ms)

    async def restart(self) -> None:
        self.target.stop()
        self.target.start()

    def hang(self) -> None:
        self.target.is_hung = True

    def recover(self) -> None:
        self.target.is_hung = False


class TgtdBench:
    """tgtd through libiscsi."""

    can_abort = False
    survives_power_loss = False
    is_exact = False

    def __init__(self, target: OwnTarget, stack: AsyncExitStack) -> None:
        self.target = target
        self._stack = stack

    async def connect(self, initiator: str, disk: int = 1, timeout_ms: int = 5000) -> Lun:
        session = await IscsiSession.connect(self.target.address(initiator))
        self._stack.callback(session.drop)
        return ScsiLun(session.lun(disk), timeout_ms=timeout_ms)

    async def restart(self) -> None:
        await self.target.stop()
        await self.target.start()

    def hang(self) -> None:
        self.target.freeze()

    def recover(self) -> None:
        self.target.thaw()


@pytest.fixture(params=["simulated", "simulated-forgetful", "tgtd"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Yield each target in turn."""
    if request.param == "tgtd":
        async with AsyncExitStack() as stack:
            target = await stack.enter_async_context(own_target(disks=DISKS))
            yield TgtdBench(target, stack)
    else:
        yield SimulatedBench(FORGETFUL if request.param == "simulated-forgetful" else DiskTraits())
