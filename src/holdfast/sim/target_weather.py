"""How commands fare on their way to a simulated target, in it, and back.

Rule of the file: what a machine sends arrives in the order in which it was sent; answers keep no order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from holdfast.storage.simulated import ORDINARY, Exchange, Fate

LEAST_MS: Final = 0.1
HELD_MS: Final = 20_000.0


@dataclass(slots=True)
class TargetWeather:
    """Set by faults, asked by the target.

    request_ms, execution_ms, reply_ms   the longest that each may take; 0: as usual.
    lost_replies, torn, held             the share of answers that are lost, of writes that are torn, and of those that
                                         the target keeps for up to `HELD_MS` before it carries them out.
    watchers                             are told of every command that is sent.
    """

    random: Random
    now: Callable[[], float]
    request_ms: float = 0.0
    execution_ms: float = 0.0
    reply_ms: float = 0.0
    lost_replies: float = 0.0
    torn: float = 0.0
    held: float = 0.0
    watchers: list[Callable[[Exchange], None]] = field(default_factory=list)
    _arrivals: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def is_fair(self) -> bool:
        """Whether everything goes as usual."""
        delays = self.request_ms or self.execution_ms or self.reply_ms
        return not (delays or self.lost_replies or self.torn or self.held)

    def fate(self, exchange: Exchange) -> Fate:
        """What becomes of a command."""
        for watch in tuple(self.watchers):
            watch(exchange)
        if self.is_fair and not self._arrivals:
            return ORDINARY
        is_lost = self.random.random() < self.lost_replies
        is_held = exchange.is_write and self.random.random() < self.held
        is_torn = exchange.is_write and self.random.random() < self.torn
        return Fate(
            request_ms=self._request_ms(exchange),
            execution_ms=LEAST_MS + self.random.random() * (HELD_MS if is_held else self.execution_ms),
            reply_ms=None if is_lost else LEAST_MS + self.random.random() * self.reply_ms,
            blocks_written=1 if is_torn else None,
        )

    def _request_ms(self, exchange: Exchange) -> float:
        """Not before what this nexus sent earlier."""
        nexus, now = (exchange.initiator, exchange.disk), self.now()
        due = max(now + (LEAST_MS + self.random.random() * self.request_ms) / 1000, self._arrivals.get(nexus, 0.0))
        self._arrivals[nexus] = due + 1e-6
        return (due - now) * 1000
