"""Every relation between times: refused and explained by the same numbers. Source: docs/safety.md."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.model.errors import InvalidInput
from holdfast.model.settings import Timings
from holdfast.model.timing_rules import inequalities

EDGES: list[tuple[str, dict[str, int], dict[str, int]]] = [
    ("missed heartbeats", {"suspect_after_ms": 600}, {"suspect_after_ms": 599}),
    ("acknowledgements", {"heartbeat_interval_ms": 250, "guard_deadline_ms": 1000}, {"guard_deadline_ms": 999}),
    ("isolated node", {"patience_ms": 4500}, {"patience_ms": 4499}),
    ("session", {"session_ttl_s": 7}, {"session_ttl_s": 6}),
]


def test_the_words_of_a_relation_have_every_number_in_them() -> None:
    assert [str(one) for one in inequalities(Timings())] == [
        "3 x heartbeat_interval_ms 200 = 600 <= suspect_after_ms 800: ok, 200 ms to spare",
        "4 x heartbeat_interval_ms 200 = 800 <= guard_deadline_ms 4000: ok, 3200 ms to spare",
        "guard_deadline_ms 4000 + guard_kill_ms 500 = 4500 <= patience_ms 5000: ok, 500 ms to spare",
        "patience_ms 5000 + 2000 = 7000 <= session_ttl_s 10 = 10000 ms: ok, 3000 ms to spare",
    ]


@pytest.mark.parametrize(("name", "kept", "broken"), EDGES, ids=lambda value: value if isinstance(value, str) else "")
def test_safe_2_each_relation_holds_to_the_last_millisecond_and_is_refused_with_its_numbers(
    name: str, kept: dict[str, int], broken: dict[str, int]
) -> None:
    found = next(one for one in inequalities(Timings(**kept)) if one.name == name)
    assert 0 <= found.spare_ms < 1000
    numbers: Any = SimpleNamespace(**{**_values(Timings(**kept)), **broken})
    missing = next(one for one in inequalities(numbers) if one.name == name)
    assert missing.spare_ms < 0
    if name == "acknowledgements":
        return  # 999 is below the least value, which is refused before
    with pytest.raises(InvalidInput) as refused:
        Timings(**{**kept, **broken})
    assert str(missing) in refused.value.message
    assert missing.remedy in refused.value.hint


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        Timings(heartbeat_interval_ms=1500, patience_ms=4000)
    for words in ("4500 <= suspect_after_ms 800", "6000 <= guard_deadline_ms 4000", "4500 <= patience_ms 4000"):
        assert words in refused.value.message


def _values(timings: Timings) -> dict[str, int]:
    return {name: getattr(timings, name) for name in Timings.__dataclass_fields__}
