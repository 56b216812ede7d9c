"""How the secret of the heartbeats is changed under way: accepted everywhere, then used, then the old one dropped.

Rule of the file: a step is taken only when every node that is up or may run a role says that it has done the one
before, durably; any other reads the database before it registers, and the keys with it. Source: docs/security.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from holdfast.decide.fencing import is_proven_dead
from holdfast.model.certificates import HeartbeatKeys
from holdfast.model.ids import NodeName
from holdfast.model.snapshot import Snapshot


def next_keys(snapshot: Snapshot) -> HeartbeatKeys | None:
    """Return the next step of a change, None when there is none or somebody is not as far yet."""
    if snapshot.heartbeat_keys is None or not is_changing(snapshot) or lagging(snapshot):
        return None
    keys = snapshot.heartbeat_keys.value
    new = keys.accepted[-1]
    return replace(keys, used=new.id) if keys.used != new.id else replace(keys, accepted=(new,))


def is_changing(snapshot: Snapshot) -> bool:
    """Whether a change is under way."""
    return snapshot.heartbeat_keys is not None and len(snapshot.heartbeat_keys.value.accepted) > 1


def lagging(snapshot: Snapshot) -> tuple[NodeName, ...]:
    """Return the nodes that have not done what the record says: those that are up, and those that may run roles.

    One that lost only its way to the database is not up, and lives by being heard; it cannot read the new secret.
    """
    if snapshot.heartbeat_keys is None:
        return ()
    keys = snapshot.heartbeat_keys.value
    wanted = {key.id for key in keys.accepted}
    heard = {*snapshot.sessions, *owners_at_large(snapshot)}
    return tuple(name for name in sorted(heard) if not _is_done(snapshot, name, keys.used, wanted))


def owners_at_large(snapshot: Snapshot) -> Iterator[NodeName]:
    """Those who own a role and are not proven dead."""
    for _, ownership in sorted(snapshot.ownerships.items()):
        owner, incarnation = ownership.value.owner, ownership.value.incarnation
        if owner is not None and incarnation is not None and not is_proven_dead(incarnation, snapshot):
            yield owner


def _is_done(snapshot: Snapshot, node: NodeName, used: str, wanted: set[str]) -> bool:
    """Whether this very start of the node reports to accept all that is wanted and to use what is used."""
    report, session = snapshot.reports.get(node), snapshot.sessions.get(node)
    if report is None or session is None or report.value.incarnation != session.value.incarnation:
        return False
    has = report.value.heartbeat_keys
    return has[:1] == (used,) and set(has) >= wanted
