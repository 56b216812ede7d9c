"""Sending and receiving heartbeats.

Rule of the file: a heartbeat acknowledges nobody until the cluster database was read since this daemon started, because
only then are the refused incarnations known. Source: docs/safety.md (SAFE-2, the watchdog's arithmetic).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat import Heartbeat, Reject
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.port import (
    DatagramReceived,
    HeartbeatTransport,
    LinkChanged,
    LinkState,
    PeerUnreachable,
    TransportEvent,
    Unreachable,
)
from holdfast.membership.rejects import Rejects
from holdfast.membership.replay import ReplayWindow, Sequences
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName
from holdfast.model.nodes import Condition, NodeSpec
from holdfast.model.snapshot import Snapshot
from holdfast.node.clock import Clock
from holdfast.node.hearing import Hearing
from holdfast.node.mirror import Mirror

log = logging.getLogger(__name__)

SHOWN_MS = 60_000
CLOCK_OFF_MS = 60_000


class Heartbeats:
    """One node's voice and ear on all cluster networks."""

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        me: NodeName,
        incarnation: Incarnation,
        hearing: Hearing,
        codec: HeartbeatCodec,
        transport: HeartbeatTransport,
        sequences: Sequences,
        mirror: Mirror,
        clock: Clock,
        peers: Mapping[NodeName, NodeSpec],
        generation: int = 1,
    ) -> None:
        self._generation = generation
        self._behind: dict[NodeName, int] = {}
        self.superseded = asyncio.Event()
        """Set when a node of a later generation is heard: this one was left behind by a restore."""
        self._cluster_id = cluster_id
        self._me = me
        self.incarnation = incarnation
        self._hearing = hearing
        self._codec = codec
        self._transport = transport
        self._sequences = sequences
        self._mirror = mirror
        self._clock = clock
        self._seen: Snapshot | None = None
        self._refused: tuple[Incarnation, ...] = ()
        self._routes = routes(peers, me)
        self._own = endpoints(peers, me)
        self._replay = ReplayWindow()
        self._rejects = Rejects()
        self._links: dict[NetworkName, LinkState] = {}
        self._clocks_off: dict[NodeName, int] = {}
        self._namesake: tuple[str, int] | None = None
        self._sure_since_ms: int | None = None
        self.stopping = False
        self.timings_generation = 0
        """The change of the times under which the last heartbeat was sent, and under which the next one is due."""
        self.registered_at: int | None = None
        """Revision of the database at which this daemon registered its session; None: it has not yet."""

    async def run(self) -> None:
        """Send at every interval until cancelled."""
        await self._transport.open(self._take)
        try:
            loop = asyncio.get_running_loop()
            due = loop.time()
            while True:
                snapshot = self._mirror.snapshot
                self._beat(snapshot)
                if snapshot is not None and snapshot.cluster is not None:
                    self.timings_generation = snapshot.cluster.value.timings_generation
                interval_s = (snapshot or Snapshot()).timings.heartbeat_interval_ms / 1000
                due = max(due + interval_s, loop.time())
                await asyncio.sleep(due - loop.time())
        finally:
            await self._transport.close()

    def _beat(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None and snapshot is not self._seen:
            self._seen = snapshot
            self._refused = tuple(verdict.value.incarnation for verdict in snapshot.verdicts.values())
            self._follow_addresses({name: node.value for name, node in snapshot.nodes.items()})
        now_ms = self._clock.monotonic_ms()
        message = self._compose(snapshot, now_ms)
        self._hearing.sent(message.sequence, now_ms)
        datagrams = [(network, self._codec.encode(message, network)) for network in self._routes]
        for network, datagram in datagrams:  # one after the other, so that a peer wakes once for all its networks
            self._transport.send(network, self._routes[network], datagram)

    def _follow_addresses(self, nodes: Mapping[NodeName, NodeSpec]) -> None:
        """Send where the peers are now, and from where this node is; the networks that stay have no pause."""
        self._routes = routes(nodes, self._me)
        own = endpoints(nodes, self._me)
        if own and own != self._own:
            log.info("networks of this node: %s", ", ".join(f"{network} {end}" for network, end in own.items()))
            self._codec.use_networks({*own, *self._own})
            self._transport.use(own)
            self._codec.use_networks(own)
            self._links = {network: state for network, state in self._links.items() if network in own}
            self._own = own
        networks = {name: frozenset(node.addresses) for name, node in nodes.items() if name != self._me}
        self._hearing.follow(tuple(self._own), networks, self._clock.monotonic_ms())
        self._hearing.deaf = frozenset(name for name, state in self._links.items() if state is not LinkState.UP)

    def _compose(self, snapshot: Snapshot | None, now_ms: int) -> Heartbeat:
        refused = self._refused
        return Heartbeat(
            cluster_id=self._cluster_id,
            node=self._me,
            incarnation=self.incarnation,
            sequence=self._sequences.next(),
            sent_at_ms=now_ms,
            wall_clock_ms=self._clock.wall_ms(),
            heard=self._hearing.heard(now_ms, refused) if self._may_acknowledge(snapshot) else (),
            refused=refused,
            quorate=self._is_sure(snapshot, now_ms),
            stopping=self.stopping,
            generation=self._generation,
        )

    def _may_acknowledge(self, snapshot: Snapshot | None) -> bool:
        """Whether the mirror shows at least what was committed when this daemon registered: every refusal before it."""
        registered = self.registered_at
        return snapshot is not None and registered is not None and snapshot.revision >= registered

    def _is_sure(self, snapshot: Snapshot | None, now_ms: int) -> bool:
        """Whether this node has a session and has listened long enough for its silence about others to count."""
        if snapshot is None or snapshot.session_of(self._me, self.incarnation) is None:
            self._sure_since_ms = None
            return False
        if self._sure_since_ms is None:
            self._sure_since_ms = now_ms + snapshot.timings.suspect_after_ms
        return now_ms >= self._sure_since_ms

    def _take(self, event: TransportEvent) -> None:
        if isinstance(event, DatagramReceived):
            self._hear(event)
        elif isinstance(event, LinkChanged):
            self._links[event.network] = event.state
            self._hearing.deaf = frozenset(name for name, state in self._links.items() if state is not LinkState.UP)
            log.info("network %s is %s (interface %s)", event.network, event.state, event.interface)
        elif isinstance(event, PeerUnreachable) and event.answer is Unreachable.PORT:
            self._note_answer(event)

    def _note_answer(self, event: PeerUnreachable) -> None:
        """Nobody listens there: whose machine says so, if it says it itself."""
        if event.reported_by == event.peer.address and (snapshot := self._mirror.snapshot) is not None:
            for name, node in snapshot.nodes.items():
                if node.value.addresses.get(event.network) == event.peer.address:
                    self._hearing.answered(name, self._clock.monotonic_ms())

    def _hear(self, event: DatagramReceived) -> None:
        now_ms = self._clock.monotonic_ms()
        message = self._codec.decode(event.datagram, event.network)
        if isinstance(message, Reject):
            tally = self._rejects.note(
                network=event.network, source=event.source.address, reject=message, now_ms=now_ms
            )
            if tally is not None:
                log.warning("heartbeat refused from %s on %s: %s", tally.source, tally.network, tally.text)
            return
        if message.generation != self._generation:
            self._note_generation(message, now_ms)
            return
        if message.node == self._me:
            if message.incarnation != self.incarnation:
                self._namesake = (event.source.address, now_ms)
            return
        if self._replay.accept(message.incarnation, event.network, message.sequence):
            is_first_copy = self._hearing.received(message, event.network, now_ms)
            if is_first_copy:
                self._clocks_off[message.node] = message.wall_clock_ms - self._clock.wall_ms()

    def _note_generation(self, message: Heartbeat, now_ms: int) -> None:
        """Neither count nor acknowledge it: what it acknowledges, and by whom, is not of this cluster."""
        if message.generation > self._generation:
            log.error("%s speaks for a later generation of this cluster: it was restored there", message.node)
            self.superseded.set()
        else:
            self._behind[message.node] = now_ms

    def conditions(self) -> tuple[Condition, ...]:
        """Standing warnings about what is heard: links down, foreign heartbeats, clocks that are off."""
        now_ms = self._clock.monotonic_ms()
        found = [
            Condition(code=f"network-{state}", subject=network, text=f"{self._me}: its own end of {network}: {state}")
            for network, state in sorted(self._links.items())
            if state is not LinkState.UP
        ]
        found += [
            Condition(
                code=f"heartbeat-{tally.reason}",
                subject=tally.source,
                text=f"{self._me}: heartbeats from {tally.source} on {tally.network} are refused: {tally.text}",
            )
            for tally in self._rejects.standing(since_ms=now_ms - SHOWN_MS)
        ]
        found += [
            Condition(
                code="clock-off",
                subject=node,
                text=f"the clock of {node} is {off_ms / 1000:+.0f} s off against {self._me}; check its time service",
            )
            for node, off_ms in sorted(self._clocks_off.items())
            if abs(off_ms) > CLOCK_OFF_MS
        ]
        found += [
            Condition(
                code="node-left-behind",
                subject=node,
                text=f"{node} still runs as a node of before the restore; it ends by itself: then join it anew",
            )
            for node, at_ms in sorted(self._behind.items())
            if now_ms - at_ms < SHOWN_MS
        ]
        if self._namesake is not None and now_ms - self._namesake[1] < SHOWN_MS:
            text = f"another machine at {self._namesake[0]} says that it is {self._me}: a cloned disk? switch one off"
            found.append(Condition(code="node-name-twice", subject=self._me, text=text))
        return tuple(found)


def endpoints(nodes: Mapping[NodeName, NodeSpec], me: NodeName) -> dict[NetworkName, Endpoint]:
    """Where `me` listens, per network."""
    if me not in nodes:
        return {}
    port = nodes[me].heartbeat_port
    return {network: Endpoint(address=ip, port=port) for network, ip in nodes[me].addresses.items()}


def routes(nodes: Mapping[NodeName, NodeSpec], me: NodeName) -> dict[NetworkName, tuple[Endpoint, ...]]:
    """Where the peers listen on each network of `me`."""
    return {
        network: tuple(
            Endpoint(address=node.addresses[network], port=node.heartbeat_port)
            for name, node in nodes.items()
            if name != me and network in node.addresses
        )
        for network in (nodes[me].addresses if me in nodes else ())
    }
