"""A guarded transaction ends with a known outcome, whatever answers get lost."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.store.errors import StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.memory import MemoryDatabase, MemoryStore
from holdfast.store.port import Delete, ModRevision, Put, Txn
from holdfast.store.settle import txn_settled

GUARDED = Txn(compares=(ModRevision("key", equals=0),), then=(Put("key", b"mine"), Put("beside", b"too")))


def soon() -> float:
    """A deadline in the loop's time."""
    return asyncio.get_running_loop().time() + 0.3


async def test_an_applied_attempt_is_recognised_and_not_repeated() -> None:
    store = MemoryStore()
    store.faults.lost_replies = 1
    result = await txn_settled(store, GUARDED, until=soon())
    assert (result.succeeded, result.revision) == (True, 2)
    assert store.database.revision == 2


async def test_a_lost_attempt_is_repeated() -> None:
    store = MemoryStore()
    store.faults.lost_requests = 2
    result = await txn_settled(store, GUARDED, until=soon())
    assert (result.succeeded, result.revision) == (True, 2)


@pytest.mark.parametrize("value", [b"mine", b"theirs"])
async def test_another_author_is_not_mistaken_for_us(value: bytes) -> None:
    """The same value at another revision than its companion was not written by this transaction."""
    database = MemoryDatabase()
    ours, theirs = MemoryStore(database), MemoryStore(database)
    await theirs.txn(Txn(then=(Put("key", value),)))
    await theirs.txn(Txn(then=(Put("beside", b"too"),)))
    ours.faults.lost_requests = 1
    result = await txn_settled(ours, GUARDED, until=soon())
    assert not result.succeeded
    assert {kv.key: kv.value for kv in result.read} == {"key": value, "beside": b"too"}


async def test_a_failed_guard_without_doubt_is_a_failure_even_with_equal_values() -> None:
    store = MemoryStore()
    await store.txn(GUARDED)
    assert not (await txn_settled(store, GUARDED, until=soon())).succeeded


async def test_at_the_deadline_doubt_stays_doubt() -> None:
    store = MemoryStore()
    store.faults.lost_requests = 1000
    with pytest.raises(StoreOutcomeUnknown):
        await txn_settled(store, GUARDED, until=soon())


async def test_at_the_deadline_certainly_not_done_is_told_so() -> None:
    store = MemoryStore()
    store.faults.is_cut = True
    with pytest.raises(StoreUnavailable):
        await txn_settled(store, GUARDED, until=soon())


async def test_one_doubtful_attempt_is_never_forgotten() -> None:
    """Unavailable later says nothing of the attempt before."""
    store = MemoryStore()
    store.faults.lost_replies = 1
    settling = asyncio.create_task(txn_settled(store, GUARDED, until=soon()))
    await asyncio.sleep(0)
    store.faults.is_cut = True
    with pytest.raises(StoreOutcomeUnknown):
        await settling


async def test_deleting_alone_cannot_be_recognised() -> None:
    """Nothing of it stands afterwards, so a repeat that fails its guard is reported as it is."""
    store = MemoryStore()
    created = (await store.txn(Txn(then=(Put("key", b""),)))).revision
    store.faults.lost_replies = 1
    txn = Txn(compares=(ModRevision("key", equals=created),), then=(Delete("key"),))
    assert not (await txn_settled(store, txn, until=soon())).succeeded
