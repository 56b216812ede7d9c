"""holdfastd as a whole: the local socket, and the member once this machine is in a cluster."""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast import __version__
from holdfast.membership.errors import NotJoined
from holdfast.membership.identity import NodeIdentity, read_identity
from holdfast.model.errors import Conflict, HoldfastError, Refused
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import Progress
from holdfast.node.clean_machine import clean_machine
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.forgetting import METHOD as FORGET
from holdfast.node.forgetting import Forgetting, check
from holdfast.node.founding import CreateParams, Founder
from holdfast.node.joining import Joiner, JoinParams
from holdfast.node.left_behind import kept_of_another_generation, set_aside
from holdfast.node.line_protocol import LINE_BYTES, Result, answer
from holdfast.node.member import Member
from holdfast.node.requests import Requests
from holdfast.node.residence import forget_cluster
from holdfast.node.restore import ThisMachine
from holdfast.node.restore_requests import RestoreRequests, Work

log = logging.getLogger(__name__)


class Daemon:
    """Runs until `stop` is set. Before it is in a cluster it answers only how to get into one."""

    def __init__(self, config: DaemonConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._requests: Requests | None = None
        self._joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entering = asyncio.Lock()
        self._member: Member | None = None
        self._restoring = RestoreRequests(config, clock, self._instead)
        self._order: Callable[[], Awaitable[None]] | None = None
        self._ordered = asyncio.Event()
        self._is_leaving = False

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
        """One membership after the other: a machine that left its cluster is in none until it joins anew."""
        while True:
            try:
                identity = read_identity(self._config.identity)
            except NotJoined as error:
                log.info("%s", error)
                await self._joined
                identity = read_identity(self._config.identity)
            await self._live_as(identity)
            member, self._member, self._requests, self._is_leaving = self._member, None, None, True
            self._joined = asyncio.get_running_loop().create_future()
            if self._order is not None:
                order, self._order = self._order, None
                self._ordered.clear()
                await order()
            elif member is not None and member.life.heartbeats.superseded.is_set():
                await self._stay_behind(member)
            else:
                told = "node %s is no node of cluster %s any more; to be let in again: holdfast node join TOKEN"
                log.warning(told, identity.node, identity.cluster_name)
                await forget_cluster(self._config)
            self._is_leaving = False

    async def _live_as(self, identity: NodeIdentity) -> None:
        """Live as a node until it is evicted, left behind by a restore of its cluster, or to be restored itself."""
        member = self._member = Member(self._config, identity, self._clock)
        self._requests = Requests(
            member.life, member.database.store, member.enrolment, member.enrolment.revoke, member.member_calls
        )
        log.info("node %s of cluster %s", identity.node, identity.cluster_name)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(member.run())
            ends = [
                tasks.create_task(end.wait())
                for end in (member.life.evicted, member.life.heartbeats.superseded, self._ordered)
            ]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (running, *ends):
                task.cancel()

    async def _stay_behind(self, member: Member) -> None:
        """Its cluster went on without this node: end its guests, set its data aside. Source: SAFE-1."""
        identity, snapshot = member.identity, member.life.mirror.snapshot or Snapshot()
        roles = _roles_in(snapshot)
        log.error("cluster %s was restored elsewhere; %s ends its guests", identity.cluster_name, identity.node)
        await clean_machine(self._config, roles, within_s=None)
        folder = await set_aside(self._config, identity.generation)
        log.error("%s was left behind by its cluster; its data are kept in %s; join it anew", identity.node, folder)

    async def _instead(self, work: Work) -> AsyncGenerator[object, None]:
        """Do the work while no node lives here, and live as what the machine is then. Raises what the work raises."""
        if self._entering.locked() or self._order is not None or self._is_leaving:
            raise Conflict("this machine is just entering or leaving a cluster", hint="look at it: holdfast status")
        steps: asyncio.Queue[str | None] = asyncio.Queue()
        outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        async def order() -> None:
            try:
                outcome.set_result(await work(steps.put_nowait))
            except HoldfastError as error:
                outcome.set_result(error)
            finally:
                steps.put_nowait(None)

        async with self._entering:
            if self._member is not None:
                self._order = order
                self._ordered.set()
            else:
                await order()
            while (text := await steps.get()) is not None:
                yield Progress(text=text)
            result = await outcome
            if isinstance(result, HoldfastError):
                raise result
            if self._member is None and self._config.identity.exists() and not self._joined.done():
                self._joined.set_result(None)
        yield Result(result)

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
        elif method in self._restoring.methods:
            async for item in self._restoring.handle(method, params, self._member):
                yield item
        elif method == FORGET:
            async for item in self._forget(params):
                yield item
        elif self._requests is None:
            raise self._not_in_a_cluster()
        else:
            async for item in self._requests.handle(method, params):
                yield item

    async def _forget(self, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Be in no cluster, on a person's word."""
        if self._member is None:
            raise self._not_in_a_cluster()
        life, identity = self._member.life, self._member.identity
        check(params, identity, is_up=life.is_up)
        forgetting = Forgetting(
            config=self._config,
            identity=identity,
            roles=_roles_in(life.mirror.snapshot or Snapshot()),
            end_guests=ThisMachine(self._config).end_guests,
        )
        async for item in self._instead(forgetting.forget):
            yield item

    async def _enter(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Found or join a cluster, once."""
        if self._entering.locked() or self._joined.done() or self._requests is not None or self._is_leaving:
            raise Conflict(
                "this machine is in a cluster already",
                hint="holdfast status shows it; if it was removed from it: holdfast node forget",
            )
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
        self._joined.set_result(None)
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

    def _not_in_a_cluster(self) -> Refused:
        if self._is_leaving:
            return Refused(
                "this machine is not in a cluster now: it is just leaving one", hint="look again: holdfast status"
            )
        kept = kept_of_another_generation(self._config)
        if kept is None:
            hint = "holdfast cluster create NAME, or holdfast node join TOKEN"
            return Refused("this machine is not in a cluster", hint=hint)
        return Refused(
            f"this machine is not in a cluster; what it had of one that went on from a backup without it is in {kept}",
            hint="join it anew: holdfast node join TOKEN, with a token of the restored cluster",
        )

    def _about(self) -> dict[str, str | None]:
        identity = self._member.identity if self._member is not None else None
        return {
            "node": identity.node if identity is not None else None,
            "cluster": identity.cluster_name if identity is not None else None,
            "version": __version__,
        }


def _roles_in(snapshot: Snapshot) -> tuple[str, ...]:
    """The uuids of every guest that is a role's."""
    return tuple(spec.value.uuid for _, spec in sorted(snapshot.specs.items()))


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
