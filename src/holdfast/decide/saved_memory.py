"""The files of saved memory: what they are called, and which of them nothing will ever start from.

Rule of the file: pure. A name is made for one attempt and never again, and a file of that name comes to be only after a
record has it. So a file that was there before the records were read, and that none of them names, is named by none ever
again. Source: SAFE-7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from holdfast.decide.steps import Attempt
from holdfast.model.ids import Incarnation, NodeName, RoleName
from holdfast.model.roles import Ownership, RoleSpec
from holdfast.model.snapshot import ClusterRecord, Snapshot

_ENDING: Final = "state"


def attempt_of(incarnation: Incarnation, revision: int, snapshot: Snapshot) -> Attempt:
    """What memory would be called that this incarnation makes by changing a role's record of this revision."""
    return Attempt(
        id=f"{incarnation[:8]}-{revision:x}",
        directory=snapshot.settings.saved_state_directory.rstrip("/"),
        mark=mark_of(snapshot.cluster.value) if snapshot.cluster is not None else "",
    )


def mark_of(cluster: ClusterRecord) -> str:
    """What tells files of this cluster, in this generation, from those of any other."""
    return f"{cluster.id}.{cluster.generation}"


def path_of(role: RoleName, attempt: Attempt) -> str:
    """Where the memory of a role is saved."""
    return f"{attempt.directory}/{role}.{attempt.mark}.{attempt.id}.{_ENDING}"


def probe_of(node: NodeName, cluster: ClusterRecord) -> str:
    """The name of the file by which a node tries whether memory can be saved: one for each, so that none is left."""
    return f".{node}.{mark_of(cluster)}.probe"


def left_over(names: Iterable[str], cluster: ClusterRecord, ownerships: Iterable[Ownership]) -> tuple[str, ...]:
    """Return the files that no record will ever name any more. What may be another's is none of them.

    names        of the files, listed before
    ownerships   were read, all of them, from the database itself.
    """
    named = {
        memory.id for ownership in ownerships for memory in (ownership.memory, ownership.making) if memory is not None
    }
    found = ((name, _memory_id(name, mark_of(cluster))) for name in names)
    return tuple(name for name, memory_id in found if memory_id and memory_id not in named)


def _memory_id(name: str, mark: str) -> str:
    """The id of the memory in a file of ours; empty: it is none."""
    stem, _, ending = name.rpartition(".")
    owner, _, memory_id = stem.rpartition(".")
    return memory_id if ending == _ENDING and owner.endswith(f".{mark}") else ""


def largest_guest(snapshot: Snapshot, node: NodeName) -> RoleSpec | None:
    """The role of this node whose memory would need the most room; None: it owns none."""
    owned = (role for role, ownership in snapshot.ownerships.items() if ownership.value.owner == node)
    specs = [snapshot.specs[role].value for role in sorted(owned) if role in snapshot.specs]
    return max(specs, key=lambda spec: spec.memory_bytes, default=None)
