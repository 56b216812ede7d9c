"""What every store promises, on the twin and on real etcd alike. Source: holdfast.store.port."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest
from tests.contract.store.conftest import World

from holdfast.model.errors import InvalidInput
from holdfast.store.errors import Compacted, LeaseNotFound
from holdfast.store.follow import follow
from holdfast.store.port import (
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
    Put,
    Store,
    Txn,
    Value,
    WatchBatch,
)


async def put(store: Store, key: str, value: bytes, lease: LeaseId | None = None) -> int:
    """Write one key and return the revision."""
    return (await store.txn(Txn(then=(Put(key, value, lease=lease),)))).revision


async def collect(store: Store, prefix: str, from_revision: int, until: int) -> list[WatchBatch]:
    """Return the batches with changes, up to the one of revision ``until``."""
    batches: list[WatchBatch] = []
    async with asyncio.timeout(20), aclosing(store.watch(prefix, from_revision=from_revision)) as watch:
        async for batch in watch:
            if batch.changes:
                batches.append(batch)
            if batch.revision >= until:
                break
    return batches


async def test_an_absent_key_is_none(world: World) -> None:
    assert await world.store().get(f"{world.space}absent") is None


async def test_a_key_counts_its_writes_until_it_is_deleted(world: World) -> None:
    store, key = world.store(), f"{world.space}key"
    created = await put(store, key, b"one")
    changed = await put(store, key, b"two")
    assert await store.get(key) == KeyValue(
        key=key, value=b"two", create_revision=created, mod_revision=changed, version=2, lease=0
    )
    await store.txn(Txn(then=(Delete(key),)))
    again = await put(store, key, b"three")
    assert await store.get(key) == KeyValue(
        key=key, value=b"three", create_revision=again, mod_revision=again, version=1, lease=0
    )


async def test_compares_decide(world: World) -> None:
    store, key, other = world.store(), f"{world.space}key", f"{world.space}other"
    created = await put(store, key, b"one")
    changed = await put(store, key, b"two")
    verdicts: dict[Compare, bool] = {
        ModRevision(key, equals=changed): True,
        ModRevision(key, equals=created): False,
        ModRevision(other, equals=0): True,
        ModRevision(key, equals=0): False,
        CreateRevision(key, equals=created): True,
        CreateRevision(key, equals=changed): False,
        CreateRevision(other, equals=0): True,
        Value(key, equals=b"two"): True,
        Value(key, equals=b"one"): False,
        Value(other, equals=b""): False,
        NoneNewer(world.space, than=changed): True,
        NoneNewer(world.space, than=created): False,
        NoneNewer(f"{key}/", than=0): True,
    }
    for compare, verdict in verdicts.items():
        assert (await store.txn(Txn(compares=(compare,)))).succeeded is verdict, compare
    both = Txn(compares=(ModRevision(key, equals=changed), ModRevision(other, equals=7)), then=(Put(other, b"x"),))
    assert not (await store.txn(both)).succeeded
    assert await store.get(other) is None


async def test_of_a_prefix_what_was_added_counts_and_what_was_removed_does_not(world: World) -> None:
    store, folder = world.store(), f"{world.space}folder/"
    seen = await put(store, f"{folder}old", b"one")
    await put(store, f"{world.space}folder0", b"beside it")
    await store.txn(Txn(then=(Delete(f"{folder}old"),)))
    none_newer = Txn(compares=(NoneNewer(folder, than=seen),))
    assert (await store.txn(none_newer)).succeeded
    await put(store, f"{folder}new", b"two")
    assert not (await store.txn(none_newer)).succeeded


async def test_a_success_writes_everything_at_one_revision(world: World) -> None:
    store, space = world.store(), world.space
    await put(store, f"{space}old/1", b"")
    await put(store, f"{space}old/2", b"")
    await put(store, f"{space}old0", b"")
    await put(store, f"{space}gone", b"")
    result = await store.txn(
        Txn(then=(Put(f"{space}a", b"1"), Put(f"{space}b", b"2"), Delete(f"{space}gone"), DeletePrefix(f"{space}old/")))
    )
    listing = await store.list(space)
    assert result.succeeded
    assert listing.revision >= result.revision
    assert [kv.key.removeprefix(space) for kv in listing.items] == ["a", "b", "old0"]
    assert {kv.mod_revision for kv in listing.items[:2]} == {result.revision}


async def test_a_failure_writes_nothing_and_reads_what_exists(world: World) -> None:
    store, key, other = world.store(), f"{world.space}key", f"{world.space}other"
    await put(store, key, b"mine")
    before = (await store.list("")).revision
    result = await store.txn(
        Txn(
            compares=(ModRevision(key, equals=0),),
            then=(Put(key, b"theirs"), Put(other, b"x")),
            otherwise_read=(other, key),
        )
    )
    assert (result.succeeded, result.revision) == (False, before)
    assert [(kv.key, kv.value) for kv in result.read] == [(key, b"mine")]


async def test_a_transaction_that_changes_nothing_makes_no_revision(world: World) -> None:
    store = world.store()
    before = (await store.list("")).revision
    result = await store.txn(Txn(then=(Delete(f"{world.space}absent"), DeletePrefix(f"{world.space}none/"))))
    assert (result.succeeded, result.revision) == (True, before)


async def test_a_key_cannot_be_touched_twice(world: World) -> None:
    with pytest.raises(InvalidInput):
        Txn(then=(Put(f"{world.space}key", b"1"), DeletePrefix(f"{world.space}k")))


async def test_one_of_many_wins(world: World) -> None:
    stores, key = [world.store() for _ in range(3)], f"{world.space}winner"
    results = await asyncio.gather(
        *(
            stores[number % 3].txn(
                Txn(compares=(ModRevision(key, equals=0),), then=(Put(key, b"%d" % number),), otherwise_read=(key,))
            )
            for number in range(60)
        )
    )
    found = await stores[0].get(key)
    assert found is not None
    assert [result.succeeded for result in results].count(True) == 1
    assert results[int(found.value)].succeeded
    assert {result.read for result in results if not result.succeeded} == {(found,)}


async def test_listing_is_ordered_and_exact(world: World) -> None:
    store, space = world.store(), world.space
    for name in ("b/ä", "b/1", "b", "b0", "a/1", "b/\U0001f600"):
        await put(store, f"{space}{name}", name.encode())
    keys = [kv.key.removeprefix(space) for kv in (await store.list(f"{space}b/")).items]
    assert keys == ["b/1", "b/ä", "b/\U0001f600"]


async def test_a_lease_ends_with_its_keys_at_one_revision(world: World) -> None:
    store, space = world.store(), world.space
    lease = await store.grant(1)
    await put(store, f"{space}kept", b"", lease)
    await put(store, f"{space}first", b"", lease)
    second = await put(store, f"{space}second", b"", lease)
    kept = await put(store, f"{space}kept", b"")  # a put without a lease takes the key off it
    batches = await collect(store, space, second + 1, kept + 1)
    assert [kv.key for kv in (await store.list(space)).items] == [f"{space}kept"]
    assert [type(change) for change in batches[-1].changes] == [Deleted, Deleted]
    with pytest.raises(LeaseNotFound):
        await store.keep_alive(lease)
    with pytest.raises(LeaseNotFound):
        await put(store, f"{space}late", b"", lease)


async def test_a_lease_lives_while_it_is_kept_alive_and_ends_when_revoked(world: World) -> None:
    store, key = world.store(), f"{world.space}key"
    lease = await store.grant(2)
    await put(store, key, b"", lease)
    for _ in range(3):
        await asyncio.sleep(0.8)
        assert await store.keep_alive(lease) == 2.0
    found = await store.get(key)
    assert found is not None
    assert found.lease == lease
    await store.revoke(lease)
    assert await store.get(key) is None
    await store.revoke(lease)


async def test_a_watch_tells_all_changes_in_order_one_batch_per_revision(world: World) -> None:
    store, space = world.store(), world.space
    first = await put(store, f"{space}a", b"1")
    await put(store, f"not-{space}a", b"1")
    both = (await store.txn(Txn(then=(Put(f"{space}a", b"2"), Put(f"{space}b", b"1"))))).revision
    gone = (await store.txn(Txn(then=(Delete(f"{space}a"), Put(f"{space}c", b"1"))))).revision
    batches = await collect(world.store(), space, first, gone)
    assert [batch.revision for batch in batches] == [first, both, gone]
    assert {change.key for change in batches[1].changes} == {f"{space}a", f"{space}b"}
    assert Deleted(key=f"{space}a", mod_revision=gone) in batches[2].changes
    assert await collect(world.store(), space, both, gone) == batches[1:]


async def test_a_watch_of_the_future_starts_there(world: World) -> None:
    store, space = world.store(), world.space
    now = await put(store, f"{space}a", b"1")
    watching = asyncio.create_task(collect(world.store(), space, now + 2, now + 2))
    await asyncio.sleep(0.2)
    await put(store, f"{space}a", b"2")
    await put(store, f"{space}a", b"3")
    (batch,) = await watching
    assert [change.value for change in batch.changes if isinstance(change, KeyValue)] == [b"3"]


async def test_no_watch_misses_or_repeats_under_load(world: World) -> None:
    space = world.space
    start = (await world.store().list("")).revision

    async def write(number: int) -> None:
        store = world.store()
        for turn in range(40):
            await put(store, f"{space}{number}", b"%d" % turn)

    watches = [asyncio.create_task(collect(world.store(), space, start + 1, start + 160)) for _ in range(3)]
    await asyncio.gather(*(write(number) for number in range(4)))
    for batches in await asyncio.gather(*watches):
        assert [batch.revision for batch in batches] == list(range(start + 1, start + 161))


async def test_compacted_history_is_refused_and_the_rest_is_not(world: World) -> None:
    store, space = world.store(), world.space
    old = await put(store, f"{space}a", b"1")
    new = await put(store, f"{space}a", b"2")
    world.compact(new)
    with pytest.raises(Compacted) as refused:
        await collect(world.store(), space, old, new)
    assert refused.value.revision == new
    assert [batch.revision for batch in await collect(world.store(), space, new, new)] == [new]


async def test_following_starts_with_everything_and_goes_on_with_each_change(world: World) -> None:
    store, space = world.store(), world.space
    old = await put(store, f"{space}a", b"1")
    async with asyncio.timeout(20), aclosing(follow(store, space)) as items:
        first = await anext(items)
        new = await put(store, f"{space}a", b"2")
        second = await anext(items)
    assert isinstance(first, Listing)
    assert [kv.mod_revision for kv in first.items] == [old]
    assert isinstance(second, WatchBatch)
    assert [change.mod_revision for change in second.changes] == [new]


async def test_watch_revisions_rise(world: World) -> None:
    """Progress notices and changes share one line of revisions."""
    store, space = world.store(), world.space
    start = await put(store, f"{space}a", b"0")
    batches: list[WatchBatch] = []
    async with asyncio.timeout(20), aclosing(store.watch(space, from_revision=start)) as watch:
        async for batch in watch:
            batches.append(batch)
            if len(batches) == 5:
                break
            await put(store, f"{space}a", b"x")
    assert all(before.revision < after.revision for before, after in pairwise(batches))
