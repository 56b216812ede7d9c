"""The guard's record: of this boot, whole, or an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.fencing.guard import record

UUID = "0000000a-0000-4000-8000-00000000000a"


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    assert record.load(path) == (None, frozenset())
    record.save(path, deadline=12.5, guests=frozenset({UUID}))
    assert record.load(path) == (12.5, frozenset({UUID}))
    assert [child.name for child in tmp_path.iterdir()] == ["guard.json"]


def test_a_record_of_an_earlier_boot_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    path.write_text(json.dumps({"boot_id": "earlier", "deadline": 1e9, "guests": [UUID]}))
    assert record.load(path) == (None, frozenset())


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}"])
def test_a_damaged_record_is_not_taken_for_an_empty_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "guard.json"
    path.write_text(content)
    with pytest.raises(record.RecordUnreadable):
        record.load(path)


def test_only_one_guard_holds_a_record(tmp_path: Path) -> None:
    record.lock(tmp_path / "guard.json")
    with pytest.raises(BlockingIOError):
        record.lock(tmp_path / "guard.json")
