"""What the cluster database went through: every commit, who made it, and the records as they stood after each.

Rule of the file: bookkeeping only. It is the database's own history, which no code under test can colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.model.ids import Incarnation, NodeName, RoleName
from holdfast.model.nodes import NodeSpec, Proof, Session, Verdict
from holdfast.model.roles import Ownership
from holdfast.model.settings import Settings
from holdfast.model.snapshot import ClusterRecord, Coordinator
from holdfast.store.port import Change, Deleted
from holdfast.store.records import (
    CLUSTER,
    COORDINATOR,
    NODES,
    OWNERSHIPS,
    PROOFS,
    SESSIONS,
    VERDICTS,
    decode,
)

K = TypeVar("K")
T = TypeVar("T")
Hearings = Mapping[tuple[str, str], tuple[float, float]]
"""By listener and incarnation: since when without a longer gap, and when last it was heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who asked for a commit and when. `name` empty: a person, or a lease that ended.

    hearings   who was heard by whom at that moment; only kept for a verdict.
    """

    name: str
    asked_at: float
    hearings: Hearings = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One revision. `was_led`: its author was together with a majority of voters, which had a leader."""

    revision: int
    at: float
    author: Author
    was_led: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """An ownership record and the revision that wrote it."""

    value: Ownership
    revision: int


@dataclass(slots=True)
class Records:
    """The records as they stand after the commits that were applied."""

    nodes: dict[NodeName, NodeSpec] = field(default_factory=dict)
    sessions: dict[NodeName, Session] = field(default_factory=dict)
    verdicts: dict[NodeName, Verdict] = field(default_factory=dict)
    lost: dict[Incarnation, Verdict] = field(default_factory=dict)
    """Every incarnation that was ever declared lost."""
    proofs: dict[Incarnation, Proof] = field(default_factory=dict)
    ownerships: dict[RoleName, Owned] = field(default_factory=dict)
    coordinator: Coordinator | None = None
    settings: Settings = field(default_factory=Settings)

    def voters(self) -> frozenset[NodeName]:
        """The nodes that vote."""
        return frozenset(name for name, node in self.nodes.items() if node.is_voter)

    def witnesses(self) -> frozenset[NodeName]:
        """The nodes that only vote and listen."""
        return frozenset(name for name, node in self.nodes.items() if node.is_witness)

    def apply(self, commit: Commit) -> None:
        """Let the records be as they are after a commit."""
        for change in commit.changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        kind, name = kind_and_name(change.key)
        value = None if isinstance(change, Deleted) else change.value
        match kind:
            case "nodes/":
                _put(self.nodes, NodeName(name), NodeSpec, NODES, value)
            case "sessions/":
                _put(self.sessions, NodeName(name), Session, SESSIONS, value)
            case "verdicts/":
                _put(self.verdicts, NodeName(name), Verdict, VERDICTS, value)
                if value is not None:
                    verdict = self.verdicts[NodeName(name)]
                    self.lost[verdict.incarnation] = verdict
            case "proofs/":
                _put(self.proofs, Incarnation(name), Proof, PROOFS, value)
            case "ownerships/":
                if isinstance(change, Deleted):
                    self.ownerships.pop(RoleName(name), None)
                else:
                    owned = decode(Ownership, OWNERSHIPS, change.value)
                    self.ownerships[RoleName(name)] = Owned(value=owned, revision=change.mod_revision)
            case "cluster" if value is not None:
                self.settings = decode(ClusterRecord, CLUSTER, value).settings
            case "coordinator":
                self.coordinator = None if value is None else decode(Coordinator, COORDINATOR, value)


def kind_and_name(key: str) -> tuple[str, str]:
    """Split a key into the kind of its record, with the slash if it has a name, and the name."""
    kind, slash, name = key.partition("/")[2].partition("/")
    return kind + slash, name


def _put(where: dict[K, T], name: K, kind: type[T], key: str, value: bytes | None) -> None:
    if value is None:
        where.pop(name, None)
    else:
        where[name] = decode(kind, key, value)
