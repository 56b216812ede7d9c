"""Heartbeats over real networks: one UDP socket per network, and rtnetlink for the state of this node's own ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.links import LinkMonitor, read_links
from holdfast.membership.port import EventHandler
from holdfast.membership.udp_channel import UdpChannel
from holdfast.model.ids import NetworkName

DEFAULT_PORT = 7405


class UdpTransport:
    """The real `HeartbeatTransport`: this node's address and port on each network."""

    def __init__(self, endpoints: Mapping[NetworkName, Endpoint]) -> None:
        self._endpoints = dict(endpoints)
        self._handler: EventHandler | None = None
        self._channels: dict[NetworkName, UdpChannel] = {}
        self._monitor = LinkMonitor(self._links_changed)

    async def open(self, handler: EventHandler) -> None:
        """Bind all networks whose address is there. See `HeartbeatTransport.open`."""
        self._handler = handler
        self._channels = {
            network: UdpChannel(network, endpoint, handler) for network, endpoint in self._endpoints.items()
        }
        self._monitor.open()
        try:
            for channel in self._channels.values():
                channel.open(read_links())
        except BaseException:
            await self.close()
            raise

    def use(self, endpoints: Mapping[NetworkName, Endpoint]) -> None:
        """Follow a change of this node's addresses. See `HeartbeatTransport.use`."""
        before, self._endpoints = self._endpoints, dict(endpoints)
        if self._handler is None:
            return
        for network in [network for network in before if endpoints.get(network) != before[network]]:
            self._channels.pop(network).close()
        links = read_links()
        for network, endpoint in self._endpoints.items():
            if network not in self._channels:
                channel = self._channels[network] = UdpChannel(network, endpoint, self._handler)
                channel.follow(links)

    def send(self, network: NetworkName, peers: Sequence[Endpoint], datagram: bytes) -> None:
        """Send on this network. See `HeartbeatTransport.send`."""
        channel = self._channels[network]
        for peer in peers:
            channel.send(peer, datagram)

    async def close(self) -> None:
        """Let go of all sockets. See `HeartbeatTransport.close`."""
        self._monitor.close()
        self._handler = None
        for channel in self._channels.values():
            channel.close()

    def _links_changed(self) -> None:
        links = read_links()
        for channel in self._channels.values():
            channel.follow(links)
