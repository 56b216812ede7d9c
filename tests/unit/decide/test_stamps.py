"""What looks at the slots of a heartbeat disk are worth. Source: DESIGN section 5."""

from __future__ import annotations

import pytest

from holdfast.decide.detection import StorageEvidence
from holdfast.decide.stamps import FRESH_MS, GOOD_WITHIN_MS, Look, Sight, Stamp, after_look, silent_ms, storage_evidence
from holdfast.model.ids import Incarnation, NodeName

ME, PEER = Incarnation("a-1"), Incarnation("b-1")


def stamp(incarnation: Incarnation, sequence: int) -> Stamp:
    return Stamp(node=NodeName(incarnation[0]), incarnation=incarnation, sequence=sequence)


def look(at_ms: int, peer: int | None, *, took_ms: int = 20, is_own_back: bool = True) -> Look:
    """The observer stamps with the time; `peer` is the sequence in the peer's slot, None: it says nothing."""
    own = stamp(ME, at_ms)
    seen = (own if is_own_back else stamp(ME, at_ms - 1), *(() if peer is None else (stamp(PEER, peer),)))
    return Look(began_ms=at_ms, asked_ms=at_ms + took_ms // 2, ended_ms=at_ms + took_ms, own=own, stamps=seen)


def seen(*looks: Look | None) -> Sight:
    sight = Sight()
    for one in looks:
        sight = after_look(sight, one, 0)
    return sight


def test_silence_counts_from_the_look_that_showed_the_last_stamp_to_when_the_last_look_asked() -> None:
    sight = seen(look(0, 1), look(500, 2), look(1000, 2), look(1500, 2))
    assert silent_ms(sight, PEER, 1530) == 1510 - 520


def test_a_peer_that_goes_on_stamping_is_not_silent() -> None:
    assert silent_ms(seen(look(0, 1), look(500, 2), look(1000, 3)), PEER, 1020) == 0


def test_who_was_never_seen_to_stamp_is_not_silent_but_unknown() -> None:
    """The stamp may be as old as the disk."""
    assert silent_ms(seen(look(0, 7), look(500, 7), look(5000, 7)), PEER, 5020) is None
    assert silent_ms(seen(look(0, None)), PEER, 20) is None


def test_a_smaller_sequence_is_no_newer_stamp() -> None:
    """An array that was set back to a copy of its own, or a stamp that arrived late."""
    sight = seen(look(0, 8), look(500, 9), look(1000, 3), look(1500, 4))
    assert silent_ms(sight, PEER, 1520) == 1510 - 520


@pytest.mark.parametrize("bad", [None, look(2000, 2, took_ms=GOOD_WITHIN_MS + 1), look(2000, 2, is_own_back=False)])
def test_who_cannot_read_its_own_stamp_back_in_time_concludes_nothing_and_begins_anew(bad: Look | None) -> None:
    before = seen(look(0, 1), look(500, 2), look(1500, 2))
    assert silent_ms(before, PEER, 1520) == 990
    after = after_look(before, bad, 2000)
    assert silent_ms(after, PEER, 2020) is None
    again = after_look(after_look(after, look(3000, 2), 3020), look(3500, 2), 3520)
    assert silent_ms(again, PEER, 3520) == 3510 - 3020
    assert after.bad_since_ms == 2000
    assert again.bad_since_ms is None


def test_what_the_last_good_look_told_does_not_count_for_ever() -> None:
    sight = seen(look(0, 1), look(500, 2), look(2000, 2))
    assert silent_ms(sight, PEER, 2010 + FRESH_MS) == 1490
    assert silent_ms(sight, PEER, 2010 + FRESH_MS + 1) is None


def test_a_slot_that_cannot_be_read_once_says_nothing_until_it_was_seen_alive_again() -> None:
    sight = seen(look(0, 1), look(500, 2), look(1000, None), look(1500, 3), look(3500, 3))
    assert silent_ms(sight, PEER, 3520) is None


def test_another_incarnation_is_another_one() -> None:
    assert silent_ms(seen(look(0, 1), look(500, 2), look(2500, 2)), Incarnation("b-2"), 2520) is None


def test_a_node_is_silent_only_if_it_is_so_on_every_disk_that_can_be_read() -> None:
    silent = seen(look(0, 1), look(500, 2), look(2500, 2))
    stamping = seen(look(0, 1), look(500, 2), look(2500, 3))
    unreadable = after_look(stamping, None, 2510)
    assert storage_evidence([silent, stamping], PEER, 2520) == StorageEvidence(silent_ms=0)
    assert storage_evidence([silent, unreadable], PEER, 2520) == StorageEvidence(silent_ms=2510 - 520)
    assert storage_evidence([unreadable], PEER, 2520) is None
    assert storage_evidence([], PEER, 2520) is None
