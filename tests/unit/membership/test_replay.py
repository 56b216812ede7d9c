"""No heartbeat counts twice, and no restart of the daemon makes a number come twice."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from holdfast.membership.replay import ReplayWindow, Sequences
from holdfast.model.ids import Incarnation, NetworkName

A, B = NetworkName("a"), NetworkName("b")


def incarnation(number: int) -> Incarnation:
    return Incarnation(str(UUID(int=number)))


ONE, TWO = incarnation(1), incarnation(2)


@given(st.lists(st.integers(0, 20)))
def test_accepted_sequences_increase_strictly(arrivals: list[int]) -> None:
    window = ReplayWindow()
    accepted = [sequence for sequence in arrivals if window.accept(ONE, A, sequence)]
    dumb = [s for position, s in enumerate(arrivals) if all(s > earlier for earlier in arrivals[:position])]
    assert accepted == dumb


def test_each_incarnation_and_network_counts_by_itself() -> None:
    window = ReplayWindow()
    assert window.accept(ONE, A, 5)
    assert window.accept(ONE, B, 5)
    assert window.accept(TWO, A, 5)
    assert not window.accept(ONE, A, 5)


def test_the_memory_is_bounded_and_keeps_who_speaks() -> None:
    window = ReplayWindow()
    for number in range(5000):
        window.accept(incarnation(number), A, 1)
        window.accept(incarnation(0), A, number)
    assert len(window._highest) <= 1024
    assert not window.accept(incarnation(0), A, 4999)


def test_sequences_follow_the_time_since_the_machine_started() -> None:
    clock = iter([100, 100, 100, 350])
    sequences = Sequences(lambda: next(clock))
    assert [sequences.next() for _ in range(4)] == [100, 101, 102, 350]


@given(st.lists(st.integers(1, 400), min_size=1), st.lists(st.integers(1, 400), min_size=1))
def test_a_restarted_daemon_goes_on_above(before: list[int], after: list[int]) -> None:
    clock, numbers = [10_000], []
    for steps in (before, after):
        sequences = Sequences(lambda: clock[0])
        for step in steps:
            numbers.append(sequences.next())
            clock[0] += step
    assert numbers == sorted(set(numbers))
