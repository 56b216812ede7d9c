"""The example scenarios pass, show every kind of event and expectation, and fail when one is turned round."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from holdfast.model.nodes import ProofKind
from holdfast.model.reasons import ReasonCode
from holdfast.model.status import NodeState, RoleState
from holdfast.sim.breakage import Breakage
from holdfast.sim.scenario import Scenario
from holdfast.sim.scenario_acts import ACTS
from holdfast.sim.scenario_checks import FACTS, NOWHERE
from holdfast.sim.scenario_cluster import Switch
from holdfast.sim.scenario_events import KINDS, REQUESTED
from holdfast.sim.scenario_expectations import (
    SUBJECTS,
    ConditionExpectation,
    Expectation,
    FencedExpectation,
    NodeExpectation,
    RoleExpectation,
)
from holdfast.sim.scenario_reader import read_file, read_text
from holdfast.sim.scenario_requests import REQUESTS
from holdfast.sim.scenario_result import ScenarioResult
from holdfast.sim.scenario_run import run_scenario
from holdfast.sim.scenario_values import meant

FILES = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))
NAMES = [file.stem for file in FILES]


@cache
def example(name: str) -> Scenario:
    return read_file(next(file for file in FILES if file.stem == name))


@cache
def outcome(name: str) -> ScenarioResult:
    return run_scenario(example(name))


def failed(result: ScenarioResult) -> list[str]:
    stories = [f"{one.expected}: {one.seen}" for one in result.expectations if not one.passed]
    return [*stories, *result.broken_rules, *result.setup_problems]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_passes(name: str) -> None:
    assert failed(outcome(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_example_passes_with_other_chance(name: str) -> None:
    assert failed(run_scenario(example(name), seed=4711)) == []


def test_every_kind_of_event_has_an_example() -> None:
    shown = {event.kind for name in NAMES for event in example(name).events}
    assert [kind for kind in KINDS if kind not in shown] == []


def test_every_fact_and_every_way_to_say_when_has_an_example() -> None:
    given = {(type(one), key) for name in NAMES for one in example(name).expect for key in one.model_fields_set}
    wanted = {(kind, fact) for kind in SUBJECTS.values() for fact in FACTS.get(kind, ())}
    wanted |= {(FencedExpectation, "proof"), (ConditionExpectation, "present"), (ConditionExpectation, "of")}
    wanted |= {(RoleExpectation, key) for key in ("at", "within", "after")}
    assert sorted(f"{kind.__name__}.{key}" for kind, key in wanted - given) == []
    assert any(event.refused for name in NAMES for event in example(name).events)


def test_every_kind_of_event_does_something() -> None:
    assert sorted((*ACTS, *REQUESTS)) == sorted(KINDS)
    assert set(REQUESTS) == set(REQUESTED)


def other(value: Any, values: type[Any]) -> Any:
    return next(one for one in values if one != value)


def contrary_of_role(expectation: RoleExpectation, nodes: list[str]) -> Iterator[dict[str, Any]]:
    contrary: dict[str, Any] = {
        "runs_on": [one for one in (*nodes, NOWHERE) if one not in (expectation.runs_on or ())],
        "not_on": [*(expectation.not_on or ()), NOWHERE],
        "state": other(expectation.state, RoleState),
        "because": ReasonCode.ADOPTED,
        "starts": [100, 200],
        "moved": not expectation.moved,
    }
    for fact in FACTS[RoleExpectation]:
        if getattr(expectation, fact) is not None:
            key = "runs-on" if fact == "not_on" else fact.replace("_", "-")
            yield {"role": expectation.role, key: contrary[fact], "after": expectation.after}


def contrary_of(expectation: Expectation, nodes: list[str]) -> Iterator[dict[str, Any]]:
    """One expectation per fact, which says the contrary."""
    match expectation:
        case RoleExpectation():
            yield from contrary_of_role(expectation, nodes)
        case NodeExpectation():
            if expectation.state is not None:
                yield {"node": expectation.node, "state": other(expectation.state, NodeState)}
            if expectation.power is not None:
                yield {"node": expectation.node, "power": other(expectation.power, Switch)}
        case FencedExpectation():
            named = meant(expectation.fenced, nodes)
            yield {"fenced": [*named, next(node for node in nodes if node not in named)]}
            if named:
                yield {"fenced": named[1:]}
            if expectation.proof is not None:
                yield {"fenced": expectation.fenced, "proof": other(expectation.proof, ProofKind)}
        case ConditionExpectation():
            yield {"condition": expectation.condition, "of": expectation.of, "present": not expectation.present}


@pytest.mark.parametrize("name", NAMES)
def test_an_expectation_turned_round_fails(name: str) -> None:
    scenario, judged = example(name), outcome(name).expectations
    contrary = [
        {**one, "at": judged[index].judged_at}
        for index, expectation in enumerate(scenario.expect)
        for one in contrary_of(expectation, [node.name for node in scenario.all_nodes()])
    ]
    altered = Scenario.model_validate(
        {**scenario.model_dump(by_alias=True), "expect": contrary, "until": scenario.ends_s, "settle": None}
    )
    verdicts = run_scenario(altered).expectations[: len(contrary)]
    assert [one.expected for one in verdicts if one.passed] == []


@pytest.mark.parametrize(
    "name", [name for name in NAMES if any(event.kind in REQUESTED for event in example(name).events)]
)
def test_a_request_expected_to_end_otherwise_fails(name: str) -> None:
    scenario = example(name)
    events = [
        {**event, "refused": None if event["refused"] is not None else "for no reason"}
        for event in scenario.model_dump(by_alias=True)["events"]
    ]
    asked = [index for index, event in enumerate(scenario.events) if event.kind in REQUESTED]
    altered = Scenario.model_validate(
        {
            **scenario.model_dump(by_alias=True),
            "events": [event if index in asked else {**event, "refused": None} for index, event in enumerate(events)],
            "expect": [],
            "until": scenario.ends_s,
            "settle": None,
        }
    )
    verdicts = run_scenario(altered).expectations
    assert len(verdicts) == len(asked)
    assert [one.expected for one in verdicts if one.passed] == []


TWICE = """
scenario: A guest that began on two nodes
nodes: 3
roles: [{name: web1, first-owner: node1}]
events: [{at: 5s, cut: {from: node1, to: [node2, node3]}}]
"""


def test_a_broken_rule_fails_a_scenario_that_expects_nothing() -> None:
    spared = Breakage(kill=lambda _: lambda _victim: None, reset=lambda _: lambda: None)
    lied = read_text(TWICE.replace("nodes: 3", "nodes: [{name: node, count: 3, fence: false}]"), "twice.yaml")
    result = run_scenario(lied, breakage=spared)
    assert not result.passed
    assert any(rule.startswith("SAFE-1") for rule in result.broken_rules)
    assert run_scenario(lied).passed


SPINNING = """
import asyncio
from holdfast.sim.breakage import Breakage
from holdfast.sim.scenario_reader import read_text
from holdfast.sim.scenario_run import run_scenario

def spin(_=None):
    asyncio.get_running_loop().call_soon(spin)

result = run_scenario(read_text({text!r}, ""), breakage=Breakage(kill=lambda _: spin))
print(result.passed, result.broken_rules[0].partition(":")[0], result.timeline[0].code)
"""


def test_a_process_that_spins_is_a_failed_scenario() -> None:
    """In a process of its own: a world that is stuck cannot be cleaned up."""
    text = TWICE.replace("nodes: 3", "nodes: [{name: node, count: 3, fence: false}]")
    command = [sys.executable, "-c", SPINNING.format(text=text)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "SPIN", "cut"]


def test_what_cannot_be_set_up_is_told() -> None:
    text = "{scenario: too big, nodes: 2, roles: [{name: big, memory: 64 GiB, first-owner: node1}]}"
    result = run_scenario(read_text(text, "big.yaml"))
    assert not result.passed
    assert "big did not come up on its first owner node1" in result.setup_problems[0]
    assert "memory free" in result.setup_problems[0]


def test_the_result_tells_who_owned_what_and_who_was_fenced() -> None:
    result = outcome("plug-pulled")
    web = [(one.node, one.ended_by) for one in result.owners if one.role == "web1"]
    assert web[0] == ("node1", "power")
    assert web[1] in (("node2", None), ("node3", None))
    assert [(fence.node, fence.proof) for fence in result.fences] == [("node1", "power")]
    ran = [(one.node, one.ended_by) for one in result.guests if one.role == "web1"]
    assert ran[0] == ("node1", "power lost")
    assert ran[1] == web[1]
    at_s = {line.code: line.at for line in result.timeline if line.subject in ("node1", "web1", "pulled")}
    assert at_s["power-off"] == 5.0 < at_s["node-lost"] < at_s["role-assigned"] < at_s["role-online"] < 8.0
    assert {node.name: (node.power, node.state) for node in result.nodes}["node1"] == (False, "fenced")
    assert {role.name: role.starts for role in result.roles} == {"web1": 1, "web2": 1, "db": 0}


PROGRAM = """
from pathlib import Path
from holdfast.sim.scenario_reader import read_file
from holdfast.sim.scenario_run import run_scenario
print(run_scenario(read_file(Path({file!r}))).model_dump_json())
"""


def test_a_scenario_gives_the_same_result_everywhere() -> None:
    file = next(file for file in FILES if file.stem == "guest-fails")
    here = {run_scenario(read_file(file)).model_dump_json() for _ in range(2)}
    for hash_seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", PROGRAM.format(file=str(file))]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        here.add(done.stdout.strip())
    assert len(here) == 1
