"""This node's member of the cluster database as a program: etcd under its supervisor, and a way to ask only it.

Rule of the file: the program outlives holdfastd; only `clear` ends it. Source: SAFE-6.
"""

from __future__ import annotations

import asyncio
import logging
import shutil

from holdfast.membership.identity import NodeIdentity
from holdfast.model.errors import HoldfastError, NotFound
from holdfast.node.config import DaemonConfig
from holdfast.node.database import database_member, loopback, tls_files
from holdfast.store.errors import DiskFull
from holdfast.store.etcd.admin import EtcdAdmin
from holdfast.store.etcd.client import EtcdConnections
from holdfast.store.etcd.member_config import InitialState
from holdfast.store.etcd.preconditions import has_data, lacking_room
from holdfast.store.etcd.stored import Stored, StoredNote, SurelyStored
from holdfast.store.etcd.supervisor import EtcdSupervisor
from holdfast.store.port import MemberId

log = logging.getLogger(__name__)


class EtcdProcess:
    """`seat.MemberProcess` on etcd. Close it at the end of the daemon."""

    def __init__(self, config: DaemonConfig, identity: NodeIdentity) -> None:
        self._config = config
        self._identity = identity
        self._address = loopback(identity)
        self._connections = EtcdConnections((self._address,), tls_files(config))
        self._admin = EtcdAdmin(self._connections)
        self._supervisor: EtcdSupervisor | None = None
        self._running: asyncio.Task[None] | None = None
        self._note = StoredNote(database_member(config, identity, InitialState.EXISTING, ()).stored_file)
        self._surely = SurelyStored()

    @property
    def has_data(self) -> bool:
        """Whether a member has begun to store here."""
        return has_data(self._config.database)

    @property
    def is_cleared(self) -> bool:
        """Whether nothing of any member lies here."""
        return not self._config.database.exists()

    @property
    def problem(self) -> HoldfastError | None:
        """Why it does not run."""
        return self._supervisor.problem if self._supervisor is not None else None

    def shortage(self) -> DiskFull | None:
        """What it lacks in room to start again, should it end."""
        member = database_member(self._config, self._identity, InitialState.EXISTING, ())
        return lacking_room(member) if member.data_dir.exists() else None

    def keep_running(self, initial_cluster: tuple[tuple[str, str], ...], *, has_begun: bool) -> None:
        """Start or adopt it, and start it again whenever it ends."""
        supervisor = self._made(initial_cluster)
        if has_begun:
            supervisor.note_begun()
        self._running = asyncio.create_task(supervisor.run(), name="etcd-supervisor")

    def note_begun(self) -> None:
        """From now on it starts only where its data is."""
        if self._supervisor is not None:
            self._supervisor.note_begun()

    async def clear(self) -> None:
        """End it, also one that an earlier daemon started, and remove what it stored."""
        supervisor = self._supervisor or self._made(())
        await supervisor.stop()
        await self._let_go()
        if not self.is_cleared:
            await asyncio.to_thread(shutil.rmtree, self._config.database)
        self._note.forget()
        self._surely = SurelyStored()

    async def member(self) -> MemberId:
        """Which member it says it is. How far it says that it is gets noted, now and then."""
        status = await self._admin.status(self._address)
        seen = Stored(member=int(status.member_id), index=status.raft_index)
        stored = self._surely.saw(seen, asyncio.get_running_loop().time())
        if stored is not None:
            try:
                await asyncio.to_thread(self._note.write, stored)
            except OSError as error:
                log.warning("how far the database is stored here cannot be noted: %s", error)
        return status.member_id

    def use_addresses(self, identity: NodeIdentity) -> None:
        """Have it listen at this node's present addresses from its next start on, also after it ended by itself."""
        self._identity = identity
        if self._supervisor is not None:
            self._supervisor.use_config(database_member(self._config, identity, InitialState.EXISTING, ()))

    async def restart(self) -> None:
        """End it, so that it starts again as it is to run now. Raises: HoldfastError, with the member left as it is."""
        if self._supervisor is None:
            raise NotFound("this node has no member of the cluster database", hint="holdfast quorum show names who has")
        await self._supervisor.restart()

    def use_new_certificate(self) -> None:
        """Ask it with the certificate that the file has now; it reads the file itself at every handshake."""
        self._connections.use_new_certificate()

    async def close(self) -> None:
        """Let go of it; it runs on."""
        await self._let_go()
        await self._connections.close()

    def _made(self, initial_cluster: tuple[tuple[str, str], ...]) -> EtcdSupervisor:
        member = database_member(self._config, self._identity, InitialState.EXISTING, initial_cluster)
        self._supervisor = EtcdSupervisor(member)
        return self._supervisor

    async def _let_go(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait((running,))
        if self._supervisor is not None:
            self._supervisor.release()
            self._supervisor = None
