"""The cluster database of the simulated world: who may reach it, and how the way there fails.

Rule of the file: one linearizable database, as etcd is; a node reaches it while the node is together with a majority of
voters and these have a leader. Every fault here is one that a client of etcd can see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

from holdfast.model.errors import HoldfastError
from holdfast.model.events import Event
from holdfast.sim.history import Author, Commit
from holdfast.sim.loop import outside
from holdfast.sim.truth import Truth
from holdfast.store.errors import StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.memory import MemoryDatabase, MemoryStore
from holdfast.store.port import Change, Deleted, LeaseId, Listing, Put, Txn, TxnResult, WatchBatch
from holdfast.store.records import EVENTS, REPORTS, VERDICTS, decode

REQUEST_TIMEOUT_S: Final = 3.0
USUAL_DELAY_S: Final = 0.001
NOBODY: Final = Author(name="", asked_at=0.0)
UNJUDGED: Final = (EVENTS, REPORTS)


class WorldDatabase(MemoryDatabase):
    """The database itself. Leases run only while there is a leader; a new leader begins them anew.

    on_event       gets every cluster event that is committed.
    is_with_majority   tells of a node whether it is together with a majority of voters and their leader now.
    committed      is called whenever something is.
    """

    def __init__(self, truth: Truth, on_event: Callable[[Event], None]) -> None:
        super().__init__()
        self.has_leader = True
        self.refused = 0
        """Transactions whose comparison failed: somebody else was faster, or had nothing new to say."""
        self.history: list[Commit] = []
        """Everything committed but events and reports: what the checkers judge."""
        self.is_with_majority: Callable[[str], bool] = lambda _: True
        self.committed: Callable[[], None] = lambda: None
        self._truth = truth
        self._on_event = on_event
        self._author = NOBODY

    def submit(self, txn: Txn, author: Author) -> TxnResult:
        """Decide and write in somebody's name. Raises: LeaseNotFound."""
        self._author = author
        try:
            result = self.txn(txn)
        finally:
            self._author = NOBODY
        self.refused += not result.succeeded
        return result

    def begin_leases_anew(self) -> None:
        """What a new leader does first."""
        for lease in tuple(self._leases):
            self.keep_alive(lease)

    def _expiry(self, lease: LeaseId, ttl_s: int) -> asyncio.TimerHandle:
        return outside(asyncio.get_running_loop().call_later, ttl_s, self._run_out, lease, ttl_s)

    def _run_out(self, lease: LeaseId, ttl_s: int) -> None:
        if self.has_leader:
            self.revoke(lease)
        elif lease in self._leases:
            self._leases[lease].expiry = self._expiry(lease, ttl_s)

    def _commit(self, changes: list[Change]) -> None:
        super()._commit(changes)
        if changes:
            self.committed()
        kept = tuple(change for change in changes if not change.key.startswith(UNJUDGED))
        if kept:
            self._write_down(kept)
        for change in changes:
            if change.key.startswith(EVENTS) and not isinstance(change, Deleted):
                self._on_event(decode(Event, change.key, change.value))

    def _write_down(self, changes: tuple[Change, ...]) -> None:
        author = self._author
        self.history.append(
            Commit(
                revision=self.revision,
                at=self._truth.now(),
                author=author,
                was_led=self.has_leader and (not author.name or self.is_with_majority(author.name)),
                changes=changes,
            )
        )


class NodeStore(MemoryStore):
    """One node's client.

    late_writes   so many of the next writes end unknown and are applied `late_s` later.
    silence_s     how long a call that cannot get through waits before it fails; a shorter time-out of its own wins.
    watch_delay_s  how late changes become known here.
    """

    def __init__(self, node: str, database: WorldDatabase, truth: Truth) -> None:
        super().__init__(database)
        self._node = node
        self._world_database = database
        self._truth = truth
        self.late_writes = 0
        self.late_s = 0.0
        self.silence_s = 0.0
        self.watch_delay_s = 0.0
        self.faults.delay_s = USUAL_DELAY_S

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong with the way to the database."""
        faults = self.faults
        is_slow = faults.delay_s > USUAL_DELAY_S or self.watch_delay_s > 0
        return not (faults.is_cut or faults.lost_requests or faults.lost_replies or self.late_writes or is_slow)

    async def list(self, prefix: str, *, timeout_s: float | None = None) -> Listing:
        """See `Store`."""
        await self._wait_in_vain(timeout_s)
        return await super().list(prefix, timeout_s=timeout_s)

    async def txn(self, txn: Txn, *, timeout_s: float | None = None) -> TxnResult:
        """See `Store`."""
        author = self._author_of(txn)
        await self._wait_in_vain(timeout_s)
        if self.late_writes > 0 and not self.faults.is_cut:
            self.late_writes -= 1
            outside(asyncio.get_running_loop().call_later, self.late_s, self._apply_late, txn, author)
            await asyncio.sleep(min(self.late_s, REQUEST_TIMEOUT_S if timeout_s is None else timeout_s))
            raise StoreOutcomeUnknown("no answer came in time")
        await self._way_there(timeout_s)
        if self.faults.lost_requests > 0:
            self.faults.lost_requests -= 1
            raise StoreOutcomeUnknown("the request was lost")
        result = self._world_database.submit(txn, author)
        if self.faults.lost_replies > 0:
            self.faults.lost_replies -= 1
            raise StoreOutcomeUnknown("the reply was lost")
        await self._way_back()
        if self.faults.is_cut:
            raise StoreOutcomeUnknown("the connection broke before the answer came")
        return result

    async def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """See `Store`."""
        async for batch in super().watch(prefix, from_revision=from_revision):
            if self.watch_delay_s > 0:
                await asyncio.sleep(self.watch_delay_s)
            yield batch

    async def _wait_in_vain(self, timeout_s: float | None) -> None:
        if self.faults.is_cut and self.silence_s > 0:
            await asyncio.sleep(min(self.silence_s, REQUEST_TIMEOUT_S if timeout_s is None else timeout_s))
            raise StoreUnavailable("the cluster database cannot be reached")

    def _author_of(self, txn: Txn) -> Author:
        """Who asks, and for a verdict also who was heard by whom at that moment."""
        is_verdict = any(isinstance(operation, Put) and operation.key.startswith(VERDICTS) for operation in txn.then)
        hearings = self._truth.hearings if is_verdict else {}
        return Author(
            name=self._node,
            asked_at=self._truth.now(),
            hearings={pair: (heard.since, heard.last) for pair, heard in hearings.items()},
        )

    def _apply_late(self, txn: Txn, author: Author) -> None:
        """It arrives after all, unless there is no leader that could take it."""
        if self.faults.is_cut:
            return
        try:
            self._world_database.submit(txn, author)
        except HoldfastError:
            return
