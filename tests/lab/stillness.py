"""How much of a time the machine took part in: a virtual one stands still when its host is busy elsewhere.

Source: proc_stat(5), the field "steal".
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType

LOOK_S = 0.02
STILL_S = 0.5
"""A cluster whose heartbeats are to arrive within 0.8 s is disturbed by this."""
TAKEN_PERCENT = 10.0


class Stillness:
    """Watches, in a thread of its own, until the block ends."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        """The longest time that the thread was not run although it was to be."""
        self.taken_percent = 0.0
        """What the host took of the machine's cores."""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Stillness:
        self._began_at, self._stolen_s = time.monotonic(), _stolen_s()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        lasted_s = (time.monotonic() - self._began_at) * (os.cpu_count() or 1)
        self.taken_percent = 100 * (_stolen_s() - self._stolen_s) / lasted_s

    @property
    def is_disturbing(self) -> bool:
        """Whether a test may have failed for no other reason."""
        return self.longest_s >= STILL_S or self.taken_percent >= TAKEN_PERCENT

    def __str__(self) -> str:
        return f"the machine stood still for {self.longest_s:.1f} s, and its host took {self.taken_percent:.0f} % of it"

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._is_over.wait(LOOK_S):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - before - LOOK_S)
            before = now


def _stolen_s() -> float:
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK")
