"""The newest known records of roles: a node's own commits are ahead of its mirror for a moment."""

from __future__ import annotations

from holdfast.model.ids import RoleName
from holdfast.model.roles import Ownership
from holdfast.model.snapshot import Versioned
from holdfast.node.mirror import Mirror


class NewestRecords:
    """Who owns which role, as far as this node knows."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._committed: dict[RoleName, Versioned[Ownership]] = {}

    def of(self, role: RoleName) -> Versioned[Ownership] | None:
        """The newest known record of a role."""
        snapshot = self._mirror.snapshot
        mirrored = snapshot.ownerships.get(role) if snapshot is not None else None
        committed = self._committed.get(role)
        if committed is not None and snapshot is not None and snapshot.revision < committed.revision:
            return committed
        return mirrored

    def committed(self, record: Versioned[Ownership]) -> None:
        """This node committed a record just now."""
        self._committed[record.value.role] = record

    def refused(self, role: RoleName) -> None:
        """A commit came too late: the mirror knows better, or will."""
        self._committed.pop(role, None)
