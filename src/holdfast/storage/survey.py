"""What disks a node sees, by its own ways and at a portal.

Rule of the file: it only reads. A disk that does not answer is listed with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final, TypeVar

from holdfast.model.disk_status import SeenDisk
from holdfast.storage.iscsi.address import Chap, IscsiAddress
from holdfast.storage.iscsi.discovery import discover, logical_units
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.outcome import Conflict, Done, Failed, Outcome, Unknown
from holdfast.storage.port import Lun
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.ways import Way, find_ways, open_lun

T = TypeVar("T")
TIMEOUT_MS: Final = 3000
AT_ONCE: Final = 8
DISKS_MAX: Final = 512
SESSION: Final = 0x5EED
"""Tells a survey's session from every other one of the same initiator."""


async def survey_ways(patterns: Sequence[str]) -> tuple[SeenDisk, ...]:
    """Look at every disk that the ways lead to. Raises InvalidInput."""
    found: list[Way] = []
    for pattern in patterns:
        found += await asyncio.to_thread(find_ways, pattern)
    turns = asyncio.Semaphore(AT_ONCE)

    async def see(way: Way) -> SeenDisk:
        lun = open_lun(way, timeout_ms=TIMEOUT_MS)
        try:
            async with turns:
                return await look_at(str(way), lun)
        finally:
            await lun.close()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(see(way)) for way in found[:DISKS_MAX]]
    return tuple(task.result() for task in tasks)


async def survey_portal(portal: str, *, initiator: str, chap: Chap | None) -> tuple[SeenDisk, ...]:
    """Log in to every target of a portal and look at its disks. Raises LunUnreachable, InitiatorMissing."""
    seen: list[SeenDisk] = []
    for target in await discover(portal, initiator=initiator, chap=chap):
        address = IscsiAddress(
            target=target.target, portals=target.portals, initiator=initiator, session=SESSION, chap=chap
        )
        async with AsyncExitStack() as stack:
            session = await IscsiSession.connect(address)
            stack.push_async_callback(session.close)
            for number in await logical_units(session):
                lun = ScsiLun(session.lun(number), timeout_ms=TIMEOUT_MS)
                disk = await look_at(f"{target.target} LUN {number}", lun)
                if disk.size_bytes is not None or disk.keys is not None:  # what has neither is no disk
                    seen.append(disk)
    return tuple(seen)


async def look_at(way: str, lun: Lun) -> SeenDisk:
    """Read what can be told of a disk without changing it."""
    seen = SeenDisk(way=way)
    who = await lun.identity()
    if not isinstance(who, Done):
        return replace(seen, problem=words_of(who))
    seen = replace(
        seen,
        designator=who.value.designator,
        vendor=who.value.vendor,
        product=who.value.product,
        serial_number=who.value.serial_number,
    )
    size, keys = await lun.capacity(), await lun.read_keys()
    if isinstance(size, Done):
        seen = replace(seen, size_bytes=size.value.blocks * size.value.block_bytes)
    if not isinstance(keys, Done):
        return replace(seen, problem=f"no persistent reservations: {words_of(keys)}")
    held, can = await lun.read_reservation(), await lun.capabilities()
    if isinstance(held, Done) and held.value.reservation is not None:
        seen = replace(seen, reservation=held.value.reservation.type.words)
    if isinstance(can, Done):
        seen = replace(seen, keeps_reservations=can.value.can_survive_power_loss)
    return replace(seen, keys=len(keys.value.keys))


def words_of(outcome: Outcome[T]) -> str:
    """Say how a request ended."""
    match outcome:
        case Done():
            return "done"
        case Conflict():
            return "the target answered with a reservation conflict"
        case Failed() | Unknown():
            return outcome.words
