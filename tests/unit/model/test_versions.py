"""Which releases go together."""

import pytest

from holdfast import __version__
from holdfast.model.versions import can_run_together, releases_apart


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("0.1.0", "0.1.0", 0),
        ("0.1.0", "0.1.7", 0),
        ("0.1.3", "0.2.0", 1),
        ("0.9.0", "0.10.0", 1),
        ("0.1.0", "0.3.0", 2),
        ("0.9.0", "1.0.0", None),
        ("1.0", "", None),
    ],
)
def test_a_release_is_the_major_and_the_minor_number(one: str, other: str, apart: int | None) -> None:
    assert releases_apart(one, other) == releases_apart(other, one) == apart
    assert can_run_together(one, other) is (apart in {0, 1})


def test_what_cannot_be_compared_goes_with_itself_only() -> None:
    assert can_run_together("unknown", "unknown")
    assert not can_run_together("unknown", __version__)
