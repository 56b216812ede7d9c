"""The twin against real etcd: whatever a sequence of transactions does to one, it does to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.store.conftest import EtcdCluster

from holdfast.model.errors import InvalidInput
from holdfast.store.etcd.client import EtcdStore
from holdfast.store.memory import MemoryStore
from holdfast.store.port import (
    Compare,
    CreateRevision,
    Delete,
    DeletePrefix,
    KeyValue,
    Listing,
    ModRevision,
    NoneNewer,
    Operation,
    Put,
    Store,
    Txn,
    Value,
)

_spaces = count(1)

KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "b/1", "é"])
VALUES = st.sampled_from([b"", b"x", b"y"])
AGES = st.sampled_from([0, 1, 2, 3, 4, 1000])  # a revision after the start; 0 is "absent"
COMPARES = st.one_of(
    st.builds(lambda key, age: ModRevision(key, equals=age), KEYS, AGES),
    st.builds(lambda key, age: CreateRevision(key, equals=age), KEYS, AGES),
    st.builds(lambda key, value: Value(key, equals=value), KEYS, VALUES),
    st.builds(lambda prefix, age: NoneNewer(prefix, than=age), KEYS, AGES),
)
OPERATIONS = st.one_of(st.builds(Put, KEYS, VALUES), st.builds(Delete, KEYS), st.builds(DeletePrefix, KEYS))


def _txn(compares: list[Compare], then: list[Operation], read: list[str]) -> Txn | None:
    try:
        return Txn(compares=tuple(compares), then=tuple(then), otherwise_read=tuple(dict.fromkeys(read)))
    except InvalidInput:
        return None


TXNS = st.builds(
    _txn,
    st.lists(COMPARES, max_size=2),
    st.lists(OPERATIONS, max_size=3),
    st.lists(KEYS, max_size=2),
).filter(lambda txn: txn is not None)


def _placed(txn: Txn, space: str, start: int) -> Txn:
    """Move a transaction into a corner of a database whose revision was ``start``; 0 stays "absent"."""

    def compare(one: Compare) -> Compare:
        if isinstance(one, Value):
            return replace(one, key=space + one.key)
        if isinstance(one, NoneNewer):
            return replace(one, prefix=space + one.prefix, than=start + one.than)
        return replace(one, key=space + one.key, equals=one.equals and start + one.equals)

    def operation(one: Operation) -> Operation:
        return (
            replace(one, prefix=space + one.prefix)
            if isinstance(one, DeletePrefix)
            else replace(one, key=space + one.key)
        )

    return Txn(
        compares=tuple(map(compare, txn.compares)),
        then=tuple(map(operation, txn.then)),
        otherwise_read=tuple(space + key for key in txn.otherwise_read),
    )


def _seen(kv: KeyValue, space: str, start: int) -> KeyValue:
    return replace(
        kv,
        key=kv.key.removeprefix(space),
        create_revision=kv.create_revision - start,
        mod_revision=kv.mod_revision - start,
    )


async def _history(store: Store, txns: list[Txn]) -> tuple[object, ...]:
    """Do the transactions; return everything that can be seen of them, free of where and when."""
    space = f"twin{next(_spaces)}/"
    start = (await store.list(space)).revision
    outcomes: list[object] = []
    for txn in txns:
        result = await store.txn(_placed(txn, space, start))
        read = tuple(_seen(kv, space, start) for kv in result.read)
        outcomes.append((result.succeeded, result.revision - start, read))
    listing: Listing = await store.list(space)
    return (*outcomes, listing.revision - start, tuple(_seen(kv, space, start) for kv in listing.items))


def test_the_twin_does_what_etcd_does(etcd_of_size: Callable[[int], EtcdCluster]) -> None:
    cluster = etcd_of_size(1)
    with asyncio.Runner() as runner:

        async def connect() -> EtcdStore:
            return EtcdStore(cluster.connections())

        real = runner.run(connect())

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(st.lists(TXNS, min_size=1, max_size=8))
        def compare(txns: list[Txn]) -> None:
            assert runner.run(_history(real, txns)) == runner.run(_history(MemoryStore(), txns))

        try:
            compare()
        finally:
            runner.run(real.close())
