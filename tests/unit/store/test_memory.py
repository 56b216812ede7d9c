"""What only the twin has: faults on demand, and following through a cut and a compaction."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from holdfast.store import memory
from holdfast.store.errors import StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.follow import follow
from holdfast.store.memory import Faults, MemoryDatabase, MemoryStore
from holdfast.store.port import Listing, Put, Txn, WatchBatch

WRITE = Txn(then=(Put("key", b"1"),))


async def test_a_cut_way_does_nothing() -> None:
    store = MemoryStore(faults=Faults(is_cut=True))
    for call in (store.get("key"), store.list(""), store.txn(WRITE), store.grant(1)):
        with pytest.raises(StoreUnavailable):
            await call
    assert store.database.revision == 1


async def test_a_lost_request_is_not_applied_and_a_lost_reply_is() -> None:
    store = MemoryStore(faults=Faults(lost_requests=1, lost_replies=1))
    with pytest.raises(StoreOutcomeUnknown):
        await store.txn(WRITE)
    assert store.database.get("key") is None
    with pytest.raises(StoreOutcomeUnknown):
        await store.txn(WRITE)
    assert store.database.get("key") is not None
    assert (await store.txn(WRITE)).revision == 3


async def test_a_slow_way_takes_its_time_or_runs_out_of_it() -> None:
    store = MemoryStore(faults=Faults(delay_s=0.02))
    time = asyncio.get_running_loop().time
    began = time()
    await store.txn(WRITE)
    assert time() - began >= 0.04
    with pytest.raises(StoreUnavailable):
        await store.get("key", timeout_s=0.01)


async def test_a_follower_lists_again_when_history_went_while_it_was_cut_off() -> None:
    database = MemoryDatabase()
    here, there = MemoryStore(database), MemoryStore(database)
    async with asyncio.timeout(5), aclosing(follow(here, "")) as items:
        assert await anext(items) == Listing(revision=1, items=())
        here.faults.is_cut = True
        waiting = asyncio.ensure_future(anext(items))
        for _ in range(3):
            await there.txn(WRITE)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        database.compact(3)
        here.faults.is_cut = False
        database.wake()
        item = await waiting
    assert isinstance(item, Listing)
    assert (item.revision, [kv.version for kv in item.items]) == (4, [3])


async def test_a_follower_waits_for_the_store_to_come_up() -> None:
    store = MemoryStore(faults=Faults(is_cut=True))
    async with asyncio.timeout(5), aclosing(follow(store, "")) as items:
        waiting = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.01)
        store.faults.is_cut = False
        assert isinstance(await waiting, Listing)


async def test_a_quiet_watch_is_told_how_far_it_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PROGRESS_INTERVAL_S", 0.02)
    store = MemoryStore()
    async with asyncio.timeout(5), aclosing(store.watch("mine/", from_revision=1)) as watch:
        assert await anext(watch) == WatchBatch(revision=1)
        await store.txn(WRITE)
        assert await anext(watch) == WatchBatch(revision=2)
