"""What is wrong with a scenario file: every problem at once, each with its line, its path and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from holdfast.model.errors import InvalidInput

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong. `path` leads to it from the top of the file; `line` counts from 1."""

    path: Path
    text: str
    line: int = 0


class ScenarioInvalid(InvalidInput):
    """A scenario file cannot be used as it is."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        lines = [f"{file}:{one.line}: {spelt(one.path)}{': ' if one.path else ''}{one.text}" for one in self.problems]
        super().__init__(
            "\n".join(lines), hint="docs/scenarios.md explains every key; `holdfast sim schema` prints them"
        )


def spelt(path: Path) -> str:
    """A path as a person reads it: `events[2].power-off`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What was probably meant, or everything that there is."""
    allowed = list(known)
    close = get_close_matches(word, allowed, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are: {', '.join(allowed)}" if allowed else "there are none"
