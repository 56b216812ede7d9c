"""The overlap checker, against records as the guests write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.lab.records import CLOCK_ERROR_MS, SLOT_BYTES, Boot, overlaps, overlaps_on, parse


def boot(name: str, first_ms: int, latest_ms: int, *saw: str) -> Boot:
    return Boot(
        boot_id=name, slot=0, beats=9, first_ms=first_ms, latest_ms=latest_ms, is_stopped=False, saw=saw
    )  # fmt: skip


def record(slot: int, boot_id: str, *, saw: str = "", state: str = "running") -> bytes:
    text = (
        f"hf1 boot={boot_id} slot={slot} name=web beats=4 first_ms={slot * 10000} latest_ms={slot * 10000 + 5000}"
        f" uptime_ms=99 state={state} saw={saw}\n"
    )
    return text.encode().ljust(SLOT_BYTES, b"\0")


def test_an_empty_disk_tells_of_no_boot(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 * SLOT_BYTES))
    assert parse(disk) == []


def test_records_are_read_in_the_order_of_their_slots(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(record(0, "aa") + record(1, "bb", state="stopped", saw="earlier:aa") + bytes(SLOT_BYTES))
    first, second = parse(disk)
    assert (first.boot_id, first.beats, first.first_ms, first.latest_ms, first.is_stopped) == ("aa", 4, 0, 5000, False)
    assert (second.boot_id, second.is_stopped, second.saw) == ("bb", True, ("earlier:aa",))
    assert [proof.evidence for proof in overlaps_on(disk)] == ["saw earlier:aa"]


def test_a_disk_with_something_else_on_it_is_an_error(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"EFI PART".ljust(SLOT_BYTES, b"\0"))
    with pytest.raises(ValueError, match="EFI PART"):
        parse(disk)


def test_one_after_the_other_is_no_overlap() -> None:
    assert overlaps([boot("a", 0, 5000), boot("b", 6000, 9000), boot("c", 9000, 9500)]) == []


def test_the_clocks_may_err_by_so_much_and_no_more() -> None:
    assert overlaps([boot("a", 0, 5000), boot("b", 5000 - CLOCK_ERROR_MS, 9000)]) == []
    (found,) = overlaps([boot("a", 0, 5000), boot("b", 4999 - CLOCK_ERROR_MS, 9000)])
    assert found.boot_id == "b"


def test_a_long_instance_is_compared_with_every_later_one() -> None:
    found = overlaps([boot("long", 0, 60000), boot("short", 61000, 62000), boot("late", 30000, 31000)])
    assert [proof.boot_id for proof in found] == ["late"]


@pytest.mark.parametrize("saw", ["later:x", "earlier:x", "shared:x", "rewound:17"])
def test_what_an_instance_saw_is_proof_whatever_the_clocks_say(saw: str) -> None:
    (found,) = overlaps([boot("a", 0, 5000), boot("b", 90000, 99000, saw)])
    assert str(found) == f"boot b: saw {saw}"
