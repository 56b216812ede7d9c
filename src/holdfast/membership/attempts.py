"""How often an address may try to join and be refused, so that guessing costs this node nothing.

Rule of the file: only refusals count, per address; the secret of a token is beyond guessing anyway. Source:
docs/security.md.
"""

from __future__ import annotations

from collections import deque
from typing import Final

REFUSED_AT_MOST: Final = 10
WITHIN_MS: Final = 60_000
SOURCES_KEPT: Final = 256


class Attempts:
    """The refusals of the last minute."""

    def __init__(self) -> None:
        self._refused_ms: dict[str, deque[int]] = {}

    def wait_ms(self, source: str, now_ms: int) -> int:
        """For how long this address has to wait before it may try; 0: not at all."""
        refused = self._refused_ms.get(source, deque())
        if len(refused) < REFUSED_AT_MOST:
            return 0
        return max(0, refused[0] + WITHIN_MS - now_ms)

    def refused(self, source: str, now_ms: int) -> None:
        """Count a refusal. The address that was refused longest ago is forgotten when there are too many."""
        refused = self._refused_ms.pop(source, None) or deque(maxlen=REFUSED_AT_MOST)
        refused.append(now_ms)
        while len(self._refused_ms) >= SOURCES_KEPT:
            del self._refused_ms[next(iter(self._refused_ms))]
        self._refused_ms[source] = refused
