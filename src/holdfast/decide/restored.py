"""What a restored cluster must know before it starts anything.

Rule of the file: a backup knows who owned a role once, not who runs it now; so after a restore no role gets an owner
before each node is known to run nothing of the time before. Source: SAFE-1, SAFE-2, docs/safety.md.
"""

from __future__ import annotations

from holdfast.model.ids import NodeName
from holdfast.model.snapshot import Snapshot


def unaccounted(snapshot: Snapshot) -> tuple[NodeName, ...]:
    """Return the nodes that may still run guests from before the last restore, in order of their names.

    A node is accounted for by a complete proof: it joined anew and registered clean, its power is off, or a person said
    so. A proof about disks is none here: which roles exist that the backup does not know, and where they write, nobody
    knows.
    """
    if snapshot.cluster is None or snapshot.cluster.value.generation == 1:
        return ()
    return tuple(
        name
        for name, verdict in sorted(snapshot.verdicts.items())
        if verdict.value.before_generation is not None and not _is_proven(snapshot, name)
    )


def _is_proven(snapshot: Snapshot, node: NodeName) -> bool:
    proof = snapshot.proofs.get(snapshot.verdicts[node].value.incarnation)
    return proof is not None and proof.value.is_complete
