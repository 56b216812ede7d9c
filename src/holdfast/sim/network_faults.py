"""What goes wrong with networks: cables, switches, single links, and packets on their way.

Rule of the file: see `fault_targets`; one function per kind.
"""

from __future__ import annotations

from contextvars import Context
from typing import Final

from holdfast.model.ids import NetworkName
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.fault_targets import Begin, End, machine_of, nothing
from holdfast.sim.machine import Machine
from holdfast.sim.world import Sky, World

Link = tuple[NetworkName, str, str]
"""A network, and the addresses of who sends and who hears."""


def pairs_cut(world: World, pairs: list[tuple[Machine, Machine]], networks: int) -> End:
    """Cut every network (`networks` 0) or one, in the direction of each pair; returns what heals them."""
    cut = [
        (network, address, target.spec.addresses[network])
        for source, target in pairs
        for index, (network, address) in enumerate(source.spec.addresses.items())
        if networks == 0 or index == networks - 1
    ]
    for way in cut:
        world.overlaps.begin(way)
        world.air.cut(*way)
    world.settle()

    def heal() -> None:
        for way in cut:
            if world.overlaps.end(way):
                world.air.heal(*way)
        world.settle()

    return heal


def _partition(world: World, fault: Fault) -> End:
    """`target` as bits says who is on which side; `other` which network, mostly all."""
    sides = [(machine, fault.target >> index & 1) for index, machine in enumerate(world.machines.values())]
    pairs = [(one, other) for one, here in sides for other, there in sides if here != there]
    return pairs_cut(world, pairs, _which_networks(world, fault))


def _cut_one_way(world: World, fault: Fault) -> End:
    pair = (
        machine_of(world, fault.target),
        machine_of(world, fault.target + 1 + fault.other % (len(world.machines) - 1)),
    )
    return pairs_cut(world, [pair], _which_networks(world, fault))


def _cable_out(world: World, fault: Fault) -> End:
    machine = machine_of(world, fault.target)
    networks = list(machine.spec.addresses.items())
    chosen = networks if fault.amount < 0.5 else [networks[fault.other % len(networks)]]
    for network, address in chosen:
        world.overlaps.begin((network, address))
        machine.cables_out.add(network)
        world.air.unplug(network, address)
    world.settle()

    def plug() -> None:
        for network, address in chosen:
            if world.overlaps.end((network, address)):
                machine.cables_out.discard(network)
                if machine.is_on:
                    world.air.plug(network, address)
        world.settle()

    return plug


def _which_networks(world: World, fault: Fault) -> int:
    return 0 if fault.amount < 0.7 else 1 + fault.other % len(world.make.networks)


def _bad_weather(world: World, fault: Fault) -> End:
    world.overlaps.begin("sky")
    world.sky = Sky(loss=fault.amount * 0.6, twice=fault.amount * 0.3, delay_ms=1 + fault.other % 400)

    def clear() -> None:
        if world.overlaps.end("sky"):
            world.sky = Sky()

    return clear


def _deaf(world: World, fault: Fault) -> End:
    """Nothing reaches one machine, or nothing leaves it, on one network or on all."""
    machine = machine_of(world, fault.target)
    others = [other for other in world.machines.values() if other is not machine]
    to_it = [(other, machine) for other in others]
    pairs = to_it if fault.other % 2 else [(machine, other) for other in others]
    return pairs_cut(world, pairs, _which_networks(world, fault))


def _heartbeats_dropped(world: World, fault: Fault) -> End:
    """A firewall drops the heartbeats to one machine, those from it, or both; other connections work."""
    machine = machine_of(world, fault.target)
    ways: list[Link] = []
    for other in world.machines.values():
        if other is not machine and fault.other % 3 != 0:
            ways += _links(other, machine)
        if other is not machine and fault.other % 3 != 1:
            ways += _links(machine, other)
    return _weather_on(world, ways, Sky(loss=1.0))


def _gray_link(world: World, fault: Fault) -> End:
    """One link of one network loses packets or takes its time, in one direction or both, while the others are well."""
    one = machine_of(world, fault.target)
    other = machine_of(world, fault.target + 1 + fault.other % (len(world.machines) - 1))
    ways = _links(one, other)[fault.other % len(one.spec.addresses) :][:1]
    if fault.other & 4:
        ways += [(network, target, source) for network, source, target in ways]
    is_lossy = fault.other & 8
    return _weather_on(world, ways, Sky(loss=fault.amount) if is_lossy else Sky(delay_ms=1 + int(fault.amount * 3000)))


def _links(source: Machine, target: Machine) -> list[Link]:
    return [(network, address, target.spec.addresses[network]) for network, address in source.spec.addresses.items()]


def _weather_on(world: World, ways: list[Link], sky: Sky) -> End:
    for way in ways:
        world.overlaps.begin(("weather", way))
        world.links[way] = sky

    def clear() -> None:
        for way in ways:
            if world.overlaps.end(("weather", way)):
                del world.links[way]

    return clear


def _cable_flaps(world: World, fault: Fault) -> End:
    """A cable that is in and out: every half second to every four."""
    machine = machine_of(world, fault.target)
    period_s = 0.5 + fault.amount * 3.5
    is_over = False
    pulled: End | None = None

    def flip() -> None:
        nonlocal pulled
        if pulled is not None:
            pulled()
        if is_over:
            return
        pulled = _cable_out(world, fault) if pulled is None else None
        world.loop.call_later(period_s, flip, context=Context())

    def stop() -> None:
        nonlocal is_over, pulled
        is_over = True
        if pulled is not None:
            pulled()
            pulled = None

    flip()
    return stop if machine.spec.addresses else nothing


NETWORK_FAULTS: Final[dict[FaultKind, Begin]] = {
    FaultKind.PARTITION: _partition,
    FaultKind.CUT_ONE_WAY: _cut_one_way,
    FaultKind.DEAF: _deaf,
    FaultKind.HEARTBEATS_DROPPED: _heartbeats_dropped,
    FaultKind.GRAY_LINK: _gray_link,
    FaultKind.CABLE_OUT: _cable_out,
    FaultKind.CABLE_FLAPS: _cable_flaps,
    FaultKind.BAD_WEATHER: _bad_weather,
}
