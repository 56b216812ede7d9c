"""The second kind of heartbeat: this node stamps its slot on small shared disks, and looks whether the others do.

Rule of the file: what follows from a look is decided by `decide.stamps`. A disk is written to only after it said itself
that it is the disk of the record, and every look has a deadline, one at a time: a disk that hangs holds up nothing.
Source: DESIGN section 5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from holdfast.decide.detection import StorageEvidence
from holdfast.decide.stamps import Look, Sight, Stamp, after_look, silent_ms, storage_evidence
from holdfast.membership.replay import Sequences
from holdfast.model.disks import DiskHealth, DiskSpec, Slot
from holdfast.model.errors import HoldfastError, Unavailable
from holdfast.model.ids import ClusterId, DiskName, Incarnation, NodeName
from holdfast.model.nodes import Condition
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.clock import Clock
from holdfast.node.disks import OpenLun
from holdfast.node.mirror import Mirror
from holdfast.node.transactions import Self, take_slot
from holdfast.storage.outcome import Done
from holdfast.storage.port import Lun
from holdfast.storage.slots import SLOTS_MAX, Slots
from holdfast.store.port import Store

log = logging.getLogger(__name__)

INTERVAL_S: Final = 0.5
URGENT_INTERVAL_S: Final = 0.1
"""While a peer is suspect."""
LOOK_TIMEOUT_S: Final = 1.0
AGAIN_S: Final = 1.0


class StorageHeartbeat:
    """One node's stamps and looks on all heartbeat disks, while it has a session."""

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        me: NodeName,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        sequences: Sequences,
        open_lun: OpenLun,
        disks: Callable[[], Mapping[DiskName, DiskHealth]],
        is_urgent: Callable[[], bool],
    ) -> None:
        """`disks`: how this node stands with each disk. `is_urgent`: somebody is suspect, so look more often."""
        self._cluster_id = cluster_id
        self._me = me
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._sequences = sequences
        self._open_lun = open_lun
        self._disks = disks
        self._is_urgent = is_urgent
        self._sights: dict[DiskName, Sight] = {}

    def evidence(self, incarnation: Incarnation) -> StorageEvidence | None:
        """What the disks that this node reads well tell of a peer now."""
        return storage_evidence(self._sights.values(), incarnation, self._clock.monotonic_ms())

    def conditions(self, heard: Mapping[NodeName, Incarnation]) -> tuple[Condition, ...]:
        """Disks that this node cannot use, and peers that it hears and that do not stamp, for as long as patience."""
        now_ms = self._clock.monotonic_ms()
        limit_ms = (self._mirror.snapshot or Snapshot()).timings.patience_ms
        found: list[Condition] = []
        for disk, sight in sorted(self._sights.items()):
            if sight.bad_since_ms is not None and now_ms - sight.bad_since_ms >= limit_ms:
                text = f"{self._me}: it cannot stamp heartbeat disk {disk} and read it back in time"
                found.append(Condition(code="storage-heartbeat-failed", subject=disk, text=text))
            for node, incarnation in sorted(heard.items()):
                silence = silent_ms(sight, incarnation, now_ms)
                if silence is not None and silence >= limit_ms:
                    text = f"{node} is heard by {self._me} and does not stamp heartbeat disk {disk}"
                    found.append(Condition(code="storage-heartbeat-silent", subject=node, text=text))
        return tuple(found)

    async def run(self, me: Self, incarnation: Incarnation) -> None:
        """Stamp and look until cancelled: when the session ends."""
        changed = self._mirror.subscribe()
        running: dict[DiskName, tuple[Versioned[DiskSpec], asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                await changed.wait()
                changed.clear()
                known = (self._mirror.snapshot or Snapshot()).disks
                wanted = {name: disk for name, disk in known.items() if disk.value.is_heartbeat}
                for name in [name for name, (disk, _) in running.items() if wanted.get(name) != disk]:
                    running.pop(name)[1].cancel()
                for name, disk in wanted.items():
                    if name not in running:
                        running[name] = disk, tasks.create_task(self._beat(disk.value, me, incarnation))

    async def _beat(self, spec: DiskSpec, me: Self, incarnation: Incarnation) -> None:
        slot = await self._own_slot(me)
        lun = await self._opened(spec)
        slots: Slots | None = None
        try:
            while True:
                if slots is None:
                    slots = await self._identified(spec, lun)
                look = None
                if slots is not None and spec.name in (health := self._disks()) and health[spec.name].is_ready:
                    look = await self._look(slots, slot, incarnation)
                if look is None:
                    slots = None
                sight = self._sights.get(spec.name, Sight())
                self._sights[spec.name] = after_look(sight, look, self._clock.monotonic_ms())
                await asyncio.sleep(URGENT_INTERVAL_S if self._is_urgent() else INTERVAL_S)
        finally:
            self._sights.pop(spec.name, None)
            await lun.close()

    async def _look(self, slots: Slots, slot: int, incarnation: Incarnation) -> Look | None:
        """Stamp, then read all slots. None when either did not succeed in time."""
        owners = self._owners()
        own = Stamp(node=self._me, incarnation=incarnation, sequence=self._sequences.next())
        began_ms = self._clock.monotonic_ms()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                if not isinstance(await slots.write(slot, own), Done):
                    return None
                asked_ms = self._clock.monotonic_ms()
                seen = await slots.read(max(owners, default=0) + 1)
        except TimeoutError:
            return None
        if seen is None:
            return None
        return Look(
            began_ms=began_ms,
            asked_ms=asked_ms,
            ended_ms=self._clock.monotonic_ms(),
            own=own,
            stamps=tuple(stamp for number, stamp in enumerate(seen) if stamp and owners.get(number) == stamp.node),
        )

    async def _identified(self, spec: DiskSpec, lun: Lun) -> Slots | None:
        """The slots of the very disk of the record, or None."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                who, size = await lun.identity(), await lun.capacity()
        except TimeoutError:
            return None
        if not isinstance(who, Done) or not isinstance(size, Done) or who.value.designator != spec.designator:
            return None
        return Slots(lun, self._cluster_id, block_bytes=size.value.block_bytes)

    async def _opened(self, spec: DiskSpec) -> Lun:
        while True:
            try:
                return self._open_lun(spec)
            except HoldfastError as error:
                log.warning("heartbeat disk %s: %s", spec.name, error)
            await asyncio.sleep(AGAIN_S)

    def _owners(self) -> dict[int, NodeName]:
        slots = (self._mirror.snapshot or Snapshot()).slots.values()
        return {slot.value.number: slot.value.node for slot in slots}

    async def _own_slot(self, me: Self) -> int:
        """The number of this node's slot, taken by a transaction when it has none yet."""
        while True:
            snapshot = self._mirror.snapshot or Snapshot()
            mine = sorted(slot.value.number for slot in snapshot.slots.values() if slot.value.node == self._me)
            if mine:
                return mine[0]
            try:
                await self._take_slot(me, snapshot)
            except Unavailable as error:
                log.warning("no slot on the heartbeat disks yet: %s", error)
            await asyncio.sleep(AGAIN_S)

    async def _take_slot(self, me: Self, snapshot: Snapshot) -> None:
        for number in range(SLOTS_MAX):
            before = snapshot.slots.get(str(number))
            if before is None or before.value.node not in snapshot.nodes:
                await self._store.txn(take_slot(Slot(number=number, node=self._me), me, before=before))
                return
        log.error("all %d slots of the heartbeat disks are taken", SLOTS_MAX)
