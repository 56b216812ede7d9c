"""What goes wrong with memory on its way, and the moves without which there is none on its way.

Rule of the file: see `fault_targets`.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from itertools import product
from typing import Final

from holdfast.hypervisor.simulated_guest import MoveAct, MoveFault
from holdfast.model.ids import RoleName
from holdfast.model.roles import Ownership, Phase, Wanted
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.fault_targets import Begin, End, machine_of
from holdfast.sim.people import WHO
from holdfast.sim.world import World
from holdfast.store.records import OWNERSHIPS, decode

MOVES: Final = ("quick", "live", "auto")
MOVE_EVERY_S: Final = 4.0
LOOK_EVERY_S: Final = 0.05
DISCARD_EVERY_S: Final = 0.4
DISCARDS: Final = 4
"""So often a person asks while a role is stopped: the first times its memory may not be at rest yet."""
ACTS_FAIL: Final = tuple(
    (act, how)
    for act, how in product(MoveAct, MoveFault)
    if (how is not MoveFault.TORN or act is MoveAct.SAVE)
    and (act is MoveAct.MIGRATE or not how.name.startswith(("NETWORK_DIES", "FINISH")))
)
"""Each act with each way in which it can go wrong."""


def _memory_moved(world: World, fault: Fault) -> End:
    """A person moves a role to and fro with its memory, and changes their mind now and then."""
    moving = world.loop.create_task(_move_on_and_on(world, fault), context=Context())

    def end() -> None:
        moving.cancel()

    return end


async def _move_on_and_on(world: World, fault: Fault) -> None:
    for number in range(fault.other, fault.other + 100):
        roles = world.roles()
        role = roles[(fault.target + number // 3) % len(roles)].name
        to = machine_of(world, number).name
        params = {"role": role, "to": to, "method": MOVES[number % len(MOVES)], "wait": False}
        asking = world.people.ask("role.move", params, first=number)
        await asyncio.sleep(MOVE_EVERY_S * (0.25 + fault.amount))
        asking.cancel()
        if number % 7 == 0:
            world.people.ask("role.cancel", {"role": role}, first=number)


def _memory_act_fails(world: World, fault: Fault) -> End:
    """The next acts on memory go wrong, each in its own way, on one machine after the other."""
    act, how = ACTS_FAIL[fault.other % len(ACTS_FAIL)]
    machine = machine_of(world, fault.target)
    moves = machine.hypervisor.moves
    moves.fail_next(act, how)

    def end() -> None:
        moves.take_fault(act)

    return end


def _saved_storage_full(world: World, fault: Fault) -> End:
    world.neighbourhood.free_bytes = 0

    def end() -> None:
        world.neighbourhood.free_bytes = None

    return end


def _saved_storage_gone(world: World, fault: Fault) -> End:
    world.neighbourhood.is_storage_gone = True

    def end() -> None:
        world.neighbourhood.is_storage_gone = False

    return end


def _memory_discarded(world: World, fault: Fault) -> End:
    """A person stops roles while their memory is saved, so that it stays, and gives it up; and starts them again."""
    discarding = world.loop.create_task(_discard_on_and_on(world, fault), context=Context())

    def end() -> None:
        discarding.cancel()
        for role in world.roles():
            if role.wanted is Wanted.OFFLINE:
                world.start_role(role.name)

    return end


async def _discard_on_and_on(world: World, fault: Fault) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for item in world.database.listing(OWNERSHIPS).items:
            record = decode(Ownership, item.key, item.value)
            if record.phase is Phase.SAVING:
                await _stop_and_discard(world, fault, record.role)


async def _stop_and_discard(world: World, fault: Fault, role: RoleName) -> None:
    world.stop_role(role)
    uuid = next(one.uuid for one in world.roles() if one.name == role)
    for number in range(DISCARDS):
        await asyncio.sleep(DISCARD_EVERY_S * (0.25 + fault.amount))
        world.truth.memory_given_up(uuid)
        world.people.ask("role.discard-saved-state", {"role": role, "person": WHO}, first=fault.other + number)
    world.start_role(role)


MEMORY_FAULTS: Final[dict[FaultKind, Begin]] = {
    FaultKind.MEMORY_MOVED: _memory_moved,
    FaultKind.MEMORY_ACT_FAILS: _memory_act_fails,
    FaultKind.SAVED_STORAGE_FULL: _saved_storage_full,
    FaultKind.SAVED_STORAGE_GONE: _saved_storage_gone,
    FaultKind.MEMORY_DISCARDED: _memory_discarded,
}
