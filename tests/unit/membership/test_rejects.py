"""A flood of refused datagrams costs neither the log nor memory."""

from __future__ import annotations

from holdfast.membership.heartbeat import Reject, RejectReason
from holdfast.membership.rejects import Rejects, RejectTally
from holdfast.model.ids import NetworkName

A = NetworkName("a")
WRONG_KEY = Reject(reason=RejectReason.WRONG_KEY, text="wrong key")


def note(rejects: Rejects, now_ms: int, source: str = "10.0.0.9", reject: Reject = WRONG_KEY) -> RejectTally | None:
    return rejects.note(network=A, source=source, reject=reject, now_ms=now_ms)


def test_the_first_is_reported_and_the_next_after_a_minute_with_the_count() -> None:
    rejects = Rejects()
    first = note(rejects, 0)
    assert first is not None
    assert first.count == 1
    assert [note(rejects, now_ms) for now_ms in range(100, 60_000, 100)] == [None] * 599
    later = note(rejects, 60_000)
    assert later is not None
    assert (later.count, later.first_at_ms, later.last_at_ms) == (601, 0, 60_000)


def test_another_reason_from_the_same_address_is_reported_at_once() -> None:
    rejects = Rejects()
    note(rejects, 0)
    other = note(rejects, 1, reject=Reject(reason=RejectReason.OTHER_VERSION, text="version 2"))
    assert other is not None
    assert other.reason is RejectReason.OTHER_VERSION


def test_invented_addresses_flood_neither_log_nor_memory() -> None:
    rejects = Rejects()
    reports = [note(rejects, 1, source=f"10.0.{number // 256}.{number % 256}") for number in range(10_000)]
    assert sum(report is not None for report in reports) == 20
    assert len(rejects.standing(since_ms=0)) == 256


def test_standing_shows_only_what_still_comes() -> None:
    rejects = Rejects()
    note(rejects, 0, source="10.0.0.1")
    note(rejects, 5000, source="10.0.0.2")
    assert [tally.source for tally in rejects.standing(since_ms=1000)] == ["10.0.0.2"]
