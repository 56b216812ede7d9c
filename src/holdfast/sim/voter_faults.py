"""What goes wrong with who votes: members and their data, the witness, and people who change who is there.

Rule of the file: see `fault_targets`; one function per kind. A machine that is taken out of the cluster comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from typing import Any, Final

from holdfast.model.errors import HoldfastError
from holdfast.model.nodes import NodeSpec
from holdfast.model.snapshot import Coordinator
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.fault_targets import Begin, End, machine_of, nothing
from holdfast.sim.machine import Machine
from holdfast.sim.machine_member import MachineMember
from holdfast.sim.network_faults import pairs_cut
from holdfast.sim.node_faults import frozen
from holdfast.sim.twins import EPOCH_MS
from holdfast.sim.world import World
from holdfast.store.etcd.stored import is_older
from holdfast.store.port import MemberId, Put, Txn
from holdfast.store.records import COORDINATOR, NODES, decode, encode, node_key

LOOK_EVERY_S: Final = 1.0
NUMBERS: Final = (1, 3, 5)


def _member_crash(world: World, fault: Fault) -> End:
    return _held_down(world, machine_of(world, fault.target), _crash)


def _member_disk_full(world: World, fault: Fault) -> End:
    return _held_down(world, machine_of(world, fault.target), _fill)


def _held_down(world: World, machine: Machine, act: Callable[[MachineMember, bool], None]) -> End:
    """The member ends, and cannot start until the fault does."""
    member = machine.member
    if member is None:
        return nothing
    world.overlaps.begin((act, machine.name))
    act(member, True)
    member.end()

    def heal() -> None:
        if world.overlaps.end((act, machine.name)):
            act(member, False)

    return heal


def _crash(member: MachineMember, is_so: bool) -> None:
    member.is_held_down = is_so


def _fill(member: MachineMember, is_so: bool) -> None:
    member.is_full = is_so


def _member_data_lost(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    if machine.member is not None and _others_keep_theirs(world, machine):
        machine.member.lose_data()
    return nothing


def _member_data_older(world: World, fault: Fault) -> End:
    """Its data is copied, and set back to the copy at the end: noticed where it was noted that it had stored more."""
    machine = machine_of(world, fault.target)
    member, copy = machine.member, None if machine.member is None else machine.member.data

    def set_back() -> None:
        if member is not None and copy is not None and is_older(copy, member.noted):
            now = member.data
            if now is not None and now.member == copy.member and _others_keep_theirs(world, machine):
                member.set_back(copy)

    return set_back


def _others_keep_theirs(world: World, machine: Machine) -> bool:
    """Whether a majority has its data without this machine's: nobody gets a cluster back whose majority lost it."""
    voters = [] if world.members is None else world.members.voters()
    kept = [
        one
        for one in voters
        if one.node != machine.name and not one.is_older and _holds(world.machines[one.node]) == one.id
    ]
    return len(kept) * 2 > len(voters)


def _holds(machine: Machine) -> MemberId | None:
    return None if machine.member is None else machine.member.holds


def _leader_frozen(world: World, _: Fault) -> End:
    """Who coordinates leads the database too, and is frozen as it does both."""
    item = world.database.get(COORDINATOR)
    if item is None or world.members is None:
        return nothing
    name = decode(Coordinator, COORDINATOR, item.value).node
    own = next((one for one in world.members.running() if one.node == name), None)
    try:
        if own is not None and world.leader not in (None, name):
            world.members.move_leader(own.id)
    except HoldfastError:
        return nothing
    return frozen(world, world.machines[name])


def _hosts_cut(world: World, fault: Fault) -> End:
    """Two hosts are cut from each other, and everybody else reaches both."""
    hosts = [machine for machine in world.machines.values() if not machine.spec.is_witness]
    if len(hosts) < 2:
        return nothing
    one = hosts.pop(fault.target % len(hosts))
    other = hosts[fault.other % len(hosts)]
    return pairs_cut(world, [(one, other), (other, one)], 0)


def _witness_cut(world: World, fault: Fault) -> End:
    """The witness is cut from one host only."""
    witness, hosts = _witness_and_hosts(world)
    if witness is None:
        return nothing
    host = hosts[fault.target % len(hosts)]
    return pairs_cut(world, [(witness, host), (host, witness)], 0)


def _witness_gone(world: World, fault: Fault) -> End:
    """Its plug is pulled, or it hangs."""
    witness, _ = _witness_and_hosts(world)
    if witness is None:
        return nothing
    if fault.amount < 0.3:
        return frozen(world, witness)
    witness.power_off("plug pulled")
    return witness.power_on


def _witness_and_hosts(world: World) -> tuple[Machine | None, list[Machine]]:
    machines = list(world.machines.values())
    witness = next((machine for machine in machines if machine.spec.is_witness), None)
    return witness, [machine for machine in machines if machine is not witness]


def _voters_changed(world: World, fault: Fault) -> End:
    """A person lets more or fewer nodes vote, and takes it back."""
    asking = _set_voters(world, NUMBERS[fault.target % len(NUMBERS)], fault.other)

    def back() -> None:
        asking.cancel()
        _set_voters(world, world.make.voters_at_most, fault.other)

    return back


def _set_voters(world: World, number: int, first: int) -> asyncio.Task[None]:
    return world.people.ask("cluster.set", {"changes": {"voters_at_most": number}}, first=first)


def _node_leaves(world: World, fault: Fault) -> End:
    """A machine leaves or is evicted, and joins again when the fault ends."""
    machine = machine_of(world, fault.target)
    if machine.member is None or machine.is_out:
        return nothing
    leaving = world.loop.create_task(_take_out(world, machine, fault), context=Context())

    def back() -> None:
        leaving.cancel()
        world.loop.create_task(_come_back(world, machine), context=Context())

    return back


async def _take_out(world: World, machine: Machine, fault: Fault) -> None:
    node: dict[str, Any] = {"node": machine.name}
    if not machine.spec.is_witness:
        await world.people.ask("node.drain", {**node, "wait": False, "force": True}, first=fault.other)
    while not machine.is_out:
        await world.people.ask("node.leave" if fault.amount < 0.5 else "node.evict", node, first=fault.other)
        await asyncio.sleep(LOOK_EVERY_S)


async def _come_back(world: World, machine: Machine) -> None:
    """Join again once it is out, or stay after all."""
    while machine.is_out or not _is_node(world, machine):
        if machine.is_out and not _is_node(world, machine):
            join_again(world, machine)
            return
        await asyncio.sleep(LOOK_EVERY_S)
    await world.people.ask("node.resume", {"node": machine.name, "failback": "never"})


def join_again(world: World, machine: Machine) -> None:
    """What joining comes to: the record of a new node without a vote, and a machine that knows the others."""
    joined_at_ms = EPOCH_MS + round(world.truth.now() * 1000)
    spec = replace(machine.spec, seat=None, is_voter=False, joined_at_ms=joined_at_ms)

    def join() -> None:
        if machine.is_out and not _is_node(world, machine):
            world.truth.note("world", f"{machine.name} joins again")
            world.database.txn(Txn(then=(Put(node_key(machine.name), encode(spec)),)))
            nodes = [decode(NodeSpec, item.key, item.value) for item in world.database.listing(NODES).items]
            machine.join_cluster({node.name: node for node in nodes})

    world.for_a_person(join)


def _is_node(world: World, machine: Machine) -> bool:
    return world.database.get(node_key(machine.name)) is not None


VOTER_FAULTS: Final[dict[FaultKind, Begin]] = {
    FaultKind.MEMBER_CRASH: _member_crash,
    FaultKind.MEMBER_DISK_FULL: _member_disk_full,
    FaultKind.MEMBER_DATA_LOST: _member_data_lost,
    FaultKind.MEMBER_DATA_OLDER: _member_data_older,
    FaultKind.LEADER_FROZEN: _leader_frozen,
    FaultKind.HOSTS_CUT: _hosts_cut,
    FaultKind.WITNESS_CUT: _witness_cut,
    FaultKind.WITNESS_GONE: _witness_gone,
    FaultKind.VOTERS_CHANGED: _voters_changed,
    FaultKind.NODE_LEAVES: _node_leaves,
}
