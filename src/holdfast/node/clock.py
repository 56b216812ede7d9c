"""Time as holdfastd sees it: one monotonic clock for decisions, one wall clock for people."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Both clocks. Monotonic time is the event loop's, so that a virtual loop moves everything at once."""

    def monotonic_ms(self) -> int:
        """Milliseconds that never go backwards; comparable only on one machine."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC; may jump."""


class SystemClock:
    """The clocks of this machine."""

    def monotonic_ms(self) -> int:
        """See `Clock`."""
        return int(asyncio.get_running_loop().time() * 1000)

    def wall_ms(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1_000_000
