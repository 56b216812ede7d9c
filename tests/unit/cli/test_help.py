"""Help, examples, pages and completion: what is written about the commands is what the commands are."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.unit.cli.conftest import Holdfast
from tests.unit.cli.daemon import Daemon
from tests.unit.cli.documents import WELL

from holdfast import __version__
from holdfast.cli.exit_codes import MEANINGS, ExitCode
from holdfast.cli.groups import Command, Group
from holdfast.cli.main import ENTRIES, cli

ROOT = Path(__file__).parents[3]


def tree(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from tree(inner, click.Context(inner, info_name=name, parent=context))


ALL = {
    path: (command, context)
    for path, command, context in tree(cli, click.Context(cli, info_name="holdfast", **cli.context_settings))
}
OURS = {path: command for path, (command, _) in ALL.items() if isinstance(command, Command | Group)}


def examples(command: click.Command) -> list[str]:
    """The examples of a command as shell lines, with continued lines joined."""
    assert isinstance(command, Command | Group)
    return "\n".join(command.examples).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("path", ALL)
def test_every_help_has_an_example(path: str) -> None:
    command, context = ALL[path]
    assert re.search(r"^ *EXAMPLES?:\n +\S", command.get_help(context), re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize("path", OURS)
def test_examples_are_understood(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("web1.xml", "ipmi.conf", "secret"):
        (tmp_path / name).touch()
    for line in examples(OURS[path]):
        [found] = re.findall(r"holdfast [^|<>)]+", line)
        parse(cli, shlex.split(found)[1:], click.Context(cli, info_name="holdfast", **cli.context_settings))


def parse(command: click.Command, arguments: list[str], parent: click.Context) -> None:
    """Parse without running, down to the command that would run."""
    with command.make_context(command.name, list(arguments), parent=parent) as context:
        if isinstance(command, click.Group):
            name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert inner is not None, name
            parse(inner, rest, context)


@pytest.mark.parametrize("name", ENTRIES)
def test_summaries_are_those_of_the_commands(name: str) -> None:
    command, _ = ALL[f"holdfast {name}"]
    assert command.get_short_help_str(limit=200) == ENTRIES[name][0]


def test_derived_pages_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    pages = runpy.run_path(str(ROOT / "packaging/cli_pages.py"))["pages"]()
    stale = [str(path) for path, text in pages.items() if not path.exists() or path.read_text() != text]
    assert stale == [], "run: ./dev exec python packaging/cli_pages.py"


def test_exit_codes_are_documented() -> None:
    assert set(MEANINGS) == set(ExitCode)
    documented = (ROOT / "docs/cli.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code.value} | {meaning} |" in documented


def test_a_group_without_a_command_shows_its_help(holdfast: Holdfast) -> None:
    for group in ((), ("vm",), ("explain",)):
        ended = holdfast(*group)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("Usage: holdfast")


def test_version(holdfast: Holdfast) -> None:
    ended = holdfast("--version")
    assert (ended.code, ended.out) == (0, f"holdfast {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (("--version",), {"pydantic", "rich", "asyncio", "holdfast.model.status", "holdfast.lab"}),
        (("--help",), {"pydantic", "rich", "asyncio", "holdfast.model.status", "holdfast.lab"}),
        (("vm", "add", "--help"), {"pydantic", "rich", "asyncio", "holdfast.lab"}),
        (("status",), {"rich", "asyncio", "holdfast.lab"}),
    ],
)
def test_commands_load_only_what_they_need(arguments: tuple[str, ...], unwanted: set[str], tmp_path: Path) -> None:
    script = "import sys; from holdfast.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"HOLDFAST_SOCKET": str(tmp_path / "none.sock")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert unwanted & set(ended.stderr.split()) == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, holdfast: Holdfast) -> None:
    ended = holdfast("completion", shell)
    assert ended.code == 0
    assert f"_HOLDFAST_COMPLETE={shell}_complete" in ended.out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("holdfast st", ["status", "storage"]),
        ("holdfast vm s", ["set", "show", "start", "stop"]),
        ("holdfast vm start w", ["web1"]),
        ("holdfast node show ", ["node1", "node2", "node3"]),
        ("holdfast vm add --priority h", ["high"]),
    ],
)
def test_completion_in_bash(line: str, offered: list[str], daemon: Daemon) -> None:
    daemon.on("status", WELL)
    words = line.split(" ")
    environment = os.environ | {
        "HOLDFAST_SOCKET": str(daemon.socket),
        "_HOLDFAST_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    ended = subprocess.run(
        [sys.executable, "-c", "from holdfast.cli.main import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.stderr == ""
    assert [entry.partition(",")[2] for entry in ended.stdout.split()] == offered


def test_completion_without_a_daemon_offers_nothing_and_says_nothing(tmp_path: Path) -> None:
    environment = os.environ | {
        "HOLDFAST_SOCKET": str(tmp_path / "none.sock"),
        "_HOLDFAST_COMPLETE": "bash_complete",
        "COMP_WORDS": "holdfast vm start ",
        "COMP_CWORD": "3",
    }
    script = "from holdfast.cli.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, timeout=30, check=False
    )
    assert (ended.stdout.strip(), ended.stderr) == (b"", b"")
