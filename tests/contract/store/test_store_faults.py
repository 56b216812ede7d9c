"""What the etcd client makes of members that die, fall silent or lose their leader. Real etcd, real signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from tests.contract.store.conftest import EtcdCluster, make_tls

from holdfast.model.errors import Unavailable
from holdfast.store.errors import StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.etcd.admin import EtcdAdmin
from holdfast.store.etcd.client import EtcdConnections, EtcdStore
from holdfast.store.etcd.timing import Timing
from holdfast.store.port import KeyValue, ModRevision, Put, Store, Txn
from holdfast.store.settle import txn_settled

_spaces = count(1)

PATIENT = Timing(read_attempt_s=1.5)  # a time-out that cannot be mistaken for a busy machine
ELECTION_S = 5.0  # far above what one takes, for a busy machine


@pytest.fixture
def space() -> str:
    """A corner of the database of its own."""
    return f"faults{next(_spaces)}/"


@asynccontextmanager
async def opened(connections: EtcdConnections) -> AsyncIterator[EtcdStore]:
    """Give a store and close it."""
    store = EtcdStore(connections)
    try:
        yield store
    finally:
        await store.close()


async def duration(work: Awaitable[object]) -> float:
    """Return how long it takes, in seconds."""
    time = asyncio.get_running_loop().time
    began = time()
    await work
    return time() - began


async def beginning(store: Store) -> int:
    """Return the revision to watch from: what other tests wrote before may be compacted."""
    return (await store.list("none/")).revision + 1


async def settle(store: Store, key: str, value: bytes, before: int) -> int:
    """Write the key by a guarded transaction through whatever happens; return its revision."""
    txn = Txn(compares=(ModRevision(key, equals=before),), then=(Put(key, value),))
    result = await txn_settled(store, txn, until=asyncio.get_running_loop().time() + ELECTION_S)
    assert result.succeeded
    return result.revision


async def test_a_killed_member_costs_nothing_but_a_retry(three: EtcdCluster, space: str) -> None:
    follower = (three.leader() + 1) % 3
    async with opened(three.connections(follower, timing=PATIENT)) as store:
        await store.txn(Txn(then=(Put(f"{space}key", b"1"),)))
        three.kill(follower)
        assert await duration(store.get(f"{space}key")) < PATIENT.read_attempt_s
        await store.txn(Txn(then=(Put(f"{space}key", b"2"),)))


async def test_who_answers_is_asked_of_every_member(three: EtcdCluster) -> None:
    follower = (three.leader() + 1) % 3
    connections = three.connections((follower + 1) % 3)
    async with opened(connections):
        admin = EtcdAdmin(connections)
        everybody = {member.id for member in await admin.members(timeout_s=ELECTION_S)}
        assert await admin.answering(timeout_s=ELECTION_S) == everybody
        three.signal(follower, signal.SIGSTOP)
        answering = await admin.answering(timeout_s=1.0)
        three.signal(follower, signal.SIGCONT)
        assert len(answering) == 2
        assert answering < everybody
        assert await admin.answering(timeout_s=ELECTION_S) == everybody, "also one that was suspected"


async def test_a_silent_member_costs_one_time_out_and_is_preferred_again_when_it_is_back(
    three: EtcdCluster, space: str
) -> None:
    follower = (three.leader() + 1) % 3
    async with opened(three.connections(follower, timing=PATIENT)) as store:
        await store.get(f"{space}key")
        three.signal(follower, signal.SIGSTOP)
        assert PATIENT.read_attempt_s <= await duration(store.get(f"{space}key")) < 2 * PATIENT.read_attempt_s
        for _ in range(4):
            assert await duration(store.get(f"{space}key")) < PATIENT.read_attempt_s
            await asyncio.sleep(0.4)  # probes run meanwhile, and cost the calls nothing
        three.signal(follower, signal.SIGCONT)
        await asyncio.sleep(1.5)  # a probe clears it
        assert store._endpoints.preferred()[0].address == three.addresses[follower]
        await store.get(f"{space}key")


async def test_a_write_to_a_silent_member_is_unknown_and_the_next_goes_elsewhere(
    three: EtcdCluster, space: str
) -> None:
    follower = (three.leader() + 1) % 3
    async with opened(three.connections(follower)) as store:
        await store.get(f"{space}key")
        three.signal(follower, signal.SIGSTOP)
        with pytest.raises(StoreOutcomeUnknown):
            await store.txn(Txn(then=(Put(f"{space}key", b"1"),)))
        assert await duration(store.txn(Txn(then=(Put(f"{space}other", b"1"),)))) < 1.0


@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_write_that_a_follower_passed_to_a_dead_leader_ends_in_time(
    three: EtcdCluster, space: str, loss: signal.Signals
) -> None:
    leader = three.leader()
    async with opened(three.connections((leader + 1) % 3)) as store:
        await store.get(f"{space}key")
        three.signal(leader, loss)
        with pytest.raises(StoreOutcomeUnknown):
            await store.txn(Txn(then=(Put(f"{space}key", b"1"),)), timeout_s=0.3)
        assert await settle(store, f"{space}settled", b"1", 0) > 0


async def test_a_watch_leaves_a_silent_member(three: EtcdCluster, space: str) -> None:
    follower = (three.leader() + 1) % 3
    timing = Timing(probe_timeout_s=0.5, watch_probe_s=0.5)
    async with (
        opened(three.connections(follower, timing=timing)) as watcher,
        opened(three.connections((follower + 1) % 3)) as writer,
        aclosing(watcher.watch(space, from_revision=await beginning(writer))) as watch,
    ):
        await settle(writer, f"{space}a", b"1", 0)
        assert (await anext(watch)).changes
        three.signal(follower, signal.SIGSTOP)
        revision = await settle(writer, f"{space}b", b"1", 0)
        async with asyncio.timeout(5):
            while (batch := await anext(watch)).revision < revision:
                pass
        assert [change.key for change in batch.changes] == [f"{space}b"]


@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP])
async def test_no_change_is_lost_or_repeated_while_the_leader_is_lost_under_load(
    three: EtcdCluster, space: str, loss: signal.Signals
) -> None:
    """Each writer's values rise by one; every watcher must see exactly that, from whichever member it listens to."""
    turns, leader = 25, three.leader()
    stores = [EtcdStore(three.connections(number)) for number in range(3)]
    start = await beginning(stores[0])

    async def write(number: int) -> None:
        revision = 0
        for turn in range(turns):
            revision = await settle(stores[number], f"{space}{number}", b"%d" % turn, revision)
            await asyncio.sleep(0.01)

    async def see(store: Store) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        async with aclosing(store.watch(space, from_revision=start)) as watch:
            async for batch in watch:
                for change in batch.changes:
                    assert isinstance(change, KeyValue)
                    seen.append((change.key.removeprefix(space), int(change.value)))
                if len(seen) >= 3 * turns:
                    break
        return seen

    watchers = [asyncio.create_task(see(store)) for store in stores]
    writers = [asyncio.create_task(write(number)) for number in range(3)]
    await asyncio.sleep(0.2)
    three.signal(leader, loss)
    async with asyncio.timeout(20):
        await asyncio.gather(*writers)
        seen = await asyncio.gather(*watchers)
    for store in stores:
        await store.close()
    for one in seen:
        for number in range(3):
            assert [turn for key, turn in one if key == str(number)] == list(range(turns))
        assert one == seen[0]


async def test_without_majority_nothing_is_done_and_nothing_is_claimed(three: EtcdCluster, space: str) -> None:
    leader = three.leader()
    async with opened(three.connections((leader + 2) % 3)) as store:
        await store.get(f"{space}key")
        three.kill(leader)
        three.kill((leader + 1) % 3)
        with pytest.raises(Unavailable):
            await store.get(f"{space}key", timeout_s=1.0)
        await asyncio.sleep(1.5)  # by now the survivor knows that there is no leader, and refuses
        with pytest.raises(StoreUnavailable):
            await store.txn(Txn(then=(Put(f"{space}key", b"1"),)), timeout_s=1.0)


async def test_nobody_listening_is_certainly_not_done(tmp_path: Path) -> None:
    connections = EtcdConnections(("127.0.0.1:1",), make_tls(tmp_path))
    async with opened(connections) as store:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
            await store.txn(Txn(then=(Put("key", b""),)), timeout_s=0.3)


async def test_with_no_member_known_a_call_ends_in_time(tmp_path: Path) -> None:
    async with opened(EtcdConnections((), make_tls(tmp_path))) as store, asyncio.timeout(5):
        with pytest.raises(StoreUnavailable, match="none was asked"):
            await store.get("key", timeout_s=0.2)


async def test_a_stranger_is_refused(three: EtcdCluster, tmp_path: Path) -> None:
    stranger = make_tls(tmp_path, "another cluster")
    async with opened(EtcdConnections(three.addresses, stranger)) as store:
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await store.get("key", timeout_s=0.5)


async def test_many_transactions_share_one_connection(three: EtcdCluster, space: str) -> None:
    async with opened(three.connections(0)) as store:
        one = await duration(store.txn(Txn(then=(Put(f"{space}one", b""),))))
        many = [store.txn(Txn(then=(Put(f"{space}{number}", b""),))) for number in range(100)]
        assert await duration(asyncio.gather(*many)) < 50 * one + 1.0
        assert len((await store.list(space)).items) == 101


async def test_a_watch_moves_back_to_the_own_member_when_that_is_up_again(three: EtcdCluster, space: str) -> None:
    """Else a node that came up before its own member hangs on another's, and learns of that node's death late."""
    own = (three.leader() + 1) % 3
    three.kill(own)
    connections = three.connections(own, timing=Timing(watch_rest_s=0.5))
    async with opened(connections) as store:
        revision = (await store.txn(Txn(then=(Put(f"{space}key", b"first"),)))).revision
        async with aclosing(store.watch(space, from_revision=revision)) as changes:
            assert (await anext(changes)).revision == revision
            three.revive(own)
            preferred = connections.endpoints.named(three.addresses[own])
            assert preferred is not None
            async with asyncio.timeout(20):
                while not preferred.watches:
                    revision = (await store.txn(Txn(then=(Put(f"{space}key", b"next"),)))).revision
                    assert (await anext(changes)).revision == revision
                    await asyncio.sleep(0.1)
