"""What the journal on a LUN proves."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from holdfast.lab.journal import BLOCK_BYTES, read_journal
from holdfast.lab.records import AREA_BYTES


def block(boot: str, number: int) -> bytes:
    text = f"hfj boot={boot} number={number}"
    return f"{text} sum={zlib.crc32(text.encode()):08x}\n".encode().ljust(512, b"\0") * 8


def lun(path: Path, *blocks: bytes) -> Path:
    path.write_bytes(bytes(AREA_BYTES) + b"".join(blocks) + bytes(16 * BLOCK_BYTES))
    return path


TORN = block("a", 3)[:512] + bytes(BLOCK_BYTES - 512)


def test_boots_after_each_other_prove_nothing_bad(tmp_path: Path) -> None:
    journal = read_journal(lun(tmp_path / "lun", block("a", 1), block("a", 2), block("b", 1), block("b", 2)))
    assert journal.faults == ()
    assert journal.boots == ["a", "b"]
    assert [journal.count(boot) for boot in "abc"] == [2, 2, 0]


def test_an_empty_lun_has_no_journal(tmp_path: Path) -> None:
    assert read_journal(lun(tmp_path / "lun")).records == ()


def test_the_last_record_of_a_boot_may_be_torn(tmp_path: Path) -> None:
    journal = read_journal(lun(tmp_path / "lun", block("a", 1), block("a", 2), TORN, block("b", 1), TORN))
    assert journal.faults == ()
    assert journal.count("a") == 2


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ((block("a", 1), block("b", 1), block("a", 2)), "boot a wrote after boot b had begun"),
        ((block("a", 1), block("a", 2), block("b", 2)), "has number 2 where 1 belongs"),
        ((block("a", 1), block("a", 3)), "has number 3 where 2 belongs"),
        ((block("a", 1), block("a", 1)), "has number 1 where 2 belongs"),
        ((block("a", 1), TORN, block("a", 2)), "is torn"),
        ((block("a", 1), bytes(BLOCK_BYTES), block("a", 2)), "is torn"),
        ((block("a", 1), block("a", 2).replace(b"sum=", b"sun="), block("a", 3)), "is torn"),
        ((block("a", 1), block("a", 2).replace(b"number=2", b"number=9"), block("a", 3)), "is torn"),
    ],
)
def test_a_write_that_came_too_late_or_was_lost_is_seen(tmp_path: Path, blocks: tuple[bytes, ...], words: str) -> None:
    faults = read_journal(lun(tmp_path / "lun", *blocks)).faults
    assert any(words in fault for fault in faults), faults
