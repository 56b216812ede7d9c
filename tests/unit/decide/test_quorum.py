"""The one sentence about what may fail agrees with a count by definition."""

from itertools import combinations

import pytest

from holdfast.decide.quorum import spare_voters, what_may_fail
from holdfast.model.ids import NodeName


def names(text: str) -> list[NodeName]:
    return [NodeName(name) for name in text]


@pytest.mark.parametrize("voters", ["a", "abc", "abcd", "abcde"])
def test_so_many_and_not_one_more_may_fail(voters: str) -> None:
    for size in range(len(voters) + 1):
        for up in combinations(voters, size):
            spare = spare_voters(names(voters), names("".join(up)))
            left = len(up) - spare
            assert left * 2 > len(voters) >= (left - 1) * 2


@pytest.mark.parametrize(
    ("voters", "up", "says"),
    [
        ("a", "ab", ["a has the only vote", "witness"]),
        ("abc", "abc", ["Any one of a, b, c may fail"]),
        ("abc", "ac", ["None of a, c may fail", "b is down"]),
        ("abcde", "abcde", ["Any 2 of a, b, c, d, e"]),
        ("abc", "b", ["no quorum", "1 of 3", "a, c"]),
    ],
)
def test_the_sentence_names_who_counts(voters: str, up: str, says: list[str]) -> None:
    assert all(text in what_may_fail(names(voters), names(up)) for text in says)
