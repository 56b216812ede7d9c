"""How commands fare on their way to a simulated target, in it, and back.

Rule of the file: what a machine sends arrives in the order in which it was sent; answers keep no order. While nothing
is wrong and nobody changes who may write, a command takes no time at all: most commands are such, and their order says
nothing. All others take a while, so that they meet in every order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from holdfast.storage.simulated import INSTANT, ORDINARY, Exchange, Fate

LEAST_MS: Final = 0.1
HELD_MS: Final = 20_000.0
RESTLESS_S: Final = 2.0
"""So long commands take their time after anything unusual at a disk, as is a request that changes who may write."""


@dataclass(slots=True)
class TargetWeather:
    """Set by faults, asked by the target.

    request_ms, execution_ms, reply_ms   the longest that each may take; 0: as usual.
    lost_replies, torn, held             the share of answers that are lost, of writes that are torn, and of those that
                                         the target keeps for up to `HELD_MS` before it carries them out.
    unusual_since                        when a command last took its time.
    watchers                             are told of every command that is sent and that may change who may write.
    """

    random: Random
    now: Callable[[], float]
    request_ms: float = 0.0
    execution_ms: float = 0.0
    reply_ms: float = 0.0
    lost_replies: float = 0.0
    torn: float = 0.0
    held: float = 0.0
    unusual_since: float = 0.0
    watchers: list[Callable[[Exchange], None]] = field(default_factory=list)
    _arrivals: dict[tuple[str, str], float] = field(default_factory=dict)
    _last_arrival: float = 0.0
    _restless: dict[str, float] = field(default_factory=dict)
    """Until when commands to a disk take their time."""

    @property
    def is_fair(self) -> bool:
        """Whether everything goes as usual."""
        delays = self.request_ms or self.execution_ms or self.reply_ms
        return not (delays or self.lost_replies or self.torn or self.held)

    def is_quiet(self, disk: str) -> bool:
        """Whether everything goes as usual, has for a while, and nobody changed lately who may write to the disk."""
        now = self.now()
        return self.is_fair and now >= self._last_arrival and now >= self._restless.get(disk, 0.0)

    def fate(self, exchange: Exchange) -> Fate:
        """What becomes of a command."""
        now, changes = self.now(), exchange.is_about_reservations or exchange.is_reset
        if exchange.is_about_reservations:
            for watch in tuple(self.watchers):
                watch(exchange)
        if not changes and self.is_quiet(exchange.disk):
            return INSTANT
        is_usual = self.is_fair and now >= self._last_arrival
        if changes or not is_usual:
            self._restless[exchange.disk], self.unusual_since = now + RESTLESS_S, now
        if is_usual:
            return ORDINARY
        is_lost = self.random.random() < self.lost_replies
        is_held = exchange.is_write and self.random.random() < self.held
        is_torn = exchange.is_write and self.random.random() < self.torn
        return Fate(
            request_ms=self._request_ms(exchange, now),
            execution_ms=LEAST_MS + self.random.random() * (HELD_MS if is_held else self.execution_ms),
            reply_ms=None if is_lost else LEAST_MS + self.random.random() * self.reply_ms,
            blocks_written=1 if is_torn else None,
        )

    def _request_ms(self, exchange: Exchange, now: float) -> float:
        """Not before what this nexus sent earlier."""
        nexus = exchange.initiator, exchange.disk
        due = max(now + (LEAST_MS + self.random.random() * self.request_ms) / 1000, self._arrivals.get(nexus, 0.0))
        self._arrivals[nexus] = due + 1e-6
        self._last_arrival = max(self._last_arrival, due + 1e-6)
        return (due - now) * 1000
