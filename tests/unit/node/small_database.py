"""The in-memory database with records in it, and the snapshot that a node would see of it."""

from __future__ import annotations

from holdfast.model.ids import ClusterId, NodeName
from holdfast.model.nodes import NodeSpec, Session, Verdict
from holdfast.model.roles import Ownership, RoleSpec
from holdfast.model.snapshot import ClusterRecord, Coordinator, Snapshot
from holdfast.node.mirror import apply
from holdfast.node.transactions import Self
from holdfast.store.memory import MemoryDatabase
from holdfast.store.port import LeaseId, Put, Txn
from holdfast.store.records import (
    CLUSTER,
    COORDINATOR,
    ROOT,
    encode,
    node_key,
    ownership_key,
    session_key,
    spec_key,
    verdict_key,
)

LEASE_S = 3600


class SmallDatabase:
    """A MemoryDatabase that takes records. Needs a running event loop, as leases do."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.put(CLUSTER, ClusterRecord(id=ClusterId("id"), name="test", created_at_ms=0))

    def put(self, key: str, record: object, lease: LeaseId | None = None) -> int:
        """Write one record unconditionally; returns its revision."""
        return self.database.txn(Txn(then=(Put(key, encode(record), lease=lease),))).revision

    def node(self, spec: NodeSpec) -> None:
        """Write a node's spec."""
        self.put(node_key(spec.name), spec)

    def up(self, session: Session) -> Self:
        """Write a session as registration does; returns what its transactions prove themselves by."""
        lease = self.database.grant(LEASE_S)
        self.put(session_key(session.node), session, lease)
        written = self.database.get(session_key(session.node))
        assert written is not None
        return Self(node=session.node, created=written.create_revision, lease=lease)

    def elect(self, me: Self, incarnation: str) -> None:
        """Write a coordinator as the election does."""
        elected = f'{{"node":"{me.node}","incarnation":"{incarnation}"}}'.encode()
        self.database.txn(Txn(then=(Put(COORDINATOR, elected, lease=me.lease),)))

    def role(self, spec: RoleSpec, ownership: Ownership | None = None) -> None:
        """Write a role's spec, and its record."""
        self.put(spec_key(spec.name), spec)
        if ownership is not None:
            self.put(ownership_key(spec.name), ownership)

    def lose(self, verdict: Verdict) -> None:
        """Write a verdict as `convict` does."""
        self.put(verdict_key(verdict.node), verdict)
        self.end_session(verdict.node)

    def end_session(self, node: NodeName) -> None:
        """Remove a session, as the end of its lease does."""
        held = self.database.get(session_key(node))
        if held is not None:
            self.database.revoke(LeaseId(held.lease))

    def snapshot(self) -> Snapshot:
        """What a mirror shows that is current."""
        listing = self.database.listing(ROOT)
        return apply(Snapshot(), listing.items, listing.revision)

    def commit(self, txn: Txn) -> bool:
        """Try a transaction."""
        return self.database.txn(txn).succeeded

    def coordinator(self) -> Coordinator | None:
        """Who coordinates."""
        found = self.snapshot().coordinator
        return found.value if found is not None else None
