"""Times that would contradict each other are refused. Source: docs/safety.md, the time budget."""

from __future__ import annotations

import pytest

from holdfast.model.errors import InvalidInput
from holdfast.model.settings import SaveCompression, Settings, Timings


def test_the_defaults_are_accepted() -> None:
    timings = Timings()
    assert timings.suspect_after_ms >= 3 * timings.heartbeat_interval_ms
    assert timings.guard_deadline_ms + timings.guard_kill_ms <= timings.patience_ms


@pytest.mark.parametrize(("heartbeat_interval_ms", "suspect_after_ms"), [(100, 300), (200, 600), (500, 1500)])
def test_three_lost_heartbeats_make_a_suspect_two_do_not(heartbeat_interval_ms: int, suspect_after_ms: int) -> None:
    Timings(heartbeat_interval_ms=heartbeat_interval_ms, suspect_after_ms=suspect_after_ms)
    with pytest.raises(InvalidInput, match=f"{suspect_after_ms - 1}") as refused:
        Timings(heartbeat_interval_ms=heartbeat_interval_ms, suspect_after_ms=suspect_after_ms - 1)
    assert str(suspect_after_ms) in refused.value.hint


def test_safe_1_an_isolated_node_has_stopped_its_guests_before_the_others_lose_patience() -> None:
    Timings(guard_deadline_ms=4000, guard_kill_ms=500, patience_ms=4500)
    with pytest.raises(InvalidInput, match="4499") as refused:
        Timings(guard_deadline_ms=4000, guard_kill_ms=500, patience_ms=4499)
    assert "4500" in refused.value.hint


def test_safe_2_the_watchdog_proof_waits_for_deadline_kill_watchdog_and_margin() -> None:
    timings = Timings(guard_kill_ms=500, proof_margin_ms=1000)
    assert timings.watchdog_proof_after_ms(deadline_ms=4000, watchdog_timeout_ms=10_000) == 15_500
    assert timings.watchdog_proof_after_ms(deadline_ms=30_000, watchdog_timeout_ms=5000) == 36_500


@pytest.mark.parametrize(
    "changes",
    [
        {"proof_margin_ms": -60_000},
        {"proof_margin_ms": 0},
        {"guard_kill_ms": -1},
        {"guard_kill_ms": 100},
        {"guard_deadline_ms": 0},
        {"heartbeat_interval_ms": 0},
        {"restart_grace_ms": -1},
        {"session_ttl_s": 0},
        {"session_ttl_s": 4},
        {"claim_after_ms": 0},
    ],
    ids=str,
)
def test_safe_2_no_setting_turns_the_arithmetic_of_the_proof_off(changes: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        Timings(**changes)


def test_memory_is_packed_or_written_by_several_streams() -> None:
    Settings(save_compression=SaveCompression.ZSTD)
    Settings(save_channels=16)
    with pytest.raises(InvalidInput, match="cannot be packed"):
        Settings(save_compression=SaveCompression.ZSTD, save_channels=2)
    for channels in (0, 17):
        with pytest.raises(InvalidInput, match=f"save_channels is {channels}"):
            Settings(save_channels=channels)
