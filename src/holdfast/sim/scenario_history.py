"""Who owned what when, and who was fenced: read from the history of the cluster database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast.model.ids import Incarnation, RoleName
from holdfast.model.nodes import Proof
from holdfast.model.roles import Ownership
from holdfast.sim.history import Commit, kind_and_name
from holdfast.sim.scenario_result import FencePart, OwnerPart
from holdfast.store.port import Deleted
from holdfast.store.records import decode


@dataclass(slots=True)
class History:
    """Follows the commits of a run."""

    began_s: float
    owners: list[OwnerPart] = field(default_factory=list)
    fences: list[FencePart] = field(default_factory=list)
    _proofs: dict[Incarnation, str] = field(default_factory=dict)
    _open: dict[RoleName, tuple[Ownership, float]] = field(default_factory=dict)

    def read(self, commits: list[Commit]) -> None:
        """Take in a whole history."""
        for commit in commits:
            at_s = round(commit.at - self.began_s, 3)
            self._take_proofs(commit, at_s)
            for change in commit.changes:
                kind, name = kind_and_name(change.key)
                if kind == "ownerships/":
                    after = None if isinstance(change, Deleted) else decode(Ownership, change.key, change.value)
                    self._owned(RoleName(name), after, at_s)
        for role in tuple(self._open):
            self._close(role, None, None)
        self.owners.sort(key=lambda one: (one.role, one.since))

    def fenced(self, until_s: float) -> Iterator[FencePart]:
        """The nodes that others, or a person, proved down until then."""
        return (fence for fence in self.fences if 0 <= fence.at <= until_s and fence.proof != "restarted")

    def _take_proofs(self, commit: Commit, at_s: float) -> None:
        for change in commit.changes:
            kind, _ = kind_and_name(change.key)
            if kind == "proofs/" and not isinstance(change, Deleted):
                proof = decode(Proof, change.key, change.value)
                is_new = proof.incarnation not in self._proofs
                self._proofs[proof.incarnation] = proof.kind
                if is_new and at_s >= 0:
                    reasons = tuple(map(str, proof.reasons))
                    self.fences.append(
                        FencePart(node=proof.node, at=at_s, proof=proof.kind, by=proof.by, reasons=reasons)
                    )

    def _owned(self, role: RoleName, after: Ownership | None, at_s: float) -> None:
        if role in self._open:
            before, _ = self._open[role]
            if after is not None and (after.owner, after.epoch) == (before.owner, before.epoch):
                return
            proof = self._proofs.get(before.incarnation) if before.incarnation is not None else None
            self._close(role, at_s, "removed" if after is None else proof or "released")
        if after is not None and after.owner is not None:
            self._open[role] = (after, at_s)

    def _close(self, role: RoleName, at_s: float | None, ended_by: str | None) -> None:
        ownership, since_s = self._open.pop(role)
        self.owners.append(
            OwnerPart(
                role=role,
                node=ownership.owner or "",
                epoch=ownership.epoch,
                since=since_s,
                until=at_s,
                ended_by=ended_by,
                reasons=tuple(map(str, ownership.reasons)),
            )
        )
