"""`backup.…` and `quorum.force`: what is asked of the daemon itself, because it must work without a database.

Rule of the file: everything that can be refused is refused before the node that lives here is ended.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from holdfast.model.backups import BackupInfo, RestoredCluster
from holdfast.model.errors import InvalidInput, Refused
from holdfast.node.backups import list_backups
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import loopback, tls_files
from holdfast.node.founding import Tell
from holdfast.node.line_protocol import Result
from holdfast.node.member import Member
from holdfast.node.restore import RestoreParams, Restorer, ThisMachine
from holdfast.store.etcd.client import EtcdConnections
from holdfast.store.etcd.own_copy import read_own_copy
from holdfast.store.records import ROOT

OWN_COPY_S: Final = 10.0

Work = Callable[[Tell], Awaitable[object]]
Instead = Callable[[Work], AsyncGenerator[object, None]]
"""Ends the node that lives here, if one does, does the work, and has the machine live as what it is then."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CreateBackupParams(_Strict):
    """What `holdfast backup create` asks for."""

    path: Path | None = None


class ForceParams(_Strict):
    """What `holdfast quorum force` asks for.

    node   whose data the cluster goes on with: this one.
    down   every other host, as the person says.
    look   only save the data and say what is in it.
    """

    node: str
    person: str
    down: tuple[str, ...] = ()
    look: bool = False


class RestoreRequests:
    """Answers them on one machine, in a cluster or in none."""

    methods: Final = frozenset(("backup.create", "backup.list", "backup.restore", "quorum.force"))

    def __init__(self, config: DaemonConfig, clock: Clock, instead: Instead) -> None:
        self._config = config
        self._restorer = Restorer(config, clock, ThisMachine(config))
        self._instead = instead

    async def handle(self, method: str, params: dict[str, Any], member: Member | None) -> AsyncGenerator[object, None]:
        """Answer one of `methods`: steps, then a `Result`."""
        if method == "backup.list":
            yield Result(list_backups(self._config.backups))
        elif method == "backup.restore":
            async for item in self._restore(RestoreParams.model_validate(params), member):
                yield item
        elif member is None:
            raise Refused("this machine is not in a cluster", hint="holdfast backup restore FILE makes it one")
        elif method == "backup.create":
            yield Result(await member.backups.create(CreateBackupParams.model_validate(params).path))
        else:
            async for item in self._force(ForceParams.model_validate(params), member):
                yield item

    async def _force(self, wanted: ForceParams, member: Member) -> AsyncGenerator[object, None]:
        me = member.identity.node
        if wanted.node != me:
            raise InvalidInput(
                f"this machine is {me}; the data of {wanted.node} lie on that machine",
                hint=f"run it there, or go on from here: holdfast quorum force --from {me}",
            )
        saved = await self._saved(member)
        if wanted.look:
            yield Result(saved)
            return
        params = RestoreParams(path=Path(saved.path), person=wanted.person, down=wanted.down)
        open_still = self._restorer.check(params).unaccounted()
        if open_still:
            raise Refused(
                f"it was not said of {', '.join(open_still)} that they are down",
                hint="make sure that they are off and stay off, then name every one of them",
            )
        async for item in self._restore(params, member):
            yield item

    async def _saved(self, member: Member) -> BackupInfo:
        """What this machine's member has stored, as a backup; without a majority it is all there is."""
        connections = EtcdConnections((loopback(member.identity),), tls_files(self._config))
        try:
            listing = await read_own_copy(connections, ROOT, timeout_s=OWN_COPY_S)
        finally:
            await connections.close()
        return await member.backups.keep(listing)

    async def _restore(self, params: RestoreParams, member: Member | None) -> AsyncGenerator[object, None]:
        restoration = self._restorer.check(params)
        roles = _roles_known_to(member)

        async def work(tell: Tell) -> RestoredCluster:
            return await self._restorer.restore(restoration, roles, tell)

        async for item in self._instead(work):
            yield item


def _roles_known_to(member: Member | None) -> frozenset[str]:
    snapshot = member.life.mirror.snapshot if member is not None else None
    return frozenset(spec.value.uuid for spec in snapshot.specs.values()) if snapshot is not None else frozenset()
