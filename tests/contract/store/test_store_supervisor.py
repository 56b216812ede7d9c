"""The supervisor with real etcd: it starts, adopts, restarts, stops, joins, and says plainly why it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from tests.contract.store.conftest import PATIENT, EtcdCluster, free_port, make_tls

from holdfast.model.errors import Conflict
from holdfast.store.errors import (
    AddressAbsent,
    AddressTaken,
    DataLost,
    DataUnwritable,
    DiskFull,
    EtcdMissing,
    MemberChangeRefused,
    MemberExited,
    MemberNotFound,
    MemberNotRunning,
)
from holdfast.store.etcd.admin import EtcdAdmin
from holdfast.store.etcd.client import EtcdConnections, EtcdStore
from holdfast.store.etcd.member_config import InitialState, MemberConfig, joining_cluster
from holdfast.store.etcd.preconditions import lacking_room
from holdfast.store.etcd.process import identify
from holdfast.store.etcd.stored import Stored, StoredNote, SurelyStored, read_log
from holdfast.store.etcd.supervisor import EtcdSupervisor
from holdfast.store.port import MemberId, Put, Txn

T = TypeVar("T")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[MemberConfig]:
    """A database of one member, not started; what runs of it at the end is killed."""
    peer = free_port()
    cluster = EtcdCluster(tmp_path, make_tls(tmp_path / "tls"))
    config = cluster.config("one", free_port(), peer, (("one", f"127.0.0.1:{peer}"),), InitialState.NEW)
    yield config
    leftover = EtcdSupervisor(config)._adopted()
    if leftover is not None:
        leftover.send(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(leftover.identity.pid, 0)
        leftover.close()


@asynccontextmanager
async def running(supervisor: EtcdSupervisor) -> AsyncIterator[None]:
    """Run the supervisor as holdfastd does, and cancel it at the end of the block."""
    task = asyncio.create_task(supervisor.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


@asynccontextmanager
async def connected(config: MemberConfig) -> AsyncIterator[EtcdStore]:
    """Give a client of the member."""
    store = EtcdStore(EtcdConnections(config.client_addresses, config.tls, timing=PATIENT))
    try:
        yield store
    finally:
        await store.close()


async def write(config: MemberConfig, key: str) -> None:
    """Write a key as soon as the member takes it."""
    async with connected(config) as store:
        await store.txn(Txn(then=(Put(key, b""),)), timeout_s=15)


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the supervisor tells nobody, by design
            await asyncio.sleep(0.02)


async def test_a_dropped_supervisor_leaves_the_member_and_the_next_adopts_it(config: MemberConfig) -> None:
    first = EtcdSupervisor(config)
    async with running(first):
        await write(config, "before")
        pid = first.pid
    first.release()
    assert pid is not None
    assert os.getsid(pid) == pid, "it must not share our session, or it would get our signals"
    second = EtcdSupervisor(config)
    async with running(second):
        await wait_for(lambda: second.pid is not None)
        assert second.pid == pid
        async with connected(config) as store:
            assert await store.get("before") is not None
        await second.stop()
    assert identify(pid) is None
    assert not config.process_file.exists()


async def test_a_reused_pid_is_not_adopted(config: MemberConfig) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    config.process_file.parent.mkdir(parents=True)
    record = {"pid": stranger.pid, "start_ticks": 1, "data_dir": str(config.data_dir)}
    config.process_file.write_text(json.dumps(record))
    supervisor = EtcdSupervisor(config)
    supervisor.start()
    assert supervisor.pid != stranger.pid
    await supervisor.stop()
    stranger.kill()
    await stranger.wait()


async def test_a_killed_member_is_started_again_with_its_data(config: MemberConfig) -> None:
    supervisor = EtcdSupervisor(config)
    async with running(supervisor):
        await write(config, "kept")
        pid = supervisor.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await wait_for(lambda: isinstance(supervisor.problem, MemberExited))
        await wait_for(lambda: supervisor.pid not in {pid, None} and supervisor.problem is None)
        async with connected(config) as store:
            assert await store.get("kept", timeout_s=10) is not None
        await supervisor.stop()


async def test_a_member_that_cannot_run_is_a_problem_with_the_last_words_of_its_log(config: MemberConfig) -> None:
    config = replace(config, initial_cluster=(("another", config.peer_addresses[0]),))
    supervisor = EtcdSupervisor(config)
    async with running(supervisor):
        await wait_for(lambda: supervisor.problem is not None)
        assert isinstance(supervisor.problem, MemberExited)
        assert "couldn't find local name" in supervisor.problem.message
        await supervisor.stop()


async def test_a_start_that_fails_shows_without_anyone_running_the_supervisor(config: MemberConfig) -> None:
    supervisor = EtcdSupervisor(replace(config, initial_cluster=(("another", config.peer_addresses[0]),)))
    supervisor.start()
    await wait_for(lambda: isinstance(supervisor.problem, MemberExited))
    await supervisor.stop()
    assert supervisor.problem is None


def test_a_taken_address_is_named(config: MemberConfig) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        supervisor = EtcdSupervisor(replace(config, client_addresses=(f"127.0.0.1:{port}",)))
        with pytest.raises(AddressTaken, match=f"127.0.0.1:{port}") as refused:
            supervisor.start()
    assert f"ss -ltnp 'sport = :{port}'" in refused.value.hint


def test_an_absent_address_is_named(config: MemberConfig) -> None:
    supervisor = EtcdSupervisor(replace(config, peer_addresses=("192.0.2.1:2380",)))
    with pytest.raises(AddressAbsent, match=r"192\.0\.2\.1:2380"):
        supervisor.start()


def test_an_unwritable_directory_is_named(config: MemberConfig) -> None:
    supervisor = EtcdSupervisor(replace(config, data_dir=Path("/proc/holdfast-test")))
    with pytest.raises(DataUnwritable, match="/proc/holdfast-test"):
        supervisor.start()


def test_too_little_room_is_told_before_it_hurts(config: MemberConfig) -> None:
    supervisor = EtcdSupervisor(replace(config, min_free_bytes=1 << 60))
    with pytest.raises(DiskFull, match=str(1 << 60)):
        supervisor.start()
    config.data_dir.mkdir(exist_ok=True)
    assert lacking_room(config) is None


def test_a_missing_program_is_told(config: MemberConfig) -> None:
    with pytest.raises(EtcdMissing, match="no-such-etcd"):
        EtcdSupervisor(replace(config, program="no-such-etcd")).start()


async def test_the_log_stays_small(config: MemberConfig) -> None:
    config.log_file.parent.mkdir(parents=True)
    config.log_file.write_bytes(b"old\n" * 1000)
    supervisor = EtcdSupervisor(replace(config, log_bytes=3000))
    async with running(supervisor):
        await write(config, "key")
        assert config.log_file.with_name("etcd.log.1").stat().st_size >= 4000
        await supervisor.stop()


async def test_safe_4_a_member_that_has_begun_is_never_started_without_its_data(config: MemberConfig) -> None:
    supervisor = EtcdSupervisor(config)
    async with running(supervisor):
        await write(config, "key")
        await supervisor.stop()
    shutil.rmtree(config.data_dir)
    again = EtcdSupervisor(config)
    again.note_begun()
    with pytest.raises(DataLost, match=str(config.data_dir)):
        again.start()


async def live(config: MemberConfig, *keys: str) -> list[Stored]:
    """Run a member that has begun, write, and return how far it said that it was after each write."""
    supervisor, said = EtcdSupervisor(config), list[Stored]()
    supervisor.note_begun()
    connections = EtcdConnections(config.client_addresses, config.tls)
    async with running(supervisor):
        for key in keys:
            await write(config, key)
            status = await EtcdAdmin(connections).status(config.client_addresses[0])
            said.append(Stored(member=int(status.member_id), index=status.raft_index))
        await supervisor.stop()
    await connections.close()
    return said


async def test_safe_4_a_member_that_has_begun_is_never_started_on_an_older_copy_of_its_data(
    config: MemberConfig, tmp_path: Path
) -> None:
    first = EtcdSupervisor(config)
    async with running(first):
        await write(config, "founded")
        await first.stop()
    await live(config, "a")
    shutil.copytree(config.data_dir, tmp_path / "copy")
    said = await live(config, "b", "c")
    found = read_log(config.data_dir)
    assert found is not None
    assert (found.member, said[-1].index <= found.index) == (said[-1].member, True)
    surely = SurelyStored()
    assert surely.saw(said[0], 1.0) is None, "it may still be storing that"
    assert surely.saw(said[1], 2.0) == said[0], "it has begun with the next"
    StoredNote(config.stored_file).write(said[0])
    await live(config, "d")

    config.data_dir.rename(tmp_path / "true")
    shutil.copytree(tmp_path / "copy", config.data_dir)
    older = EtcdSupervisor(config)
    older.note_begun()
    async with running(older):
        await wait_for(lambda: older.problem is not None)
        assert isinstance(older.problem, DataLost)
        assert "older copy" in older.problem.message
        assert older.pid is None
    shutil.rmtree(config.data_dir)
    (tmp_path / "true").rename(config.data_dir)
    await live(config, "e")


async def test_what_was_noted_of_a_member_says_nothing_of_one_that_begins_anew(config: MemberConfig) -> None:
    """A restored database begins with nothing stored, and its first member may have the id of the one before."""
    note = StoredNote(config.stored_file)
    config.stored_file.parent.mkdir(parents=True, exist_ok=True)
    note.write(Stored(member=1, index=700))
    first = EtcdSupervisor(config)
    async with running(first):
        await write(config, "restored")
        await first.stop()
    assert note.read() is None


async def test_a_learner_joins_is_promoted_and_removed(three: EtcdCluster) -> None:
    """The way in and out of the voters, with the supervisor of the new member started on what ``members`` returned."""
    connections = three.connections()
    admin = EtcdAdmin(connections)
    peer = free_port()
    learner = await when_allowed(lambda: admin.add_learner((f"https://127.0.0.1:{peer}",)))
    with pytest.raises(Conflict):
        await admin.add_learner((f"https://127.0.0.1:{peer}",))
    initial = joining_cluster(await admin.members(), "new")
    config = three.config("new", free_port(), peer, initial, InitialState.EXISTING)
    supervisor = EtcdSupervisor(config)
    supervisor.start()
    await when_allowed(lambda: admin.promote(learner.id))
    await write(config, "by the new member")
    connections.use_members((*three.addresses, *config.client_addresses))
    status = await admin.status(config.client_addresses[0])
    assert (status.member_id, status.is_learner) == (learner.id, False)
    assert status.leader_id in {member.id for member in await admin.members()}
    await admin.move_leader(learner.id)
    assert (await admin.status()).leader_id == learner.id
    await admin.move_leader(next(m.id for m in await admin.members() if m.id != learner.id))
    await when_allowed(lambda: admin.remove(learner.id))
    with pytest.raises(MemberNotFound):
        await admin.remove(MemberId(1))
    assert [member.name for member in await admin.members()].count("new") == 0
    await supervisor.stop()
    await connections.close()


async def when_allowed(change: Callable[[], Awaitable[T]]) -> T:
    """Try a change until etcd allows it: every voter must have been connected for 5 s, the learner have caught up."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await change()
            except MemberChangeRefused:
                await asyncio.sleep(0.2)


async def test_safe_4_a_member_is_called_elsewhere_and_nowhere_that_is_another_ones(three: EtcdCluster) -> None:
    """An address that a member gave up is free for another one; one that is called stays its own."""
    connections = three.connections()
    admin = EtcdAdmin(connections)
    first, second, _ = await admin.members()
    more = f"https://127.0.0.2:{free_port()}"
    await when_allowed(lambda: admin.use_peer_urls(first.id, (*first.peer_urls, more)))
    known = {member.id: member.peer_urls for member in await admin.members()}
    assert set(known[first.id]) == {*first.peer_urls, more}
    with pytest.raises(Conflict):
        await admin.use_peer_urls(second.id, (*second.peer_urls, more))
    await when_allowed(lambda: admin.use_peer_urls(first.id, first.peer_urls))
    await when_allowed(lambda: admin.use_peer_urls(second.id, (*second.peer_urls, more)))
    await when_allowed(lambda: admin.use_peer_urls(second.id, second.peer_urls))
    with pytest.raises(MemberNotFound):
        await admin.use_peer_urls(MemberId(1), (more,))
    await connections.close()


async def test_a_member_listens_at_other_addresses_from_its_next_start_on(config: MemberConfig) -> None:
    supervisor = EtcdSupervisor(config)
    async with running(supervisor):
        await write(config, "before")
        moved = replace(config, client_addresses=(f"127.0.0.1:{free_port()}",))
        supervisor.use_config(moved)
        await write(config, "it goes on where it is")
        assert supervisor.pid is not None
        os.kill(supervisor.pid, signal.SIGKILL)
        await write(moved, "after")
        await supervisor.stop()


async def test_a_member_that_is_started_again_listens_at_its_new_addresses_and_keeps_its_data(
    config: MemberConfig, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = EtcdSupervisor(config)
    async with running(supervisor):
        await write(config, "before")
        began, client, peer = supervisor.pid, f"127.0.0.1:{free_port()}", f"127.0.0.2:{free_port()}"
        more = replace(config, client_addresses=(*config.client_addresses, client))
        supervisor.use_config(replace(more, peer_addresses=(*config.peer_addresses, peer)))
        await supervisor.restart()
        async with connected(replace(config, client_addresses=(client,))) as store:
            assert await store.get("before", timeout_s=15) is not None
        assert supervisor.pid != began
        assert (supervisor.problem, "ended by itself" in caplog.text) == (None, False)
        _, writer = await asyncio.open_connection(*peer.split(":"))
        writer.close()
        await supervisor.stop()


async def test_a_member_that_could_not_start_again_runs_on(config: MemberConfig) -> None:
    supervisor = EtcdSupervisor(config)
    async with running(supervisor):
        await write(config, "before")
        began = supervisor.pid
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            hindered: list[tuple[dict[str, object], type[MemberNotRunning]]] = [
                ({"peer_addresses": (*config.peer_addresses, "192.0.2.1:2380")}, AddressAbsent),
                ({"client_addresses": (*config.client_addresses, taken)}, AddressTaken),
                ({"min_free_bytes": 1 << 60}, DiskFull),
            ]
            for changes, error in hindered:
                supervisor.use_config(replace(config, **changes))  # type: ignore[arg-type]
                with pytest.raises(error):
                    await supervisor.restart()
        await write(config, "it goes on")
        assert supervisor.pid == began
        await supervisor.stop()
        with pytest.raises(MemberExited):
            await supervisor.restart()
