"""What the times of a cluster add up to, in numbers: the relations that have to hold, and what follows from the times.

Rule of the file: pure; relations come from `model.timing_rules`, which also refuses, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.setting_pages import TimingSum
from holdfast.model.settings import Timings
from holdfast.model.timing_rules import inequalities

STAMP_MS: Final = 500
"""Every node stamps its slot on the heartbeat disks so often; one stamp may just have been made. Source: DESIGN 5."""


def arithmetic(timings: Timings, watchdogs: Mapping[NodeName, int | None]) -> tuple[TimingSum, ...]:
    """Return every sum that people should know. `watchdogs`: per node the time-out of its watchdog in ms, or None."""
    relations = (TimingSum(name=one.name, text=str(one), spare_ms=one.spare_ms) for one in inequalities(timings))
    return (*relations, _heartbeats(timings), *_starts(timings, watchdogs))


def _heartbeats(timings: Timings) -> TimingSum:
    limit_ms, interval_ms = timings.suspect_after_ms, timings.heartbeat_interval_ms
    missed = limit_ms // interval_ms
    words = f"suspect_after_ms {limit_ms} / heartbeat_interval_ms {interval_ms} = {missed}"
    return TimingSum(name="suspicion", text=f"{words}: a node that misses {missed} heartbeats is suspect")


def _starts(timings: Timings, watchdogs: Mapping[NodeName, int | None]) -> Iterator[TimingSum]:
    """From the last heartbeat of a node to the start of its roles elsewhere, per kind of proof."""
    suspect_ms, both_ms, patience_ms = timings.suspect_after_ms, timings.lost_after_both_ms, timings.patience_ms
    yield _start("fence device says off", f"suspect_after_ms {suspect_ms} + its answer")
    words = f"lost_after_both_ms {both_ms} + up to {STAMP_MS} = {both_ms + STAMP_MS} ms at most + expelling"
    yield _start("reservations, with a heartbeat disk", words)
    yield _start("reservations, without one", f"patience_ms {patience_ms} + expelling")
    yield _start("fence device switches off", f"patience_ms {patience_ms} + switching")
    known = {name: ms for name, ms in watchdogs.items() if ms is not None}
    fixed_ms = timings.watchdog_proof_after_ms(deadline_ms=timings.guard_deadline_ms, watchdog_timeout_ms=0)
    parts = f"guard_deadline_ms {timings.guard_deadline_ms} + guard_kill_ms {timings.guard_kill_ms}"
    if not known:
        words = f"{parts} + its time-out + proof_margin_ms {timings.proof_margin_ms} = {fixed_ms} ms + its time-out"
        yield TimingSum(name="watchdog proof, after the refusal", text=f"{words}; no node has a watchdog now")
        return
    node = max(sorted(known), key=lambda name: known[name])
    proof_ms = fixed_ms + known[node]
    words = f"{parts} + watchdog of {node} {known[node]} + proof_margin_ms {timings.proof_margin_ms} = {proof_ms} ms"
    yield TimingSum(name="watchdog proof, after the refusal", text=words)
    yield _start("hardware watchdog", f"patience_ms {patience_ms} + {proof_ms} = {patience_ms + proof_ms} ms")


def _start(proof: str, words: str) -> TimingSum:
    return TimingSum(name=f"start elsewhere: {proof}", text=words)
