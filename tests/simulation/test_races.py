"""Arbitration under every order of commands: a few thousand in every run of the tests, a hundred thousand by command.

Source: SAFE-1, SAFE-2; docs/safety.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.sim import broken_disks as broken
from holdfast.sim.breakage import Breakage
from holdfast.sim.races import races

COUNT = 3000
BROKEN = {
    "read-back-skipped": (("holdfast.sim.races:expel", broken.without_reading),),
    "unknown-is-expelled": (("holdfast.sim.races:expel", broken.unknown_is_expelled),),
    "abort-skipped": (
        ("holdfast.storage.scsi_lun:ScsiLun.preempt", broken.without_abort),
        ("holdfast.storage.scsi_lun:ScsiLun.reset", broken.nothing_dropped),
    ),
}


def test_safe_1_no_write_of_an_expelled_node_lands_in_any_order_of_commands() -> None:
    endings = list(races(1, COUNT))
    assert [ending for ending in endings if ending.failures] == []
    assert sum(ending.expelled for ending in endings) > COUNT / 2, "this shows little"


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_is_broken_on_purpose_is_seen_within_500_races(name: str) -> None:
    replaced: tuple[tuple[str, Callable[[Any], Any]], ...] = BROKEN[name]
    with Breakage(replaced=replaced).applied():
        assert any(ending.failures for ending in races(1, 500))


def test_a_race_is_the_same_each_time() -> None:
    assert list(races(40, 3)) == list(races(40, 3))
