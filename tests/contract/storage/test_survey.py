"""What a node sees: at the portal of a real tgtd, and by its own ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.storage.helper_worlds import lab_adapter

from holdfast.lab.bench.target import DISK_BYTES, TARGET_NAME, own_target
from holdfast.storage.errors import LunUnreachable
from holdfast.storage.iscsi.address import Chap
from holdfast.storage.survey import survey_portal, survey_ways

INITIATOR = "iqn.2026-11.net.holdfast:survey"


async def test_a_portal_shows_its_disks_and_only_disks() -> None:
    async with own_target(disks=2) as target:
        seen = await survey_portal(target.portal, initiator=INITIATOR, chap=None)
    assert [disk.way for disk in seen] == [f"{TARGET_NAME} LUN 1", f"{TARGET_NAME} LUN 2"]
    assert {(disk.size_bytes, disk.keys, disk.vendor) for disk in seen} == {(DISK_BYTES, 0, "HOLDFAST")}
    assert len({disk.designator for disk in seen}) == 2


async def test_a_portal_that_demands_chap_shows_them_to_who_knows_the_secret() -> None:
    chap = Chap(user="node1", password="secret-of-node1")
    async with own_target(disks=1, chap=chap) as target:
        assert len(await survey_portal(target.portal, initiator=INITIATOR, chap=chap)) == 1
        with pytest.raises(LunUnreachable):
            await survey_portal(target.portal, initiator=INITIATOR, chap=None)


async def test_a_portal_where_nobody_is_says_so() -> None:
    with pytest.raises(LunUnreachable, match=r"127.0.0.1:1:"):
        await survey_portal("127.0.0.1:1", initiator=INITIATOR, chap=None)


async def test_a_way_that_leads_nowhere_is_listed_with_the_reason(tmp_path: Path) -> None:
    async with own_target(disks=1) as target, lab_adapter(target, tmp_path) as path:
        (tmp_path / "file").touch()
        seen = await survey_ways([f"helper:{tmp_path}/*", f"sg:{tmp_path}/file"])
    good, *bad = sorted(seen, key=lambda disk: disk.problem)
    assert (good.way, good.size_bytes, good.keys) == (f"helper:{path}", DISK_BYTES, 0)
    assert {disk.way for disk in bad} == {f"helper:{tmp_path}/file", f"sg:{tmp_path}/file"}
    assert all(disk.designator == "" and disk.problem for disk in bad)
