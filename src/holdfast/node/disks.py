"""The shared disks of the cluster on this node: who of them is ready, and how to expel a lost node from all.

Rule of the file: one watch per disk and session; whoever asks for a disk that is not watched is told that it is not
ready. Source: SAFE-1, SAFE-2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from holdfast.hypervisor.port import Hypervisor
from holdfast.model.disks import DiskHealth, DiskSpec, DiskState, Protection, reservation_key
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import ClusterId, DiskName, Incarnation, NodeName
from holdfast.model.nodes import Condition
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.disk_watch import DiskWatch, Touch
from holdfast.node.mirror import Mirror
from holdfast.storage.arbitration import ExpelOutcome, RefusalReason, Refused
from holdfast.storage.port import Lun

log = logging.getLogger(__name__)

OPEN_AGAIN_S: Final = 1.0
OpenLun = Callable[[DiskSpec], Lun]
"""The way from this node to a disk, through the nexus that its guests use. Sends nothing. Raises: HoldfastError."""


class DiskKeeper:
    """Watches every disk of the cluster while this node has a session."""

    def __init__(
        self, *, cluster_id: ClusterId, me: NodeName, mirror: Mirror, hypervisor: Hypervisor, open_lun: OpenLun
    ) -> None:
        self._cluster_id = cluster_id
        self._me = me
        self._mirror = mirror
        self._hypervisor = hypervisor
        self._open_lun = open_lun
        self._watches: dict[DiskName, DiskWatch] = {}
        self._problems: dict[DiskName, DiskHealth] = {}
        self._key = 0

    @property
    def health(self) -> dict[DiskName, DiskHealth]:
        """How this node stands with each disk."""
        found = self._problems | {name: watch.health for name, watch in self._watches.items()}
        return dict(sorted(found.items()))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What a person should know of them."""
        found = (_condition(name, health, self._me) for name, health in self.health.items())
        return tuple(condition for condition in found if condition is not None)

    async def run(self, incarnation: Incarnation, touch: Touch) -> None:
        """Watch with the key of this incarnation until cancelled: when its session ends."""
        self._key = reservation_key(self._cluster_id, incarnation)
        changed = self._mirror.subscribe()
        running: dict[DiskName, tuple[Versioned[DiskSpec], asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                await changed.wait()
                changed.clear()
                wanted = (self._mirror.snapshot or Snapshot()).disks
                for name in [name for name, (disk, _) in running.items() if wanted.get(name) != disk]:
                    running.pop(name)[1].cancel()
                for name, disk in wanted.items():
                    if name not in running:
                        running[name] = disk, tasks.create_task(self._watch(disk.value, touch))

    async def _watch(self, spec: DiskSpec, touch: Touch) -> None:
        lun = await self._opened(spec)
        watch = DiskWatch(
            spec,
            lun,
            me=self._me,
            key=self._key,
            mirror=self._mirror,
            hypervisor=self._hypervisor,
            touch=touch,
        )
        self._watches[spec.name] = watch
        try:
            await watch.run()
        finally:
            if self._watches.get(spec.name) is watch:
                del self._watches[spec.name]

    async def _opened(self, spec: DiskSpec) -> Lun:
        try:
            while True:
                try:
                    return self._open_lun(spec)
                except HoldfastError as error:
                    self._problems[spec.name] = DiskHealth(state=DiskState.UNREACHABLE, detail=error.message)
                await asyncio.sleep(OPEN_AGAIN_S)
        finally:
            self._problems.pop(spec.name, None)

    async def take(self, disks: tuple[DiskName, ...]) -> None:
        """Take those that only the owner of their role is registered with. Its claim is committed. Source: SAFE-2."""
        watches = [self._watches[disk] for disk in disks if disk in self._watches]
        async with asyncio.TaskGroup() as tasks:
            for watch in watches:
                if watch.spec.protection is Protection.ROLE:
                    tasks.create_task(watch.take())

    async def come_back(self, disks: tuple[DiskName, ...]) -> None:
        """See to it that this node is registered again where another's start took its key; `problem` says if not."""
        async with asyncio.TaskGroup() as tasks:
            for watch in [self._watches[disk] for disk in disks if disk in self._watches]:
                tasks.create_task(watch.come_back())

    async def settle(self, disks: tuple[DiskName, ...], lingering: tuple[Incarnation, ...] | None) -> str | None:
        """See to it that no write lands any more that a role's earlier guests left under way, or say why not.

        lingering   the incarnations that they ran under; None: it may be any. Source: SAFE-1.
        """
        keys = None if lingering is None else tuple(reservation_key(self._cluster_id, one) for one in lingering)
        watches = [self._watches[disk] for disk in disks if disk in self._watches and keys != ()]
        async with asyncio.TaskGroup() as tasks:
            asked = {watch.spec.name: tasks.create_task(watch.settle(keys)) for watch in watches}
        whose = "an earlier guest" if lingering is None else f"incarnation {', '.join(lingering)}"
        for disk, task in asked.items():
            if (words := task.result()) is not None:
                return f"disk {disk}: writes of {whose} may still wait for it: {words}"
        return None

    @contextmanager
    def used_by(self, uuid: str, disks: tuple[DiskName, ...]) -> Iterator[str | None]:
        """Start a guest inside: yields why it may not, or None. Nothing registers a disk meanwhile. Source: SAFE-1."""
        problem = self.problem(disks)
        watches = [] if problem is not None else [self._watches[disk] for disk in disks]
        for watch in watches:
            watch.users.append(uuid)
        try:
            yield problem
        finally:
            for watch in watches:
                watch.users.remove(uuid)

    def has_lost(self, disks: tuple[DiskName, ...]) -> bool:
        """Whether this node has not reached one of these for `storage_loss_move_ms`."""
        health = self.health
        return any(disk in health and health[disk].is_lost for disk in disks)

    def problem(self, disks: tuple[DiskName, ...]) -> str | None:
        """Why no guest may start from these disks now, or None when all are ready."""
        for disk in disks:
            watch = self._watches.get(disk)
            health = watch.health if watch is not None else self._problems.get(disk)
            if health is None or not health.is_ready:
                return f"disk {disk}: {health.detail if health is not None else 'this node does not know it'}"
        return None

    async def expel(self, disk: DiskSpec, incarnation: Incarnation) -> ExpelOutcome:
        """Take the right to write to a disk from a lost incarnation; this node must be registered. Source: SAFE-2."""
        watch = self._watches.get(disk.name)
        if watch is None or watch.spec != disk:
            return Refused(reason=RefusalReason.UNREACHABLE, words=f"{self._me} has not opened disk {disk.name} yet")
        return await watch.expel(reservation_key(self._cluster_id, incarnation))


def _condition(disk: DiskName, health: DiskHealth, me: NodeName) -> Condition | None:
    text = f"{me}: disk {disk}: {health.detail}"
    match health.state:
        case DiskState.EXPELLED:
            return Condition(code="disk-expelled", subject=disk, text=text)
        case DiskState.LAPSED:
            return Condition(code="disk-unprotected", subject=disk, text=text)
        case DiskState.UNREACHABLE:
            return Condition(code="disk-unreachable", subject=disk, text=text)
        case DiskState.READY | DiskState.STANDBY if health.is_slow:
            return Condition(code="disk-slow", subject=disk, text=f"{me}: disk {disk}: it answers slowly here")
        case DiskState.READY | DiskState.STANDBY | DiskState.NOT_REGISTERED:
            return None
