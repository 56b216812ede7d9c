"""Balancing as a person asks for it: shown, carried out in parts, and ended where it has to end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.node.test_maintenance_requests import Desk, desk
from tests.unit.node.virtual_time import virtual

from holdfast.model.errors import Refused
from holdfast.model.ids import RoleName
from holdfast.model.status import BalanceReport, Progress
from holdfast.node.balance_requests import BalanceRequests
from holdfast.node.commits import Commits
from holdfast.node.line_protocol import Result


async def asked(here: Desk, **params: Any) -> list[object]:
    requests = BalanceRequests(Commits(here.life, here.store))
    return [item async for item in requests.handle("cluster.balance", params)]


def moving(here: Desk) -> list[RoleName]:
    found = here.database.snapshot().ownerships
    return sorted(role for role, record in found.items() if record.value.target is not None)


def arrive(here: Desk, *, fails: bool = False) -> None:
    """What is on the move arrives, or is back where it was."""
    for role in moving(here):
        record = here.record(role)
        here.role(role, record.owner if fails else record.target, gib=1)


@virtual
async def test_a_dry_run_shows_the_moves_and_the_loads_and_changes_nothing() -> None:
    async with desk(a=8, b=8) as here:
        for number in range(6):
            here.role(f"web{number}", "a")
        await asyncio.sleep(1)
        before = here.database.snapshot().revision
        (answer,) = await asked(here, dry_run=True)
        assert isinstance(answer, Result)
        report: BalanceReport = answer.value  # type: ignore[assignment]
        assert [(move.role, move.source, move.target) for move in report.moves] == [
            (f"web{number}", "a", "b") for number in range(3)
        ]
        assert (report.before, report.after) == ({"a": 75.0, "b": 0.0}, {"a": 37.5, "b": 37.5})
        assert (report.is_within, report.threshold_percent, report.is_dry_run) == (True, 20, True)
        assert here.database.snapshot().revision == before


@virtual
async def test_it_moves_part_by_part_and_says_when_all_is_done() -> None:
    async with desk(a=16, b=16) as here:
        for number in range(12):
            here.role(f"web{number:02}", "a")
        await asyncio.sleep(1)
        asking = asyncio.create_task(asked(here, threshold_percent=5))
        await asyncio.sleep(5)
        assert len(moving(here)) == 4
        arrive(here)
        await asyncio.sleep(5)
        assert len(moving(here)) == 2
        arrive(here)
        *steps, last = await asyncio.wait_for(asking, 10)
        assert [type(step) for step in steps] == [Progress] * 6
        assert isinstance(last, Result)
        report: BalanceReport = last.value  # type: ignore[assignment]
        assert (len(report.moves), report.after, report.is_within) == (6, {"a": 37.5, "b": 37.5}, True)


@virtual
async def test_it_ends_when_a_move_does_not_arrive() -> None:
    async with desk(a=8, b=8) as here:
        for number in range(6):
            here.role(f"web{number}", "a")
        await asyncio.sleep(1)
        asking = asyncio.create_task(asked(here))
        await asyncio.sleep(5)
        arrive(here, fails=True)
        *_, last = await asyncio.wait_for(asking, 10)
        assert isinstance(last, Result)
        report: BalanceReport = last.value  # type: ignore[assignment]
        assert (report.is_within, moving(here)) == (False, [])


@virtual
async def test_a_frozen_cluster_is_not_balanced() -> None:
    async with desk(a=8, b=8) as here:
        for number in range(6):
            here.role(f"web{number}", "a")
        await here.ask("cluster.freeze", person="Ada", reason="switches")
        await asyncio.sleep(1)
        with pytest.raises(Refused, match="frozen"):
            await asked(here)
        assert moving(here) == []
