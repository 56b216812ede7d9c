"""What must fit together in a scenario beyond the form of each part: names, times, and what belongs to what.

Rule of the file: every check yields what is wrong with the path to it; none stops at the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from holdfast.model.errors import InvalidInput
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Failback
from holdfast.model.settings import Settings
from holdfast.node.settings_words import changed_settings, flat_settings
from holdfast.sim.layout import MIB
from holdfast.sim.scenario import Scenario
from holdfast.sim.scenario_cluster import NodePart, RoleChoicesPart, RolePart, Switch, Votes
from holdfast.sim.scenario_events import KINDS, REQUESTED, EventPart
from holdfast.sim.scenario_expectations import (
    ConditionExpectation,
    Expectation,
    ExpectationPart,
    FencedExpectation,
    NodeExpectation,
    RoleExpectation,
    VotersExpectation,
)
from holdfast.sim.scenario_problems import Path, Problem, did_you_mean
from holdfast.sim.scenario_values import ALL, Part

NOWHERE: Final = "nowhere"
RESERVED: Final = (ALL, NOWHERE)
OF_ROLES: Final = ("role_remove", "role_start", "role_stop", "guest_crash")
FACTS: Final[dict[type[ExpectationPart], tuple[str, ...]]] = {
    RoleExpectation: ("runs_on", "not_on", "state", "because", "starts", "moved"),
    NodeExpectation: ("state", "power"),
}


def problems_of(scenario: Scenario) -> Iterator[Problem]:
    """Everything that does not fit together."""
    yield from _Checks(scenario).run()


class _Checks:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        added = [one.role_add.name for one in scenario.events if one.role_add is not None]
        self._known: dict[str, list[str]] = {
            "node": [node.name for node in scenario.all_nodes()],
            "role": [role.name for role in scenario.all_roles()] + added,
            "network": list(scenario.cluster.networks),
            "disk": [disk.name for disk in scenario.all_disks()],
            "site": [node.site for node in scenario.nodes if node.site is not None],
            "event": [event.name for event in scenario.events if event.name is not None],
        }

    def run(self) -> Iterator[Problem]:
        scenario = self._scenario
        for kind, names in self._known.items():
            if kind in ("node", "role", "disk", "event"):
                yield from self._unique(kind, names)
        if scenario.until is not None and scenario.settle is not None:
            yield Problem(path=("settle",), text="until says already when the run ends; keep one of them")
        yield from _settings(("cluster", "settings"), scenario.cluster.settings)
        for index, node in enumerate(scenario.nodes):
            yield from self._node(("nodes", index), node)
        for index, role in enumerate(scenario.roles):
            yield from self._role(("roles", index), role)
        for index, event in enumerate(scenario.events):
            yield from self._event(("events", index), event)
        for index, expectation in enumerate(scenario.expect):
            yield from self._expectation(("expect", index), expectation)

    def _unique(self, kind: str, names: list[str]) -> Iterator[Problem]:
        for name, count in Counter(names).items():
            if count > 1:
                yield Problem(path=(f"{kind}s",), text=f"{count} {kind}s are called {name}")
            if name in RESERVED:
                yield Problem(path=(f"{kind}s",), text=f"no {kind} can be called {name}: the word means something else")

    def _names(
        self, path: Path, kind: str, names: Iterable[str], *, more: tuple[str, ...] = (ALL,)
    ) -> Iterator[Problem]:
        known = self._known[kind]
        for name in names:
            if name not in known and name not in more:
                yield Problem(path=path, text=f"there is no {kind} {name!r}; {did_you_mean(name, known)}")

    def _node(self, path: Path, node: NodePart) -> Iterator[Problem]:
        yield from self._names((*path, "networks-off"), "network", node.networks_off)
        if node.witness and node.voter is False:
            yield Problem(path=(*path, "voter"), text="a witness votes: it is there for nothing else")
        if node.witness and self._scenario.cluster.votes is Votes.FIXED:
            yield Problem(path=(*path, "witness"), text="beside a witness votes move: cluster.votes cannot be fixed")

    def _role(self, path: Path, role: RolePart) -> Iterator[Problem]:
        yield from self._choices(path, role)
        yield from self._names((*path, "disks"), "disk", role.disks, more=())
        if role.memory % MIB:
            yield Problem(path=(*path, "memory"), text=f"wanted whole MiB (got {role.memory} bytes)")
        if role.first_owner is not None:
            here = (*path, "first-owner")
            yield from self._names(here, "node", [role.first_owner], more=())
            off = [node.name for node in self._scenario.all_nodes() if node.power is Switch.OFF]
            if role.first_owner in off:
                yield Problem(path=here, text=f"{role.first_owner} has no power at first, so it runs nothing")
            if role.first_owner in [node.name for node in self._scenario.all_nodes() if node.witness]:
                yield Problem(path=here, text=f"{role.first_owner} is a witness, which runs no guests")
            if role.possible_owners and role.first_owner not in role.possible_owners:
                yield Problem(path=here, text=f"{role.first_owner} is none of the possible owners")

    def _choices(self, path: Path, choices: RoleChoicesPart) -> Iterator[Problem]:
        yield from self._names((*path, "preferred-owners"), "node", choices.preferred_owners or (), more=())
        yield from self._names((*path, "possible-owners"), "node", choices.possible_owners or (), more=())
        if choices.preferred_site is not None:
            yield from self._names((*path, "preferred-site"), "site", [choices.preferred_site], more=())
        if (failback := choices.failback) is not None:
            try:
                Failback(policy=failback.policy, from_hour=failback.from_hour, until_hour=failback.until_hour)
            except InvalidInput as error:
                yield Problem(path=(*path, "failback"), text=f"{error.message}; {error.hint}")

    def _event(self, path: Path, event: EventPart) -> Iterator[Problem]:
        given = [name for name in KINDS if getattr(event, name) is not None]
        if len(given) != 1:
            words = " and ".join(name.replace("_", "-") for name in given)
            text = f"{words} are {len(given)} events: write one each" if given else f"nothing happens; {_all_kinds()}"
            yield Problem(path=path, text=text)
            return
        if event.at > self._scenario.ends_s:
            yield Problem(path=(*path, "at"), text=f"the run ends before, at {self._scenario.ends_s:g} s")
        for key in ("by", "refused"):
            if getattr(event, key) is not None and event.kind not in REQUESTED:
                yield Problem(path=(*path, key), text="only what a person asks for is asked of a node, or refused")
        if event.by is not None:
            yield from self._names((*path, "by"), "node", [event.by], more=())
        yield from self._what((*path, event.kind.replace("_", "-")), event)

    def _what(self, path: Path, event: EventPart) -> Iterator[Problem]:
        what = event.what
        match what:
            case RolePart():
                yield from self._role(path, what)
                if what.count is not None or what.first_owner is not None or what.disks:
                    yield Problem(path=path, text="count, first-owner and disks are for roles that are there at first")
            case dict():
                known = flat_settings(Settings())
                for name in what:
                    if name not in known:
                        text = f"there is no setting {name!r}; {did_you_mean(name, known)}"
                        yield Problem(path=(*path, name), text=text)
            case tuple():
                yield from self._names(path, "role" if event.kind in OF_ROLES else "node", what)
            case Part():
                if isinstance(what, RoleChoicesPart):
                    yield from self._choices(path, what)
                for key, kind in (
                    ("node", "node"),
                    ("from_", "node"),
                    ("to", "node"),
                    ("network", "network"),
                    ("role", "role"),
                ):
                    yield from self._names((*path, key.rstrip("_")), kind, _as_names(getattr(what, key, None)))

    def _expectation(self, path: Path, expectation: Expectation) -> Iterator[Problem]:
        yield from self._when(path, expectation)
        facts = FACTS.get(type(expectation), ())
        if facts and not any(getattr(expectation, fact) is not None for fact in facts):
            words = ", ".join(fact.replace("_", "-") for fact in facts)
            yield Problem(path=path, text=f"nothing is expected; wanted one or more of {words}")
        match expectation:
            case RoleExpectation():
                yield from self._names((*path, "role"), "role", expectation.role)
                yield from self._names((*path, "runs-on"), "node", expectation.runs_on or (), more=(NOWHERE,))
                yield from self._names((*path, "not-on"), "node", expectation.not_on or (), more=())
                yield from _because((*path, "because"), expectation.because)
            case NodeExpectation():
                yield from self._names((*path, "node"), "node", expectation.node)
            case FencedExpectation():
                yield from self._names((*path, "fenced"), "node", expectation.fenced)
            case ConditionExpectation():
                pass
            case VotersExpectation():
                yield from self._names((*path, "voters"), "node", expectation.voters)

    def _when(self, path: Path, expectation: ExpectationPart) -> Iterator[Problem]:
        if expectation.at is not None and expectation.within is not None:
            yield Problem(path=(*path, "within"), text="at says already when; keep one of them")
        if expectation.within is not None and expectation.after is None:
            yield Problem(path=(*path, "within"), text="after is missing: the name of the event that it counts from")
        if expectation.at is not None and expectation.at > self._scenario.ends_s:
            yield Problem(path=(*path, "at"), text=f"the run ends before, at {self._scenario.ends_s:g} s")
        if expectation.after is not None:
            yield from self._names((*path, "after"), "event", [expectation.after], more=())


def _settings(path: Path, settings: dict[str, Any]) -> Iterator[Problem]:
    if not settings:
        return
    try:
        changed_settings(Settings(), settings)
    except InvalidInput as error:
        wrong = next((name for name in settings if repr(name) in error.message), None)
        yield Problem(path=(*path, wrong) if wrong is not None else path, text=f"{error.message}; {error.hint}")


def _because(path: Path, because: str | None) -> Iterator[Problem]:
    """A text without a blank is a reason code; a misspelt one would never be found."""
    if because is not None and " " not in because and because not in list(ReasonCode):
        yield Problem(path=path, text=f"there is no reason {because!r}; {did_you_mean(because, list(ReasonCode))}")


def _as_names(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()


def _all_kinds() -> str:
    return f"wanted one of {', '.join(name.replace('_', '-') for name in KINDS)}"
