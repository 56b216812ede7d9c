"""One UDP socket on one network of this node, which comes and goes with the network's address."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.errors import PortTaken
from holdfast.membership.icmp_errors import ask_for_errors, take_errors
from holdfast.membership.links import Link
from holdfast.membership.port import (
    DatagramReceived,
    EventHandler,
    LinkChanged,
    LinkState,
    PeerUnreachable,
    SendFailed,
)
from holdfast.model.ids import NetworkName

_BUFFER_BYTES = 1 << 16
_MAX_BURST = 256


class UdpChannel:
    """Sends and receives on this node's address on one network, and tells what the kernel tells about it.

    Bound to the address and not to 0.0.0.0, so that what arrives is known to have come over this network's address,
    and what is sent carries it.
    """

    def __init__(self, network: NetworkName, endpoint: Endpoint, handler: EventHandler) -> None:
        self._network = network
        self._endpoint = endpoint
        self._handler = handler
        self._socket: socket.socket | None = None
        self._link: LinkChanged | None = None

    def open(self, links: Iterable[Link]) -> None:
        """Begin, and tell the state.

        Raises:
            PortTaken: somebody else listens there.
        """
        self.follow(links)
        if self._link is not None and self._link.state is LinkState.PORT_TAKEN:
            raise PortTaken(
                f"heartbeats of network {self._network} need UDP {self._endpoint}, and another process has it",
                hint=f"see who: ss -lunp 'sport = :{self._endpoint.port}'; stop it or set another heartbeat port",
            )

    def follow(self, links: Iterable[Link]) -> None:
        """Bind, rebind or let go according to the interfaces as they are now; tell the state if it changed."""
        owner = next((link for link in links if link.has_address(self._endpoint.address)), None)
        if owner is None:
            self.close()
            self._tell(LinkState.ADDRESS_MISSING, None)
            return
        bound = self._socket is not None or self._bind(owner.name)
        if bound:
            self._tell(LinkState.UP if owner.has_carrier else LinkState.NO_CARRIER, owner.name)

    def send(self, peer: Endpoint, datagram: bytes) -> None:
        """Send; a failure that the kernel notices at once is told."""
        if self._link is not None and self._link.state is LinkState.PORT_TAKEN:
            self._retry_bind(self._link)
        if self._socket is None:
            return
        try:
            self._send_once(self._socket, peer, datagram)
        except OSError as error:
            self._handler(SendFailed(network=self._network, peer=peer, error=str(error.strerror)))

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _send_once(self, udp: socket.socket, peer: Endpoint, datagram: bytes) -> None:
        try:
            udp.sendto(datagram, (peer.address, peer.port))
        except OSError:
            # Either this send failed, or the answer to an earlier one was waiting, which says nothing about this peer.
            self._take_errors(udp)
            udp.sendto(datagram, (peer.address, peer.port))

    def _retry_bind(self, link: LinkChanged) -> None:
        """Nothing tells that a port has become free, so each heartbeat tries: one cheap system call."""
        if link.interface is not None and self._bind(link.interface):
            self._tell(LinkState.UP, link.interface)

    def _bind(self, interface: str) -> bool:
        family = socket.AF_INET6 if ":" in self._endpoint.address else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            ask_for_errors(udp)
            udp.bind((self._endpoint.address, self._endpoint.port))
        except OSError as error:
            udp.close()
            taken = error.errno == errno.EADDRINUSE
            self._tell(LinkState.PORT_TAKEN if taken else LinkState.ADDRESS_MISSING, interface)
            return False
        self._socket = udp
        asyncio.get_running_loop().add_reader(udp.fileno(), self._readable, udp)
        return True

    def _readable(self, udp: socket.socket) -> None:
        for count in range(_MAX_BURST):
            if udp is not self._socket:  # the handler closed this channel
                return
            try:
                datagram, address = udp.recvfrom(_BUFFER_BYTES)
            except BlockingIOError:
                if count == 0:  # woken by the queue of errors alone
                    self._take_errors(udp)
                return
            except OSError:  # an error is pending; it is in the queue too
                self._take_errors(udp)
                continue
            source = Endpoint(address=address[0], port=address[1])
            self._handler(DatagramReceived(network=self._network, source=source, datagram=datagram))

    def _take_errors(self, udp: socket.socket) -> None:
        for error in take_errors(udp):
            self._handler(
                PeerUnreachable(
                    network=self._network, peer=error.peer, answer=error.answer, reported_by=error.reported_by
                )
            )

    def _tell(self, state: LinkState, interface: str | None) -> None:
        link = LinkChanged(network=self._network, state=state, interface=interface)
        if link != self._link:
            self._link = link
            self._handler(link)
