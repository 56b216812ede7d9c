"""A daemon for the tests of commands, and a command line to run them."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.cli.daemon import Daemon, running

from holdfast.cli.main import run

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


Holdfast = Callable[..., Ended]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are shown in the machine's zone; here that is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that answers what the test tells it to."""
    with running(tmp_path / "d.sock") as daemon:
        yield daemon


@pytest.fixture
def holdfast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Holdfast:
    """Run a command line in this process against the daemon of the test."""
    monkeypatch.setenv("HOLDFAST_SOCKET", str(tmp_path / "d.sock"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Ended:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Ended(int(code), captured.out, captured.err)

    return command


def check_golden(name: str, text: str) -> None:
    """Compare with the kept page; `REWRITE_GOLDEN=1 pytest …` keeps the new one, to be reviewed as a diff."""
    stripped = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(stripped)
    assert stripped == path.read_text()
