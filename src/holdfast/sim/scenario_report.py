"""The result of a scenario, put together from what was seen, judged and written down."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.model.ids import RoleName
from holdfast.node.documents import conditions, role_status
from holdfast.sim.scenario import Scenario
from holdfast.sim.scenario_history import History
from holdfast.sim.scenario_result import (
    ConditionPart,
    GuestPart,
    LinePart,
    NodeEndPart,
    RoleEndPart,
    ScenarioResult,
    VerdictPart,
)
from holdfast.sim.scenario_view import Sight


def report(
    scenario: Scenario,
    sight: Sight,
    *,
    file: str,
    seed: int,
    verdicts: tuple[VerdictPart, ...],
    broken: tuple[str, ...],
    problems: tuple[str, ...],
) -> ScenarioResult:
    """Everything that came of a scenario whose time is over."""
    history = History(sight.began_s)
    history.read(sight.world.database.history)
    return ScenarioResult(
        scenario=scenario.scenario,
        file=file,
        seed=seed,
        passed=not broken and not problems and all(verdict.passed for verdict in verdicts),
        broken_rules=broken,
        setup_problems=problems,
        expectations=verdicts,
        timeline=tuple(_lines(sight)),
        owners=tuple(history.owners),
        guests=tuple(_guests(sight)),
        fences=tuple(history.fences),
        nodes=tuple(_nodes(sight)),
        roles=tuple(_roles(sight)),
        conditions=tuple(_conditions(sight)),
        virtual_seconds=round(sight.now_s, 3),
        setup_seconds=sight.began_s,
    )


def _lines(sight: Sight) -> Iterator[LinePart]:
    for entry in sight.world.truth.entries:
        if entry.at >= sight.began_s:
            at_s = round(entry.at - sight.began_s, 3)
            yield LinePart(at=at_s, source=entry.source, code=entry.code, subject=entry.subject, text=entry.text)


def _guests(sight: Sight) -> Iterator[GuestPart]:
    for role in sight.roles():
        for run in sight.runs(role):
            yield GuestPart(
                role=role,
                node=run.node,
                since=round(run.began - sight.began_s, 3),
                until=None if run.ended is None else round(run.ended - sight.began_s, 3),
                ended_by=None if run.ended is None else run.ended_by,
            )


def _nodes(sight: Sight) -> Iterator[NodeEndPart]:
    for name, machine in sight.world.machines.items():
        yield NodeEndPart(
            name=name,
            power=machine.is_on,
            state=sight.node_state(name) or "unknown",
            roles=tuple(role for role in sight.roles() if name in sight.where(role)),
        )


def _roles(sight: Sight) -> Iterator[RoleEndPart]:
    answer = sight.answer()
    for role in sight.roles():
        if answer is None or RoleName(role) not in answer[0].specs:
            continue
        status = role_status(RoleName(role), *answer)
        yield RoleEndPart(
            name=role,
            wanted=status.wanted,
            state=status.state,
            owner=status.owner,
            runs_on=sight.where(role),
            starts=sight.starts(role, 0.0),
            reasons=status.reasons,
        )


def _conditions(sight: Sight) -> Iterator[ConditionPart]:
    answer = sight.answer()
    if answer is not None:
        for one in conditions(*answer):
            yield ConditionPart(code=one.code, subject=one.subject, text=one.text)
