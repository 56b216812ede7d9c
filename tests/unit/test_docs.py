"""What the documents promise about the code: every setting, reason, condition and error is explained."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.main import ENTRIES, cli
from holdfast.cli.parameters import PRIORITIES
from holdfast.membership.heartbeat import RejectReason
from holdfast.membership.identity import Ports
from holdfast.membership.port import LinkState
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import RoleSpec
from holdfast.model.settings import Settings
from holdfast.node.config import DaemonConfig
from holdfast.node.settings_words import flat_settings
from holdfast.store.records import RECORD_TYPES, TOKENS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "src/holdfast").rglob("*.py"))
COMMANDS_IN = ["README.md", *(f"docs/{name}.md" for name in ("getting-started", "configuration", "troubleshooting"))]

VARIANTS: dict[str, Sequence[str]] = {
    "network-": [state for state in LinkState if state is not LinkState.UP],
    "heartbeat-": list(RejectReason),
}
"""The values that follow the fixed part of a condition's code."""


def page(name: str) -> str:
    return (ROOT / name).read_text()


def table_rows(text: str) -> dict[str, str]:
    """The second cell of every table row by the code words of its first cell."""
    rows: dict[str, str] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) > 1:
            rows |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells[1])
    return rows


CONFIGURATION = table_rows(page("docs/configuration.md"))


def shown(value: object) -> str:
    return "[]" if value == () else str(value)


@pytest.mark.parametrize(("setting", "default"), flat_settings(Settings()).items())
def test_every_setting_is_documented_with_its_default(setting: str, default: object) -> None:
    assert CONFIGURATION[setting] == shown(default)


@pytest.mark.parametrize("key", DaemonConfig.model_fields)
def test_every_key_of_the_file_is_documented_with_its_default(key: str) -> None:
    assert CONFIGURATION[key] == shown(DaemonConfig.model_fields[key].default)


def defaults(kind: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind)}


def test_documented_defaults_of_roles_are_those_of_the_code() -> None:
    role = defaults(RoleSpec)
    assert CONFIGURATION["--restart-limit"] == str(role["restart_limit"])
    assert CONFIGURATION["--failover-limit"] == str(role["failover_limit"])
    assert CONFIGURATION["--shutdown-timeout"] == f"{role['shutdown_timeout_ms'] // 1000} s"
    assert CONFIGURATION["--priority"] == role["priority"].name.lower()
    text = page("docs/configuration.md")
    assert f"({role['restart_period_s']} s)" in text
    assert f"({role['failover_period_s']} s)" in text
    assert [word for word in PRIORITIES if f"`{word}`" not in text] == []


def options_of(command: str) -> set[str]:
    found: Any = cli
    for word in command.split():
        found = found.get_command(None, word)
    return {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("command", ["node set", "vm add"])
def test_every_property_that_can_be_set_is_documented(command: str) -> None:
    names = {option for option in options_of(command) if option.startswith("--")} - {"--json", "--help"}
    assert names - CONFIGURATION.keys() == set()


def test_ports_are_documented_where_firewalls_are_planned() -> None:
    for name in ("ARCHITECTURE.md", "docs/getting-started.md"):
        assert [port for port in Ports().model_dump().values() if str(port) not in page(name)] == []


def test_every_kind_of_record_is_in_the_key_space() -> None:
    documented = re.findall(r"^\| `(holdfast/[a-z]+/?)", page("ARCHITECTURE.md"), re.MULTILINE)
    assert sorted(documented) == sorted((*RECORD_TYPES, TOKENS))


def condition_codes() -> Iterator[str]:
    """Every code that is given to a `Condition` in the sources."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Condition"):
                continue
            code = next(keyword.value for keyword in node.keywords if keyword.arg == "code")
            if isinstance(code, ast.Constant):
                yield str(code.value)
            else:
                assert isinstance(code, ast.JoinedStr), f"{path}: {ast.unparse(code)}"
                assert isinstance(code.values[0], ast.Constant), f"{path}: {ast.unparse(code)}"
                prefix = str(code.values[0].value)
                yield from (f"{prefix}{variant}" for variant in VARIANTS[prefix])


def error_codes() -> Iterator[str]:
    """Every stable code of an error class in the sources."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield from (str(value) for value in class_codes(node))


def class_codes(node: ast.ClassDef) -> Iterator[object]:
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=value)):
                yield value
            case ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant(value=value)):
                yield value


def test_codes_are_found() -> None:
    assert {"no-quorum", "network-no-carrier", "heartbeat-wrong-key"} <= set(condition_codes())
    assert {"internal", "store-unavailable", "daemon-not-running"} <= set(error_codes())


TROUBLESHOOTING = page("docs/troubleshooting.md")


@pytest.mark.parametrize("code", list(ReasonCode))
def test_every_reason_is_explained(code: str) -> None:
    assert f"`{code}`" in TROUBLESHOOTING


@pytest.mark.parametrize("code", sorted(set(condition_codes())))
def test_every_condition_is_explained(code: str) -> None:
    assert f"`{code}`" in TROUBLESHOOTING


@pytest.mark.parametrize("code", sorted(set(error_codes())))
def test_every_error_is_explained(code: str) -> None:
    assert f"`{code}`" in TROUBLESHOOTING


def mentioned_commands() -> Iterator[tuple[str, str]]:
    """Everything in the pages that reads like a `holdfast` command line, with the page it is on."""
    for name in COMMANDS_IN:
        text = page(name).replace("\\\n", " ")
        for line in re.findall(r"(?:^|[`(# ])holdfast ((?:[a-z-]+)(?: [^`\n|;#]*)?)", text, re.MULTILINE):
            if line.split()[0] in ENTRIES:
                yield name, line.strip()


@pytest.mark.parametrize(("name", "line"), sorted(set(mentioned_commands())))
def test_commands_in_the_documents_exist(name: str, line: str) -> None:
    words = line.split()
    command: Any = cli
    while words and hasattr(command, "get_command") and re.fullmatch("[a-z-]+", words[0]):
        command = command.get_command(None, word := words.pop(0))
        assert command is not None, f"{name}: holdfast {line}: there is no {word!r}"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = [] if "exec" in line else [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [option for option in given if option not in {*known, "--help"}] == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"))
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []
