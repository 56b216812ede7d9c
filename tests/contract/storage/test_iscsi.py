"""iSCSI in user space against tgtd: discovery, CHAP, portals, lost connections, commands that are given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from holdfast.lab.bench.target import TARGET_NAME, OwnTarget, own_target
from holdfast.storage.errors import LunUnreachable
from holdfast.storage.iscsi.address import Chap
from holdfast.storage.iscsi.discovery import TargetFound, discover, logical_units
from holdfast.storage.iscsi.session import UNANSWERED_MAX, IscsiSession
from holdfast.storage.outcome import Done, Failed, Unknown
from holdfast.storage.scsi_lun import ScsiLun

SECRET = Chap(user="node", password="twelve-bytes-long")


@pytest.fixture
async def target() -> AsyncIterator[OwnTarget]:
    async with own_target(disks=2) as target:
        yield target


async def test_targets_and_their_units_are_found(target: OwnTarget) -> None:
    found = await discover(target.portal, initiator="iqn.2026-11.test:a")
    assert found == (TargetFound(target=TARGET_NAME, portals=(target.portal,), portal_groups=(1,)),)
    session = await IscsiSession.connect(target.address("a"))
    assert await logical_units(session) == (0, 1, 2)
    await session.close()
    with pytest.raises(LunUnreachable):
        await logical_units(session)


async def test_a_portal_that_is_dead_is_passed_over(target: OwnTarget) -> None:
    address = replace(target.address("a"), portals=("127.0.0.1:1", target.portal))
    session = await IscsiSession.connect(address)
    assert session.portal == target.portal
    await session.close()


async def test_another_target_name_is_refused_in_words(target: OwnTarget) -> None:
    with pytest.raises(LunUnreachable, match="Target not found"):
        await IscsiSession.connect(replace(target.address("a"), target="iqn.2026-11.test:other"))


async def test_chap_lets_in_who_knows_the_secret() -> None:
    async with own_target(disks=1, chap=SECRET) as target:
        session = await IscsiSession.connect(target.address("a"))
        assert isinstance(await ScsiLun(session.lun(1)).check(), Done)
        await session.close()
        for chap in (None, replace(SECRET, password="another-long-one")):
            with pytest.raises(LunUnreachable):
                await IscsiSession.connect(replace(target.address("a"), chap=chap))


async def test_a_target_that_does_not_know_its_own_secret_is_not_trusted() -> None:
    mutual = replace(SECRET, target_user="target", target_password="its-own-long-secret")
    async with own_target(disks=1, chap=mutual) as target:
        session = await IscsiSession.connect(target.address("a"))
        await session.close()
        impostor = replace(target.address("a"), chap=replace(mutual, target_password="not-its-own-secret"))
        with pytest.raises(LunUnreachable):
            await IscsiSession.connect(impostor)


async def test_a_unit_that_is_not_there_says_so(target: OwnTarget) -> None:
    session = await IscsiSession.connect(target.address("a"))
    assert isinstance(await ScsiLun(session.lun(9)).identity(), Failed)
    assert isinstance(await ScsiLun(session.lun(9)).check(), Failed)
    await session.close()


async def test_many_commands_at_once_are_answered_each_with_its_own(target: OwnTarget) -> None:
    session = await IscsiSession.connect(target.address("a"))
    lun = ScsiLun(session.lun(1))
    for number in range(32):
        assert isinstance(await lun.write(block=number, data=bytes([number]) * 512), Done)
    read = await asyncio.gather(*(lun.read(block=number, count=1) for number in range(32)))
    assert [outcome.value[0] for outcome in read if isinstance(outcome, Done)] == list(range(32))
    await session.close()


async def test_a_large_area_crosses_in_one_command(target: OwnTarget) -> None:
    session = await IscsiSession.connect(target.address("a"))
    lun = ScsiLun(session.lun(1))
    data = bytes(range(256)) * 2048
    assert isinstance(await lun.write(block=0, data=data), Done)
    read = await lun.read(block=0, count=len(data) // 512)
    assert isinstance(read, Done)
    assert read.value == data
    await session.close()


async def test_a_lost_connection_is_noticed_without_asking(target: OwnTarget) -> None:
    session = await IscsiSession.connect(target.address("a"))
    await target.stop()
    await asyncio.sleep(0.5)
    assert not session.is_open
    assert isinstance(await ScsiLun(session.lun(1)).check(), Failed)
    await session.close()


async def test_who_waits_while_the_target_dies_learns_that_it_is_unknown(target: OwnTarget) -> None:
    session = await IscsiSession.connect(target.address("a"))
    lun = ScsiLun(session.lun(1))
    assert isinstance(await lun.read(block=0, count=1), Done)
    target.freeze()
    waiting = asyncio.create_task(lun.write(block=0, data=bytes(512)))
    await asyncio.sleep(0.1)
    await target.stop()
    assert isinstance(await waiting, Unknown)
    await session.close()


async def test_a_command_that_is_given_up_does_no_harm_to_the_next(target: OwnTarget) -> None:
    session = await IscsiSession.connect(target.address("a"))
    lun, hasty = ScsiLun(session.lun(1)), ScsiLun(session.lun(1), timeout_ms=50)
    assert isinstance(await lun.check(), Done)
    target.freeze()
    assert isinstance(await hasty.check(), Unknown)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await lun.read_keys()
    target.thaw()
    assert isinstance(await lun.check(), Done)
    assert isinstance(await lun.read_keys(), Done)
    await session.close()


async def test_a_session_that_answers_nothing_is_cut(target: OwnTarget) -> None:
    session = await IscsiSession.connect(target.address("a"))
    hasty = ScsiLun(session.lun(1), timeout_ms=1)
    target.freeze()
    for _ in range(UNANSWERED_MAX + 1):
        assert session.is_open
        assert isinstance(await hasty.check(), Unknown)
    assert not session.is_open
    assert isinstance(await hasty.check(), Failed)


async def test_a_target_that_hangs_does_not_keep_us_from_closing(target: OwnTarget) -> None:
    session = await IscsiSession.connect(target.address("a"))
    target.freeze()
    async with asyncio.timeout(5):
        await session.close()
    assert not session.is_open
    with pytest.raises(LunUnreachable, match="no answer within 200 ms"):
        await IscsiSession.connect(target.address("b"), timeout_ms=200)
