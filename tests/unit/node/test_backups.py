"""Backups on one node: taken on time by who votes, kept in bounds, secret, and missed aloud."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.unit.decide.made_up import NOW_MS, node_spec
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.test_restore import ID, identity

from holdfast.membership.cluster_key import write_cluster_key
from holdfast.model.ids import ClusterId
from holdfast.model.settings import Settings
from holdfast.model.snapshot import ClusterRecord
from holdfast.node.backups import Backups, list_backups, read_backup
from holdfast.node.config import DaemonConfig
from holdfast.node.mirror import Mirror
from holdfast.store.memory import MemoryStore
from holdfast.store.records import CLUSTER


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms


class Node:
    """A node that keeps two backups of a small database, one a minute."""

    def __init__(self, folder: Path, *, is_voter: bool = True) -> None:
        self.config = DaemonConfig(state_directory=folder)
        write_cluster_key(bytes(32), self.config.cluster_key)
        self.database = SmallDatabase()
        settings = Settings(backup_interval_s=60, backups_kept=2)
        self.database.put(CLUSTER, ClusterRecord(id=ClusterId(ID), name="demo", created_at_ms=0, settings=settings))
        self.database.node(node_spec("a", is_voter=is_voter))
        self.clock = Clock()
        self.backups = Backups(
            config=self.config,
            identity=identity(),
            store=MemoryStore(self.database.database),
            mirror=Mirror(),
            clock=self.clock,
        )

    async def look_after(self, seconds: int) -> list[str]:
        """Let time pass, look once, and return the names of the backups that there are then."""
        self.clock.now_ms += seconds * 1000
        before = set(self.files())
        await self.backups.keep_up(self.database.snapshot())
        for path in set(self.files()) - before:
            os.utime(path, (self.clock.now_ms / 1000,) * 2)
        return [path.name for path in self.files()]

    def files(self) -> list[Path]:
        return sorted(self.config.backups.glob("*")) if self.config.backups.is_dir() else []


async def test_a_voter_takes_one_when_the_newest_is_old_and_keeps_so_many(tmp_path: Path) -> None:
    node = Node(tmp_path)
    first = await node.look_after(0)
    assert len(first) == 1
    assert await node.look_after(59) == first
    second = await node.look_after(1)
    assert second[:1] == first
    assert len(second) == 2
    third = await node.look_after(60)
    assert third[:1] == second[1:]
    assert len(third) == 2
    assert {one.problem for one in list_backups(node.config.backups)} == {""}
    assert {stat.S_IMODE(path.stat().st_mode) for path in node.files()} == {0o600}
    assert stat.S_IMODE(node.config.backups.stat().st_mode) == 0o700


async def test_a_clock_that_was_set_back_does_not_keep_it_from_taking_one(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.look_after(0)
    assert len(await node.look_after(-86_400)) == 2


async def test_who_does_not_vote_takes_none(tmp_path: Path) -> None:
    assert await Node(tmp_path, is_voter=False).look_after(3600) == []


async def test_one_that_fails_is_a_condition_until_the_next_one_is_taken(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.config.backups.write_text("a file where the folder should be")
    await node.look_after(0)
    (condition,) = node.backups.conditions()
    assert condition.code == "backup-failed"
    assert str(node.config.backups) in condition.text
    node.config.backups.unlink()
    assert len(await node.look_after(0)) == 1
    assert node.backups.conditions() == ()


async def test_what_is_in_the_database_is_in_the_backup_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    node = Node(tmp_path)
    target = tmp_path / "elsewhere.backup"
    info = await node.backups.create(target)
    assert (info.cluster, info.nodes, info.roles) == ("demo", ("a",), ())
    assert read_backup(target).cluster_key_hex == bytes(32).hex()
    node.config.backups.mkdir()
    (node.config.backups / "cut.backup").write_bytes(target.read_bytes()[:-90])
    (damaged,) = list_backups(node.config.backups)
    assert "cannot be restored" in damaged.problem
