"""A scenario from its first power-on to its result.

Rule of the file: first the cluster comes up as the file describes it, then the time line begins. The same file and seed
give the same result, step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from holdfast.model.ids import NodeName
from holdfast.model.roles import Ownership, Phase, Priority, RoleSpec, Wanted
from holdfast.sim.breakage import UNBROKEN, Breakage
from holdfast.sim.loop import TimeStandsStill
from holdfast.sim.run import broken_rules, quiet
from holdfast.sim.scenario import Scenario
from holdfast.sim.scenario_acts import Stage
from holdfast.sim.scenario_cluster import Switch
from holdfast.sim.scenario_events import REQUESTED, EventPart
from holdfast.sim.scenario_expectations import Expectation
from holdfast.sim.scenario_judge import Judge, words
from holdfast.sim.scenario_report import report
from holdfast.sim.scenario_requests import Answer, Person
from holdfast.sim.scenario_result import ScenarioResult, VerdictPart
from holdfast.sim.scenario_view import Sight
from holdfast.sim.scenario_world import Refusals, make_world, role_spec, uuids_of
from holdfast.sim.status_checkers import StatusWatch
from holdfast.sim.world import World
from holdfast.store.port import Put, Txn
from holdfast.store.records import decode, encode, ownership_key, session_key, spec_key

T = TypeVar("T")
UP_WITHIN_S: Final = 30.0
LOOK_S: Final = 0.02
"""How often it is looked whether an expectation with `within` holds; times are as exact as that."""


def run_scenario(
    scenario: Scenario, *, file: str = "", seed: int | None = None, breakage: Breakage = UNBROKEN
) -> ScenarioResult:
    """Run a scenario to its end. `seed` None: the scenario's own. `breakage`: what is broken on purpose."""
    used = scenario.seed if seed is None else seed
    uuids = uuids_of(scenario)
    refusals = Refusals(uuids)
    with breakage.applied(), quiet():
        world = make_world(scenario, refusals, seed=used, breakage=breakage)
        play = _Play(scenario, world, Stage(world, refusals, uuids), Person(world, uuids), StatusWatch(world))
        try:
            play.set_up()
            play.live()
            result = play.look(partial(play.result, file, used, (*broken_rules(world), *play.watch.found)))
        except TimeStandsStill as error:
            play.is_stuck = True
            return play.result(file, used, (f"SPIN: {error}",))
        world.close()
    return result


@dataclass(slots=True)
class _Open:
    """An expectation that is not judged yet, and the times between which it has to hold."""

    expectation: Expectation
    since_s: float
    until_s: float


@dataclass(slots=True)
class _Play:
    scenario: Scenario
    world: World
    stage: Stage
    person: Person
    watch: StatusWatch
    began_s: float = 0.0
    is_stuck: bool = False
    problems: list[str] = field(default_factory=list)
    verdicts: dict[int, VerdictPart] = field(default_factory=dict)

    def set_up(self) -> None:
        """Let the cluster come up as described; afterwards the time line begins."""
        nodes = self.scenario.all_nodes()
        for node in nodes:
            machine = self.world.machines[NodeName(node.name)]
            if node.power is Switch.OFF:
                machine.power_off("has no power at first")
            for network in self.stage.networks(node.networks_off) if node.networks_off else ():
                machine.cables_out.add(network)
                self.world.air.unplug(network, machine.spec.addresses[network])
        self.world.settle()
        waited = [
            node.name
            for node in nodes
            if node.power is Switch.ON and set(node.networks_off) != set(self.scenario.cluster.networks)
        ]
        self._wait(lambda: all(self.world.database.get(session_key(NodeName(name))) for name in waited))
        roles = self.scenario.all_roles()
        specs = [role_spec(role, self.stage.uuids[role.name]) for role in roles]
        for spec in specs:
            self.world.shared_disks.add_role(spec)
        firsts = {role.name: role.first_owner for role in roles if role.first_owner is not None}
        self._write([_only(spec, firsts.get(spec.name)) for spec in specs])
        self._wait(lambda: all(map(self._stands, specs)))
        self._write([spec for spec in specs if spec.name in firsts])
        self.world.loop.run_until(math.ceil(self.world.loop.time() + 1.0))
        self.began_s = self.world.loop.time()
        self.problems += self.look(lambda: list(self._missing(specs, firsts)))

    def live(self) -> None:
        """Let everything happen, and judge."""
        self.world.loop.call_soon(self.watch.start, context=Context())
        for event in self.scenario.events:
            self.world.loop.call_at(self.began_s + event.at, self._happen, event, context=Context())
        judge = self._judge()
        waiting = dict(enumerate(map(self._open, self.scenario.expect)))
        now_s, ends_s = 0.0, self.scenario.ends_s
        while waiting or now_s < ends_s:
            now_s = self._next(now_s, ends_s, waiting)
            self.world.loop.run_until(self.began_s + now_s)
            due = {index: one for index, one in waiting.items() if one.since_s <= now_s}
            judged = self.look(partial(_judged, judge, due, now_s)) if due else {}
            self.verdicts |= judged
            waiting = {index: one for index, one in waiting.items() if index not in judged}

    def result(self, file: str, seed: int, broken: tuple[str, ...]) -> ScenarioResult:
        """Everything that came of it."""
        asked = tuple(map(_answered, self.person.answers))
        verdicts = (*(self.verdicts[index] for index in sorted(self.verdicts)), *asked)
        return report(
            self.scenario,
            self._sight(),
            file=file,
            seed=seed,
            verdicts=verdicts,
            broken=broken,
            problems=tuple(self.problems),
        )

    def look(self, act: Callable[[], T]) -> T:
        """Look at the world from inside of its loop, where it has a time."""
        found: list[T] = []
        self.world.loop.call_soon(lambda: found.append(act()), context=Context())
        self.world.loop.run_until(self.world.loop.time())
        return found[0]

    def _missing(self, specs: list[RoleSpec], firsts: dict[str, str]) -> Iterator[str]:
        """The roles that did not come up where they should."""
        sight = self._sight()
        for spec in specs:
            owner = firsts.get(spec.name)
            if owner is not None and spec.wanted is Wanted.ONLINE and sight.where(spec.name) != (owner,):
                why = "; ".join(map(str, sight.reasons(spec.name)))
                yield f"{spec.name} did not come up on its first owner {owner}: {why}"

    def _sight(self) -> Sight:
        return Sight(self.world, self.stage.uuids, self.began_s, is_stuck=self.is_stuck)

    def _judge(self) -> Judge:
        return Judge(
            self._sight(),
            nodes=tuple(node.name for node in self.scenario.all_nodes()),
            roles=tuple(self.stage.uuids),
            times={event.name: event.at for event in self.scenario.events if event.name is not None},
        )

    def _open(self, expectation: Expectation) -> _Open:
        if expectation.within is not None:
            since_s = next(event.at for event in self.scenario.events if event.name == expectation.after)
            return _Open(expectation, since_s, since_s + expectation.within)
        at_s = self.scenario.ends_s if expectation.at is None else expectation.at
        return _Open(expectation, at_s, at_s)

    def _next(self, now_s: float, ends_s: float, waiting: dict[int, _Open]) -> float:
        """The next time at which something is to be judged."""
        times = [ends_s]
        for one in waiting.values():
            times += [time_s for time_s in (one.since_s, one.until_s) if time_s > now_s]
            if one.since_s <= now_s < one.until_s:
                times.append(round(now_s + LOOK_S, 6))
        return min(times)

    def _happen(self, event: EventPart) -> None:
        self.world.truth.note("scenario", str(event), code=event.kind.replace("_", "-"), subject=event.name or "")
        if event.kind in REQUESTED:
            self.person.ask(event)
        else:
            self.stage.act(event)

    def _wait(self, is_reached: Callable[[], bool]) -> None:
        limit_s = self.world.loop.time() + UP_WITHIN_S
        while not is_reached() and self.world.loop.time() < limit_s:
            self.world.loop.run_until(self.world.loop.time() + 0.1)

    def _write(self, specs: list[RoleSpec]) -> None:
        if specs:
            txn = Txn(then=tuple(Put(spec_key(spec.name), encode(spec)) for spec in specs))
            self.world.loop.call_soon(self.world.write, txn, context=Context())
            self.world.loop.run_until(self.world.loop.time())

    def _stands(self, spec: RoleSpec) -> bool:
        """Whether a role is as it is wanted; one that never starts by itself always is."""
        if spec.wanted is Wanted.OFFLINE or spec.priority is Priority.NO_AUTOSTART:
            return True
        item = self.world.database.get(ownership_key(spec.name))
        return item is not None and decode(Ownership, item.key, item.value).phase is Phase.ONLINE


def _only(spec: RoleSpec, owner: str | None) -> RoleSpec:
    """The role as long as it has to come up on its first owner."""
    return spec if owner is None else replace(spec, possible_owners=(NodeName(owner),))


def _judged(judge: Judge, due: dict[int, _Open], now_s: float) -> dict[int, VerdictPart]:
    verdicts = {index: _verdict(judge, one, now_s) for index, one in due.items()}
    return {index: verdict for index, verdict in verdicts.items() if verdict is not None}


def _verdict(judge: Judge, one: _Open, now_s: float) -> VerdictPart | None:
    """The verdict on an expectation whose time has come; None while there is still time."""
    passed, seen = judge.holds(one.expectation)
    if not passed and now_s < one.until_s:
        return None
    return VerdictPart(expected=words(one.expectation), passed=passed, seen=seen, judged_at=round(now_s, 3))


def _answered(answer: Answer) -> VerdictPart:
    passed, seen = answer.verdict()
    wanted = "is done" if answer.event.refused is None else f"is refused: {answer.event.refused}"
    return VerdictPart(expected=f"{answer.event} {wanted}", passed=passed, seen=seen, judged_at=answer.event.at)
