"""What runs in the daemon of a simulated machine: the life of a node or of a witness, on the twins of its ports.

Rule of the file: composition only, as `node/member.py` and `node/witness.py` are for real machines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from holdfast.membership.replay import Sequences
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Condition, MemoryTarget, NodeSpec
from holdfast.node.life import Life
from holdfast.node.mirror import Mirror
from holdfast.node.ports import Ports
from holdfast.node.seat import SeatKeeper
from holdfast.node.witness_life import WitnessLife, WitnessPorts
from holdfast.sim.loop import Process
from holdfast.sim.machine_member import MachineAdmin
from holdfast.sim.shared_disks import CLUSTER_ID
from holdfast.sim.twins import PlainCodec, SocketTransport, memory_uri

if TYPE_CHECKING:
    from holdfast.sim.machine import Machine, Surroundings

Work = Callable[[], Coroutine[Any, Any, object]]
LEFT_OVER_KEPT_S: Final = 15.0
"""A simulated cluster does not live for an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """What one daemon does. It ends when the machine was taken out of its cluster. `life` None: it is a witness."""

    work: Coroutine[Any, Any, None]
    mirror: Mirror
    life: Life | None


def host(machine: Machine, around: Surroundings, process: Process, peers: Mapping[NodeName, NodeSpec]) -> Daemon:
    """Holdfastd. Where the votes never change it has nothing to do with them."""
    ports = _ports(machine, around, process)
    if ports.admin is None:
        life = Life(cluster_id=CLUSTER_ID, me=machine.name, peers=peers, ports=ports)
        return Daemon(work=life.run(), mirror=life.mirror, life=life)

    def conditions() -> tuple[Condition, ...]:
        return (*seat.conditions(), *(life.voters.conditions() if life.voters is not None else ()))

    life = Life(
        cluster_id=CLUSTER_ID,
        me=machine.name,
        peers=peers,
        ports=ports,
        seat=lambda: seat.seat,
        more_conditions=conditions,
    )
    seat = _seat(machine, ports, life.mirror)
    return Daemon(work=_until(life.evicted.wait, life.run, seat.run), mirror=life.mirror, life=life)


def witness(machine: Machine, around: Surroundings, process: Process, peers: Mapping[NodeName, NodeSpec]) -> Daemon:
    """`holdfast witness`."""
    ports = _ports(machine, around, process)
    life = WitnessLife(
        cluster_id=CLUSTER_ID,
        me=machine.name,
        peers=peers,
        ports=WitnessPorts(
            store=ports.store,
            transport=ports.transport,
            codec=ports.codec,
            sequences=ports.sequences,
            incarnations=ports.incarnations,
            clock=ports.clock,
        ),
        seat=lambda: seat.seat,
        more_conditions=lambda: (*seat.conditions(),),
    )
    seat = _seat(machine, ports, life.mirror)
    return Daemon(work=_until(life.run, seat.run), mirror=life.mirror, life=None)


async def _until(end: Work, *works: Work) -> None:
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work()) for work in works]
        await end()
        for task in working:
            task.cancel()


def _seat(machine: Machine, ports: Ports, mirror: Mirror) -> SeatKeeper:
    assert machine.member is not None
    assert ports.admin is not None
    return SeatKeeper(
        me=machine.name,
        store=ports.store,
        admin=ports.admin,
        mirror=mirror,
        process=machine.member,
        note=machine.member,
    )


def _ports(machine: Machine, around: Surroundings, process: Process) -> Ports:
    loop = around.loop
    return Ports(
        store=machine.store,
        hypervisor=machine.hypervisor,
        guard=machine.guard,
        transport=SocketTransport(around.air, machine.endpoints(), process),
        codec=PlainCodec(
            cluster_id=CLUSTER_ID,
            networks=machine.spec.addresses,
            wire=around.wire,
            heard=partial(around.truth.heard, machine.name),
        ),
        sequences=Sequences(lambda: int(loop.time() * 1000)),
        incarnations=machine.incarnations,
        device_of=lambda spec: around.breakage.device(around.device_of(spec)),
        clock=machine.clock,
        admin=None if around.members is None else MachineAdmin(machine.name, around.members, machine.store),
        memory_target=lambda: MemoryTarget(uri=memory_uri(machine.name)) if around.keeps_memory else None,
        left_over_kept_s=LEFT_OVER_KEPT_S,
        open_lun=lambda disk: around.shared_disks.open_lun(machine.name, disk),
    )
