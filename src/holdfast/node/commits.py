"""How a request reads the cluster and changes it: from the mirror, and by one guarded transaction.

Rule of the file: a change is decided on a snapshot, and tried again on a fresh one when something else changed
meanwhile. Source: SAFE-4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, TypeVar

from holdfast.model.errors import Conflict, Unavailable
from holdfast.model.ids import RoleName
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import Progress, RoleStatus
from holdfast.node.documents import View, role_status
from holdfast.node.life import Life
from holdfast.store.port import Store, Txn

ATTEMPTS: Final = 5
QUORUM_PROBE_S: Final = 1.0
LOOK_S: Final = 1.0

T = TypeVar("T")


class Commits:
    """Reads and changes the cluster for the requests of one node."""

    def __init__(self, life: Life, store: Store) -> None:
        self.life = life
        self.store = store
        self.events = life.events

    async def change(self, attempt: Callable[[Snapshot], tuple[Txn, T]]) -> T:
        """Commit a change; on a conflict decide it anew on a newer snapshot. Returns when the mirror shows it."""
        for _ in range(ATTEMPTS):
            snapshot = await self.snapshot()
            txn, outcome = attempt(snapshot)
            result = await self.store.txn(txn)
            await self.life.mirror.wait_revision(result.revision)
            if result.succeeded:
                return outcome
        raise Conflict("it was changed by others all the time", hint="try again")

    async def snapshot(self) -> Snapshot:
        """The cluster as this node knows it. Raises: Unavailable."""
        snapshot = self.life.mirror.snapshot
        if snapshot is None or snapshot.cluster is None:
            raise Unavailable(
                f"node {self.life.me} is not up: {self.life.obstacle or 'it has not reached the cluster database yet'}",
                hint="check the other nodes: a majority of voters must run; then try again",
            )
        return snapshot

    async def view(self, snapshot: Snapshot) -> View:
        """What this node knows besides the snapshot."""
        life = self.life
        return View(
            me=life.me,
            standing=dict(life.detector.standing),
            heard_on=life.heard_on(snapshot),
            database_answers=await self.database_answers(),
            now_ms=life.clock.wall_ms(),
            obstacle=life.obstacle,
        )

    async def database_answers(self) -> bool:
        """A read that needs a majority of voters: it proves nothing, but without it nothing can be decided."""
        try:
            await self.store.list("holdfast/cluster", timeout_s=QUORUM_PROBE_S)
        except Unavailable:
            return False
        return True

    async def role_document(self, name: RoleName) -> RoleStatus:
        """One role as it is now."""
        snapshot = await self.snapshot()
        return role_status(name, snapshot, await self.view(snapshot))

    async def follow_role(
        self, name: RoleName, is_over: Callable[[RoleStatus], bool], within_s: float
    ) -> AsyncGenerator[Progress | RoleStatus, None]:
        """Tell of a role's way until it is over; its last document comes last."""
        until = asyncio.get_running_loop().time() + within_s
        changed = self.life.mirror.subscribe()
        status, told = await self.role_document(name), None
        while not is_over(status) and asyncio.get_running_loop().time() < until:
            if told != (status.state, status.owner, status.transfer):
                told = status.state, status.owner, status.transfer
                where = f" on {status.owner}" if status.owner else ""
                yield Progress(text=f"{name} is {status.state}{where}", transfer=status.transfer)
            await wait_change(changed)
            status = await self.role_document(name)
        yield status


async def wait_change(changed: asyncio.Event) -> None:
    """Wait until something changed, or for a moment: time alone changes states too."""
    try:
        async with asyncio.timeout(LOOK_S):
            await changed.wait()
    except TimeoutError:
        pass
    changed.clear()
