"""Reservations through a helper: what arbitration needs works over it, and what breaks is never taken for done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.contract.storage.helper_worlds import HelperServer, lab_adapter, qemu_helper, serving

from holdfast.lab.bench.target import own_target
from holdfast.storage.arbitration import AbortMethod, Expelled, Protected, expel, look, protect
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.outcome import Conflict, Done, Failed, Unknown
from holdfast.storage.port import Lun
from holdfast.storage.reservation_helper import HelperTransport
from holdfast.storage.scsi.command import Command, OperationCode, synchronize_cache
from holdfast.storage.scsi.reservations import InAction, reserve_in
from holdfast.storage.scsi.sense import SenseKey
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import SimulatedTarget
from holdfast.storage.simulated_disk import DiskTraits, SimulatedDisk
from holdfast.storage.transport import Answer, Lost, Unsent

OURS, VICTIM = 0xA, 0xB
KEYS = reserve_in(InAction.READ_KEYS)


class World:
    """A disk behind a helper, and another initiator's own way to it."""

    def __init__(self, lun: Lun, other: Lun, how: AbortMethod) -> None:
        self.lun, self.other, self.how = lun, other, how


@pytest.fixture(params=["simulated", "adapter"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        if request.param == "simulated":
            target, disk = simulated()
            server = HelperServer(target.connect("iqn.2026-11.test:helper", disk))
            await stack.enter_async_context(serving(server, tmp_path / "h"))
            path, how = tmp_path / "h", AbortMethod.PREEMPT_AND_ABORT
            other: Lun = ScsiLun(target.connect("iqn.2026-11.test:other", disk))
        else:
            tgtd = await stack.enter_async_context(own_target(disks=1))
            path, how = await stack.enter_async_context(lab_adapter(tgtd, tmp_path)), AbortMethod.LUN_RESET
            session = await IscsiSession.connect(tgtd.address("other"))
            stack.callback(session.drop)
            other = ScsiLun(session.lun(1))
        lun = ScsiLun(HelperTransport(path))
        stack.push_async_callback(lun.close)
        yield World(lun, other, how)


def simulated() -> tuple[SimulatedTarget, str]:
    disk = SimulatedDisk(1, traits=DiskTraits())
    return SimulatedTarget([disk]), disk.name


async def test_it_tells_who_and_how_large_the_disk_is(world: World) -> None:
    ours, theirs = await world.lun.identity(), await world.other.identity()
    assert isinstance(ours, Done)
    assert isinstance(theirs, Done)
    assert ours.value == theirs.value
    assert isinstance(await world.lun.check(), Done)
    ours_size, theirs_size = await world.lun.capacity(), await world.other.capacity()
    assert isinstance(ours_size, Done)
    assert isinstance(theirs_size, Done)
    assert ours_size.value == theirs_size.value


async def test_safe_1_who_is_expelled_over_a_helper_writes_no_more(world: World) -> None:
    assert isinstance(await protect(world.other, VICTIM), Protected)
    assert isinstance(await protect(world.lun, OURS), Protected)
    size = await world.other.capacity()
    assert isinstance(size, Done)
    block = bytes(size.value.block_bytes)
    assert isinstance(await world.other.write(block=0, data=block), Done)
    outcome = await expel(world.lun, OURS, victim=VICTIM)
    assert isinstance(outcome, Expelled), outcome
    assert outcome.how is world.how
    assert isinstance(await world.other.write(block=0, data=block), Conflict)
    seen = await look(world.lun)
    assert isinstance(seen, Done)
    assert seen.value.keys == (OURS,)


async def test_expelling_again_drops_unfinished_commands_by_a_reset(world: World) -> None:
    assert isinstance(await protect(world.lun, OURS), Protected)
    outcome = await expel(world.lun, OURS, victim=VICTIM)
    assert isinstance(outcome, Expelled), outcome
    assert outcome.how is AbortMethod.LUN_RESET


async def test_commands_at_once_take_turns(world: World) -> None:
    assert isinstance(await protect(world.lun, OURS), Protected)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(world.lun.read_keys()) for _ in range(20)]
    assert [task.result() for task in asked] == [asked[0].result()] * 20
    assert isinstance(asked[0].result(), Done)


async def test_what_is_written_is_read_back(world: World) -> None:
    assert isinstance(await protect(world.lun, OURS), Protected)
    data = b"a" * 512 + b"b" * 512
    assert isinstance(await world.lun.write(block=3, data=data), Done)
    seen = await world.lun.read(block=2, count=16)
    assert isinstance(seen, Done)
    assert seen.value == bytes(512) + data + bytes(13 * 512)


async def test_nothing_else_is_carried(world: World) -> None:
    transport = world.lun._transport  # type: ignore[attr-defined]
    reply = await transport.execute(synchronize_cache(), timeout_ms=1000)
    assert isinstance(reply, Unsent)
    other_action = Command(cdb=bytes((OperationCode.SERVICE_ACTION_IN_16, 0x12)) + bytes(14), data_in_bytes=32)
    assert isinstance(await transport.execute(other_action, timeout_ms=1000), Unsent)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HelperServer]:
    target, disk = simulated()
    async with serving(HelperServer(target.connect("iqn.2026-11.test:helper", disk)), tmp_path / "h") as server:
        yield server


async def test_a_helper_of_qemu_is_asked_for_reservations_only(server: HelperServer, tmp_path: Path) -> None:
    server.greeting = 0
    lun = ScsiLun(HelperTransport(tmp_path / "h"))
    assert isinstance(await lun.read_keys(), Done)
    assert isinstance(await lun.identity(), Failed)
    assert isinstance(await lun.reset(), Failed)
    assert set(server.carried) == {OperationCode.PERSISTENT_RESERVE_IN}
    await lun.close()


async def test_nobody_there_means_not_sent(tmp_path: Path) -> None:
    assert isinstance(await HelperTransport(tmp_path / "none").execute(KEYS, timeout_ms=1000), Unsent)


@pytest.mark.parametrize("fault", ["is_silent", "is_leaving", "oversize"])
async def test_safe_2_a_command_whose_answer_does_not_come_is_unknown(
    fault: str, server: HelperServer, tmp_path: Path
) -> None:
    lun = ScsiLun(HelperTransport(tmp_path / "h"), timeout_ms=300)
    assert isinstance(await lun.read_keys(), Done), "and the attentions of a new nexus are over"
    setattr(server, fault, 100_000)
    assert isinstance(await lun.register(key=OURS, existing=0, survives_power_loss=False), Unknown)
    setattr(server, fault, 0)
    keys = await lun.read_keys()
    assert isinstance(keys, Done), "the next command goes over a new connection"
    assert keys.value.keys == (OURS,), "it was carried out all the same"
    assert server.carried.count(OperationCode.PERSISTENT_RESERVE_OUT) == 1, "and never sent again"
    await lun.close()


async def test_one_that_gives_up_waiting_for_its_turn_disturbs_nobody(server: HelperServer, tmp_path: Path) -> None:
    transport = HelperTransport(tmp_path / "h")
    server.is_silent = True
    first = asyncio.create_task(transport.execute(KEYS, timeout_ms=400))
    await asyncio.sleep(0.1)
    assert isinstance(await transport.execute(KEYS, timeout_ms=100), Unsent)
    assert not first.done()
    assert isinstance(await first, Lost)
    assert len(server.carried) == 1
    await transport.close()


async def test_closing_ends_what_is_under_way(server: HelperServer, tmp_path: Path) -> None:
    transport = HelperTransport(tmp_path / "h")
    server.is_silent = True
    first = asyncio.create_task(transport.execute(KEYS, timeout_ms=5000))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(1):
        await transport.close()
        assert isinstance(await first, Lost)
    assert isinstance(await transport.execute(KEYS, timeout_ms=1000), Unsent)


async def test_a_helper_that_was_restarted_is_connected_anew(server: HelperServer, tmp_path: Path) -> None:
    lun = ScsiLun(HelperTransport(tmp_path / "h"))
    assert isinstance(await lun.read_keys(), Done)
    server.hang_up()
    await asyncio.sleep(0.05)
    assert isinstance(await lun.read_keys(), Unknown)
    assert isinstance(await lun.read_keys(), Done)
    await lun.close()


async def test_qemus_own_helper_speaks_the_same_protocol(tmp_path: Path) -> None:
    """The file that goes with the command is no SCSI disk, and that is what it says."""
    async with qemu_helper(tmp_path) as path:
        transport = HelperTransport(path)
        for _ in range(2):
            reply = await transport.execute(KEYS, timeout_ms=1000)
            assert isinstance(reply, Answer)
            assert reply.sense[2] & 0xF in (SenseKey.ILLEGAL_REQUEST, SenseKey.HARDWARE_ERROR, SenseKey.ABORTED_COMMAND)
        assert isinstance(await ScsiLun(transport).identity(), Failed)
        await transport.close()
