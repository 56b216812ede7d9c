"""The cluster database of the simulated world: who may reach it, and how the way there fails.

Rule of the file: one linearizable database, as etcd is; a node reaches it while the node is together with a majority of
voters and these have a leader. Every fault here is one that a client of etcd can see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from holdfast.model.errors import HoldfastError
from holdfast.model.events import Event
from holdfast.sim.loop import outside
from holdfast.store.errors import StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.memory import MemoryDatabase, MemoryStore
from holdfast.store.port import Change, Deleted, LeaseId, Listing, Txn, TxnResult, WatchBatch
from holdfast.store.records import EVENTS, decode

REQUEST_TIMEOUT_S = 3.0


class WorldDatabase(MemoryDatabase):
    """The database itself. Leases run only while there is a leader; a new leader begins them anew.

    on_event   gets every cluster event that is committed.
    """

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        super().__init__()
        self.has_leader = True
        self._on_event = on_event

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
        for change in changes:
            if change.key.startswith(EVENTS) and not isinstance(change, Deleted):
                self._on_event(decode(Event, change.key, change.value))


class NodeStore(MemoryStore):
    """One node's client.

    late_writes   so many of the next writes end unknown and are applied `late_s` later.
    silence_s     how long a call that cannot get through waits before it fails; a shorter time-out of its own wins.
    watch_delay_s  how late changes become known here.
    """

    def __init__(self, database: WorldDatabase) -> None:
        super().__init__(database)
        self.late_writes = 0
        self.late_s = 0.0
        self.silence_s = 0.0
        self.watch_delay_s = 0.0
        self.faults.delay_s = 0.001

    async def list(self, prefix: str, *, timeout_s: float | None = None) -> Listing:
        """See `Store`."""
        await self._wait_in_vain(timeout_s)
        return await super().list(prefix, timeout_s=timeout_s)

    async def txn(self, txn: Txn, *, timeout_s: float | None = None) -> TxnResult:
        """See `Store`."""
        await self._wait_in_vain(timeout_s)
        if self.late_writes > 0 and not self.faults.is_cut:
            self.late_writes -= 1
            outside(asyncio.get_running_loop().call_later, self.late_s, self._apply_late, txn)
            await asyncio.sleep(min(self.late_s, REQUEST_TIMEOUT_S if timeout_s is None else timeout_s))
            raise StoreOutcomeUnknown("no answer came in time")
        result = await super().txn(txn, timeout_s=timeout_s)
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

    def _apply_late(self, txn: Txn) -> None:
        try:
            self.database.txn(txn)
        except HoldfastError:
            return
