"""Cluster networks in memory, with every way in which real ones misbehave under a test's control.

Times come from the running event loop, so a loop of virtual time drives this too. Nothing here is random: whoever wants
chance puts it, seeded, into the `Weather`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.errors import PortTaken
from holdfast.membership.port import (
    DatagramReceived,
    EventHandler,
    LinkChanged,
    LinkState,
    PeerUnreachable,
    Unreachable,
)
from holdfast.model.ids import NetworkName

Weather = Callable[[NetworkName, Endpoint, Endpoint, bytes], Sequence[int]]
"""(network, source, target, datagram) -> the delay in ms of each copy that arrives: none is loss, two a duplicate."""


def clear_weather(_network: NetworkName, _source: Endpoint, _target: Endpoint, _datagram: bytes) -> Sequence[int]:
    """Every datagram arrives once and at once."""
    return (0,)


class SimulatedNetworks:
    """All networks of a simulated cluster: who listens where, what is cut, and the weather.

    A machine that has its power answers for its closed ports; `unplug` makes an address silent, as a dead machine is.
    """

    def __init__(self, weather: Weather = clear_weather) -> None:
        self.weather = weather
        self._listeners: dict[tuple[NetworkName, str, int], EventHandler] = {}
        self._underway: dict[float, list[tuple[DatagramReceived, Endpoint]]] = {}
        """What arrives at each instant: one call brings all of it."""
        self._cut: set[tuple[NetworkName, str, str]] = set()
        self._unplugged: set[tuple[NetworkName, str]] = set()

    def transport(self, endpoints: Mapping[NetworkName, Endpoint]) -> SimulatedTransport:
        """A transport for the node with these addresses."""
        return SimulatedTransport(self, endpoints)

    def cut(self, network: NetworkName, source: str, target: str) -> None:
        """Drop what `source` sends to `target`, silently and in this direction only."""
        self._cut.add((network, source, target))

    def heal(self, network: NetworkName, source: str, target: str) -> None:
        """Undo `cut`."""
        self._cut.discard((network, source, target))

    def unplug(self, network: NetworkName, address: str) -> None:
        """Take the cable (or the power) off this address; its own node, if it still runs, sees the carrier go."""
        self._unplugged.add((network, address))
        self._tell_link(network, address)

    def plug(self, network: NetworkName, address: str) -> None:
        """Undo `unplug`."""
        self._unplugged.discard((network, address))
        self._tell_link(network, address)

    def listen(self, network: NetworkName, endpoint: Endpoint, handler: EventHandler) -> None:
        """Deliver there from now on.

        Raises:
            PortTaken: somebody listens there already.
        """
        if (network, endpoint.address, endpoint.port) in self._listeners:
            raise PortTaken(f"heartbeats of network {network} need UDP {endpoint}, and another node has it")
        self._listeners[network, endpoint.address, endpoint.port] = handler
        handler(self._link(network, endpoint.address))

    def leave(self, network: NetworkName, endpoint: Endpoint) -> None:
        """Deliver nothing there any more."""
        self._listeners.pop((network, endpoint.address, endpoint.port), None)

    def carry(self, network: NetworkName, source: Endpoint, targets: Sequence[Endpoint], datagram: bytes) -> None:
        """Bring a datagram to its targets as the weather has it."""
        now = self._now()
        event = DatagramReceived(network=network, source=source, datagram=datagram)
        for target in targets:
            for delay_ms in self.weather(network, source, target, datagram):
                due = now + delay_ms / 1000
                if due not in self._underway:
                    self._underway[due] = []
                    self._call_at(due, self._arrive_all, due)
                self._underway[due].append((event, target))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _call_at(self, when: float, act: Callable[[float], None], due: float) -> None:
        asyncio.get_running_loop().call_at(when, act, due)

    def _arrive_all(self, due: float) -> None:
        for event, target in self._underway.pop(due):
            self._arrive(event, target)

    def _arrive(self, event: DatagramReceived, target: Endpoint) -> None:
        network, source = event.network, event.source
        if not self._passes(network, source.address, target.address):
            return
        handler = self._listeners.get((network, target.address, target.port))
        if handler is not None:
            handler(event)
        elif self._passes(network, target.address, source.address):
            sender = self._listeners.get((network, source.address, source.port))
            if sender is not None:
                by = target.address
                sender(PeerUnreachable(network=network, peer=target, answer=Unreachable.PORT, reported_by=by))

    def _passes(self, network: NetworkName, source: str, target: str) -> bool:
        if self._unplugged and not self._unplugged.isdisjoint(((network, source), (network, target))):
            return False
        return (network, source, target) not in self._cut

    def _tell_link(self, network: NetworkName, address: str) -> None:
        for (where, listening, _), handler in list(self._listeners.items()):
            if (where, listening) == (network, address):
                handler(self._link(network, address))

    def _link(self, network: NetworkName, address: str) -> LinkChanged:
        state = LinkState.NO_CARRIER if (network, address) in self._unplugged else LinkState.UP
        return LinkChanged(network=network, state=state, interface=str(network))


class SimulatedTransport:
    """A `HeartbeatTransport` of one node on `SimulatedNetworks`."""

    def __init__(self, networks: SimulatedNetworks, endpoints: Mapping[NetworkName, Endpoint]) -> None:
        self._networks = networks
        self._endpoints = dict(endpoints)
        self._open: set[NetworkName] = set()
        self._handler: EventHandler | None = None

    async def open(self, handler: EventHandler) -> None:
        """See `HeartbeatTransport.open`."""
        self._handler = handler
        try:
            for network, endpoint in self._endpoints.items():
                self._networks.listen(network, endpoint, handler)
                self._open.add(network)
        except PortTaken:
            await self.close()
            raise

    def use(self, endpoints: Mapping[NetworkName, Endpoint]) -> None:
        """See `HeartbeatTransport.use`."""
        before, self._endpoints = self._endpoints, dict(endpoints)
        if self._handler is None:
            return
        for network in [name for name in before if endpoints.get(name) != before[name] and name in self._open]:
            self._networks.leave(network, before[network])
            self._open.discard(network)
        for network, endpoint in self._endpoints.items():
            if network in self._open:
                continue
            try:
                self._networks.listen(network, endpoint, self._handler)
                self._open.add(network)
            except PortTaken:
                self._handler(LinkChanged(network=network, state=LinkState.PORT_TAKEN, interface=str(network)))

    def send(self, network: NetworkName, peers: Sequence[Endpoint], datagram: bytes) -> None:
        """See `HeartbeatTransport.send`."""
        if network in self._open:
            self._networks.carry(network, self._endpoints[network], peers, datagram)

    async def close(self) -> None:
        """See `HeartbeatTransport.close`."""
        for network in self._open:
            self._networks.leave(network, self._endpoints[network])
        self._open.clear()
