"""Scenario files are read strictly, every problem is told at once, and the schema is current and explained."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.simulation.json_schema import faults

from holdfast.cli.main import run
from holdfast.model.errors import InvalidInput, NotFound
from holdfast.sim.scenario import schema
from holdfast.sim.scenario_problems import ScenarioInvalid
from holdfast.sim.scenario_reader import read_file, read_text
from holdfast.sim.scenario_result import result_schema
from holdfast.sim.scenario_run import run_scenario

ROOT = Path(__file__).parents[2]
GOOD = "{scenario: two nodes, nodes: 2, roles: 1, until: 1s, expect: [{role: web1, state: online}]}"


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioInvalid) as caught:
        read_text(text, "file.yaml")
    return caught.value.message.splitlines()


def test_every_problem_is_told_at_once_with_line_path_and_what_is_allowed() -> None:
    text = """\
scenario: bad
nodes: 3
roles:
  - name: web
    preferred-owner: [node1]
events:
  - at: 5x
    power-of: node1
  - {at: 1, cut: {from: node1}}
expect:
  - role: web1
    runs-on: 3
  - {role: web, at: 3, state: onlin}
  - {nobody: knows}
"""
    assert problems(text) == [
        "file.yaml:5: roles[0].preferred-owner: there is no such key here; did you mean preferred-owners?",
        "file.yaml:7: events[0].at: wanted a number of seconds, or a duration such as 250ms, 12.5s, 3min (got '5x')",
        "file.yaml:8: events[0].power-of: there is no such key here; did you mean power-off?",
        "file.yaml:9: events[1].cut: the key to is missing",
        "file.yaml:12: expect[0].runs-on: wanted a name, or a list of names (got 3)",
        "file.yaml:13: expect[1].state: wanted one of online, starting, stopping, saving, migrating, offline, blocked, "
        "unknown; did you mean online? (got 'onlin')",
        "file.yaml:14: expect[2]: wanted one of the keys role, node, fenced, condition, voters, which say what is "
        "expected",
    ]


def test_names_and_times_that_do_not_fit_are_told_at_once() -> None:
    text = """\
scenario: bad
nodes: [{name: node1}, {name: node1}, {name: off, power: off}]
cluster:
  settings: {timings.patience: 3}
roles:
  - {name: web, preferred-owners: nod1, first-owner: off, memory: 1000}
events:
  - {at: 5, power-off: off, power-on: off}
  - {at: 50s, role-remove: wb}
  - {at: 6, refused: anything, freeze: off}
  - {at: 7}
  - {at: 8, set: {quarantine_loss: 1}}
until: 20
settle: 30
expect:
  - {role: web1, runs-on: node9, within: 3s}
  - {role: web, because: memory-shrt, after: never}
  - {role: web}
"""
    assert problems(text) == [
        "file.yaml:2: nodes: 2 nodes are called node1",
        f"file.yaml:4: cluster.settings.timings.patience: {setting_hint()}",
        "file.yaml:6: roles[0].preferred-owners: there is no node 'nod1'; did you mean node1?",
        "file.yaml:6: roles[0].memory: wanted whole MiB (got 1000 bytes)",
        "file.yaml:6: roles[0].first-owner: off has no power at first, so it runs nothing",
        "file.yaml:8: events[0]: power-off and power-on are 2 events: write one each",
        "file.yaml:9: events[1].at: the run ends before, at 20 s",
        "file.yaml:9: events[1].role-remove: there is no role 'wb'; did you mean web?",
        "file.yaml:10: events[2].refused: only what a person asks for is asked of a node, or refused",
        "file.yaml:11: events[3]: nothing happens; wanted one of " + ", ".join(kinds()),
        "file.yaml:12: events[4].set.quarantine_loss: there is no setting 'quarantine_loss'; "
        "did you mean quarantine_losses?",
        "file.yaml:14: settle: until says already when the run ends; keep one of them",
        "file.yaml:16: expect[0].within: after is missing: the name of the event that it counts from",
        "file.yaml:16: expect[0].role: there is no role 'web1'; did you mean web?",
        "file.yaml:16: expect[0].runs-on: there is no node 'node9'; did you mean node1?",
        "file.yaml:17: expect[1].after: there is no event 'never'; there are none",
        "file.yaml:17: expect[1].because: there is no reason 'memory-shrt'; did you mean memory-short?",
        "file.yaml:18: expect[2]: nothing is expected; wanted one or more of runs-on, not-on, state, because, starts, "
        "moved",
    ]


def setting_hint() -> str:
    with pytest.raises(InvalidInput) as caught:
        read_text(GOOD.replace("roles: 1", "cluster: {settings: {timings.patience: 3}}, roles: 1"), "")
    return caught.value.message.partition("timings.patience: ")[2]


def kinds() -> list[str]:
    return [one["required"][0] for one in schema()["$defs"]["EventPart"]["oneOf"]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("scenario: x\nnodes: [", "file.yaml:2: this is no YAML: "),
        ("scenario: x\nnodes: 2\nscenario: y\n", "file.yaml:3: scenario: this key occurs twice"),
        ("scenario: x\nnodes: !!python/name:os.system 2\n", "file.yaml:2: nodes: the tag tag:yaml.org,2002:python/"),
        ("scenario: &a [*a]\nnodes: 2\n", "file.yaml:1: scenario[0]"),
        ("", "file.yaml:1: the key scenario is missing"),
        (
            "scenario: x\nnodes: [{name: a, fence: no}]\n",
            "file.yaml:2: nodes[0].fence: wanted true or false (got 'no')",
        ),
        ("scenario: x\nnodes: [{name: a, power: true}]\n", "file.yaml:2: nodes[0].power: wanted one of on, off"),
    ],
)
def test_what_is_no_scenario_is_refused_with_its_line(text: str, line: str) -> None:
    assert problems(text)[0].startswith(line)


def test_words_mean_what_yaml_1_2_says() -> None:
    scenario = read_text("{scenario: 1:30, nodes: [{name: on, power: off, fence: false}, {name: b}]}", "")
    assert scenario.scenario == "1:30"
    assert [(node.name, node.power, node.fence) for node in scenario.nodes] == [("on", "off", False), ("b", "on", True)]


def test_units_are_read() -> None:
    events = "[{at: 250ms, freeze: a1}, {at: 1.5 min, freeze: a1}, {at: 7, freeze: all}]"
    nodes = "[{name: a, count: 2, memory: 1.5 GiB, watchdog: none}]"
    scenario = read_text(f"{{scenario: x, nodes: {nodes}, events: {events}}}", "")
    assert [event.at for event in scenario.events] == [0.25, 90.0, 7.0]
    assert [(node.name, node.memory, node.watchdog) for node in scenario.all_nodes()] == [
        ("a1", 3 * 2**29, None),
        ("a2", 3 * 2**29, None),
    ]


def test_json_is_a_scenario_too(tmp_path: Path) -> None:
    file = tmp_path / "made.json"
    file.write_text(json.dumps({"scenario": "made", "nodes": 3, "events": [{"at": 1, "power-off": "node1"}]}))
    assert read_file(file).events[0].kind == "power_off"


def test_the_number_of_nodes_can_be_set_where_it_is_a_number() -> None:
    assert len(read_text(GOOD, "", nodes=5).all_nodes()) == 5
    assert problems_of_nodes() == [
        "file.yaml:2: nodes: the nodes are listed one by one, so their number cannot be set to 5"
    ]


def problems_of_nodes() -> list[str]:
    with pytest.raises(ScenarioInvalid) as caught:
        read_text("scenario: x\nnodes: [{name: a}]", "file.yaml", nodes=5)
    return caught.value.message.splitlines()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_file(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("name", "made"), [("scenario.schema.json", schema), ("scenario-result.schema.json", result_schema)]
)
def test_the_committed_schema_is_current(name: str, made: Any) -> None:
    """Write it anew with `holdfast sim schema > docs/scenario.schema.json`, or with `--result`."""
    assert json.loads((ROOT / "docs" / name).read_text()) == made()


def as_data(name: str) -> Any:
    """A file as another program reads it: by YAML 1.2's rules, without the models."""
    return yaml.load((ROOT / "scenarios" / f"{name}.yaml").read_text(), Loader=Words)


class Words(yaml.SafeLoader):
    """YAML whose `on`, `off`, `yes` and `no` are words."""

    yaml_implicit_resolvers = {  # noqa: RUF012  as PyYAML has it
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "scenarios").glob("*.yaml")))
def test_an_example_fits_the_schema(name: str) -> None:
    assert list(faults(schema(), as_data(name))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": 0},
        {"nodes": [{"name": "a", "power": "up"}]},
        {"roles": [{"name": "a", "memory": "8 GB"}]},
        {"until": "5 sec"},
        {"until": 1e999},
        {"nodes": [{"name": "a", "fence": "no"}]},
        {"nodes": [{"name": "a", "count": "3"}]},
        {"foo": 1},
        {"events": [{"at": 1}]},
        {"events": [{"at": 1, "freeze": "node1", "thaw": "node1"}]},
        {"events": [{"at": -1, "freeze": "node1"}]},
        {"expect": [{"role": "web1", "fenced": []}]},
        {"expect": [{"state": "up"}]},
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(change: dict[str, Any]) -> None:
    data = {"scenario": "x", "nodes": 2, **change}
    assert list(faults(schema(), data)) != []
    assert problems(json.dumps(data)) != []


def test_a_result_fits_its_schema() -> None:
    result = run_scenario(read_text(GOOD, "good.yaml"))
    assert list(faults(result_schema(), json.loads(result.model_dump_json()))) == []


def unexplained(made: dict[str, Any]) -> Iterator[str]:
    for part, definition in {"the file": made, **made["$defs"]}.items():
        for key, value in definition.get("properties", {}).items():
            if not value.get("description"):
                yield f"{part}: {key}"


@pytest.mark.parametrize("made", [schema, result_schema])
def test_every_key_has_a_description(made: Any) -> None:
    assert list(unexplained(made())) == []


def test_every_key_is_in_the_document() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text()
    made = schema()
    keys = {key for part in (made, *made["$defs"].values()) for key in part.get("properties", {})}
    assert sorted(key for key in keys if f"`{key}`" not in text) == []


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "scenarios.md").read_text(), re.DOTALL)


def test_the_scenario_in_the_document_passes() -> None:
    shown = next(block for block in blocks("yaml") if block.startswith("scenario:"))
    assert run_scenario(read_text(shown, "scenarios.md")).passed


def test_the_program_in_the_document_works(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == "True\n"


def write(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write(tmp_path, "good.yaml", GOOD), write(tmp_path, "bad.yaml", "scenario: x")
    wrong = write(tmp_path, "wrong.yaml", GOOD.replace("state: online", "state: blocked"))
    assert run(["sim", "scenario", good]) == 0
    assert "met     role web1, state online" in capsys.readouterr().out
    assert run(["sim", "scenario", wrong]) == 1
    assert "seen at 1.000 s: web1 is online" in capsys.readouterr().out
    assert run(["sim", "scenario", good, bad]) == 2
    assert f"{bad}:1: the key nodes is missing" in capsys.readouterr().err


def test_several_files_have_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.yaml", GOOD)
    write(tmp_path, "b.yaml", GOOD)
    assert run(["sim", "scenario", str(tmp_path), "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"passed  {tmp_path}/{name}.yaml: 1 of 1 expectations met" for name in "ab"]


def test_the_result_as_json_has_exactly_the_keys_of_its_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sim", "scenario", write(tmp_path, "a.yaml", GOOD), "--json", "--seed", "9"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == set(result_schema()["properties"])
    assert (result["passed"], result["seed"], result["virtual_seconds"]) == (True, 9, 1.0)


def test_the_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
    assert run(["sim", "schema", "--result"]) == 0
    assert json.loads(capsys.readouterr().out) == result_schema()
