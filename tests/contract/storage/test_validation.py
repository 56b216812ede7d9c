"""Checking disks step by step: what is found, what is refused, and that a disk is left as it was."""

from __future__ import annotations

import pytest
from tests.contract.storage.conftest import Bench

from holdfast.model.disk_status import CheckResult
from holdfast.storage.arbitration import Protected, look, protect
from holdfast.storage.outcome import Done
from holdfast.storage.port import Lun
from holdfast.storage.scsi.reservations import ReservationType
from holdfast.storage.survey import look_at
from holdfast.storage.validation import Check, Expected, clear_keys

OURS, NOBODY, OTHER, THROW_AWAY = 0xA, 0xB, 0xC, 0xD
FULL = ["reach", "identity", "size", "power loss", "reservations", "register", "reserve", "expel", "tidy up"]


async def inspected(lun: Lun, expected: Expected | None = None) -> Check:
    check = Check(lun)
    await check.inspect(expected or Expected())
    return check


def failed(check: Check) -> list[str]:
    return [step.name for step in check.steps if step.result is CheckResult.FAILED]


def result(check: Check, name: str) -> CheckResult:
    return next(step.result for step in check.steps if step.name == name)


async def holders(lun: Lun) -> tuple[tuple[int, ...], object]:
    seen = await look(lun)
    assert isinstance(seen, Done)
    return seen.value.keys, seen.value.reservation


async def test_a_free_disk_passes_and_is_left_as_it_was(bench: Bench) -> None:
    lun = await bench.connect("a")
    check = await inspected(lun)
    await check.rehearse(THROW_AWAY, nobody=NOBODY)
    assert [step.name for step in check.steps] == FULL
    assert failed(check) == []
    assert await holders(lun) == ((), None)
    wanted = CheckResult.OK if bench.survives_power_loss else CheckResult.WARNING
    assert result(check, "power loss") is wanted
    assert check.keeps_reservations is bench.survives_power_loss
    assert result(check, "expel") is (CheckResult.OK if bench.can_abort else CheckResult.WARNING)
    assert check.size_bytes > 0
    assert "." in check.designator


async def test_safe_1_a_disk_that_somebody_uses_is_only_read(bench: Bench) -> None:
    other, lun = await bench.connect("b"), await bench.connect("a")
    assert isinstance(await protect(other, OTHER), Protected)
    before = await holders(lun)
    check = await inspected(lun)
    assert failed(check) == ["reservations"]
    assert f"{OTHER:#x}" in check.steps[-1].words
    with pytest.raises(AssertionError, match="only read"):
        await check.rehearse(THROW_AWAY, nobody=NOBODY)
    assert await holders(lun) == before


async def test_safe_1_a_reservation_that_others_rely_on_is_not_taken_away(bench: Bench) -> None:
    """Somebody registers between the inspection and its end."""
    other, lun = await bench.connect("b"), await bench.connect("a")
    check = await inspected(lun)
    assert isinstance(await protect(other, OTHER), Protected)
    await check.rehearse(THROW_AWAY, nobody=NOBODY)
    assert failed(check) == ["register"]
    keys, reservation = await holders(lun)
    assert OTHER in keys
    assert reservation is not None
    assert result(check, "tidy up") is CheckResult.WARNING


async def test_a_disk_of_the_cluster_passes_when_its_nodes_are_registered(bench: Bench) -> None:
    other, lun = await bench.connect("b"), await bench.connect("a")
    for way, key in ((lun, OURS), (other, OTHER)):
        assert isinstance(await protect(way, key), Protected)
    check = await inspected(lun, Expected(keys={OURS: "node1", OTHER: "node2"}, own_key=OURS))
    assert failed(check) == []
    assert "registered: node1, node2" in check.steps[-1].words


@pytest.mark.parametrize(
    ("own", "keys", "words"),
    [(OURS, {OURS: "node1", OTHER: "node2"}, "may not write"), (OTHER, {OTHER: "node2"}, "registered: node2")],
)
async def test_a_disk_of_the_cluster_fails_without_this_nodes_key(
    own: int, keys: dict[int, str], words: str, bench: Bench
) -> None:
    lun = await bench.connect("a")
    assert isinstance(await protect(lun, OTHER), Protected)
    check = await inspected(lun, Expected(keys=keys, own_key=own))
    assert failed(check) == ([] if own == OTHER else ["reservations"])
    assert words in check.steps[-1].words


async def test_a_disk_of_the_cluster_fails_without_a_reservation(bench: Bench) -> None:
    lun = await bench.connect("a")
    assert isinstance(await lun.register(key=OURS, existing=0, survives_power_loss=False), Done)
    check = await inspected(lun, Expected(keys={OURS: "node1"}, own_key=OURS))
    assert failed(check) == ["reservations"]
    assert "nothing protects it" in check.steps[-1].words


async def test_another_disk_is_refused_and_nothing_more_is_asked_of_it(bench: Bench) -> None:
    check = await inspected(await bench.connect("a"), Expected(designator="naa.6000000000000000"))
    assert failed(check) == ["identity"]
    assert check.steps[-1].name == "identity"


async def test_another_size_is_warned_of(bench: Bench) -> None:
    check = await inspected(await bench.connect("a"), Expected(size_bytes=1))
    assert result(check, "size") is CheckResult.WARNING


async def test_a_foreign_reservation_is_refused(bench: Bench) -> None:
    lun = await bench.connect("a")
    assert isinstance(await lun.register(key=OTHER, existing=0, survives_power_loss=False), Done)
    assert isinstance(await lun.reserve(key=OTHER, type=ReservationType.WRITE_EXCLUSIVE), Done)
    check = await inspected(lun, Expected(keys={OTHER: "node2"}, own_key=OTHER))
    assert failed(check) == ["reservations"]


async def test_a_target_that_does_not_answer_fails_at_the_first_step(bench: Bench) -> None:
    lun = await bench.connect("a")
    await bench.restart()
    check = await inspected(lun)
    assert failed(check) == ["reach"]
    assert len(check.steps) == 1


async def test_keys_of_others_are_cleared(bench: Bench) -> None:
    other, lun = await bench.connect("b"), await bench.connect("a")
    assert isinstance(await protect(other, OTHER), Protected)
    assert await clear_keys(lun, THROW_AWAY) == ""
    assert await holders(lun) == ((), None)


async def test_a_look_tells_what_a_person_needs_to_choose(bench: Bench) -> None:
    other, lun = await bench.connect("b"), await bench.connect("a")
    assert isinstance(await protect(other, OTHER), Protected)
    seen = await look_at("here", lun)
    check = await inspected(lun)
    assert (seen.designator, seen.size_bytes) == (check.designator, check.size_bytes)
    assert (seen.keys, seen.reservation) == (1, ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY.words)
    assert bool(seen.keeps_reservations) is bench.survives_power_loss
    assert seen.problem == ""
