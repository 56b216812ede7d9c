"""What must hold of shared disks, judged by what reached them and by the history of the database.

Rule of the file: the medium is the witness. A guest that still exists somewhere is no harm as long as the target
refuses what it writes, so nothing here asks where processes are. Source: SAFE-1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from holdfast.model.ids import DiskName
from holdfast.model.nodes import Proof, ProofKind
from holdfast.model.roles import Ownership, Phase
from holdfast.sim.history import Commit, Records
from holdfast.sim.shared_disks import SharedDisks
from holdfast.sim.truth import GuestRun, Truth
from holdfast.store.port import KeyValue
from holdfast.store.records import OWNERSHIPS, PROOFS, decode

T = TypeVar("T")
BEGUN: Final = (Phase.STARTING, Phase.ONLINE, Phase.STOPPING)


def shared_disks_agree(disks: SharedDisks, truth: Truth) -> Iterator[str]:
    """SAFE-1: once a run has written to a disk, nothing of an earlier run lands there."""
    newest: dict[tuple[DiskName, int], GuestRun] = {}
    told: set[tuple[int, DiskName]] = set()
    for landing in disks.landed:
        run, latest = landing.run, newest.setdefault((landing.disk, landing.block), landing.run)
        if run.number > latest.number:
            newest[landing.disk, landing.block] = run
        elif run.number < latest.number and (run.number, landing.disk) not in told:
            told.add((run.number, landing.disk))
            yield (
                f"SAFE-1: a write of {truth.name_of(run.uuid)} on {run.node} landed on {landing.disk} at "
                f"{landing.at:.3f} s, after {latest.node} had written, which started it at {latest.began:.3f} s"
            )


def proofs_by_reservation_hold(history: Sequence[Commit], disks: SharedDisks) -> Iterator[str]:
    """SAFE-2: nothing of an incarnation lands on a disk that it was proven to be kept off before."""
    proven: dict[tuple[str, DiskName], float] = {}
    for commit in history:
        for proof in _written(commit, PROOFS, Proof):
            for name in proof.disks:
                proven.setdefault((proof.incarnation, name), commit.at)
    for landing in disks.landed:
        since = proven.get((landing.run.incarnation, landing.disk))
        if since is not None and landing.at > since:
            yield (
                f"SAFE-2: {landing.run.node} was proven to be kept off {landing.disk} at {since:.3f} s, "
                f"yet a write of it landed at {landing.at:.3f} s"
            )
            return


def reservations_cover_what_they_free(history: Sequence[Commit], disks: SharedDisks) -> Iterator[str]:
    """SAFE-2: a role leaves an owner that is kept off some disks only if it writes to no others."""
    records = Records()
    writes_to = {role.name: frozenset(role.disks) for role in disks.roles.values()}
    for commit in history:
        for after in _written(commit, OWNERSHIPS, Ownership):
            owned = records.ownerships.get(after.role)
            if owned is None or owned.value.incarnation in (None, after.incarnation) or owned.value.phase not in BEGUN:
                continue
            proof = records.proofs.get(owned.value.incarnation)
            if proof is None or proof.kind is not ProofKind.STORAGE_RESERVATION:
                continue
            if after.role not in writes_to or not writes_to[after.role] <= frozenset(proof.disks):
                yield (
                    f"SAFE-2: {after.role} left {owned.value.owner} at {commit.at:.3f} s, "
                    f"which was kept off {', '.join(proof.disks)} only"
                )
        records.apply(commit)


def _written(commit: Commit, prefix: str, kind: type[T]) -> Iterator[T]:
    for change in commit.changes:
        if isinstance(change, KeyValue) and change.key.startswith(prefix):
            yield decode(kind, change.key, change.value)
