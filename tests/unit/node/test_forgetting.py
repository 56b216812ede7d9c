"""A machine that its cluster took out forgets it on a person's word: killed anywhere, refused to a slip, asked anew."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.unit.decide.made_up import incarnation
from tests.unit.node.test_maintenance_requests import Desk
from tests.unit.node.test_restore import KEY, Killed, identity
from tests.unit.node.virtual_time import virtual

from holdfast.client import requests
from holdfast.client.answers import ForgottenCluster
from holdfast.client.local import LocalClient
from holdfast.fencing.guard.protocol import VERSION
from holdfast.fencing.simulated_guard import SimulatedGuard
from holdfast.membership.errors import NotJoined
from holdfast.membership.identity import (
    IncarnationFile,
    NodeIdentity,
    Ports,
    read_boot_id,
    read_identity,
    write_identity,
)
from holdfast.membership.seat_file import HeldSeat, SeatFile
from holdfast.model.errors import HoldfastError, InvalidInput, Refused, Unavailable
from holdfast.model.ids import Incarnation
from holdfast.node.config import DaemonConfig
from holdfast.node.forgetting import Forgetting, check
from holdfast.node.founding import write_own_authority
from holdfast.node.life import NO_ANSWER
from holdfast.node.residence import forget_cluster

TRACED = ("node/forgetting.py", "node/left_behind.py", "node/residence.py")
TEST_DRIVER = "test:///default"


class Site:
    """A voter that was evicted while it was off: all its files are there, and nobody answers it."""

    def __init__(self, folder: Path, me: NodeIdentity | None = None) -> None:
        self.config = DaemonConfig(
            state_directory=folder / "state",
            run_directory=folder / "run",
            log_directory=folder / "log",
            libvirt_uri=TEST_DRIVER,
        )
        self.guests = {"uuid-of-web", "nobody's"}
        self.begin(me or identity())

    def begin(self, me: NodeIdentity) -> None:
        """Be this node, with data."""
        write_own_authority(self.config, me, KEY)
        SeatFile(self.config.seat).write(HeldSeat(member=1, begun=True))
        wal = self.config.database / "member" / "wal" / "old.wal"
        wal.parent.mkdir(parents=True)
        wal.write_text(me.node_id)
        write_identity(me, self.config.identity)

    async def end_guests(self, roles: Collection[str]) -> None:
        self.guests -= set(roles)

    async def forget(self) -> dict[str, str]:
        forgetting = Forgetting(
            config=self.config,
            identity=read_identity(self.config.identity),
            roles=("uuid-of-web",),
            end_guests=self.end_guests,
        )
        return await forgetting.forget(lambda _: None)

    def incarnation(self) -> Incarnation:
        return IncarnationFile(read_boot_id(), self.config.run_directory / "incarnation").load_or_create()

    @property
    def is_joined(self) -> bool:
        try:
            read_identity(self.config.identity)
        except NotJoined:
            return False
        return True

    def old_data(self) -> list[str]:
        return sorted(path.read_text() for path in self.config.state_directory.rglob("old.wal"))


def run_killed(site: Site, number: int) -> int:
    """Forget and be killed at the so-manieth line; returns how many there were."""
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.endswith(TRACED):
            return None
        if event == "line":
            seen += 1
            if seen == number:
                raise Killed
        return trace

    sys.settrace(trace)
    try:
        asyncio.run(site.forget())
    except Killed:
        pass
    finally:
        sys.settrace(None)
    return seen


def check_forgotten(site: Site, before: Incarnation) -> None:
    assert site.guests == {"nobody's"}, "it is in no cluster and its guests run on"
    assert site.incarnation() != before, "what was proven of the node that is gone would be true of the next one"
    assert site.old_data() == [identity().node_id], "what the node had stored is lost"


def test_safe_1_killed_between_any_two_lines(tmp_path: Path) -> None:
    whole = Site(tmp_path / "whole")
    before = whole.incarnation()
    lines = run_killed(whole, 0)
    check_forgotten(whole, before)
    assert not whole.config.cluster_key.exists()
    assert lines > 30
    for number in range(1, lines + 1):
        site = Site(tmp_path / str(number))
        before = site.incarnation()
        run_killed(site, number)
        if site.is_joined:
            asyncio.run(site.forget())
        assert not site.is_joined
        check_forgotten(site, before)


async def test_guests_that_may_run_keep_it_in_the_cluster(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def fail(_: Collection[str]) -> None:
        raise Unavailable("the guard does not answer")

    forgetting = Forgetting(config=site.config, identity=identity(), roles=(), end_guests=fail)
    before = site.incarnation()
    with pytest.raises(Unavailable):
        await forgetting.forget(lambda _: None)
    assert site.is_joined
    assert site.incarnation() == before


async def test_a_cluster_can_be_forgotten_twice_and_both_folders_stay(tmp_path: Path) -> None:
    site = Site(tmp_path)
    first = await site.forget()
    again = identity().model_copy(update={"node_id": "6a3f0f5e-0000-4000-8000-00000000000f"})
    site.begin(again)
    second = await site.forget()
    assert first["kept"] != second["kept"]
    assert site.old_data() == sorted((identity().node_id, again.node_id))


def test_another_cluster_and_a_node_that_is_up_are_refused() -> None:
    check({"cluster": "demo"}, identity(), is_up=False)
    with pytest.raises(InvalidInput, match="a node of cluster demo, not of other"):
        check({"cluster": "other"}, identity(), is_up=False)
    with pytest.raises(Refused, match="a is up in cluster demo") as refused:
        check({"cluster": "demo"}, identity(), is_up=True)
    assert "holdfast node leave" in refused.value.hint


class Guard:
    """A guard with one guest on its list, over its real socket."""

    def __init__(self) -> None:
        self.guests = ["6695eb01-f6a4-8304-79aa-97f2502e193f"]
        self.is_frozen = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if self.is_frozen:
                continue
            request = json.loads(line)
            if request["command"] == "unprotect":
                self.guests = [uuid for uuid in self.guests if uuid != request["uuid"]]
            answer: dict[str, object] = {
                "ok": True,
                "version": VERSION,
                "entitled": False,
                "expired": False,
                "deadline": None,
            }
            answer |= {"watchdog": None, "guests": self.guests, "alive": [], "kill_bound_ms": 0}
            writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()


def free_ports() -> Ports:
    """Ports that nobody has now."""
    names = sorted(Ports.model_fields)
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = Ports(**{name: one.getsockname()[1] for name, one in zip(names, taken, strict=True)})
    for one in taken:
        one.close()
    return ports


@asynccontextmanager
async def daemon(site: Site, guard: Guard) -> AsyncIterator[LocalClient]:
    """Run holdfastd on the site, a program of its own, until the end of the block."""
    site.config.run_directory.mkdir(parents=True, exist_ok=True)
    config = site.config.state_directory / "holdfast.toml"
    config.write_text("".join(f'{key} = "{value}"\n' for key, value in site.config.model_dump().items()))
    client = LocalClient(site.config.socket)
    async with await asyncio.start_unix_server(guard.serve, site.config.guard_socket):
        begin = (sys.executable, "-c", "from holdfast.node.main import main; main()")
        running = await asyncio.create_subprocess_exec(*begin, "--config", config)
        try:
            async with asyncio.timeout(30):
                while running.returncode is None and not await is_node(client):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            yield client
        finally:
            if running.returncode is None:
                running.kill()
            await running.wait()


async def is_node(client: LocalClient) -> bool:
    try:
        return (await client.call(requests.ping())).node is not None
    except Unavailable:
        return False


async def refusal(client: LocalClient, request: requests.Request[Any]) -> HoldfastError:
    with pytest.raises(HoldfastError) as raised:
        await client.call(request)
    return raised.value


async def test_safe_1_holdfastd_forgets_without_any_database_and_joins_anew(tmp_path: Path) -> None:
    site = Site(tmp_path, identity().model_copy(update={"ports": free_ports()}))
    guard, join = Guard(), requests.join_node(token="hf1.x", node="a", addresses={"n": "127.0.0.1"})
    async with daemon(site, guard) as client:
        assert "holdfast node forget" in (await refusal(client, join)).hint
        assert "not of other" in (await refusal(client, requests.forget_cluster("other"))).message
        assert guard.guests
        answer = await client.call(requests.forget_cluster("demo"))
        kept = site.config.state_directory / f"forgotten-{identity().node_id}"
        assert answer == ForgottenCluster(node="a", cluster="demo", kept=str(kept))
        assert guard.guests == []
        assert (await client.call(requests.ping())).cluster is None
        assert (await refusal(client, join)).code != "conflict"
        assert "not in a cluster" in (await refusal(client, requests.forget_cluster("demo"))).message


async def test_safe_1_nothing_joins_while_its_guests_may_run_though_nobody_waits_any_more(tmp_path: Path) -> None:
    site = Site(tmp_path, identity().model_copy(update={"ports": free_ports()}))
    guard, join = Guard(), requests.join_node(token="hf1.x", node="a", addresses={"n": "127.0.0.1"})
    async with daemon(site, guard) as client:
        guard.is_frozen = True
        begun = asyncio.Event()
        forgetting = asyncio.create_task(
            client.call(requests.forget_cluster("demo"), on_progress=lambda _: begun.set())
        )
        await asyncio.wait_for(begun.wait(), 10)
        forgetting.cancel()
        await asyncio.wait((forgetting,))
        await asyncio.sleep(0.5)
        assert (await refusal(client, join)).code == "conflict"
        assert "just leaving" in (await refusal(client, requests.status())).message
        assert site.is_joined
        guard.is_frozen = False
        async with asyncio.timeout(20):
            while (await refusal(client, join)).code == "conflict":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert guard.guests == []


@virtual
async def test_a_node_that_no_voter_answers_says_what_may_be_the_cause() -> None:
    desk = Desk(a=8)
    said: list[str | None] = []
    waiting = asyncio.create_task(desk.life._wait_snapshot())
    for pause_s in (9, 2):
        await asyncio.sleep(pause_s)
        said.append(desk.life.obstacle)
    with pytest.raises(Unavailable, match="holdfast node forget"):
        await desk.commits.snapshot()
    mirroring = asyncio.create_task(desk.life.mirror.run(desk.store))
    await asyncio.wait_for(waiting, 5)
    mirroring.cancel()
    assert [*said, desk.life.obstacle] == [None, NO_ANSWER, None]


@virtual
async def test_a_node_counts_as_up_from_its_session_on() -> None:
    desk = Desk()
    desk.node("a")
    assert isinstance(desk.life.guard, SimulatedGuard)
    desk.life.guard.start()
    living = asyncio.create_task(desk.life._live_as(incarnation("a")))
    await asyncio.sleep(5)
    said = [desk.life.is_up]
    mirroring = asyncio.create_task(desk.life.mirror.run(desk.store))
    await asyncio.sleep(5)
    assert [*said, desk.life.is_up] == [False, True]
    for task in (living, mirroring):
        task.cancel()
    await asyncio.wait((living, mirroring))
    desk.life.guard.crash()


async def test_safe_2_who_was_taken_out_and_joins_again_is_another_incarnation(tmp_path: Path) -> None:
    config = DaemonConfig(state_directory=tmp_path / "state", run_directory=tmp_path, log_directory=tmp_path)
    file = IncarnationFile("this boot", tmp_path / "incarnation")
    before = file.load_or_create()
    await forget_cluster(config)
    assert file.load_or_create() != before
