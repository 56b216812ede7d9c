"""Who can use the cluster database: the nodes that are together with a majority of those that vote.

Rule of the file: it follows from which machines execute and reach each other, and from nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from holdfast.model.ids import NodeName

Reaches = Callable[[NodeName, NodeName], bool]
"""Whether two machines have a connection: a network that carries packets both ways."""


class Executing(Protocol):
    """A machine."""

    @property
    def executes(self) -> bool:
        """Whether its kernel runs processes."""


class Quorum(Protocol):
    """The votes, and what they allow now."""

    @property
    def leader(self) -> NodeName | None:
        """The node whose member leads."""

    def candidates(self) -> Sequence[NodeName]:
        """The nodes that could lead now, by name."""

    def elect(self, node: NodeName) -> None:
        """It leads from now on."""

    def depose(self) -> None:
        """Nobody leads any more."""

    def together(self) -> frozenset[NodeName]:
        """The nodes that can use the database now, the leader among them unless it cannot lead any more.

        While nobody leads: whom any of the candidates would have.
        """


class FixedVoters:
    """The same nodes vote for ever, and whoever is in one group of connections with a majority of them can decide."""

    def __init__(self, voters: frozenset[NodeName], machines: Mapping[NodeName, Executing], reaches: Reaches) -> None:
        self.leader: NodeName | None = None
        self._voters = voters
        self._machines = machines
        self._reaches = reaches

    def candidates(self) -> Sequence[NodeName]:
        """See `Quorum`."""
        return sorted(self.together() & self._voters)

    def elect(self, node: NodeName) -> None:
        """See `Quorum`."""
        self.leader = node

    def depose(self) -> None:
        """See `Quorum`."""
        self.leader = None

    def together(self) -> frozenset[NodeName]:
        """See `Quorum`."""
        left = [name for name, machine in self._machines.items() if machine.executes]
        while left:
            group = [left.pop(0)]
            for member in group:
                near = [name for name in left if self._reaches(member, name)]
                group += near
                left = [name for name in left if name not in near]
            if len(self._voters.intersection(group)) * 2 > len(self._voters):
                return frozenset(group)
        return frozenset()
