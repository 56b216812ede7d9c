"""Faults that lie on top of each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.faults import FAULTS
from holdfast.sim.layout import Make
from holdfast.sim.world import World


def state(world: World) -> tuple[object, ...]:
    """What the faults below change."""
    one, other = list(world.machines.values())[:2]
    network, address = next(iter(one.spec.addresses.items()))
    return (
        world.air.reaches(address, other.spec.addresses[network], (network,)),
        one.is_frozen,
        one.is_libvirt_hung,
        one.is_libvirt_down,
        one.name in world.cut_off,
        [path.is_through for path in world.shared_disks.paths(one.name)],
    )


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.PARTITION,
        FaultKind.CUT_ONE_WAY,
        FaultKind.CABLE_OUT,
        FaultKind.FREEZE,
        FaultKind.LIBVIRT_HANGS,
        FaultKind.LIBVIRT_RESTART,
        FaultKind.DATABASE_CUT,
        FaultKind.STORAGE_CUT,
    ],
)
def test_what_two_faults_did_is_over_when_both_are(kind: FaultKind) -> None:
    with closing(World(Make(disks=1), seed=1)) as world:
        world.loop.run_until(10.0)
        fault = Fault(
            kind=kind, at_s=0.0, lasts_s=1.0, target=1 if kind is FaultKind.PARTITION else 0, other=0, amount=0.1
        )
        before = state(world)
        ends: list[Callable[[], None]] = []
        world.loop.call_soon(lambda: ends.extend(FAULTS[kind](world, fault) for _ in range(2)))
        world.loop.run_until(10.0)
        hit = state(world)
        assert hit != before, "the fault does nothing: this shows nothing"
        world.loop.call_soon(ends[0])
        world.loop.run_until(10.0)
        assert state(world) == hit
        world.loop.call_soon(ends[1])
        world.loop.run_until(10.0)
        assert state(world) == before
