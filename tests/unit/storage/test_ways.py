"""The ways to disks as records have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.model.disks import DiskSpec
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import DiskName
from holdfast.storage.ways import USUAL_PATTERNS, Way, WayKind, find_ways, open_disk, parse_way


@pytest.mark.parametrize("kind", WayKind)
def test_a_way_is_read_as_it_is_written(kind: WayKind) -> None:
    way = parse_way(f"{kind}:/dev/a:b")
    assert way == Way(kind=kind, path="/dev/a:b")
    assert parse_way(str(way)) == way


@pytest.mark.parametrize("text", ["", "sg", "sg:", "sg:sda", "/dev/sda", "iscsi:/x", "SG:/dev/sda"])
def test_what_is_no_way_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no way to a disk's reservations") as refused:
        parse_way(text)
    assert "helper:/run/" in refused.value.hint


@pytest.mark.parametrize("kind", WayKind)
async def test_the_designator_is_filled_in_when_a_disk_is_opened(kind: WayKind) -> None:
    spec = DiskSpec(
        name=DiskName("data"),
        designator="t10.A B {x}",
        size_bytes=1,
        guest_source="/dev/b",
        reservations=f"{kind}:/run/{{designator}}.s",
    )
    lun = open_disk(spec)
    assert lun.path == "/run/t10.A B {x}.s"
    await lun.close()


def test_wildcards_stand_for_what_is_there_without_partitions(tmp_path: Path) -> None:
    for name in ("wwn-0x1", "wwn-0x1-part1", "wwn-0x2", "ata-1"):
        (tmp_path / name).touch()
    found = find_ways(f"sg:{tmp_path}/wwn-*")
    assert [way.path for way in found] == [f"{tmp_path}/wwn-0x1", f"{tmp_path}/wwn-0x2"]
    assert {way.kind for way in found} == {WayKind.SG}
    assert find_ways(f"sg:{tmp_path}/none/*") == ()


def test_usual_patterns_are_ways() -> None:
    assert [parse_way(pattern).kind for pattern in USUAL_PATTERNS] == [WayKind.MULTIPATH, WayKind.SG]
