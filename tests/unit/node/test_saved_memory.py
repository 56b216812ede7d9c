"""The directory of saved memory: what is left over goes, what a record names stays, and what is wrong is said."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.decide.made_up import GIB, incarnation, owned, role_spec, session
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.hypervisor.errors import HypervisorUnavailable
from holdfast.hypervisor.memory import SavedKind
from holdfast.hypervisor.saved_files import names_in, read_saved, write_probe
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.hypervisor.simulated_guest import Neighbourhood, SavedFile, SimulatedMemory
from holdfast.hypervisor.timeouts import HypervisorTimeouts
from holdfast.model.ids import ClusterId, NodeName, RoleName
from holdfast.model.roles import Memory, MemoryKind, Ownership
from holdfast.model.settings import Settings
from holdfast.model.snapshot import ClusterRecord
from holdfast.node.mirror import Mirror
from holdfast.node.saved_memory import LOOK_EVERY_S, SavedMemory
from holdfast.store.memory import MemoryStore
from holdfast.store.records import CLUSTER, ownership_key

A = NodeName("a")
WEB = RoleName("web")
KEPT_S = 100.0
MINE, OTHERS = "/saved/web.id.1.i-1.state", "/saved/web.other.1.i-1.state"


class Looking(SimulatedHypervisor):
    """Tells when files are about to be listed."""

    before_list: Callable[[], object] = staticmethod(lambda: None)

    async def saved_in(self, directory: str) -> tuple[str, ...]:
        self.before_list()
        return await super().saved_in(directory)


class Bench:
    """Node a coordinates, and one file is in the directory of saved memory."""

    def __init__(self, *, kept_s: float = KEPT_S) -> None:
        self.database = SmallDatabase()
        settings = Settings(saved_state_directory="/saved/")
        self.database.put(CLUSTER, ClusterRecord(id=ClusterId("id"), name="test", created_at_ms=0, settings=settings))
        self.database.elect(self.database.up(session("a")), incarnation("a"))
        self.near = Neighbourhood()
        self.hypervisor = Looking(neighbourhood=self.near, timeouts=HypervisorTimeouts(ask_ms=100))
        self.mirror, self.store = Mirror(), MemoryStore(self.database.database)
        self.saved = SavedMemory(
            me=A, store=self.store, mirror=self.mirror, hypervisor=self.hypervisor, left_over_kept_s=kept_s
        )
        self._following: asyncio.Task[None] | None = None

    def file(self, path: str = MINE) -> None:
        self.near.files[path] = SavedFile(
            uuid="u", name="web", memory_id="i-1", memory=SimulatedMemory(boot=1), bytes=1, is_complete=True
        )

    def name_it(self) -> None:
        memory = Memory(kind=MemoryKind.SAVED, id="i-1", path=MINE, disk_generation=0)
        self.database.put(ownership_key(WEB), Ownership(role=WEB, memory=memory))

    async def __aenter__(self) -> Bench:
        self._following = asyncio.create_task(self.mirror.run(self.store))
        changed = self.mirror.subscribe()
        while self.mirror.snapshot is None:
            await changed.wait()
            changed.clear()
        self._looking = asyncio.create_task(self.saved.run())
        return self

    def lose_sight(self) -> None:
        """The mirror shows for ever what it shows now."""
        assert self._following is not None
        self._following.cancel()

    async def __aexit__(self, *_: object) -> None:
        for task in (self._following, self._looking):
            assert task is not None
            task.cancel()
            await asyncio.wait([task])

    def codes(self) -> list[str]:
        return [condition.code for condition in self.saved.conditions]


def on_bench(look: Callable[[Bench], Awaitable[None]], *, kept_s: float = KEPT_S) -> None:
    @virtual
    async def go() -> None:
        async with Bench(kept_s=kept_s) as bench:
            await look(bench)

    go()


def test_what_no_record_names_is_removed_after_a_while_and_what_is_anothers_never() -> None:
    async def look(bench: Bench) -> None:
        bench.file(MINE)
        bench.file(OTHERS)
        bench.file("/saved/notes.txt")
        await asyncio.sleep(KEPT_S - 2 * LOOK_EVERY_S)
        assert MINE in bench.near.files
        await asyncio.sleep(4 * LOOK_EVERY_S)
        assert list(bench.near.files) == [OTHERS, "/saved/notes.txt"]

    on_bench(look)


def test_safe_7_what_the_database_names_is_kept_whatever_the_mirror_shows() -> None:
    async def look(bench: Bench) -> None:
        bench.lose_sight()
        await asyncio.sleep(1)
        bench.name_it()
        bench.file(MINE)
        await asyncio.sleep(KEPT_S + 3 * LOOK_EVERY_S)
        assert MINE in bench.near.files

    on_bench(look)


def test_safe_7_the_records_are_read_after_the_files_were_listed() -> None:
    async def look(bench: Bench) -> None:
        def saved_just_now() -> None:
            bench.name_it()
            bench.file(MINE)

        removed: list[str] = []
        bench.near.on_removed = removed.append
        bench.hypervisor.before_list = saved_just_now
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert MINE in bench.near.files
        assert removed == []

    on_bench(look, kept_s=0.0)


def test_safe_7_a_record_that_cannot_be_read_keeps_every_file() -> None:
    async def look(bench: Bench) -> None:
        bench.file(MINE)
        bench.database.put(ownership_key(RoleName("db")), session("a"))
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert MINE in bench.near.files

    on_bench(look, kept_s=0.0)


def test_only_the_coordinators_node_removes() -> None:
    async def look(bench: Bench) -> None:
        bench.database.end_session(A)
        await asyncio.sleep(1)
        bench.file(MINE)
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert MINE in bench.near.files

    on_bench(look, kept_s=0.0)


def test_a_directory_that_takes_nothing_is_a_condition_until_it_does() -> None:
    async def look(bench: Bench) -> None:
        assert bench.codes() == []
        for lever, value, sound in (("is_storage_gone", True, False), ("free_bytes", 0, None)):
            setattr(bench.near, lever, value)
            await asyncio.sleep(2 * LOOK_EVERY_S)
            assert bench.codes() == ["saved-memory-unwritable"]
            setattr(bench.near, lever, sound)
            await asyncio.sleep(2 * LOOK_EVERY_S)
            assert bench.codes() == []

    on_bench(look)


def test_too_little_room_for_the_largest_guest_here_is_a_condition() -> None:
    async def look(bench: Bench) -> None:
        bench.database.role(role_spec("web", memory_bytes=2 * GIB), owned("web", "a"))
        bench.database.role(role_spec("db", memory_bytes=4 * GIB), owned("db", "b"))
        bench.near.free_bytes = 2 * GIB
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert bench.codes() == []
        bench.near.free_bytes = 2 * GIB - 1
        await asyncio.sleep(2 * LOOK_EVERY_S)
        (condition,) = bench.saved.conditions
        assert condition.code == "saved-memory-no-room"
        assert "web, which has 2048 MiB" in condition.text

    on_bench(look)


def test_a_probe_leaves_nothing_behind_and_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.state").write_bytes(b"")
    assert write_probe(tmp_path, ".probe") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert names_in(tmp_path) == ("a.state",)
    for look in (lambda: write_probe(tmp_path / "gone", ".probe"), lambda: names_in(tmp_path / "gone")):
        with pytest.raises(FileNotFoundError):
            look()


def test_safe_7_a_file_is_not_called_absent_while_its_directory_is_not_there(tmp_path: Path) -> None:
    assert read_saved(tmp_path / "web.state").kind is SavedKind.ABSENT
    with pytest.raises(FileNotFoundError):
        read_saved(tmp_path / "unmounted" / "web.state")


def test_a_simulated_directory_that_takes_nothing_is_an_error() -> None:
    @virtual
    async def go() -> None:
        hypervisor = SimulatedHypervisor(neighbourhood=Neighbourhood(free_bytes=0))
        with pytest.raises(HypervisorUnavailable, match="No space"):
            await hypervisor.room_to_save("/saved", ".probe")

    go()
