"""How far the memory of a guest that moves has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Memory that is being saved or copied, as its hypervisor tells it; rates are per second.

    bytes_processed   grows beyond `bytes_total` when a running guest changes what was copied already.
    bytes_per_s, dirty_bytes_per_s   what moves, and what the guest changes meanwhile; None: not told.
    time_left_ms      at these rates; None: not told, or it would not end at these.
    """

    bytes_total: int
    bytes_processed: int
    bytes_remaining: int
    bytes_per_s: int | None = None
    dirty_bytes_per_s: int | None = None
    time_left_ms: int | None = None

    @property
    def percent(self) -> int:
        """How much of the memory is over, from 0 to 100; a live move can fall back."""
        if self.bytes_total <= 0:
            return 0
        return max(0, min(100, 100 * (self.bytes_total - self.bytes_remaining) // self.bytes_total))
