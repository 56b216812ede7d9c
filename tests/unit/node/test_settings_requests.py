"""Settings as a person sees and changes them: several at once, dry, and refused with the numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.decide.made_up import session
from tests.unit.node.test_maintenance_requests import A, Desk, desk
from tests.unit.node.virtual_time import virtual

from holdfast.model.errors import InvalidInput, Refused
from holdfast.model.setting_pages import SettingsChange, SettingsPage
from holdfast.model.snapshot import ClusterRecord
from holdfast.node.line_protocol import Result
from holdfast.node.settings_requests import SettingsRequests
from holdfast.store.records import session_key

SHORTER = {"timings.guard_deadline_ms": "2000", "timings.patience_ms": "2500"}


async def asked(here: Desk, method: str, **params: Any) -> Any:
    (answer,) = [item async for item in SettingsRequests(here.commits).handle(method, params)]
    assert isinstance(answer, Result)
    return answer.value


def kept(here: Desk) -> ClusterRecord:
    cluster = here.database.snapshot().cluster
    assert cluster is not None
    return cluster.value


@virtual
async def test_what_is_only_safe_together_is_set_together_and_counted_as_one_change() -> None:
    async with desk(a=8, b=8) as here:
        change: SettingsChange = await asked(here, "cluster.set", changes={**SHORTER, "vcpu_overcommit": "2"})
        record = kept(here)
        assert (record.settings.timings.guard_deadline_ms, record.settings.timings.patience_ms) == (2000, 2500)
        assert (record.settings.vcpu_overcommit, record.timings_generation) == (2, 1)
        assert record.timings_before is not None
        assert record.timings_before.patience_ms == 5000
        assert change.before["timings.patience_ms"] == 5000
        assert change.after["timings.patience_ms"] == 2500
        (event,) = here.database.database.listing("holdfast/events/").items
        assert b"timings.patience_ms 2500 (was 5000)" in event.value
        assert "= 4500 <= patience_ms 5000" in " ".join(one.text for one in change.sums_before)
        assert "= 2500 <= patience_ms 2500: ok, 0 ms to spare" in " ".join(one.text for one in change.sums_after)


@virtual
async def test_a_dry_run_checks_and_shows_and_changes_nothing() -> None:
    async with desk(a=8, b=8) as here:
        before = here.database.snapshot().revision
        change: SettingsChange = await asked(here, "cluster.set", changes=SHORTER, dry_run=True)
        assert change.is_dry_run
        assert change.sums_after
        with pytest.raises(InvalidInput, match="patience_ms 2000: NOT SAFE, 2500 ms too much"):
            await asked(here, "cluster.set", changes={"timings.patience_ms": 2000}, dry_run=True)
        assert here.database.snapshot().revision == before


@virtual
async def test_of_several_all_change_or_none() -> None:
    async with desk(a=8) as here:
        before = kept(here)
        with pytest.raises(InvalidInput):
            await asked(here, "cluster.set", changes={"vcpu_overcommit": 2, "voters_at_most": 4})
        assert kept(here) == before


@virtual
async def test_other_settings_change_while_times_are_on_their_way_and_leave_that_alone() -> None:
    async with desk(a=8, b=8) as here:
        await asked(here, "cluster.set", changes=SHORTER)
        await asked(here, "cluster.set", changes={"vcpu_overcommit": 2})
        assert (kept(here).timings_generation, kept(here).timings_before is None) == (1, False)
        with pytest.raises(Refused, match="a: it has not said"):
            await asked(here, "cluster.set", changes={"timings.patience_ms": 3000})


@virtual
async def test_the_page_has_every_setting_with_its_default_and_who_does_not_follow_yet() -> None:
    async with desk(a=8, b=8) as here:
        await asked(here, "cluster.set", changes=SHORTER)
        here.database.put(session_key(A), replace(session(A), guard_deadline_ms=2000))
        page: SettingsPage = await asked(here, "cluster.show")
        changed = {line.name: (line.value, line.default) for line in page.settings if not line.is_default}
        assert changed == {"timings.guard_deadline_ms": (2000, 4000), "timings.patience_ms": (2500, 5000)}
        assert (page.is_changing, sorted(page.waits_for)) == (True, ["a", "b"])
        assert any("0 ms to spare" in one.text for one in page.arithmetic)
