"""What nodes tell each other, as values.

Rule of the file: nothing here knows bytes, keys or sockets (`heartbeat_codec` does), and nothing here decides
(`decide` does). Source: DESIGN section 5; docs/membership.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName


class Heard(NamedTuple):
    """One node's newest heartbeat that the sender received on one network: an acknowledgement, and news for others.

    A named tuple where the rest are dataclasses: every heartbeat carries one per peer and network.

    sequence   of that heartbeat. It proves that the sender got what that node sent *then*; whoever counts on an
               acknowledgement counts from the time he sent this sequence, never from its arrival.
    age_ms     how long before `sent_at_ms` it arrived, by the sender's clock. Saturates at 2**32 - 1.
    """

    node: NodeName
    incarnation: Incarnation
    network: NetworkName
    sequence: int
    age_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """One sign of life.

    sequence        strictly increasing within an incarnation, also across restarts of the daemon (see `Sequences`).
    sent_at_ms      the sender's own monotonic clock: comparable only with other times of the same incarnation.
    wall_clock_ms   the sender's wall clock: shows clocks that are off, decides nothing.
    heard           what the sender last heard, per node and network.
    refused         incarnations that the sender knows to be lost and no longer acknowledges.
    quorate         the sender's database session is valid.
    stopping        the sender's daemon is stopping in an orderly way; silence after this is not yet a sign.
    generation      of the sender's cluster; below 2**64.
    """

    cluster_id: ClusterId
    node: NodeName
    incarnation: Incarnation
    sequence: int
    sent_at_ms: int
    wall_clock_ms: int
    heard: tuple[Heard, ...] = ()
    refused: tuple[Incarnation, ...] = ()
    quorate: bool = False
    stopping: bool = False
    generation: int = 1


class RejectReason(StrEnum):
    """Why a datagram is no heartbeat of ours. Only `wrong-network` and `malformed` were said by a holder of the key."""

    NOT_A_HEARTBEAT = "not-a-heartbeat"
    OTHER_VERSION = "other-version"
    OTHER_CLUSTER = "other-cluster"
    WRONG_KEY = "wrong-key"
    WRONG_NETWORK = "wrong-network"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A datagram that was not taken, and why, in words for a person."""

    reason: RejectReason
    text: str
