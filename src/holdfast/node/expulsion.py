"""Keeps lost nodes from writing to the shared disks, and commits what was proven by that.

Rule of the file: a disk counts once it was read back: the key gone, the disk protected, nothing of the lost one under
way. Refused and unknown are tried again. A coordinator that dies in between leaves nothing to clean up: the next one
expels again, which is harmless, and commits. Source: SAFE-2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from holdfast.decide.fencing import is_proven_dead
from holdfast.model.disks import DiskSpec, Protection
from holdfast.model.errors import Unavailable
from holdfast.model.events import EventCode
from holdfast.model.ids import DiskName, Incarnation, NodeName
from holdfast.model.nodes import Proof, ProofKind, Verdict
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Phase
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.mirror import Mirror
from holdfast.node.transactions import record_proof
from holdfast.storage.arbitration import Expelled, ExpelOutcome
from holdfast.store.port import Store

log = logging.getLogger(__name__)

TOGETHER_S: Final = 0.02
"""Disks that are done so shortly after each other are proven in one transaction; none waits for one that hangs."""

Expel = Callable[[DiskSpec, Incarnation], Coroutine[Any, Any, ExpelOutcome]]


class Expulsion:
    """Expels lost incarnations from the shared disks."""

    def __init__(
        self, *, me: NodeName, store: Store, mirror: Mirror, clock: Clock, events: EventLog, expel: Expel
    ) -> None:
        self._me = me
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._expel = expel

    async def run(self, verdict: Versioned[Verdict], snapshot: Snapshot) -> tuple[Reason, ...]:
        """Expel a lost incarnation from every disk that it is not proven to be kept off; return what is in the way."""
        incarnation = verdict.value.incarnation
        missing = unproven_disks(incarnation, snapshot)
        reasons: dict[DiskName, Reason] = {}
        async with asyncio.TaskGroup() as tasks:
            asked = {tasks.create_task(self._expel(disk.value, incarnation)): disk for disk in missing.values()}
            pending = set(asked)
            while pending:
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(TOGETHER_S if len(pending) > 1 else 0)
                done = [task for task in asked if task in pending and task.done()]
                pending -= set(done)
                outcomes = [(asked[task], task.result()) for task in done]
                for disk, outcome in outcomes:
                    if not isinstance(outcome, Expelled):
                        name = disk.value.name
                        node = verdict.value.node
                        reasons[name] = because(ReasonCode.NOT_EXPELLED, node, disk=name, detail=outcome.words)
                expelled = tuple(disk for disk, outcome in outcomes if isinstance(outcome, Expelled))
                if expelled:
                    await self._prove(verdict, expelled)
        return tuple(reasons[name] for name in sorted(reasons))

    async def _prove(self, verdict: Versioned[Verdict], expelled: tuple[Versioned[DiskSpec], ...]) -> None:
        """Commit what was proven, on top of what was proven before. A stronger proof stays."""
        node, incarnation = verdict.value.node, verdict.value.incarnation
        before = (self._mirror.snapshot or Snapshot()).proofs.get(incarnation)
        if before is not None and before.value.is_complete:
            return
        known = frozenset(before.value.disks if before is not None else ())
        disks = tuple(sorted(known | {disk.value.name for disk in expelled}))
        if len(disks) == len(known):
            return
        reason = because(ReasonCode.EXPELLED, node, disks=", ".join(disks))
        proof = Proof(
            node=node,
            incarnation=incarnation,
            kind=ProofKind.STORAGE_RESERVATION,
            at_ms=self._clock.wall_ms(),
            by=self._me,
            reasons=(reason,),
            disks=disks,
        )
        event = self._events.event(EventCode.NODE_FENCED, node, reason)
        txn = record_proof(proof, verdict=verdict, before=before, disks=expelled, events=self._events.operations(event))
        try:
            await self._store.txn(txn)
        except Unavailable as error:
            log.warning("proof by reservation for %s not committed yet: %s", node, error)


def unproven_disks(incarnation: Incarnation, snapshot: Snapshot) -> Mapping[DiskName, Versioned[DiskSpec]]:
    """The disks that the incarnation may write to, as far as nothing is proven of it there.

    One that only the owner of its role is registered with is asked for the roles that this incarnation has begun: all
    others it cannot write to, for that takes a claim, and after a verdict none succeeds. Source: SAFE-3.
    """
    if is_proven_dead(incarnation, snapshot):
        return {}
    proof = snapshot.proofs.get(incarnation)
    kept_off = proof.value.disks if proof is not None else ()
    begun = _disks_of_begun(incarnation, snapshot)
    return {
        name: disk
        for name, disk in sorted(snapshot.disks.items())
        if name not in kept_off and (disk.value.protection is Protection.NODE or name in begun)
    }


def _disks_of_begun(incarnation: Incarnation, snapshot: Snapshot) -> frozenset[DiskName]:
    return frozenset(
        disk
        for role, ownership in snapshot.ownerships.items()
        if ownership.value.incarnation == incarnation and ownership.value.phase is not Phase.ASSIGNED
        if (spec := snapshot.specs.get(role)) is not None
        for disk in spec.value.disks
    )
