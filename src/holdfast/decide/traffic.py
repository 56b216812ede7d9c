"""How many moves are under way, per node and per network, and whether more may begin beside them.

Rule of the file: only a live move loads a network that the cluster knows: that on which its target takes memory in.
What a quick move saves goes to the storage, by a way that is the storage's own. Source: docs/maintenance.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from holdfast.decide.layout import places
from holdfast.model.ids import NetworkName, NodeName
from holdfast.model.roles import MoveMethod, Ownership
from holdfast.model.snapshot import Snapshot


class Traffic:
    """Counts moves. `has_limits` False: as many as there are may be under way."""

    def __init__(self, snapshot: Snapshot, *, has_limits: bool = True) -> None:
        self._snapshot = snapshot
        self._has_limits = has_limits
        self._nodes: Counter[NodeName] = Counter()
        self._networks: Counter[NetworkName | None] = Counter()

    def add(self, ownership: Ownership) -> None:
        """Count a role that is on the move."""
        self._nodes.update(places(ownership))
        if ownership.method is MoveMethod.LIVE:
            self._networks[self._network(ownership.target)] += 1

    def is_busy(self, node: NodeName | None, more: int) -> bool:
        """Whether a node has moves enough to take no more; a unit larger than the limit waits until it has none."""
        under_way = self._nodes[node] if node is not None else 0
        return self._exceeds(under_way, more, self._snapshot.settings.moves_per_node)

    def has_room(self, moves: Collection[Ownership]) -> bool:
        """Whether these may begin together, as far as their targets and the networks that they take are concerned."""
        targets = Counter(one.target for one in moves)
        networks = Counter(self._network(one.target) for one in moves if one.method is MoveMethod.LIVE)
        limit = self._snapshot.settings.moves_per_network
        return not any(self.is_busy(node, more) for node, more in targets.items()) and not any(
            self._exceeds(self._networks[network], more, limit) for network, more in networks.items()
        )

    def _exceeds(self, under_way: int, more: int, limit: int) -> bool:
        return self._has_limits and under_way > 0 and under_way + more > limit

    def _network(self, target: NodeName | None) -> NetworkName | None:
        """Where its target takes memory in; None: it does not say, and all of those count as one network."""
        report = self._snapshot.reports.get(target) if target is not None else None
        there = report.value.takes_memory if report is not None else None
        return there.network if there is not None else None
