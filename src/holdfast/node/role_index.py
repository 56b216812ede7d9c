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
        self._by_uuid: dict[str, RoleName] = {}
        self._news: Counter[NodeName] = Counter()
        self._rebuilt = 0

    def owned_by(self, node: NodeName) -> tuple[RoleName, ...]:
        """The roles whose record names the node as owner, in any phase."""
        return tuple(self._owned.get(node, ()))

    def of_guest(self, uuid: str) -> RoleName | None:
        """The role whose guest has this uuid."""
        return self._by_uuid.get(uuid)

    def news_for(self, node: NodeName) -> tuple[int, int]:
        """A value that differs when a record of a role changed that the node owns, or owned before."""
        return self._rebuilt, self._news[node]

    def rebuild(self, snapshot: Snapshot) -> None:
        """Begin anew with a whole snapshot."""
        self._rebuilt += 1
        self._owned.clear()
        self._by_uuid.clear()
        self.update(Snapshot(), snapshot, (*snapshot.specs, *snapshot.ownerships))

    def update(self, before: Snapshot, after: Snapshot, roles: Iterable[RoleName]) -> None:
        """Follow a change that touched the records of `roles` only."""
        for role in roles:
            was, now = _owner(before, role), _owner(after, role)
            self._news.update({owner for owner in (was, now) if owner is not None})
            if was is not None and was != now:
                self._owned[was].pop(role, None)
            if now is not None:
                self._owned.setdefault(now, {})[role] = None
            if role in before.specs:
                self._by_uuid.pop(before.specs[role].value.uuid, None)
            if role in after.specs:
                self._by_uuid[after.specs[role].value.uuid] = role


def _owner(snapshot: Snapshot, role: RoleName) -> NodeName | None:
    ownership = snapshot.ownerships.get(role)
    return ownership.value.owner if ownership is not None else None
