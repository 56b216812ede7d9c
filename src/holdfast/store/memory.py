"""The cluster database in memory: same promises as etcd, no disk, no network, and faults on demand.

Rule of the file: everything is decided in one step of the event loop, and time is the loop's, so a run on a
virtual-time loop is exact and repeatable. All nodes share one ``MemoryDatabase``, each by its own ``MemoryStore``.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from itertools import islice
from typing import assert_never

from holdfast.store.errors import Compacted, LeaseNotFound, StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.port import (
    Change,
    Compare,
    CreateRevision,
    Delete,
    Deleted,
    DeletePrefix,
    KeyValue,
    LeaseId,
    Listing,
    ModRevision,
    NoneNewer,
    Operation,
    Put,
    Txn,
    TxnResult,
    Value,
    WatchBatch,
)

_PROGRESS_INTERVAL_S = 30.0  # as the supervisor configures etcd


@dataclass(slots=True)
class _Lease:
    ttl_s: int
    expiry: asyncio.TimerHandle


class MemoryDatabase:
    """The keys, their history, and the leases."""

    def __init__(self) -> None:
        self.revision = 1
        self._live: dict[str, KeyValue] = {}
        self._history: list[WatchBatch] = []
        self._oldest = 1
        self._leases: dict[LeaseId, _Lease] = {}
        self._next_lease = 1
        self._changed = asyncio.Event()

    def get(self, key: str) -> KeyValue | None:
        """Return the key, or None."""
        return self._live.get(key)

    def listing(self, prefix: str) -> Listing:
        """Return every key that starts with ``prefix``."""
        items = tuple(self._live[key] for key in sorted(self._live) if key.startswith(prefix))
        return Listing(revision=self.revision, items=items)

    def txn(self, txn: Txn) -> TxnResult:
        """Decide and write. Raises: LeaseNotFound."""
        if not all(self._holds(compare) for compare in txn.compares):
            read = tuple(self._live[key] for key in txn.otherwise_read if key in self._live)
            return TxnResult(succeeded=False, revision=self.revision, read=read)
        for operation in txn.then:
            if isinstance(operation, Put) and operation.lease is not None and operation.lease not in self._leases:
                raise LeaseNotFound(f"lease {operation.lease:x} has ended", hint="grant a new lease")
        self._commit([change for operation in txn.then for change in self._changes(operation)])
        return TxnResult(succeeded=True, revision=self.revision)

    def next_change(self, prefix: str, from_revision: int) -> WatchBatch | None:
        """Return the first revision since ``from_revision`` that changed a key below ``prefix``. Raises: Compacted."""
        if from_revision < self._oldest:
            raise Compacted(self._oldest)
        first = bisect_left(self._history, from_revision, key=lambda batch: batch.revision)
        for batch in islice(self._history, first, None):
            if changes := tuple(change for change in batch.changes if change.key.startswith(prefix)):
                return WatchBatch(revision=batch.revision, changes=changes)
        return None

    def compact(self, revision: int) -> None:
        """Forget the history before ``revision``."""
        self._oldest = max(self._oldest, revision)
        self._history = [batch for batch in self._history if batch.revision >= self._oldest]
        self.wake()

    def grant(self, ttl_s: int) -> LeaseId:
        """Create a lease."""
        lease = LeaseId(self._next_lease)
        self._next_lease += 1
        self._leases[lease] = _Lease(ttl_s, self._expiry(lease, ttl_s))
        return lease

    def keep_alive(self, lease: LeaseId) -> float:
        """Start the lease's time again. Raises: LeaseNotFound."""
        held = self._leases.get(lease)
        if held is None:
            raise LeaseNotFound(f"lease {lease:x} has ended", hint="grant a new lease")
        held.expiry.cancel()
        held.expiry = self._expiry(lease, held.ttl_s)
        return float(held.ttl_s)

    def revoke(self, lease: LeaseId) -> None:
        """End the lease and remove its keys, at one revision."""
        held = self._leases.pop(lease, None)
        if held is not None:
            held.expiry.cancel()
            keys = sorted(key for key, kv in self._live.items() if kv.lease == lease)
            self._commit([self._deletion(key) for key in keys])

    async def changes_within(self, time_s: float) -> bool:
        """Wait for the next change, compaction or ``wake``; tell whether one came in time."""
        try:
            async with asyncio.timeout(time_s):
                return await self._changed.wait()
        except TimeoutError:
            return False

    def wake(self) -> None:
        """Let everyone that waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _expiry(self, lease: LeaseId, ttl_s: int) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(ttl_s, self.revoke, lease)

    def _holds(self, compare: Compare) -> bool:
        match compare:
            case ModRevision(key, equals=revision):
                kv = self._live.get(key)
                return revision == (kv.mod_revision if kv else 0)
            case CreateRevision(key, equals=revision):
                kv = self._live.get(key)
                return revision == (kv.create_revision if kv else 0)
            case Value(key, equals=value):
                kv = self._live.get(key)
                return kv is not None and kv.value == value
            case NoneNewer(prefix, than=revision):
                return all(kv.mod_revision <= revision for key, kv in self._live.items() if key.startswith(prefix))
            case _:
                assert_never(compare)

    def _changes(self, operation: Operation) -> list[Change]:
        match operation:
            case Put(key=key, value=value, lease=lease):
                return [self._written(key, value, lease)]
            case Delete(key=key):
                return [self._deletion(key)] if key in self._live else []
            case DeletePrefix(prefix=prefix):
                return [self._deletion(key) for key in sorted(self._live) if key.startswith(prefix)]
            case _:
                assert_never(operation)

    def _written(self, key: str, value: bytes, lease: LeaseId | None) -> KeyValue:
        before = self._live.get(key)
        return KeyValue(
            key=key,
            value=value,
            create_revision=before.create_revision if before else self.revision + 1,
            mod_revision=self.revision + 1,
            version=before.version + 1 if before else 1,
            lease=lease or 0,
        )

    def _deletion(self, key: str) -> Deleted:
        return Deleted(key=key, mod_revision=self.revision + 1)

    def _commit(self, changes: list[Change]) -> None:
        if not changes:
            return
        self.revision += 1
        for change in changes:
            if isinstance(change, Deleted):
                self._live.pop(change.key, None)
            else:
                self._live[change.key] = change
        self._history.append(WatchBatch(revision=self.revision, changes=tuple(changes)))
        self.wake()


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong on one node's way to the database; change it at any time.

    After a cut has healed, ``MemoryDatabase.wake`` lets the watches look again.

    - ``is_cut``: every call fails undone; watches stay silent.
    - ``lost_requests``, ``lost_replies``: so many of the next writes end unknown, not applied or applied.
    - ``delay_s``: each way of each call takes so long.
    """

    is_cut: bool = False
    lost_requests: int = 0
    lost_replies: int = 0
    delay_s: float = 0.0


@dataclass(slots=True)
class MemoryStore:
    """``port.Store`` in memory: one node's way to the shared database."""

    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    faults: Faults = field(default_factory=Faults)

    async def get(self, key: str, *, timeout_s: float | None = None) -> KeyValue | None:
        """Return the key, or None when it does not exist."""
        await self._way_there(timeout_s)
        found = self.database.get(key)
        await self._way_back()
        return found

    async def list(self, prefix: str, *, timeout_s: float | None = None) -> Listing:
        """Return every key that starts with ``prefix``."""
        await self._way_there(timeout_s)
        listing = self.database.listing(prefix)
        await self._way_back()
        return listing

    async def txn(self, txn: Txn, *, timeout_s: float | None = None) -> TxnResult:
        """Decide and write at one revision."""
        await self._way_there(timeout_s)
        if self.faults.lost_requests > 0:
            self.faults.lost_requests -= 1
            raise StoreOutcomeUnknown("the request was lost")
        result = self.database.txn(txn)
        if self.faults.lost_replies > 0:
            self.faults.lost_replies -= 1
            raise StoreOutcomeUnknown("the reply was lost")
        await self._way_back()
        return result

    async def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """Yield the changes of ``from_revision`` and later, in order."""
        next_revision = from_revision
        while True:
            batch = await self._next_batch(prefix, next_revision)
            next_revision = batch.revision + 1
            yield batch

    async def grant(self, ttl_s: int, *, timeout_s: float | None = None) -> LeaseId:
        """Create a lease."""
        await self._way_there(timeout_s)
        lease = self.database.grant(ttl_s)
        await self._way_back()
        return lease

    async def keep_alive(self, lease: LeaseId, *, timeout_s: float | None = None) -> float:
        """Start the lease's time again and return it in seconds."""
        await self._way_there(timeout_s)
        remaining_s = self.database.keep_alive(lease)
        await self._way_back()
        return remaining_s

    async def revoke(self, lease: LeaseId, *, timeout_s: float | None = None) -> None:
        """End the lease and remove its keys."""
        await self._way_there(timeout_s)
        self.database.revoke(lease)
        await self._way_back()

    async def close(self) -> None:
        """Nothing to give up."""

    async def _way_there(self, timeout_s: float | None) -> None:
        delay_s = self.faults.delay_s if timeout_s is None else min(self.faults.delay_s, timeout_s)
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        if self.faults.is_cut or delay_s < self.faults.delay_s:
            raise StoreUnavailable("the cluster database cannot be reached")

    async def _way_back(self) -> None:
        if self.faults.delay_s > 0:
            await asyncio.sleep(self.faults.delay_s)

    async def _next_batch(self, prefix: str, from_revision: int) -> WatchBatch:
        """Wait for the next batch; after a quiet while, for a progress notice."""
        seen = from_revision - 1
        while True:
            if not self.faults.is_cut:
                batch = self.database.next_change(prefix, seen + 1)
                if batch is not None:
                    await self._way_back()
                    return batch
                seen = max(seen, self.database.revision)
            is_quiet = not await self.database.changes_within(_PROGRESS_INTERVAL_S)
            if is_quiet and not self.faults.is_cut and seen >= from_revision:
                return WatchBatch(revision=seen)
