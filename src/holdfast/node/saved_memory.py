"""The directory of saved memory: says when nothing could be saved there, and removes what nothing will start from.

Rule of the file: first the files are listed, then the records are read from the database itself, never from the mirror;
a file that no record names then is named by none ever again, so it makes no difference how late it is removed. That it
is kept for an hour all the same is for people who look for it. Source: SAFE-7, `decide/saved_memory.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from holdfast.decide.saved_memory import largest_guest, left_over, probe_of
from holdfast.hypervisor.port import Hypervisor
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Condition
from holdfast.model.roles import Ownership
from holdfast.model.snapshot import ClusterRecord, Snapshot
from holdfast.node.mirror import Mirror
from holdfast.store.port import Store
from holdfast.store.records import OWNERSHIPS, decode

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 10.0
LEFT_OVER_KEPT_S: Final = 3600.0
"""A file that no record names is removed when this node has seen it for so long."""
MIB: Final = 1 << 20


class SavedMemory:
    """Looks after the directory; the coordinator's node removes what is left over.

    conditions   what keeps memory from being saved on this node, as of the last look.
    """

    def __init__(
        self,
        *,
        me: NodeName,
        store: Store,
        mirror: Mirror,
        hypervisor: Hypervisor,
        left_over_kept_s: float = LEFT_OVER_KEPT_S,
    ) -> None:
        self._me = me
        self._store = store
        self._mirror = mirror
        self._hypervisor = hypervisor
        self._kept_s = left_over_kept_s
        self._seen: dict[str, float] = {}
        """Files that are left over, and since when this node sees them."""
        self.conditions: tuple[Condition, ...] = ()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        snapshot = self._mirror.snapshot
        directory = snapshot.settings.saved_state_directory.rstrip("/") if snapshot is not None else ""
        if snapshot is None or snapshot.cluster is None or not directory:
            self.conditions = ()
            return
        self.conditions = await self._try(directory, snapshot, snapshot.cluster.value)
        coordinator = snapshot.coordinator
        if coordinator is None or coordinator.value.node != self._me:
            self._seen = {}
            return
        try:
            await self._tidy(directory, snapshot.cluster.value)
        except HoldfastError as error:
            log.warning("files of saved memory that nobody needs were not looked for: %s", error)

    async def _try(self, directory: str, snapshot: Snapshot, cluster: ClusterRecord) -> tuple[Condition, ...]:
        """What keeps memory from being saved here, if anything does."""
        try:
            free = await self._hypervisor.room_to_save(directory, probe_of(self._me, cluster))
        except HoldfastError as error:
            text = f"{self._me}: no memory can be saved to {directory}: {error.message}"
            return (Condition(code="saved-memory-unwritable", subject=self._me, text=text),)
        largest = largest_guest(snapshot, self._me)
        if largest is None or largest.memory_bytes <= free:
            return ()
        text = (
            f"{self._me}: {directory} has too little room for the memory of {largest.name}, "
            f"which has {largest.memory_bytes // MIB} MiB"
        )
        return (Condition(code="saved-memory-no-room", subject=self._me, text=text),)

    async def _tidy(self, directory: str, cluster: ClusterRecord) -> None:
        """Remove what has been left over for long enough. Raises: HoldfastError, when nothing is known."""
        names = await self._hypervisor.saved_in(directory)
        listing = await self._store.list(OWNERSHIPS)
        records = [decode(Ownership, item.key, item.value) for item in listing.items]
        now = asyncio.get_running_loop().time()
        self._seen = {name: self._seen.get(name, now) for name in left_over(names, cluster, records)}
        for name in [name for name, since in self._seen.items() if now - since >= self._kept_s]:
            await self._hypervisor.discard_saved(f"{directory}/{name}")
            log.warning("%s/%s was memory that no role starts from any more; it is removed", directory, name)
