"""Restoring on one machine: killed between any two lines, refused where it must be, repeated until it is done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.unit.decide.made_up import NOW_MS, owned, role_spec

from holdfast.membership.cluster_key import read_cluster_key
from holdfast.membership.errors import NotJoined
from holdfast.membership.identity import NodeIdentity, Peer, read_identity, write_identity
from holdfast.membership.seat_file import HeldSeat, SeatFile
from holdfast.model.errors import Conflict, InvalidInput
from holdfast.model.ids import ClusterId, NetworkName, NodeName
from holdfast.model.snapshot import ClusterRecord
from holdfast.node.config import DaemonConfig
from holdfast.node.founding import write_own_authority
from holdfast.node.residence import node_spec
from holdfast.node.restore import RestoreParams, Restorer, transactions
from holdfast.store.backup import Backup, encode_backup
from holdfast.store.port import Put
from holdfast.store.records import CLUSTER, decode, encode, node_key, ownership_key, spec_key

ID = "6a3f0f5e-0000-4000-8000-000000000001"
OTHER_ID = "6a3f0f5e-0000-4000-8000-000000000002"
KEY, NEWER_KEY = bytes(range(32)), bytes(range(1, 33))
"""The heartbeats' secret at the time of the backup, and now."""
TRACED = ("node/restore.py", "node/left_behind.py", "node/residence.py")


class Clock:
    """A clock that stands still."""

    def wall_ms(self) -> int:
        return NOW_MS

    def monotonic_ms(self) -> int:
        return 0


class Killed(BaseException):
    """What kill -9 is: nothing after it is done."""


class Twin:
    """The machine: what it runs is a set, and its database a folder."""

    def __init__(self, config: DaemonConfig) -> None:
        self._file = config.database / "member" / "wal" / "0.wal"
        self.guests = {"uuid-of-web", "uuid-of-added-later", "nobody's"}

    async def end_guests(self, roles: Collection[str]) -> None:
        self.guests -= set(roles)

    async def begin_database(self, identity: NodeIdentity, records: tuple[Put, ...]) -> None:
        self._file.parent.mkdir(parents=True)
        self._file.write_bytes(b"\n".join(put.key.encode() + b" " + put.value for put in records))

    def record(self) -> ClusterRecord:
        """The cluster's record, which is written last."""
        key, _, value = self._file.read_bytes().splitlines()[-1].partition(b" ")
        return decode(ClusterRecord, key.decode(), value)


def identity(name: str = "a", cluster: str = ID) -> NodeIdentity:
    addresses = {NetworkName("cluster-a"): "127.0.0.1"}
    later = Peer(node=NodeName("later"), addresses={NetworkName("cluster-a"): "127.0.0.9"}, is_voter=True)
    return NodeIdentity(
        cluster_id=ClusterId(cluster),
        cluster_name="demo",
        node=NodeName(name),
        node_id=ID,
        addresses=addresses,
        is_voter=True,
        peers=(later,),
    )


def write_backup(path: Path, machine_id: str | None) -> None:
    nodes = [node_spec(identity(name), is_voter=True, joined_at_ms=1) for name in ("a", "b")]
    if machine_id is not None:
        nodes = [replace(spec, machine_id=machine_id) for spec in nodes]
    records: dict[str, object] = {
        CLUSTER: ClusterRecord(id=ClusterId(ID), name="demo", created_at_ms=1),
        **{node_key(spec.name): spec for spec in nodes},
        spec_key(role_spec("web").name): role_spec("web"),
        ownership_key(role_spec("web").name): owned("web", "b"),
    }
    backup = Backup(
        cluster_id=ID,
        cluster_name="demo",
        generation=1,
        node="a",
        taken_at_ms=NOW_MS,
        revision=9,
        cluster_key_hex=KEY.hex(),
        items=tuple((key, encode(value)) for key, value in records.items()),
    )
    path.write_bytes(encode_backup(backup))


class Site:
    """A node of generation 1 with its data, and the backup."""

    def __init__(self, folder: Path, *, is_joined: bool = True, cluster: str = ID, machine: str | None = None) -> None:
        folder.mkdir()
        self.config = DaemonConfig(
            state_directory=folder / "state", run_directory=folder / "run", log_directory=folder / "log"
        )
        self.twin = Twin(self.config)
        self.backup = folder / "demo.backup"
        write_backup(self.backup, machine)
        if is_joined:
            me = identity(cluster=cluster)
            write_own_authority(self.config, me, NEWER_KEY)
            SeatFile(self.config.seat).write(HeldSeat(member=1, begun=True))
            wal = self.config.database / "member" / "wal" / "old.wal"
            wal.parent.mkdir(parents=True)
            wal.write_text("old")
            write_identity(me, self.config.identity)

    def params(self, **changes: Any) -> RestoreParams:
        return RestoreParams(**{"path": self.backup, "person": "somebody", **changes})

    async def restore(self, **changes: Any) -> None:
        restorer = Restorer(self.config, Clock(), self.twin)
        restoration = restorer.check(self.params(**changes))
        await restorer.restore(restoration, {"uuid-of-added-later"}, lambda _: None)

    async def again(self) -> None:
        """What a person does after it was killed: ask once more, with name and address if the machine is in none."""
        if self.now() is None:
            await self.restore(node="a", addresses={"cluster-a": "127.0.0.1"})
        else:
            await self.restore()

    def now(self) -> NodeIdentity | None:
        try:
            return read_identity(self.config.identity)
        except NotJoined:
            return None

    def old_data(self) -> list[Path]:
        return sorted(self.config.state_directory.rglob("old.wal"))


def check_safe(site: Site) -> None:
    """What must hold wherever it was killed."""
    now = site.now()
    is_untouched = now is not None and now.generation == 1 and site.config.database.exists()
    if not is_untouched:
        assert site.twin.guests == {"nobody's"}, "the old node is gone and its guests run on"
    assert site.old_data(), "what the node had stored is lost"
    if now is not None and now.generation == 1:
        seat = SeatFile(site.config.seat).read()
        assert seat is not None
        assert seat.begun, "an old member whose data is away could begin anew, and vote twice"
    if now is not None and now.generation != 1:
        check_restored(site)


def check_restored(site: Site, key: bytes = NEWER_KEY) -> None:
    now = site.now()
    assert now is not None
    assert now.generation > 1
    assert site.twin.record().generation == now.generation
    assert read_cluster_key(site.config.cluster_key) == key, "the others could not be told"
    assert not any(peer.is_voter for peer in now.peers)
    assert site.config.keys.joinpath("node.crt").exists()
    assert not site.config.seat.exists()


def killing_at(number: int) -> tuple[Callable[..., Any], list[int]]:
    """A tracer that kills at the so-manieth line of what restores, and how many lines it saw."""
    seen = [0]

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.endswith(TRACED):
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == number:
                raise Killed
        return trace

    return trace, seen


def run_killed(site: Site, number: int) -> int:
    """Restore and be killed; returns how many lines there were."""
    trace, seen = killing_at(number)
    sys.settrace(trace)
    try:
        asyncio.run(site.restore())
    except Killed:
        pass
    finally:
        sys.settrace(None)
    return seen[0]


def test_safe_1_killed_between_any_two_lines_of_a_restore(tmp_path: Path) -> None:
    whole = Site(tmp_path / "whole")
    lines = run_killed(whole, 0)
    check_restored(whole)
    assert lines > 100
    for number in range(1, lines + 1):
        site = Site(tmp_path / str(number))
        run_killed(site, number)
        check_safe(site)
        if number % 16 == 0:
            asyncio.run(site.again())
            check_restored(site)
            assert site.old_data()


async def test_each_restore_is_a_generation_of_its_own_and_knows_who_joined_later(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    restorer = Restorer(site.config, Clock(), site.twin)
    restoration = restorer.check(site.params())
    assert restoration.unaccounted() == (NodeName("b"), NodeName("later"))
    assert restorer.check(site.params(down=("b",))).unaccounted() == (NodeName("later"),)
    await restorer.restore(restoration, (), lambda _: None)
    first = site.now()
    assert first is not None
    again = restorer.check(site.params())
    assert again.me.generation > first.generation


@pytest.mark.parametrize(
    ("joined", "params", "kind", "said"),
    [
        ({"cluster": OTHER_ID}, {}, Conflict, "another one"),
        ({}, {"down": ("nobody",)}, InvalidInput, "nobody"),
        ({"is_joined": False}, {}, InvalidInput, "name and addresses"),
    ],
    ids=["other-cluster", "unknown-name", "no-name"],
)
def test_what_cannot_be_restored_here_is_refused_before_anything_ends(
    tmp_path: Path, joined: dict[str, Any], params: dict[str, Any], kind: type[Exception], said: str
) -> None:
    site = Site(tmp_path / "site", **joined)
    with pytest.raises(kind, match=said):
        asyncio.run(site.restore(**params))
    assert "uuid-of-web" in site.twin.guests


@pytest.mark.parametrize("machine", ["", "another machine's id"])
def test_safe_2_another_machine_cannot_take_the_name_of_one_that_may_still_run_guests(
    tmp_path: Path, machine: str
) -> None:
    site = Site(tmp_path / "site", is_joined=False, machine=machine)
    with pytest.raises(Conflict, match="another machine as a"):
        asyncio.run(site.restore(node="a", addresses={"cluster-a": "127.0.0.1"}))
    asyncio.run(site.restore(node="new", addresses={"cluster-a": "127.0.0.1"}))
    check_restored(site, KEY)


def test_large_databases_are_written_in_pieces_in_their_order() -> None:
    records = tuple(Put(f"holdfast/specs/{number}", bytes(1000)) for number in range(1500))
    pieces = list(transactions(records))
    assert [put for piece in pieces for put in piece.then] == list(records)
    assert all(len(piece.then) <= 256 for piece in pieces)
    big = tuple(Put(f"holdfast/specs/{number}", bytes(400_000)) for number in range(3))
    assert [len(piece.then) for piece in transactions(big)] == [1, 1, 1]
