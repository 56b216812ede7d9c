"""The cluster of the scale benchmark comes up, and decides nothing twice."""

from __future__ import annotations

from holdfast.lab.bench.scale import roomy_world


def test_every_role_is_decided_once_however_many_there_are() -> None:
    world = roomy_world(3, 150)
    world.loop.run_until(15)
    assert len(world.truth.living()) == 150
    assert world.database.refused < 15
    world.close()
