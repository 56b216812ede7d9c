"""Memory on its way, through libvirt: deadlines, and one move of a guest at a time.

Rule of the file: a call that has not returned is remembered until it does, however long ago its caller gave up; until
then the same guest is not moved again from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from holdfast.hypervisor import libvirt_move_calls, saved_files
from holdfast.hypervisor.blocking_calls import BlockingCalls, CallUnanswered, wait_answer
from holdfast.hypervisor.copy_connections import end_copies_to
from holdfast.hypervisor.errors import GuestOutcomeUnknown, HypervisorUnavailable
from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget, SavedState, SaveOptions
from holdfast.hypervisor.qemu_log import ended_by_migration
from holdfast.hypervisor.qemu_process import QemuProcesses
from holdfast.hypervisor.timeouts import HypervisorTimeouts

T = TypeVar("T")
_MOVES_AT_ONCE = 64
"""Far more than anybody should let move at once; who limits moves for good reasons does so elsewhere."""


class LibvirtMoves:
    """The part of a node's hypervisor that moves memory and looks at its files."""

    def __init__(self, *, uri: str, timeouts: HypervisorTimeouts, processes: QemuProcesses, logs: Path) -> None:
        self._uri = uri
        self._timeouts = timeouts
        self._processes = processes
        self._logs = logs
        self._calls = BlockingCalls(name="move", limit=_MOVES_AT_ONCE)
        self._file_calls = BlockingCalls(name="file", limit=8)
        self._probe_calls = BlockingCalls(name="probe", limit=1)
        """Regular looks at a directory: while one of them hangs, no other takes a slot from what a guest waits for."""
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._copied_to: dict[str, str] = {}
        """By uuid, the host that a copy under way goes to."""

    async def save(self, uuid: str, path: str, memory_id: str, options: SaveOptions) -> None:
        """See the port."""
        await self._move(
            uuid,
            lambda: libvirt_move_calls.save(self._uri, uuid, Path(path), memory_id, options, processes=self._processes),
            options.timeout_ms,
            what="Saving",
        )

    async def migrate(self, uuid: str, target: MigrationTarget, memory_id: str, options: MigrateOptions) -> None:
        """See the port."""
        if uuid not in self._under_way:
            self._copied_to[uuid] = urlsplit(target.data_uri or target.uri).hostname or ""
        await self._move(
            uuid,
            lambda: libvirt_move_calls.migrate(self._uri, uuid, target, memory_id, options, processes=self._processes),
            options.timeout_ms,
            what="Copying",
        )

    async def cut_off(self, uuid: str) -> None:
        """End the connections of a copy, if one is under way."""
        if uuid in self._under_way and (host := self._copied_to.get(uuid)):
            await end_copies_to(host)

    async def begin_restore(self, uuid: str, path: str, memory_id: str) -> asyncio.Future[None]:
        """Begin to restore; the future tells how it ends. Raises HypervisorUnavailable when nothing was sent."""
        return await self._calls.begin(
            lambda: libvirt_move_calls.restore(self._uri, uuid, Path(path), memory_id, processes=self._processes),
            deadline=self._deadline(self._timeouts.ask_ms),
        )

    async def saved_state(self, path: str) -> SavedState:
        """See the port."""
        return await self._look(lambda: saved_files.read_saved(Path(path)), path)

    async def discard_saved(self, path: str) -> None:
        """See the port."""
        try:
            await self._look(lambda: saved_files.discard(Path(path)), path)
        except HypervisorUnavailable as error:
            raise GuestOutcomeUnknown(f"{path} may be there still: {error.message}", hint=error.hint) from error

    async def saved_in(self, directory: str) -> tuple[str, ...]:
        """See the port."""
        return await self._look(lambda: saved_files.names_in(Path(directory)), directory, self._probe_calls)

    async def room_to_save(self, directory: str, probe: str) -> int:
        """See the port."""
        return await self._look(lambda: saved_files.write_probe(Path(directory), probe), directory, self._probe_calls)

    async def has_moved_away(self, uuid: str, name: str) -> bool:
        """See the port."""

        def look() -> bool:
            return self._processes.find(uuid) is None and ended_by_migration(self._logs, name, uuid)

        return await self._look(look, str(self._logs))

    async def _move(self, uuid: str, call: Callable[[], None], timeout_ms: int, *, what: str) -> None:
        if uuid in self._under_way:
            raise GuestOutcomeUnknown(f"An earlier save or copy of guest {uuid} has not been answered by libvirt.")
        moving = await self._calls.begin(call, deadline=self._deadline(self._timeouts.ask_ms))
        self._under_way[uuid] = moving
        moving.add_done_callback(lambda _: self._forget(uuid))
        try:
            await wait_answer(moving, deadline=self._deadline(timeout_ms))
        except CallUnanswered as error:
            raise GuestOutcomeUnknown(
                f"{what} guest {uuid} has not ended within {timeout_ms} ms; it goes on.",
                hint="`holdfast role move --cancel` gives it up.",
            ) from error

    def _forget(self, uuid: str) -> None:
        self._under_way.pop(uuid, None)
        self._copied_to.pop(uuid, None)

    async def _look(self, call: Callable[[], T], path: str, calls: BlockingCalls | None = None) -> T:
        """Ask the file system, which may hang as long as the storage does."""
        timeout_ms = self._timeouts.ask_ms
        try:
            return await (calls or self._file_calls).run(call, deadline=self._deadline(timeout_ms))
        except (CallUnanswered, HypervisorUnavailable) as error:
            raise HypervisorUnavailable(f"The storage of {path} has not answered within {timeout_ms} ms.") from error
        except OSError as error:
            raise HypervisorUnavailable(f"{path} cannot be reached: {error}") from error

    def _deadline(self, timeout_ms: int) -> float:
        return asyncio.get_running_loop().time() + timeout_ms / 1000
