"""Whether an expectation holds at this moment, and what is seen instead.

Rule of the file: a fact is one function from what is seen to (holds, seen); an expectation holds when all its facts do
for every role or node that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from holdfast.model.status import RoleState
from holdfast.sim.scenario_checks import FACTS, NOWHERE
from holdfast.sim.scenario_cluster import Switch
from holdfast.sim.scenario_expectations import (
    ConditionExpectation,
    Expectation,
    FencedExpectation,
    NodeExpectation,
    RoleExpectation,
    VotersExpectation,
)
from holdfast.sim.scenario_history import History
from holdfast.sim.scenario_values import meant
from holdfast.sim.scenario_view import Sight

Seen = tuple[bool, str]


class Judge:
    """Judges expectations. `times`: of the named events, in seconds of the time line."""

    def __init__(
        self, sight: Sight, *, nodes: tuple[str, ...], roles: tuple[str, ...], times: dict[str, float]
    ) -> None:
        self._sight = sight
        self._nodes = nodes
        self._roles = roles
        self._times = times

    def holds(self, expectation: Expectation) -> Seen:
        """Whether it holds now, and what is seen."""
        seen = list(self._facts(expectation))
        wrong = [text for holds, text in seen if not holds]
        return not wrong, "; ".join(wrong or [text for _, text in seen])

    def _facts(self, expectation: Expectation) -> Iterator[Seen]:
        match expectation:
            case RoleExpectation():
                since_s = self._times[expectation.after] if expectation.after is not None else 0.0
                for role in meant(expectation.role, self._roles):
                    for fact in _given(expectation):
                        yield ROLE_FACTS[fact](self._sight, role, getattr(expectation, fact), since_s)
            case NodeExpectation():
                for node in meant(expectation.node, self._nodes):
                    for fact in _given(expectation):
                        yield NODE_FACTS[fact](self._sight, node, getattr(expectation, fact))
            case FencedExpectation():
                yield self._fenced(expectation)
            case ConditionExpectation():
                yield self._condition(expectation)
            case VotersExpectation():
                yield self._voters(expectation)

    def _fenced(self, wanted: FencedExpectation) -> Seen:
        history = History(self._sight.began_s)
        history.read(self._sight.world.database.history)
        fences = list(history.fenced(self._sight.now_s))
        seen = ", ".join(f"{fence.node} by {fence.proof} at {fence.at:.3f} s" for fence in fences) or "nobody"
        is_right = {fence.node for fence in fences} == set(meant(wanted.fenced, self._nodes))
        return is_right and all(wanted.proof in (None, fence.proof) for fence in fences), f"fenced: {seen}"

    def _voters(self, wanted: VotersExpectation) -> Seen:
        members = self._sight.world.members
        voting = [] if members is None else [str(one.node) for one in members.voters()]
        return set(voting) == set(meant(wanted.voters, self._nodes)), f"voters: {', '.join(voting) or 'they are fixed'}"

    def _condition(self, wanted: ConditionExpectation) -> Seen:
        status = self._sight.status()
        if status is None:
            return False, "no holdfastd knows the cluster"
        standing = [
            f"{one.code} of {one.subject}"
            for one in status.conditions
            if one.code == wanted.condition and wanted.of in (None, one.subject)
        ]
        others = ", ".join(f"{one.code} of {one.subject}" for one in status.conditions)
        return bool(standing) is wanted.present, f"conditions: {others or 'none'}"


def words(expectation: Expectation) -> str:
    """An expectation as a person reads it."""
    data = expectation.model_dump(mode="json", by_alias=True, exclude_unset=True)
    when = [f"{key} {_time(data.pop(key))}" for key in ("at", "within", "after") if key in data]
    what = ", ".join(f"{key} {_spelt(value)}" for key, value in data.items())
    return f"{what}, {' '.join(when)}" if when else what


def _time(value: object) -> str:
    return f"{value:g} s" if isinstance(value, float) else "end" if value is None else str(value)


def _spelt(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_spelt, value)) or "nobody"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"


def _given(expectation: RoleExpectation | NodeExpectation) -> list[str]:
    return [fact for fact in FACTS[type(expectation)] if getattr(expectation, fact) is not None]


def _runs_on(sight: Sight, role: str, wanted: tuple[str, ...], _: float) -> Seen:
    where = sight.where(role)
    seen = f"{role} runs on {' and '.join(where) or NOWHERE}"
    return (NOWHERE in wanted if not where else len(where) == 1 and where[0] in wanted), seen


def _not_on(sight: Sight, role: str, wanted: tuple[str, ...], _: float) -> Seen:
    where = sight.where(role)
    return not set(where) & set(wanted), f"{role} runs on {' and '.join(where) or NOWHERE}"


def _role_state(sight: Sight, role: str, wanted: str, _: float) -> Seen:
    state = sight.role_state(role)
    if state == RoleState.ONLINE and not sight.executes(role):
        return False, f"{role} is {state} in the records, but its guest does not execute"
    return state == wanted, f"{role} is {state or 'not known'}"


def _because(sight: Sight, role: str, wanted: str, _: float) -> Seen:
    reasons = sight.reasons(role)
    said = "; ".join(f"{reason} ({reason.code})" for reason in reasons)
    found = any(wanted == reason.code or wanted.lower() in str(reason).lower() for reason in reasons)
    return found, f"{role}: {said or 'no reason is given'}"


def _starts(sight: Sight, role: str, wanted: tuple[int, int], since_s: float) -> Seen:
    count = sight.starts(role, since_s)
    return wanted[0] <= count <= wanted[1], f"{role} was started {count} times"


def _moved(sight: Sight, role: str, wanted: bool, since_s: float) -> Seen:
    runs = sight.runs(role)
    moments = [moment for run in runs for moment in (run.began, run.ended) if moment is not None]
    has_moved = any(sight.at_s(moment) >= since_s for moment in moments)
    return has_moved is wanted, f"{role} was {'moved, stopped or started' if has_moved else 'not moved'}"


def _node_state(sight: Sight, node: str, wanted: str) -> Seen:
    state = sight.node_state(node)
    return state == wanted, f"{node} is {state or 'not known'}"


def _power(sight: Sight, node: str, wanted: Switch) -> Seen:
    power = Switch.ON if sight.has_power(node) else Switch.OFF
    return power is wanted, f"{node} is {power}"


ROLE_FACTS: Final[dict[str, Callable[[Sight, str, Any, float], Seen]]] = {
    "runs_on": _runs_on,
    "not_on": _not_on,
    "state": _role_state,
    "because": _because,
    "starts": _starts,
    "moved": _moved,
}
NODE_FACTS: Final[dict[str, Callable[[Sight, str, Any], Seen]]] = {"state": _node_state, "power": _power}
