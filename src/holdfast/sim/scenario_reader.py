"""From a file to a scenario.

Rule of the file: YAML is the spelling only. What a plain word means follows YAML 1.2, so that `on` and `off` are words;
a key that occurs twice is an error; every value keeps its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any, Final, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from holdfast.model.errors import InvalidInput, NotFound
from holdfast.sim.scenario import Scenario
from holdfast.sim.scenario_checks import problems_of
from holdfast.sim.scenario_expectations import SUBJECTS, tag_of
from holdfast.sim.scenario_problems import Path, Problem, ScenarioInvalid, did_you_mean
from holdfast.sim.scenario_values import Part

PLAIN: Final = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""What a scalar without quotes means; what matches none is text. Source: YAML 1.2, core schema."""

KINDS: Final = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
TAGS_OF_YAML: Final = frozenset(f"tag:yaml.org,2002:{kind}" for kind in KINDS)
DEEPEST: Final = 12

TAGS: Final = {tag_of(subject): part for subject, part in SUBJECTS.items()}


class _Document:
    """The values of a file with their lines, and what is wrong with its spelling."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._lines: dict[Path, int] = {(): 1}
        try:
            top = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
            self.problems.append(Problem(path=(), line=line, text=f"this is no YAML: {error.problem}"))
            top = None
        self.value = {} if top is None else self._value(top, ())

    def line_of(self, path: Path) -> int:
        """The line of a value, or of the nearest thing around it that exists."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def existing(self, loc: Path) -> Path:
        """The part of an error's place that exists in the file; a key that is missing stays at the end."""
        path: Path = ()
        for step in loc:
            if (*path, step) in self._lines:
                path = (*path, step)
        return path

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > DEEPEST or node.tag not in TAGS_OF_YAML:
            text = (
                "a scenario is not nested so deep" if len(path) > DEEPEST else f"the tag {node.tag} is of no use here"
            )
            self.problems.append(Problem(path=path, line=node.start_mark.line + 1, text=text))
            return None
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if node.style is None:
            for pattern, read in PLAIN:
                if pattern.fullmatch(node.value):
                    return read(node.value)
        return node.value

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in found:
                self.problems.append(Problem(path=(*path, name), line=line, text="this key occurs twice"))
            self._lines[*path, name] = line
            found[name] = self._value(value, (*path, name))
        return found


def read_file(file: File, *, nodes: int | None = None) -> Scenario:
    """Read a scenario file. `nodes`: another number of them. Raises: NotFound, InvalidInput, ScenarioInvalid."""
    try:
        text = file.read_text()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}", hint="name a scenario file, or a folder of them") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", hint="a scenario file is text in UTF-8") from error
    return read_text(text, str(file), nodes=nodes)


def read_text(text: str, name: str, *, nodes: int | None = None) -> Scenario:
    """Read a scenario. `name`: what to call the file in errors. Raises: ScenarioInvalid."""
    document = _Document(text)
    if nodes is not None and not document.problems:
        _set_number_of_nodes(document, nodes)
    problems = list(document.problems)
    scenario = None
    try:
        scenario = Scenario.model_validate(document.value) if not problems else None
    except ValidationError as error:
        problems += _problems(document, error)
    if scenario is not None:
        problems += [
            Problem(path=one.path, text=one.text, line=document.line_of(document.existing(one.path)))
            for one in problems_of(scenario)
        ]
    if scenario is None or problems:
        raise ScenarioInvalid(name, problems)
    return scenario


def _set_number_of_nodes(document: _Document, nodes: int) -> None:
    """Change the number of nodes where the file gives nothing but a number."""
    top = document.value
    if isinstance(top, dict) and isinstance(top.get("nodes"), int):
        top["nodes"] = nodes
    else:
        text = f"the nodes are listed one by one, so their number cannot be set to {nodes}"
        document.problems.append(Problem(path=("nodes",), line=document.line_of(("nodes",)), text=text))


def _problems(document: _Document, error: ValidationError) -> Iterator[Problem]:
    for one in error.errors():
        path = document.existing(one["loc"])
        if one["type"] == "missing":
            yield Problem(path=path, line=document.line_of(path), text=f"the key {one['loc'][-1]} is missing")
        elif one["type"] == "extra_forbidden":
            allowed = (str(field.alias) for field in _part_at(one["loc"][:-1]).model_fields.values())
            text = f"there is no such key here; {did_you_mean(str(one['loc'][-1]), allowed)}"
            yield Problem(path=path, line=document.line_of(path), text=text)
        else:
            yield Problem(path=path, line=document.line_of(path), text=_text(one))


def _text(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] in ("enum", "literal_error"):
        allowed = re.findall(r"'([^']+)'", message)
        message = f"wanted one of {', '.join(allowed)}; {did_you_mean(str(error['input']), allowed)}"
    elif error["type"] == "bool_type":
        message = "wanted true or false"
    elif error["type"] == "string_pattern_mismatch":
        message = "wanted a name of small letters, digits, and - _ . between them"
    elif not message.startswith("wanted"):
        message = f"wanted {message}"
    return message if isinstance(error["input"], dict | list) else f"{message} (got {error['input']!r})"


def _part_at(loc: Path) -> type[Part]:
    """The model that describes the mapping at an error's place."""
    part: type[Part] = Scenario
    for step in loc:
        if step in TAGS:
            part = TAGS[str(step)]
            continue
        field = next((one for one in part.model_fields.values() if one.alias == step), None)
        if field is not None:
            part = next(_parts_in(field.annotation), part)
    return part


def _parts_in(annotation: object) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts_in(inner)
