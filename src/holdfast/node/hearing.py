"""What this node hears: the table of peers' heartbeats that judgement and entitlement are drawn from.

Rule of the file: pure bookkeeping in monotonic milliseconds; no sockets and no decisions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from holdfast.membership.heartbeat import Heard, Heartbeat
from holdfast.model.ids import Incarnation, NetworkName, NodeName

NEVER_MS: Final = 10**9
SENT_KEPT: Final = 100
FORGET_MS: Final = 60_000


@dataclass(slots=True)
class _Peer:
    """One incarnation of one peer, from when this node first looked for it."""

    since_ms: int
    received: dict[NetworkName, tuple[int, int]] = field(default_factory=dict)
    """Per network: sequence, and when it arrived."""
    last: Heartbeat | None = None
    last_at_ms: int = 0


class Hearing:
    """The heartbeats heard and sent by this node."""

    def __init__(self, me: NodeName, networks: tuple[NetworkName, ...]) -> None:
        self._me = me
        self._networks = networks
        self._peers: dict[tuple[NodeName, Incarnation], _Peer] = {}
        self._shared: Mapping[NodeName, frozenset[NetworkName]] = {}
        self._followed: object = None
        self._shared_since_ms: dict[tuple[NodeName, NetworkName], int] = {}
        self._sent_at_ms: dict[int, int] = {}
        self._answered_at_ms: dict[NodeName, int] = {}
        self.deaf: frozenset[NetworkName] = frozenset()
        """Networks on which this node's own end is down: their silence says nothing."""

    def follow(
        self, networks: tuple[NetworkName, ...], of_peers: Mapping[NodeName, frozenset[NetworkName]], now_ms: int
    ) -> None:
        """Hear on these networks from now on, and each peer only on those that it has, too.

        Where a network is new between two nodes silence counts from now; what was heard where one is gone is forgotten.
        """
        if (networks, of_peers) == self._followed:
            return
        self._followed = networks, of_peers
        before, self._networks = self._networks, networks
        shared = {peer: theirs.intersection(networks) for peer, theirs in of_peers.items()}
        for peer, common in shared.items():
            known = self._shared.get(peer, frozenset(before))
            for network in sorted(common - known):
                self._shared_since_ms[peer, network] = now_ms
        self._shared = shared
        for (name, _), heard in self._peers.items():
            common = shared.get(name, frozenset(networks))
            heard.received = {network: last for network, last in heard.received.items() if network in common}

    def expect(self, peers: Collection[tuple[NodeName, Incarnation]], now_ms: int) -> None:
        """Look for exactly these incarnations from now on; silence counts from the first call that names one."""
        for peer in peers:
            if peer not in self._peers:
                self._peers[peer] = _Peer(since_ms=now_ms)
        for gone in [known for known in self._peers if known not in peers] if len(self._peers) > len(peers) else ():
            if now_ms - self._peers[gone].last_at_ms > FORGET_MS:
                del self._peers[gone]

    def sent(self, sequence: int, now_ms: int) -> None:
        """Remember when a heartbeat was sent: what an acknowledgement of it is worth."""
        self._sent_at_ms[sequence] = now_ms
        while len(self._sent_at_ms) > SENT_KEPT:
            del self._sent_at_ms[next(iter(self._sent_at_ms))]

    def received(self, heartbeat: Heartbeat, network: NetworkName, now_ms: int) -> bool:
        """Take in a heartbeat that was authentic and new; returns whether it is the peer's newest on any network."""
        key = (heartbeat.node, heartbeat.incarnation)
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = _Peer(since_ms=now_ms)
        peer.received[network] = (heartbeat.sequence, now_ms)
        before = peer.last
        if before is None or heartbeat.sequence >= before.sequence:
            peer.last, peer.last_at_ms = heartbeat, now_ms
        return before is None or heartbeat.sequence > before.sequence

    def silent_ms(self, node: NodeName, incarnation: Incarnation, now_ms: int) -> dict[NetworkName, int]:
        """Time since the peer was heard, per network on which this node can hear at all.

        Where it was heard last of all counts too, also when this node's own end went down there since: patience with a
        peer begins when it was last heard, wherever that was.
        """
        peer = self._peers.get((node, incarnation))
        if peer is None:
            return {}
        common, received = self._shared.get(node), peer.received
        silent = {
            network: now_ms - (received[network][1] if network in received else self._since_ms(node, peer, network))
            for network in self._networks
            if common is None or network in common
        }
        if not self.deaf:
            return silent
        audible = {network: time_ms for network, time_ms in silent.items() if network not in self.deaf}
        latest_ms = min(audible.values(), default=0)
        return audible | {network: time_ms for network, time_ms in silent.items() if time_ms < latest_ms}

    def unheard_ms(self, node: NodeName, incarnation: Incarnation, now_ms: int) -> int:
        """Time since the peer was heard on any network, also on one that is gone, or since this node looked for it."""
        peer = self._peers.get((node, incarnation))
        return 0 if peer is None else now_ms - max(peer.since_ms, peer.last_at_ms)

    def _since_ms(self, node: NodeName, peer: _Peer, network: NetworkName) -> int:
        """When silence began to count on a network where the peer was not heard yet."""
        return max(peer.since_ms, self._shared_since_ms.get((node, network), peer.since_ms))

    def last(self, node: NodeName, incarnation: Incarnation) -> Heartbeat | None:
        """The newest heartbeat of a peer."""
        peer = self._peers.get((node, incarnation))
        return peer.last if peer is not None else None

    def answered(self, node: NodeName, now_ms: int) -> None:
        """The machine of a peer answered that nobody listens there."""
        self._answered_at_ms[node] = now_ms

    def answered_ms(self, node: NodeName, now_ms: int) -> int | None:
        """Time since a peer's machine answered that nobody listens there, or None."""
        at_ms = self._answered_at_ms.get(node)
        return None if at_ms is None else now_ms - at_ms

    def heard_within(self, fresh_ms: int, now_ms: int) -> frozenset[NodeName]:
        """The nodes of which some incarnation was heard within `fresh_ms`, on any network."""
        return frozenset(
            node
            for (node, _), peer in self._peers.items()
            if peer.last is not None and now_ms - peer.last_at_ms < fresh_ms
        )

    def reported_ms(
        self, about: tuple[NodeName, Incarnation], by: Mapping[NodeName, Incarnation], now_ms: int, fresh_ms: int
    ) -> dict[NodeName, int]:
        """Per third node that is itself heard within `fresh_ms`: how long ago it heard `about`.

        A node that is not sure of its own view yet counts only when it does hear `about`.
        """
        reported = {}
        for node, incarnation in by.items():
            peer = self._peers.get((node, incarnation))
            if (node, incarnation) == about or peer is None or peer.last is None:
                continue
            if now_ms - peer.last_at_ms >= fresh_ms:
                continue
            ages = [heard.age_ms for heard in peer.last.heard if (heard.node, heard.incarnation) == about]
            if ages or peer.last.quorate:
                reported[node] = min(ages, default=NEVER_MS) + now_ms - peer.last_at_ms
        return reported

    def acknowledged_at_ms(self, my_incarnation: Incarnation) -> dict[NodeName, int]:
        """Per peer: when this node sent the newest heartbeat that the peer says it heard."""
        acknowledged: dict[NodeName, int] = {}
        for (node, _), peer in self._peers.items():
            if peer.last is None or my_incarnation in peer.last.refused:
                continue
            for heard in peer.last.heard:
                sent_at_ms = self._sent_at_ms.get(heard.sequence)
                if (heard.node, heard.incarnation) == (self._me, my_incarnation) and sent_at_ms is not None:
                    acknowledged[node] = max(sent_at_ms, acknowledged.get(node, sent_at_ms))
        return acknowledged

    def refusing(self, incarnation: Incarnation) -> frozenset[NodeName]:
        """The peers whose newest heartbeat says that they no longer acknowledge `incarnation`."""
        return frozenset(
            node
            for (node, _), peer in self._peers.items()
            if peer.last is not None and incarnation in peer.last.refused
        )

    def hears_another(self, node: NodeName, than: Incarnation, now_ms: int, fresh_ms: int) -> bool:
        """Whether another incarnation of a node is heard now: the machine was started again."""
        return any(
            name == node and incarnation != than and peer.last is not None and now_ms - peer.last_at_ms < fresh_ms
            for (name, incarnation), peer in self._peers.items()
        )

    def heard(self, now_ms: int, without: Collection[Incarnation]) -> tuple[Heard, ...]:
        """What to acknowledge: every peer heard, but for refused incarnations."""
        return tuple(
            Heard(node, incarnation, network, sequence, age_ms=now_ms - at_ms)
            for (node, incarnation), peer in self._peers.items()
            if incarnation not in without
            for network, (sequence, at_ms) in peer.received.items()
        )
