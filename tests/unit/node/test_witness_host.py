"""Several witnesses on one machine: none takes the ports of another, and one is forgotten while others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.identity import NodeIdentity, Ports, write_identity
from holdfast.membership.tokens import create_token, decode_token
from holdfast.model.errors import Conflict, NotFound, Unavailable
from holdfast.node.founding import write_own_authority
from holdfast.node.residence import stranger
from holdfast.node.witness_host import (
    FORGET,
    Instance,
    config_of,
    forget,
    free_ports,
    instances,
    join,
    named,
    serve_all,
)

NOBODY = "127.0.0.1"
SOON_S = 10.0


def test_each_witness_of_a_machine_has_ports_of_its_own(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        ports = free_ports(instances(tmp_path))
        write_identity(stranger(name, {"cluster-a": "192.0.2.9"}, ports), tmp_path / name / "identity.json")
    (tmp_path / "aborted").mkdir()
    found = [one.identity.ports for one in instances(tmp_path)]
    assert found[0] == Ports()
    assert [one.etcd_client for one in found] == [2379, 2389, 2399]
    assert len({one.config.database for one in instances(tmp_path)}) == 3


async def test_a_witness_that_could_not_learn_of_its_end_is_told_to_forget_first(tmp_path: Path) -> None:
    token, _ = create_token(
        authority_fingerprint="ab" * 32, endpoints=(Endpoint(address="192.0.2.1", port=1),), now_ms=0
    )
    folder = tmp_path / decode_token(token).authority_fingerprint[:16]
    write_identity(stranger("attic", {"cluster-a": "192.0.2.9"}, Ports()), folder / "identity.json")
    with pytest.raises(Conflict) as refused:
        await join(token, name="attic", state=tmp_path)
    assert "holdfast witness forget" in refused.value.hint


def be_witness(state: Path, folder: str, cluster: str) -> Instance:
    """A witness that voted, in a cluster where nobody answers."""
    config = config_of(state / folder)
    moved = Ports(etcd_client=1, etcd_peer=2)
    me = stranger("attic", {"cluster-a": NOBODY}, moved).model_copy(update={"cluster_name": cluster})
    write_own_authority(config, me, bytes(32))
    config.seat.write_text("its member")
    wal = config.database / "member" / "wal" / "old.wal"
    wal.parent.mkdir(parents=True)
    wal.write_text(cluster)
    write_identity(me, config.identity)
    return named(folder, state)


class Served:
    """What `witness run` would serve."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.now: list[str] = []
        self.begun: list[str] = []
        self.is_deaf = False
        self._stop = asyncio.Event()

    async def serve(self, one: Instance) -> None:
        """Be a witness until cancelled; hold on to it for a while, as one whose disk is slow."""
        cluster = one.identity.cluster_name
        self.now.append(cluster)
        self.begun.append(cluster)
        try:
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if self.is_deaf and not self._stop.is_set():
                        continue
                    await asyncio.sleep(0.3)
                    raise
        finally:
            self.now.remove(cluster)

    @asynccontextmanager
    async def going(self) -> AsyncIterator[Served]:
        """Serve until the block ends."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve_all(self.state, self.serve, stop=self._stop))
            yield self
            self._stop.set()

    async def wait(self, *clusters: str) -> None:
        """Wait until exactly these are served."""
        async with asyncio.timeout(SOON_S):
            while sorted(self.now) != sorted(clusters):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.05)


async def test_safe_4_a_witness_is_forgotten_while_those_of_other_clusters_are_served(tmp_path: Path) -> None:
    one = be_witness(tmp_path, "first", "demo")
    be_witness(tmp_path, "second", "other")
    async with Served(tmp_path).going() as served:
        await served.wait("demo", "other")
        answer = await forget("demo", state=tmp_path)
        assert served.now == ["other"], "it is served while its data is taken away"
        await served.wait("other")
    assert served.begun == ["demo", "other"], "the other one was disturbed"
    assert answer == {"node": "attic", "cluster": "demo", "kept": str(one.folder / f"forgotten-{one.identity.node_id}")}
    assert [left.identity.cluster_name for left in instances(tmp_path)] == ["other"]
    assert not one.config.database.exists()
    assert not one.config.seat.exists()
    kept = Path(answer["kept"])
    assert (kept / "seat.json").read_text() == "its member"
    assert (kept / "etcd" / "member" / "wal" / "old.wal").read_text() == "demo"
    assert NodeIdentity.model_validate_json((kept / "identity.json").read_text()).cluster_name == "demo"
    assert not (one.folder / FORGET).exists()


async def test_a_witness_that_is_not_let_go_of_is_not_forgotten(tmp_path: Path) -> None:
    one = be_witness(tmp_path, "first", "demo")
    served = Served(tmp_path)
    served.is_deaf = True
    async with served.going():
        await served.wait("demo")
        with pytest.raises(Unavailable, match="does not let go of it; nothing was done"):
            await forget("demo", state=tmp_path, let_go_s=1.0)
    assert named("demo", tmp_path) == one
    assert not (one.folder / FORGET).exists(), "it would never be served again"


async def test_a_witness_whose_forgetting_was_broken_off_is_served_by_nobody(tmp_path: Path) -> None:
    one = be_witness(tmp_path, "first", "demo")
    be_witness(tmp_path, "second", "other")
    (one.folder / FORGET).touch()
    async with Served(tmp_path).going() as served:
        await served.wait("other")
        await forget("demo", state=tmp_path)
    assert served.begun == ["other"]


async def test_the_cluster_to_forget_is_named_without_doubt(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="its clusters: none"):
        await forget("demo", state=tmp_path)
    be_witness(tmp_path, "first", "demo")
    be_witness(tmp_path, "second", "demo")
    with pytest.raises(Conflict) as refused:
        await forget("demo", state=tmp_path)
    assert refused.value.hint == "say first or second"
    assert (await forget("second", state=tmp_path))["cluster"] == "demo"
    assert [one.folder.name for one in instances(tmp_path)] == ["first"]


async def test_a_witness_that_left_joins_again_only_when_nothing_of_before_is_taken_away_any_more(
    tmp_path: Path,
) -> None:
    now: list[str] = []
    asked: list[list[str]] = []

    async def take_away(one: Instance) -> None:
        """The end of a witness that was removed: first its identity goes, then the rest, which takes a while."""
        now.append("taking away")
        one.config.identity.unlink()
        await asyncio.sleep(0.5)
        now.clear()

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(list(now))
        writer.close()

    cluster = await asyncio.start_server(answer, NOBODY, 0)
    endpoint = Endpoint(address=NOBODY, port=cluster.sockets[0].getsockname()[1])
    token, _ = create_token(authority_fingerprint="ab" * 32, endpoints=(endpoint,), now_ms=0)
    one = be_witness(tmp_path, decode_token(token).authority_fingerprint[:16], "demo")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_all(tmp_path, take_away, stop=stop))
        async with asyncio.timeout(SOON_S):
            while one.config.identity.exists():  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)
        with pytest.raises(Unavailable, match="does not let go"):
            await join(token, name="attic", state=tmp_path, let_go_s=0.0)
        with pytest.raises(Unavailable, match="no node of the cluster answered"):
            await join(token, name="attic", state=tmp_path)
        stop.set()
    assert asked, "the cluster was never asked"
    assert not any(asked), "it was asked while the folder was still being emptied"
    cluster.close()
    await cluster.wait_closed()
