"""Settings by their dotted names, as typed on a command line."""

from __future__ import annotations

import pytest

from holdfast.model.errors import InvalidInput
from holdfast.model.settings import Settings
from holdfast.node.settings_words import changed_settings, flat_settings


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("timings.patience_ms", "8000", 8000),
        ("timings.patience_ms", 8000, 8000),
        ("vcpu_overcommit", "2", 2),
        ("shared_directories", '["/srv/vm"]', ("/srv/vm",)),
        ("shared_directories", ["/srv/vm"], ("/srv/vm",)),
    ],
)
def test_a_value_is_read_as_json_or_taken_as_it_is(name: str, value: object, shown: object) -> None:
    assert flat_settings(changed_settings(Settings(), {name: value}))[name] == shown


def test_nothing_else_changes() -> None:
    before = flat_settings(Settings())
    after = flat_settings(changed_settings(Settings(), {"timings.patience_ms": 8000}))
    assert {name for name in before if before[name] != after[name]} == {"timings.patience_ms"}


def test_settings_that_only_fit_together_can_be_changed_together() -> None:
    changes = {"timings.guard_deadline_ms": 20_000, "timings.patience_ms": 30_000, "timings.session_ttl_s": 40}
    assert changed_settings(Settings(), changes).timings.guard_deadline_ms == 20_000
    with pytest.raises(InvalidInput, match="patience"):
        changed_settings(Settings(), {"timings.guard_deadline_ms": 20_000})


@pytest.mark.parametrize("name", ["patience_ms", "timings", "timings.", "timings.nonsense", "", "role_set"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidInput, match="no setting") as refused:
        changed_settings(Settings(), {name: 1})
    assert "timings.patience_ms" in refused.value.hint


@pytest.mark.parametrize("value", ["soon", "1.5", None, "[1]", "{}"])
def test_a_value_of_the_wrong_kind_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidInput, match="patience_ms"):
        changed_settings(Settings(), {"timings.patience_ms": value})
