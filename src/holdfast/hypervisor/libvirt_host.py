"""The hypervisor port on libvirt and QEMU.

Rule of the file: libvirt's word alone never makes a guest "gone". Gone means: libvirtd answered that it has no such
guest, no QEMU process with its uuid has a living thread, no start of ours is unanswered, and the connection is older
than the moment in which a thawed libvirtd may still act on what an earlier connection asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from holdfast.hypervisor import host_fit, libvirt_calls, libvirt_move_calls
from holdfast.hypervisor.blocking_calls import BlockingCalls, CallUnanswered, wait_answer
from holdfast.hypervisor.domain_xml import uuid_of
from holdfast.hypervisor.errors import GuestOutcomeUnknown, HypervisorUnavailable
from holdfast.hypervisor.event_fanout import EventFanout
from holdfast.hypervisor.libvirt_connection import LibvirtConnection
from holdfast.hypervisor.libvirt_moves import LibvirtMoves
from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget, MoveProgress, SavedState, SaveOptions
from holdfast.hypervisor.memory_mark import without_memory_id
from holdfast.hypervisor.port import Guest, GuestProcess, HypervisorEvent, HypervisorVersion
from holdfast.hypervisor.qemu_log import LOGS
from holdfast.hypervisor.qemu_process import QemuProcesses, kill_and_wait
from holdfast.hypervisor.timeouts import HypervisorTimeouts
from holdfast.model.nodes import Capacity

T = TypeVar("T")


class LibvirtHost:
    """Guests of this node through libvirtd. ``run`` must be running for anything to work."""

    def __init__(
        self,
        *,
        uri: str = "qemu:///system",
        timeouts: HypervisorTimeouts | None = None,
        processes: QemuProcesses | None = None,
        logs: Path = LOGS,
    ) -> None:
        self._timeouts = timeouts or HypervisorTimeouts()
        self._processes = processes or QemuProcesses()
        self._events = EventFanout()
        self._connection = LibvirtConnection(uri=uri, events=self._events)
        self._calls = BlockingCalls(name="guest", limit=8)
        self._guest_monitor_calls = BlockingCalls(name="monitor", limit=2)
        """Those that wait for QEMU itself. libvirtd serves 5 requests of one client at a time: frozen guests must not
        take them all. Source: max_client_requests in libvirtd.conf."""
        self._process_calls = BlockingCalls(name="process", limit=8)
        self._starting: dict[str, asyncio.Future[None]] = {}
        self._moves = LibvirtMoves(uri=uri, timeouts=self._timeouts, processes=self._processes, logs=logs)
        self._marks: libvirt_calls.Marks = {}
        self._marks_since = 0.0

    async def run(self) -> None:
        """Keep the connection to libvirtd, reopening it whenever it breaks, until cancelled."""
        await self._connection.run()

    async def prepare(self, domain_xml: str) -> None:
        """Make a transient guest's process. See the port."""
        uuid, fresh_xml = uuid_of(domain_xml), without_memory_id(domain_xml)
        self._refuse_second_start(uuid)
        handle = self._connection.current().handle
        deadline = self._deadline(self._timeouts.start_ms)
        starting = await self._calls.begin(
            lambda: libvirt_calls.prepare(handle, fresh_xml, uuid, self._processes), deadline=deadline
        )
        await self._wait_started(uuid, starting, self._timeouts.start_ms, f"Starting guest {uuid}")

    async def shutdown(self, uuid: str) -> None:
        """Press the guest's power button. See the port."""
        await self._ask_guest(uuid, libvirt_calls.shutdown, what="Pressing the power button of")

    async def resume(self, uuid: str) -> None:
        """Let a guest run. See the port."""
        await self._ask_guest(uuid, libvirt_calls.resume, what="Resuming")

    async def destroy(self, uuid: str) -> None:
        """Pull the guest's plug until it is certainly gone. See the port."""
        deadline = self._deadline(self._timeouts.destroy_ms)
        try:
            await self._end(uuid, deadline)
            while not await self._wait_settled(uuid, deadline):
                await self._end(uuid, deadline)
        except (HypervisorUnavailable, CallUnanswered) as error:
            await self._kill(uuid)
            raise GuestOutcomeUnknown(
                f"Guest {uuid} is not certainly gone: {error.message}",
                hint="Its QEMU process was killed if there was one, but libvirt may still start it; try again.",
            ) from error

    async def suspend(self, uuid: str) -> None:
        """Stop a guest's CPUs. See the port."""
        await self._ask_guest(uuid, libvirt_calls.suspend, what="Suspending")

    async def save(self, uuid: str, path: str, memory_id: str, options: SaveOptions) -> None:
        """Put a guest's memory into a file. See the port."""
        await self._moves.save(uuid, path, memory_id, options)

    async def saved_state(self, path: str) -> SavedState:
        """Look at a file of saved memory. See the port."""
        return await self._moves.saved_state(path)

    async def restore(self, uuid: str, path: str, memory_id: str) -> None:
        """Make a guest's process from saved memory. See the port."""
        self._refuse_second_start(uuid)
        starting = await self._moves.begin_restore(uuid, path, memory_id)
        await self._wait_started(uuid, starting, self._timeouts.restore_ms, f"Restoring guest {uuid}")

    async def discard_saved(self, path: str) -> None:
        """Remove a file of saved memory. See the port."""
        await self._moves.discard_saved(path)

    async def saved_in(self, directory: str) -> tuple[str, ...]:
        """List the files of saved memory. See the port."""
        return await self._moves.saved_in(directory)

    async def room_to_save(self, directory: str, probe: str) -> int:
        """See whether memory could be saved. See the port."""
        return await self._moves.room_to_save(directory, probe)

    async def migrate(self, uuid: str, target: MigrationTarget, memory_id: str, options: MigrateOptions) -> None:
        """Copy a running guest. See the port."""
        await self._moves.migrate(uuid, target, memory_id, options)

    async def progress(self, uuid: str) -> MoveProgress | None:
        """How far a save or copy is. See the port."""
        return await self._ask(lambda handle: libvirt_move_calls.progress(handle, uuid), self._timeouts.ask_ms)

    async def cancel_move(self, uuid: str, *, is_target_gone: bool = False) -> None:
        """Have it given up; its connections are ended where libvirt cannot, or need not wait. See the port."""
        if is_target_gone:
            await self._moves.cut_off(uuid)
        try:
            await self._ask_guest(uuid, libvirt_move_calls.cancel, what="Cancelling the move of")
        except (HypervisorUnavailable, GuestOutcomeUnknown):
            await self._moves.cut_off(uuid)
            raise

    async def has_moved_away(self, uuid: str, name: str) -> bool:
        """Whether its last process here was moved. See the port."""
        return await self._moves.has_moved_away(uuid, name)

    async def cpu(self) -> str:
        """The host's own CPU. See the port."""
        return await self._ask(host_fit.cpu, self._timeouts.warm_ms)

    async def can_run(self, domain_xml: str, *, source_cpu: str = "") -> tuple[str, ...]:
        """Why it could not go on here. See the port."""
        return await self._ask(
            lambda handle: host_fit.reasons_against(handle, domain_xml, source_cpu=source_cpu), self._timeouts.warm_ms
        )

    async def guests(self) -> tuple[Guest, ...]:
        """All guests on this node. See the port."""
        since = self._connection.current().since
        if since != self._marks_since:  # another libvirtd may give the numbers of its runs anew
            self._marks, self._marks_since = {}, since
        marks = self._marks
        return await self._ask(
            lambda handle: libvirt_calls.guests(handle, self._processes, marks), self._timeouts.ask_ms
        )

    async def process_of(self, uuid: str) -> GuestProcess | None:
        """The guest's QEMU process. See the port."""
        deadline = self._deadline(self._timeouts.ask_ms)
        return await self._process_calls.run(lambda: self._processes.find(uuid), deadline=deadline)

    def events(self) -> AsyncIterator[HypervisorEvent]:
        """Events from now on. See the port."""
        return self._events.subscribe()

    async def capacity(self) -> Capacity:
        """Memory and CPUs. See the port."""
        return await self._ask(libvirt_calls.capacity, self._timeouts.ask_ms)

    async def warm(self) -> None:
        """Have QEMU's capabilities probed. See the port."""
        await self._ask(libvirt_calls.warm, self._timeouts.warm_ms)

    async def version(self) -> HypervisorVersion:
        """Versions. See the port."""
        return await self._ask(libvirt_calls.version, self._timeouts.ask_ms)

    def _deadline(self, timeout_ms: int) -> float:
        return asyncio.get_running_loop().time() + timeout_ms / 1000

    async def _ask(self, call: Callable[[Any], T], timeout_ms: int) -> T:
        handle = self._connection.current().handle
        try:
            return await self._calls.run(lambda: call(handle), deadline=self._deadline(timeout_ms))
        except CallUnanswered as error:
            raise HypervisorUnavailable(
                f"libvirt has not answered within {timeout_ms} ms.", hint="Look at `journalctl -u libvirtd`."
            ) from error

    def _refuse_second_start(self, uuid: str) -> None:
        if uuid in self._starting:
            raise GuestOutcomeUnknown(f"An earlier start of guest {uuid} has not been answered by libvirt.")

    async def _wait_started(self, uuid: str, starting: asyncio.Future[None], timeout_ms: int, what: str) -> None:
        """Wait for a start that was begun; until it has ended nothing about the guest is certain."""
        self._starting[uuid] = starting
        starting.add_done_callback(lambda _: self._starting.pop(uuid, None))
        try:
            await wait_answer(starting, deadline=self._deadline(timeout_ms))
        except CallUnanswered as error:
            raise _unknown(what, timeout_ms) from error

    async def _ask_guest(self, uuid: str, call: Callable[[Any, str], None], *, what: str) -> None:
        handle = self._connection.current().handle
        deadline = self._deadline(self._timeouts.ask_ms)
        try:
            await self._guest_monitor_calls.run(lambda: call(handle, uuid), deadline=deadline)
        except CallUnanswered as error:
            raise _unknown(f"{what} guest {uuid}", self._timeouts.ask_ms) from error

    async def _end(self, uuid: str, deadline: float) -> None:
        """Return when libvirt has no such guest and its process is gone."""
        handle = self._connection.current().handle
        ending = await self._calls.begin(lambda: libvirt_calls.destroy(handle, uuid), deadline=deadline)
        await asyncio.wait([ending], timeout=self._timeouts.kill_after_ms / 1000)
        if not ending.done():
            await self._kill(uuid)
        await wait_answer(ending, deadline=deadline)
        if not await self._kill(uuid):
            raise CallUnanswered("its QEMU process does not end, not even by SIGKILL: it hangs in the kernel, in I/O.")

    async def _wait_settled(self, uuid: str, deadline: float) -> bool:
        """Return True if nothing can start the guest any more; otherwise wait for what could, and return False."""
        starting = self._starting.get(uuid)
        if starting is not None:
            await asyncio.wait([starting], timeout=deadline - asyncio.get_running_loop().time())
            if not starting.done():
                raise CallUnanswered("an earlier start has not been answered by libvirt.")
            return False
        settled_at = self._connection.current().since + self._timeouts.settle_ms / 1000
        remaining = settled_at - asyncio.get_running_loop().time()
        if remaining > 0:
            await asyncio.sleep(remaining)
        return remaining <= 0

    async def _kill(self, uuid: str) -> bool:
        """Kill what is left of the guest's process; return whether it is gone."""
        wait_s = self._timeouts.kill_after_ms / 1000

        def kill() -> bool:
            process = self._processes.find(uuid)
            return process is None or kill_and_wait(process, wait_s=wait_s)

        try:
            return await self._process_calls.run(kill, deadline=self._deadline(2 * self._timeouts.kill_after_ms))
        except (HypervisorUnavailable, CallUnanswered):
            return False


def _unknown(what: str, timeout_ms: int) -> GuestOutcomeUnknown:
    return GuestOutcomeUnknown(
        f"{what} was not answered by libvirt within {timeout_ms} ms; it may still happen.",
        hint="Look at `journalctl -u libvirtd` on this node; the guest is looked at again when libvirt answers.",
    )
