"""The simulated target and tgtd, side by side: any commands whatever leave the same keys and the same reservation."""

from __future__ import annotations

from contextlib import AsyncExitStack
from random import Random

import pytest
from tests.contract.storage.conftest import SimulatedBench, TgtdBench

from holdfast.lab.bench.target import own_target
from holdfast.storage.arbitration import look
from holdfast.storage.outcome import Done, Outcome
from holdfast.storage.port import Lun
from holdfast.storage.scsi.reservations import OutAction, Reservation, ReservationType, ReserveOut
from holdfast.storage.simulated_disk import FORGETFUL

KEYS = (0, 0xA, 0xB, 0xC)
STEPS = 300


def any_request(random: Random, own: int, reservation: Reservation | None) -> ReserveOut:
    """Return a request that is right more often than chance would have it, where tgtd does as the standard says.

    It does not look at the key of a reserve or a release, keeps the registration of a nexus that preempts its own key,
    takes the key 0 of a preempt while nobody reserved, and loses its own memory when that registrant is preempted that
    made an all-registrants reservation.
    """
    action = random.choice([action for action in OutAction if action is not OutAction.PREEMPT_AND_ABORT])
    key = own if random.random() < 0.85 or action in (OutAction.RESERVE, OutAction.RELEASE) else random.choice(KEYS)
    service_keys = list(KEYS)
    if action is OutAction.PREEMPT:
        is_all = reservation is not None and reservation.type.is_all_registrants
        service_keys = [0] if is_all else [item for item in KEYS if item not in (0, own)]
    kind = random.choice(list(ReservationType))
    if reservation is not None and random.random() < 0.5:
        kind = reservation.type
    return ReserveOut(action=action, key=key, service_key=random.choice(service_keys), type=kind)


async def carry_out(lun: Lun, request: ReserveOut) -> Outcome[None]:
    kind = request.type or ReservationType.WRITE_EXCLUSIVE
    match request.action:
        case OutAction.REGISTER:
            return await lun.register(key=request.service_key, existing=request.key, survives_power_loss=False)
        case OutAction.REGISTER_AND_IGNORE_EXISTING_KEY:
            return await lun.register(key=request.service_key, existing=None, survives_power_loss=False)
        case OutAction.RESERVE:
            return await lun.reserve(key=request.key, type=kind)
        case OutAction.RELEASE:
            return await lun.release(key=request.key, type=kind)
        case OutAction.CLEAR:
            return await lun.clear(key=request.key)
        case _:
            return await lun.preempt(key=request.key, victim=request.service_key, type=kind, abort=False)


@pytest.mark.parametrize("seed", range(3))
async def test_any_commands_leave_the_same(seed: int) -> None:
    random = Random(seed)
    simulated = SimulatedBench(FORGETFUL)
    async with AsyncExitStack() as stack:
        real = TgtdBench(await stack.enter_async_context(own_target(disks=1)), stack)
        ours = {name: await simulated.connect(name) for name in "abc"}
        theirs = {name: await real.connect(name) for name in "abc"}
        story: list[str] = []
        for _ in range(STEPS):
            name = random.choice("abc")
            registered = simulated.disks[0].reservations.registered
            held = {nexus.split(":")[1][0]: key for nexus, key in registered.items()}
            reservation = simulated.disks[0].reservations.reservation
            request = any_request(random, held.get(name, 0), reservation)
            outcomes = [await carry_out(luns[name], request) for luns in (ours, theirs)]
            readings = [await look(luns["a"]) for luns in (ours, theirs)]
            story.append(f"{name}: {request} -> {[type(item).__name__ for item in outcomes]}")
            told = "\n".join(story[-6:])
            assert type(outcomes[0]) is type(outcomes[1]), told
            assert all(isinstance(reading, Done) for reading in readings), f"{readings[1]}\n{told}"
            mine, other = [reading.value for reading in readings if isinstance(reading, Done)]
            assert sorted(mine.keys) == sorted(other.keys), told
            assert mine.reservation == other.reservation, told
            written = [await luns[name].write(block=0, data=bytes(512)) for luns in (ours, theirs)]
            assert type(written[0]) is type(written[1]), told
