"""holdfastd as a whole: the local socket, and the member once this machine is in a cluster."""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast import __version__
from holdfast.membership.errors import NotJoined
from holdfast.membership.identity import NodeIdentity, read_identity
from holdfast.model.errors import Conflict, HoldfastError, Refused
from holdfast.model.status import Progress
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.founding import CreateParams, Founder
from holdfast.node.joining import Joiner, JoinParams
from holdfast.node.line_protocol import LINE_BYTES, Result, answer
from holdfast.node.member import Member
from holdfast.node.requests import Requests
from holdfast.node.residence import forget_cluster

log = logging.getLogger(__name__)


class Daemon:
    """Runs until `stop` is set. Before it is in a cluster it answers only how to get into one."""

    def __init__(self, config: DaemonConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._requests: Requests | None = None
        self._joined: asyncio.Future[NodeIdentity] = asyncio.get_running_loop().create_future()
        self._entering = asyncio.Lock()
        self._member: Member | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then announce the stop to the cluster and end. Raises: Conflict when one runs."""
        with _only_one(self._config.run_directory):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        server = await self._open_socket()
        async with server, asyncio.TaskGroup() as tasks:
            living = tasks.create_task(self._live())
            await stop.wait()
            if self._member is not None:
                await self._member.life.announce_stop()
            living.cancel()

    async def _live(self) -> None:
        """One membership after the other: a machine that was evicted is in no cluster until it joins anew."""
        while True:
            try:
                identity = read_identity(self._config.identity)
            except NotJoined as error:
                log.info("%s", error)
                identity = await self._joined
            await self._live_as(identity)
            log.warning("node %s was evicted from cluster %s", identity.node, identity.cluster_name)
            self._member = self._requests = None
            await forget_cluster(self._config)
            self._joined = asyncio.get_running_loop().create_future()

    async def _live_as(self, identity: NodeIdentity) -> None:
        """Live as a node until it is evicted."""
        member = self._member = Member(self._config, identity, self._clock)
        self._requests = Requests(member.life, member.database.store, member.enrolment)
        log.info("node %s of cluster %s", identity.node, identity.cluster_name)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(member.run())
            await member.life.evicted.wait()
            running.cancel()

    async def _open_socket(self) -> asyncio.Server:
        path = self._config.socket
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(
            lambda reader, writer: answer(reader, writer, self._handle), path, limit=LINE_BYTES
        )
        path.chmod(0o600)
        return server

    async def _handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        if method == "ping":
            yield Result(self._about())
        elif method in ("cluster.create", "node.join"):
            async for item in self._enter(method, params):
                yield item
        elif self._requests is None:
            raise Refused(
                "this machine is not in a cluster", hint="holdfast cluster create NAME, or holdfast node join TOKEN"
            )
        else:
            async for item in self._requests.handle(method, params):
                yield item

    async def _enter(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Found or join a cluster, once."""
        if self._entering.locked() or self._joined.done() or self._requests is not None:
            raise Conflict("this machine is in a cluster already", hint="holdfast status shows it")
        wanted = CreateParams if method == "cluster.create" else JoinParams
        checked = wanted.model_validate(params)
        async with self._entering, asyncio.TaskGroup() as tasks:
            steps: asyncio.Queue[str | None] = asyncio.Queue()
            entering = tasks.create_task(self._found_or_join(checked, steps))
            while (text := await steps.get()) is not None:
                yield Progress(text=text)
            outcome = await entering
        if isinstance(outcome, HoldfastError):
            raise outcome
        self._joined.set_result(outcome)
        yield Result({"node": outcome.node, "cluster": outcome.cluster_name, "version": __version__})

    async def _found_or_join(
        self, params: CreateParams | JoinParams, steps: asyncio.Queue[str | None]
    ) -> NodeIdentity | HoldfastError:
        try:
            if isinstance(params, CreateParams):
                return await Founder(self._config, self._clock).create(params, steps.put_nowait)
            return await Joiner(self._config, self._clock).join(params, steps.put_nowait)
        except HoldfastError as error:
            return error
        finally:
            steps.put_nowait(None)

    def _about(self) -> dict[str, str | None]:
        identity = self._member.identity if self._member is not None else None
        return {
            "node": identity.node if identity is not None else None,
            "cluster": identity.cluster_name if identity is not None else None,
            "version": __version__,
        }


@contextmanager
def _only_one(run_directory: Path) -> Iterator[None]:
    """Hold the lock that lets one holdfastd run per machine: two would claim roles in the name of one session."""
    run_directory.mkdir(parents=True, exist_ok=True)
    with (run_directory / "holdfastd.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"another holdfastd runs on this machine: it holds {lock.name}",
                hint="stop it first: systemctl stop holdfastd",
            ) from error
        yield
