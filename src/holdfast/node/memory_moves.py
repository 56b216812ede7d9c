"""The executor's hands for memory: save it, have it copied, and find out what became of that.

Rule of the file: each act ends with the record to commit, None (look again), or an error: nothing is known, and the
same record leads to the same act again. Nothing here lets a guest execute. Source: SAFE-7.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from holdfast.decide.memory_steps import (
    Present,
    after_failed_move,
    after_lost_copy,
    after_save,
    handed_over,
)
from holdfast.decide.steps import Situation
from holdfast.hypervisor.errors import GuestNotFound, GuestRequestFailed
from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget, SaveOptions
from holdfast.hypervisor.port import Guest, Hypervisor
from holdfast.model.errors import HoldfastError, Unavailable
from holdfast.model.roles import Ownership, Receiver, RoleSpec
from holdfast.model.snapshot import Snapshot
from holdfast.node.mirror import Mirror

log = logging.getLogger(__name__)

LEAST_S: Final = 30.0
LEAST_BYTES_PER_S: Final = 50_000_000
MIB: Final = 1 << 20
CANCEL_AGAIN_S: Final = 1.0
ENDS_WITHIN_S: Final = 5.0
LOOK_S: Final = 0.05


class MemoryMoves:
    """Moves memory out of this node."""

    def __init__(self, hypervisor: Hypervisor, mirror: Mirror) -> None:
        self._hypervisor = hypervisor
        self._mirror = mirror
        self._due: dict[str, float] = {}
        """By the id of what is made, when a save that nobody hears of any more is given up."""

    async def save(self, now: Situation, is_wanted: Callable[[], bool]) -> Ownership | None:
        """Suspend a guest and save its memory. It stays suspended whatever becomes of that.

        is_wanted   asked while it lasts: whether it is still to be saved.
        """
        making, uuid = now.ownership.making, now.spec.uuid
        assert making is not None, "what is saved has a name"
        due = self._due.setdefault(making.id, asyncio.get_running_loop().time() + seconds_for(now.spec.memory_bytes))
        if await self._hypervisor.progress(uuid) is not None:
            if asyncio.get_running_loop().time() < due:
                raise Unavailable(f"guest {uuid}: an earlier save of it is under way")
            return await self._give_up(now)
        settings = (self._mirror.snapshot or Snapshot()).settings
        options = SaveOptions(
            compression=settings.save_compression,
            channels=settings.save_channels,
            timeout_ms=int(seconds_for(now.spec.memory_bytes) * 1000),
        )
        try:
            await self._hypervisor.suspend(uuid)
            await self._while_wanted(uuid, self._hypervisor.save(uuid, making.path, making.id, options), is_wanted)
        except GuestNotFound:
            return None
        except GuestRequestFailed as error:
            return await self._after_failed(now, error.message)
        return await self.settle_save(now)

    async def settle_save(self, now: Situation) -> Ownership:
        """Its process is gone: say whether its memory is in the file, once that is certain."""
        making, uuid = now.ownership.making, now.spec.uuid
        await self._hypervisor.destroy(uuid)
        if making is None:
            return after_save(now, None)
        saved = await self._hypervisor.saved_state(making.path)
        return after_save(now, saved.bytes if saved.is_usable(uuid=uuid, memory_id=making.id) else None)

    async def copy(self, now: Situation, is_wanted: Callable[[], bool]) -> Ownership | None:
        """Have a guest copied to the node that receives it.

        is_wanted   asked while it lasts: whether it is still to be copied.
        """
        making, receiver, uuid = now.ownership.making, now.ownership.receiving, now.spec.uuid
        assert making is not None, "what is copied has a name"
        assert receiver is not None, "what is copied is received"
        snapshot = self._mirror.snapshot or Snapshot()
        report = snapshot.reports.get(receiver.node)
        if report is None or report.value.takes_memory is None:
            return await self._after_failed(now, f"{receiver.node} does not say any more where it takes memory in")
        there = report.value.takes_memory
        target = MigrationTarget(uri=there.uri, data_uri=there.data_uri)
        try:
            limit = snapshot.settings.move_bandwidth_mib_per_s * MIB or None
            rate = min(LEAST_BYTES_PER_S, limit or LEAST_BYTES_PER_S)
            options = MigrateOptions(
                bandwidth_bytes_per_s=limit,
                shared_directories=snapshot.settings.shared_directories,
                timeout_ms=int(2 * seconds_for(now.spec.memory_bytes, rate) * 1000),
            )
            copying = self._hypervisor.migrate(uuid, target, making.id, options)
            await self._while_wanted(uuid, copying, is_wanted, to=receiver)
        except GuestNotFound:
            return None
        except GuestRequestFailed as error:
            return await self._after_failed(now, error.message)
        return self._handed_over(now)

    async def settle_copy(self, now: Situation) -> Ownership | None:
        """See what became of copying a guest; one that is under way is given up first."""
        uuid = now.spec.uuid
        if await self._find(uuid) is None:
            await self._hypervisor.destroy(uuid)
            if await self._hypervisor.has_moved_away(uuid, now.spec.name):
                return self._handed_over(now)
            return after_lost_copy(now, "its process ended before it was copied")
        return await self._give_up(now)

    async def why_not_received(self, ownership: Ownership, spec: RoleSpec) -> tuple[str, ...]:
        """Why this node could not go on with the memory of a guest that is to be copied here, for people."""
        snapshot = self._mirror.snapshot or Snapshot()
        report = snapshot.reports.get(ownership.owner) if ownership.owner is not None else None
        there = report.value.takes_memory if report is not None else None
        return await self._hypervisor.can_run(spec.domain_xml, source_cpu=there.cpu if there is not None else "")

    async def discard(self, path: str) -> None:
        """Remove a file of memory that nobody needs; what is left over does no harm."""
        try:
            await self._hypervisor.discard_saved(path)
        except HoldfastError as error:
            log.warning("%s is not needed any more and could not be removed: %s", path, error)

    async def _give_up(self, now: Situation) -> Ownership | None:
        await self._hypervisor.cancel_move(now.spec.uuid)
        await self._wait_ended(now.spec.uuid)
        return await self._after_failed(now, "it was interrupted or took too long")

    def _handed_over(self, now: Situation) -> Ownership:
        """Give the role to who has the copy, whole and suspended; or give it up when that one is gone for good."""
        making, receiver = now.ownership.making, now.ownership.receiving
        if making is None or receiver is None:
            return after_lost_copy(now, "nobody received it")
        if self._is_gone(receiver):
            return after_lost_copy(now, f"{receiver.node}, which had its copy, is gone")
        return handed_over(now, making, receiver)

    def _is_gone(self, receiver: Receiver) -> bool:
        return is_gone(receiver, self._mirror.snapshot or Snapshot())

    async def _after_failed(self, now: Situation, detail: str) -> Ownership | None:
        """What is here after a certain failure; only what nothing is under way with goes on."""
        await self._refuse_under_way(now.spec.uuid)
        guest = await self._find(now.spec.uuid)
        if guest is None:
            return None
        return after_failed_move(now, Present(executes=guest.is_running, memory_id=guest.memory_id), detail)

    async def _while_wanted(
        self, uuid: str, moving: Coroutine[Any, Any, None], is_wanted: Callable[[], bool], to: Receiver | None = None
    ) -> None:
        """Wait for a move of memory; one that is not wanted any more, or whose receiver is gone, is given up."""
        cancelling = asyncio.create_task(self._cancel_unwanted(uuid, is_wanted, to, self._mirror.subscribe()))
        try:
            await moving
        finally:
            cancelling.cancel()
            await asyncio.wait([cancelling])

    async def _cancel_unwanted(
        self, uuid: str, is_wanted: Callable[[], bool], to: Receiver | None, changed: asyncio.Event
    ) -> None:
        def has_target() -> bool:
            return to is None or not self._is_gone(to)

        while is_wanted() and has_target():
            await changed.wait()
            changed.clear()
        while True:
            try:
                await self._hypervisor.cancel_move(uuid, is_target_gone=not has_target())
            except HoldfastError as error:
                log.warning("the move of guest %s could not be cancelled: %s", uuid, error)
            await asyncio.sleep(CANCEL_AGAIN_S)

    async def _find(self, uuid: str) -> Guest | None:
        return next(
            (guest for guest in await self._hypervisor.guests() if guest.uuid == uuid and guest.is_present), None
        )

    async def _refuse_under_way(self, uuid: str) -> None:
        if await self._hypervisor.progress(uuid) is not None:
            raise Unavailable(f"guest {uuid}: an earlier save or copy of it is under way")

    async def _wait_ended(self, uuid: str) -> None:
        """Return when nothing is under way with a guest that was given up."""
        until = asyncio.get_running_loop().time() + ENDS_WITHIN_S
        while await self._hypervisor.progress(uuid) is not None:
            if asyncio.get_running_loop().time() >= until:
                raise Unavailable(f"guest {uuid}: its copying was given up and goes on")
            await asyncio.sleep(LOOK_S)


def seconds_for(memory_bytes: int, bytes_per_s: int = LEAST_BYTES_PER_S) -> float:
    """How long memory of so many bytes may take on its way, if anything comes of it at all."""
    return LEAST_S + memory_bytes / bytes_per_s


def is_gone(receiver: Receiver, snapshot: Snapshot) -> bool:
    """Whether the incarnation that has a copy will never own anything again, so that the copy never executes."""
    session = snapshot.sessions.get(receiver.node)
    is_another = session is not None and session.value.incarnation != receiver.incarnation
    return is_another or snapshot.is_lost(receiver.node, receiver.incarnation)
