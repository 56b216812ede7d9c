"""What a restored database says: the records of a backup, made safe for a time that the backup does not know.

Rule of the file: pure. What may have changed since the backup is not taken over as if it were so: nobody owns a role,
no saved memory is used, nobody but this node votes, and of every other host it is open what it runs. Source: SAFE-1,
SAFE-2, SAFE-7, docs/safety.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from uuid import NAMESPACE_OID, uuid5

from holdfast.membership.identity import NodeIdentity
from holdfast.model.ids import Epoch, Incarnation, NodeName
from holdfast.model.nodes import NodeSpec, Proof, ProofKind, Verdict
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.roles import Ownership
from holdfast.model.snapshot import ClusterRecord, Freeze
from holdfast.store.backup import Backup
from holdfast.store.port import Put
from holdfast.store.records import (
    CERTIFICATES,
    CLUSTER,
    COORDINATOR,
    HEARTBEAT_KEYS,
    MEMBER_RESTART,
    NODES,
    ORDERS,
    OWNERSHIPS,
    PROOFS,
    REPORTS,
    REVOCATIONS,
    SESSIONS,
    TOKENS,
    VERDICTS,
    VOTE_ORDER,
    decode,
    encode,
    node_key,
    ownership_key,
    proof_key,
    verdict_key,
)

STEP: Final = 1_000_000
"""How far epochs and disk generations jump: farther than they can have come since any backup."""
LEFT_BEHIND: Final = (
    *(COORDINATOR, MEMBER_RESTART, ORDERS, PROOFS, REPORTS, SESSIONS, TOKENS, VERDICTS, VOTE_ORDER),
    *(CERTIFICATES, REVOCATIONS, HEARTBEAT_KEYS),
)
"""What was true only in the generation that the backup is of."""
REWRITTEN: Final = (CLUSTER, NODES, OWNERSHIPS)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What is restored, where, and what a person says to it.

    me      this node as it will be, with its new generation.
    own     its record.
    known   the other nodes as this machine last knew them: some may have joined after the backup.
    down    nodes of which the person says that they are down.
    """

    backup: Backup
    me: NodeIdentity
    own: NodeSpec
    known: Mapping[NodeName, NodeSpec]
    down: Collection[NodeName]
    person: str
    now_ms: int

    def records(self) -> tuple[Put, ...]:
        """Return every record of the restored database, that of the cluster last."""
        kept = (Put(key, value) for key, value in self.backup.items if not key.startswith((*LEFT_BEHIND, *REWRITTEN)))
        return (*kept, *self._nodes(), *self._ownerships(), *self._judged(), Put(CLUSTER, encode(self._cluster())))

    def others(self) -> dict[NodeName, NodeSpec]:
        """The other nodes, of the backup and of later, none with a vote."""
        backed_up = {spec.name: spec for spec in self._all(NODES, NodeSpec)}
        both = {**self.known, **backed_up}
        return {name: replace(both[name], is_voter=False, seat=None) for name in sorted(both) if name != self.me.node}

    def unaccounted(self) -> tuple[NodeName, ...]:
        """The hosts of which it stays open what they run."""
        return tuple(name for name, spec in self.others().items() if not spec.is_witness and name not in self.down)

    def _all(self, prefix: str, kind: type[T]) -> Iterator[T]:
        return (decode(kind, key, value) for key, value in self.backup.items if key.startswith(prefix))

    def _cluster(self) -> ClusterRecord:
        before = next(self._all(CLUSTER, ClusterRecord))
        frozen = Freeze(by=self.person, reason="the database was restored from a backup", at_ms=self.now_ms)
        return replace(before, generation=self.me.generation, frozen=frozen)

    def _nodes(self) -> Iterator[Put]:
        before = next((spec for spec in self._all(NODES, NodeSpec) if spec.name == self.me.node), self.own)
        own = replace(
            self.own,
            fence=before.fence,
            capacity=before.capacity,
            site=before.site,
            fault_domains=before.fault_domains,
        )
        yield Put(node_key(self.me.node), encode(own))
        for name, spec in self.others().items():
            yield Put(node_key(name), encode(spec))

    def _ownerships(self) -> Iterator[Put]:
        """Nobody's: whoever the backup names, it may run elsewhere since, so all roles wait for `unaccounted`."""
        for before in self._all(OWNERSHIPS, Ownership):
            after = Ownership(
                role=before.role,
                epoch=Epoch(before.epoch + STEP),
                last_owner=before.owner or before.last_owner,
                since_ms=self.now_ms,
                failovers=before.failovers,
                failed_on=before.failed_on,
                generation=before.generation,
                disk_generation=before.disk_generation + STEP,
            )
            yield Put(ownership_key(before.role), encode(after))

    def _judged(self) -> Iterator[Put]:
        """Of each other host it is open what it runs, unless a person says that it is down."""
        for name, spec in self.others().items():
            if spec.is_witness:
                continue
            verdict = self._verdict(name)
            yield Put(verdict_key(name), encode(verdict))
            if name in self.down:
                proof = Proof(
                    node=name,
                    incarnation=verdict.incarnation,
                    kind=ProofKind.PERSON,
                    at_ms=self.now_ms,
                    by=self.person,
                    reasons=(because(ReasonCode.CONFIRMED_BY_PERSON, name, person=self.person, detail="restore"),),
                )
                yield Put(proof_key(verdict.incarnation), encode(proof))

    def _verdict(self, name: NodeName) -> Verdict:
        """Without a watchdog's time: who acknowledged that node last is not known, so no waiting proves anything."""
        past = uuid5(NAMESPACE_OID, f"{self.backup.cluster_id} before {self.me.generation}: {name}")
        return Verdict(
            node=name,
            incarnation=Incarnation(str(past)),
            at_ms=self.now_ms,
            proposed_by=self.me.node,
            guard_deadline_ms=0,
            watchdog_timeout_ms=None,
            reasons=(because(ReasonCode.RESTORED, name),),
            before_generation=self.me.generation,
        )
