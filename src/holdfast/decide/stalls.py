"""When a guest that its storage stopped is let go on: soon at first, then less and less often.

Rule of the file: pure functions of the node's monotonic clock, in seconds. Whether its storage answers again is not
asked here. Where nothing can be asked, as with a shared directory, the attempt is the question: QEMU repeats what
failed, and stops the guest again if that fails, which the guest never sees. Source: DESIGN section 8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0
DOUBLINGS: Final = 6
STEADY_S: Final = 60.0
"""A guest that ran for so long after it was let go on has stalled for a new reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A guest that was stopped by an I/O error.

    since_s   when it was found so.
    tries     how often it was let go on and stalled again shortly after.
    tried_s   when it was let go on last.
    """

    since_s: float
    tries: int = 0
    tried_s: float = -inf

    @property
    def due_s(self) -> float:
        """From when on it may be let go on, if its storage answers."""
        wait_s = min(FIRST_S * float(2 ** min(self.tries, DOUBLINGS)), LONGEST_S)
        return max(self.since_s, self.tried_s) + wait_s

    def tried(self, now_s: float) -> Stall:
        """It is let go on now, however that ends."""
        return replace(self, tried_s=now_s, tries=self.tries + 1)


def stalled(before: Stall | None, now_s: float, *, is_new: bool) -> Stall:
    """A guest is found stalled. `is_new`: it was not when it was last looked at."""
    if before is None or (is_new and now_s - before.tried_s > STEADY_S):
        return Stall(since_s=now_s)
    return replace(before, since_s=now_s) if is_new else before
