"""What carries heartbeats, and what it can tell besides them.

Rule of the file: only values and the protocol. Everything but the datagrams is a hint from networks that anybody can
write to: it may start a search for proof and is never itself one. Source: DESIGN section 5, SAFE-2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from holdfast.membership.endpoint import Endpoint
from holdfast.model.ids import NetworkName


@dataclass(frozen=True, slots=True, kw_only=True)
class DatagramReceived:
    """Bytes arrived on a network. `source` is what the datagram claims; only its content can be authentic."""

    network: NetworkName
    source: Endpoint
    datagram: bytes


class Unreachable(StrEnum):
    """What answered instead of the peer: its kernel (port), or the last or any router on the way (host, network)."""

    PORT = "port-unreachable"
    HOST = "host-unreachable"
    NETWORK = "network-unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerUnreachable:
    """An ICMP answer to a datagram that was sent to `peer`.

    PORT means: that machine's kernel is alive and nobody listens there. reported_by is the address that answered; this
    node's own when its neighbour lookup (ARP) found nobody.
    """

    network: NetworkName
    peer: Endpoint
    answer: Unreachable
    reported_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendFailed:
    """This node could not send: no route, no buffer, filtered. Says something about this node, not about the peer."""

    network: NetworkName
    peer: Endpoint
    error: str


class LinkState(StrEnum):
    """What this node's own end of a network looks like."""

    UP = "up"
    NO_CARRIER = "no-carrier"
    ADDRESS_MISSING = "address-missing"
    PORT_TAKEN = "port-taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged:
    """This node's own end of a network is now in this state. While it is not UP, silence says nothing about peers.

    interface is None while no interface has the address.
    """

    network: NetworkName
    state: LinkState
    interface: str | None


TransportEvent = DatagramReceived | PeerUnreachable | SendFailed | LinkChanged
EventHandler = Callable[[TransportEvent], None]


class HeartbeatTransport(Protocol):
    """Carries datagrams on all cluster networks of one node. Nothing is promised: they may be lost, twice or late.

    Events are delivered by a plain call on the event loop, not through a queue: a daemon that was held up sees all
    that arrived meanwhile before its own timers find anybody silent.
    """

    async def open(self, handler: EventHandler) -> None:
        """Begin; the state of each network is the first thing delivered for it.

        A network whose address is missing is no error: it begins when the address appears.

        Raises:
            PortTaken: another process has the address and port of a network.
        """
        ...

    def send(self, network: NetworkName, peers: Sequence[Endpoint], datagram: bytes) -> None:
        """Send the same to each of these and return at once. A failure is an event, if it is noticed at all."""
        ...

    def use(self, endpoints: Mapping[NetworkName, Endpoint]) -> None:
        """Have exactly these addresses from now on; networks whose address stays go on without a pause.

        The state of each new one is delivered before this returns; one that somebody else has is PORT_TAKEN until it is
        free. Nothing more is delivered for those that are gone.
        """
        ...

    async def close(self) -> None:
        """End: nothing is delivered after this. May be called twice."""
        ...
