"""Every reason can be told, with the facts that the code gives it."""

from __future__ import annotations

import ast
from pathlib import Path
from string import Formatter

import pytest

import holdfast
from holdfast.model.reasons import SENTENCES, ReasonCode, because

SOURCES = Path(holdfast.__file__).parent


def fields(code: ReasonCode) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(SENTENCES[code]) if name} - {"subject"}


def reasons_given() -> list[tuple[str, ReasonCode, set[str] | None]]:
    """Every `because(ReasonCode.X, …)` of the source: where, which, and its facts (None: passed as a mapping)."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "because":
                continue
            code = node.args[0]
            assert isinstance(code, ast.Attribute), f"{path}:{node.lineno}"
            names = [keyword.arg for keyword in node.keywords]
            facts = None if None in names else {name for name in names if name is not None}
            found.append((f"{path.relative_to(SOURCES)}:{node.lineno}", ReasonCode[code.attr], facts))
    return found


def test_every_code_has_a_sentence() -> None:
    assert set(SENTENCES) == set(ReasonCode)


def test_every_reason_that_the_code_gives_has_the_facts_that_its_sentence_names() -> None:
    given = reasons_given()
    assert len(given) > 20
    wrong = [(where, code, facts) for where, code, facts in given if facts is not None and facts != fields(code)]
    assert wrong == []


@pytest.mark.parametrize("code", ReasonCode)
def test_a_sentence_names_its_subject_and_facts(code: ReasonCode) -> None:
    text = str(because(code, "node-x", **dict.fromkeys(fields(code), "fact-y")))
    assert "{" not in text
    assert ("fact-y" in text) is bool(fields(code))
