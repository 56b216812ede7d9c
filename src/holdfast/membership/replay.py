"""Why no heartbeat counts twice: the sender's strictly increasing sequences and the receiver's memory of them."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.model.ids import Incarnation, NetworkName

_MAX_SENDERS = 1024


class Sequences:
    """Gives each heartbeat of this incarnation a number greater than all before, also after a restart of the daemon.

    They follow the milliseconds since the machine started (CLOCK_BOOTTIME, which goes on while it sleeps), so that a
    new daemon starts above the old one's last without a file. Invariant: fewer than 1000 heartbeats per second on
    average, else a restarted daemon could start below; the nonce of the encryption depends on it.
    """

    def __init__(self, boottime_ms: Callable[[], int]) -> None:
        self._boottime_ms = boottime_ms
        self._last = -1

    def next(self) -> int:
        """The sequence of the next heartbeat."""
        self._last = max(self._last + 1, self._boottime_ms())
        return self._last


class ReplayWindow:
    """Takes each sequence of an incarnation on a network once, in increasing order.

    A heartbeat that was overtaken by a newer one is dropped too: it could only say what is known better. The memory is
    bounded and starts empty; docs/security.md says what that leaves to an attacker.
    """

    def __init__(self) -> None:
        self._highest: dict[tuple[Incarnation, NetworkName], int] = {}

    def accept(self, incarnation: Incarnation, network: NetworkName, sequence: int) -> bool:
        """Whether this is newer than everything accepted before from there; if so it is remembered.

        Only for authentic heartbeats: an invented sequence would shut out the real sender.
        """
        sender = (incarnation, network)
        highest = self._highest.pop(sender, -1)
        if highest < 0 and len(self._highest) >= _MAX_SENDERS:
            del self._highest[next(iter(self._highest))]
        self._highest[sender] = max(highest, sequence)
        return sequence > highest
