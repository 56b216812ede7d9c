"""Which roles a node owns, and whose guest a uuid is, without looking at every role of the cluster.

Rule of the file: it says what the mirror's records say, no more; a change costs the same however many roles there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from holdfast.model.ids import NodeName, RoleName
from holdfast.model.snapshot import Snapshot


class RoleIndex:
    """Kept by the mirror with every snapshot that it takes over."""

    def __init__(self) -> None:
        self._owned: dict[NodeName, dict[RoleName, None]] = {}
        """Dictionaries for their order."""
        self._heading: dict[NodeName, dict[RoleName, None]] = {}
        self._by_uuid: dict[str, RoleName] = {}
        self._news: Counter[NodeName] = Counter()
        self._rebuilt = 0

    def owned_by(self, node: NodeName) -> tuple[RoleName, ...]:
        """The roles whose record names the node as owner, in any phase."""
        return tuple(self._owned.get(node, ()))

    def heading_to(self, node: NodeName) -> tuple[RoleName, ...]:
        """The roles of other nodes that are to move to this one."""
        return tuple(self._heading.get(node, ()))

    def of_guest(self, uuid: str) -> RoleName | None:
        """The role whose guest has this uuid."""
        return self._by_uuid.get(uuid)

    def news_for(self, node: NodeName) -> tuple[int, int]:
        """A value that differs when a record changed of a role that the node owns, is to own or receives, or did."""
        return self._rebuilt, self._news[node]

    def rebuild(self, snapshot: Snapshot) -> None:
        """Begin anew with a whole snapshot."""
        self._rebuilt += 1
        self._owned.clear()
        self._heading.clear()
        self._by_uuid.clear()
        self.update(Snapshot(), snapshot, (*snapshot.specs, *snapshot.ownerships))

    def update(self, before: Snapshot, after: Snapshot, roles: Iterable[RoleName]) -> None:
        """Follow a change that touched the records of `roles` only."""
        for role in roles:
            was, now = _owner(before, role), _owner(after, role)
            self._news.update({*_named(before, role), *_named(after, role)})
            there, here = _heads_to(before, role), _heads_to(after, role)
            if there is not None and there != here:
                self._heading[there].pop(role, None)
            if here is not None:
                self._heading.setdefault(here, {})[role] = None
            if was is not None and was != now:
                self._owned[was].pop(role, None)
            if now is not None:
                self._owned.setdefault(now, {})[role] = None
            if role in before.specs:
                self._by_uuid.pop(before.specs[role].value.uuid, None)
            if role in after.specs:
                self._by_uuid[after.specs[role].value.uuid] = role


def _named(snapshot: Snapshot, role: RoleName) -> tuple[NodeName, ...]:
    """Every node that the record of a role has to do with."""
    ownership = snapshot.ownerships.get(role)
    if ownership is None:
        return ()
    receiver = ownership.value.receiving
    found = (ownership.value.owner, ownership.value.target, receiver.node if receiver is not None else None)
    return tuple(node for node in found if node is not None)


def _heads_to(snapshot: Snapshot, role: RoleName) -> NodeName | None:
    ownership = snapshot.ownerships.get(role)
    return ownership.value.target if ownership is not None and ownership.value.is_leaving else None


def _owner(snapshot: Snapshot, role: RoleName) -> NodeName | None:
    ownership = snapshot.ownerships.get(role)
    return ownership.value.owner if ownership is not None else None
