"""How the lab's fence agent reads its options, and that it starts without the rest of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

from holdfast.lab import fence_agent
from holdfast.lab.fence_agent import read_options


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ([], ["action=off\n", "plug = node2\n", "# a comment=1\n", "\n", "path=/x\n"]),
        ([], ["option=off\n", "port=node2\n", "path=/x\n"]),
        (["--action=off", "--plug=node2", "--path=/x"], []),
        (["-o", "off", "-n", "node2", "--path", "/x"], ["action=on\n"]),
    ],
)
def test_options_are_the_same_in_every_form(arguments: list[str], lines: list[str]) -> None:
    options = read_options(arguments, lines)
    assert (options["action"], options["plug"], options["path"]) == ("off", "node2", "/x")


def test_what_is_not_given_has_its_default() -> None:
    options = read_options([], [])
    assert (options["action"], options["plug"], options["path"]) == ("reboot", "", fence_agent.DEFAULT_PATH)


def test_it_runs_on_a_bare_interpreter() -> None:
    command = [sys.executable, "-IS", fence_agent.__file__, "-o", "metadata"]
    assert "resource-agent" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
