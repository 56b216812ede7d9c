"""Saving, restoring and copying memory between simulated hypervisors.

Rule of the file: what libvirt and QEMU do, with all their ways to fail, and with the port's certainty. A copy at a
target whose source is silent is dropped after a while, as libvirt's keep-alive has it; a whole one stays for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from holdfast.hypervisor.blocking_calls import CallUnanswered, wait_answer
from holdfast.hypervisor.errors import (
    GuestNotFound,
    GuestOutcomeUnknown,
    GuestRequestFailed,
    GuestStartFailed,
    HypervisorUnavailable,
)
from holdfast.hypervisor.memory import (
    MigrateOptions,
    MigrationTarget,
    MoveProgress,
    SavedKind,
    SavedState,
    SaveOptions,
)
from holdfast.hypervisor.port import Guest, GuestEventKind, GuestState
from holdfast.hypervisor.simulated_guest import (
    MoveAct,
    MoveFault,
    Neighbourhood,
    Running,
    SavedFile,
    SimulatedMemory,
)
from holdfast.hypervisor.simulated_migration import Migration
from holdfast.hypervisor.timeouts import HypervisorTimeouts
from holdfast.model.errors import HoldfastError

_NEVER_MS = 10**12
_LATE_MS = 5_000
_UNBOUNDED = 2**60


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What the moves may do on their machine."""

    running: dict[str, Running]
    submit: Callable[[Callable[[], None], int | None], asyncio.Future[None]]
    """Ask the daemon to act after so many ms (None: as soon as it answers anything)."""
    change: Callable[[str, GuestState, GuestEventKind], None]
    place: Callable[[Guest, SimulatedMemory, bool], Running]
    """Make a process that does not execute; True: it is to be filled from another node."""
    remove: Callable[[str, GuestEventKind], None]
    can_act: Callable[[], bool]
    """Whether the daemon runs and is not frozen."""
    daemon: Callable[[], int]
    """Which daemon it is: counts its starts."""
    timeouts: Callable[[], HypervisorTimeouts]


class SimulatedMoves:
    """The part of one machine's hypervisor that deals with memory."""

    def __init__(self, hands: Hands, neighbourhood: Neighbourhood, uri: str) -> None:
        self.hands = hands
        self.neighbourhood = neighbourhood
        self.uri = uri
        self.save_ms = 300
        self.copy_ms = 1_000
        self.restore_ms = 200
        self.keep_alive_ms = 30_000
        """How long another machine may be silent before what is under way with it is given up."""
        self.memory_bytes = 32 * 2**20
        """What there is to save or copy of any guest."""
        self.cpu = "simulated"
        self._faults: dict[MoveAct, MoveFault] = {}
        self._under_way: dict[str, Migration | _Saving] = {}
        self._moved_away: set[str] = set()
        """Guests whose last process here ended because its whole copy was at its target."""
        self._interrupted: list[_Saving] = []
        if uri:
            neighbourhood.hosts[uri] = self

    def fail_next(self, act: MoveAct, fault: MoveFault) -> None:
        """Let the next one of these go wrong. A lever."""
        self._faults[act] = fault

    def take_fault(self, act: MoveAct) -> MoveFault | None:
        """The fault that was set for this, which is used up by it."""
        return self._faults.pop(act, None)

    def require(self, uuid: str) -> Running:
        """The guest's process. Raises GuestNotFound."""
        if uuid not in self.hands.running:
            raise GuestNotFound(f"No guest {uuid} runs on this node.")
        return self.hands.running[uuid]

    async def suspend(self, uuid: str) -> None:
        """See the port."""
        fault = self.take_fault(MoveAct.SUSPEND)

        def pause() -> None:
            if fault is MoveFault.FAILS:
                raise GuestRequestFailed(f"Guest {uuid} could not be suspended: the monitor refused")
            if self.require(uuid).guest.state is GuestState.RUNNING:
                self.hands.change(uuid, GuestState.PAUSED, GuestEventKind.PAUSED)

        asked = self._submit(pause, fault, None)
        await self._wait(asked, self.hands.timeouts().ask_ms, f"Suspending guest {uuid}")

    async def save(self, uuid: str, path: str, memory_id: str, options: SaveOptions) -> None:
        """See the port."""
        if self._present(uuid) is not None:
            raise GuestOutcomeUnknown(f"An earlier save or copy of guest {uuid} is under way.")
        saving = _Saving(self, uuid, path, memory_id, self.take_fault(MoveAct.SAVE))
        self.hands.submit(saving.begin, None)
        self._under_way[uuid] = saving
        await self._wait(saving.ended, options.timeout_ms, f"Saving guest {uuid}")

    async def saved_state(self, path: str) -> SavedState:
        """See the port."""
        await self._wait_storage()
        found = self.neighbourhood.files.get(path)
        if found is None:
            return SavedState(kind=SavedKind.ABSENT)
        kind = SavedKind.COMPLETE if found.is_complete else SavedKind.PARTIAL
        return SavedState(kind=kind, bytes=found.bytes, uuid=found.uuid, memory_id=found.memory_id)

    def restore(self, uuid: str, path: str, memory_id: str) -> asyncio.Future[None]:
        """Begin to restore; the future tells how it ends."""
        fault = self.take_fault(MoveAct.RESTORE)

        def put_back() -> None:
            found = self.neighbourhood.files.get(path)
            if fault is MoveFault.FAILS or self.neighbourhood.is_storage_gone:
                raise GuestStartFailed(f"Guest {uuid} could not be restored: QEMU cannot read its memory")
            if found is None or not found.is_complete or (found.uuid, found.memory_id) != (uuid, memory_id):
                raise GuestStartFailed(f"Guest {uuid} could not be restored: {path} is not its memory {memory_id}")
            self.hands.place(copied_guest(uuid, found.name, memory_id), found.memory, False)

        return self._submit(put_back, fault, self.restore_ms)

    async def discard_saved(self, path: str) -> None:
        """See the port."""
        try:
            await self._wait_storage()
        except HypervisorUnavailable as error:
            raise GuestOutcomeUnknown(f"{path} may be there still: {error.message}") from error
        if self.neighbourhood.files.pop(path, None) is not None:
            self.neighbourhood.on_removed(path)

    async def saved_in(self, directory: str) -> tuple[str, ...]:
        """See the port."""
        await self._wait_storage()
        start = f"{directory}/"
        return tuple(sorted(path.removeprefix(start) for path in self.neighbourhood.files if path.startswith(start)))

    async def room_to_save(self, directory: str) -> int:
        """See the port."""
        await self._wait_storage()
        free = self.neighbourhood.free_bytes
        if free == 0:
            raise HypervisorUnavailable(f"{directory} cannot be reached: No space left on device")
        return _UNBOUNDED if free is None else free

    async def migrate(self, uuid: str, target: MigrationTarget, memory_id: str, options: MigrateOptions) -> None:
        """See the port."""
        if self._present(uuid) is not None:
            raise GuestOutcomeUnknown(f"An earlier save or copy of guest {uuid} is under way.")
        migration = Migration(self, uuid, target, memory_id, self.take_fault(MoveAct.MIGRATE))
        self.hands.submit(migration.begin, None)
        self._under_way[uuid] = migration
        await self._wait(migration.ended, options.timeout_ms, f"Copying guest {uuid}")

    async def progress(self, uuid: str) -> MoveProgress | None:
        """See the port."""
        await self._wait_answer()
        under_way = self._present(uuid)
        if under_way is None:
            return None
        total, done = self.memory_bytes, int(self.memory_bytes * under_way.fraction)
        return MoveProgress(bytes_total=total, bytes_processed=done, bytes_remaining=total - done)

    async def cancel_move(self, uuid: str) -> None:
        """See the port."""

        def cancel() -> None:
            under_way = self._present(uuid)
            if under_way is not None:
                under_way.cancel()

        await self._wait(
            self.hands.submit(cancel, None), self.hands.timeouts().ask_ms, f"Cancelling the move of guest {uuid}"
        )

    async def has_moved_away(self, uuid: str) -> bool:
        """See the port."""
        return uuid in self._moved_away and uuid not in self.hands.running

    def note_moved_away(self, uuid: str) -> None:
        """QEMU's log says so."""
        self._moved_away.add(uuid)

    def note_placed(self, uuid: str) -> None:
        """Another process of the guest was made here: what the log says of the former one counts no more."""
        self._moved_away.discard(uuid)

    def daemon_ended(self) -> None:
        """Calls are not answered any more; what they began is picked up by the next daemon."""
        for under_way in tuple(self._under_way.values()):
            if under_way.ended.done():
                continue
            if isinstance(under_way, _Saving):
                self._interrupted.append(under_way)
            under_way.ended.set_exception(CallUnanswered("the connection to the hypervisor broke."))
        self._under_way.clear()

    def daemon_started(self) -> None:
        """Pick up what was interrupted; copies notice by themselves."""
        interrupted, self._interrupted = self._interrupted, []
        for saving in interrupted:
            saving.recover()

    def _present(self, uuid: str) -> Migration | _Saving | None:
        """What is under way with a guest; whether its client lives to hear of its end makes no difference."""
        under_way = self._under_way.get(uuid)
        return None if under_way is None or under_way.ended.done() else under_way

    def forget(self, uuid: str) -> None:
        """What was under way is over, though nobody was told."""
        self._under_way.pop(uuid, None)

    def place_copy(self, original: Running, memory_id: str) -> Running:
        """Make a process that is filled from another node."""
        guest = copied_guest(original.guest.uuid, original.guest.name, memory_id)
        return self.hands.place(guest, original.memory, True)

    def complete_copy(self, uuid: str, memory: SimulatedMemory) -> None:
        """The copy is whole: from now on only its owner may drop it."""
        copy = self.hands.running[uuid]
        self.hands.running[uuid] = replace(copy, memory=memory, is_incoming=False)

    def drop_incoming(self, copy: Running) -> None:
        """End a copy that will never be whole."""
        present = self.hands.running.get(copy.guest.uuid)
        if present is not None and present.process == copy.process and present.is_incoming and self.hands.can_act():
            self.hands.remove(copy.guest.uuid, GuestEventKind.STOPPED)

    def _submit(self, act: Callable[[], None], fault: MoveFault | None, delay_ms: int | None) -> asyncio.Future[None]:
        if fault is MoveFault.HANGS:
            return self.hands.submit(act, _NEVER_MS)
        if fault is MoveFault.LATE:
            return self.hands.submit(act, self.hands.timeouts().start_ms + _LATE_MS)
        asked = self.hands.submit(act, delay_ms)
        return self.hands.submit(_nothing, _NEVER_MS) if fault is MoveFault.UNANSWERED else asked

    async def _wait(self, asked: asyncio.Future[None], timeout_ms: int, what: str) -> None:
        try:
            await wait_answer(asked, deadline=asyncio.get_running_loop().time() + timeout_ms / 1000)
        except CallUnanswered as error:
            raise GuestOutcomeUnknown(
                f"{what} was not answered within {timeout_ms} ms; it may still happen."
            ) from error

    async def _wait_answer(self) -> None:
        deadline = asyncio.get_running_loop().time() + self.hands.timeouts().ask_ms / 1000
        try:
            await wait_answer(self.hands.submit(_nothing, None), deadline=deadline)
        except CallUnanswered as error:
            raise HypervisorUnavailable(f"No answer within {self.hands.timeouts().ask_ms} ms.") from error

    async def _wait_storage(self) -> None:
        await asyncio.sleep(0)
        if self.neighbourhood.is_storage_gone:
            await asyncio.sleep(self.hands.timeouts().ask_ms / 1000)
            raise HypervisorUnavailable(f"The storage has not answered within {self.hands.timeouts().ask_ms} ms.")


class _Saving:
    """One save: a partial file, then a whole one and no process."""

    def __init__(self, host: SimulatedMoves, uuid: str, path: str, memory_id: str, fault: MoveFault | None) -> None:
        self.ended = unanswered()
        self._host = host
        self._uuid = uuid
        self._path = path
        self._memory_id = memory_id
        self._fault = fault
        self._began = asyncio.get_running_loop().time()
        self._was_running = False

    @property
    def fraction(self) -> float:
        """How much of it is done."""
        return min(1.0, (asyncio.get_running_loop().time() - self._began) * 1000 / self._host.save_ms)

    def cancel(self) -> None:
        """Give it up."""
        if not self.ended.done():
            self._fail("cancelled")

    def begin(self) -> None:
        """The daemon was told to."""
        host, hands = self._host, self._host.hands
        self._began = asyncio.get_running_loop().time()
        try:
            running = host.require(self._uuid)
        except HoldfastError as error:
            self.ended.set_exception(error)
            return
        self._was_running = running.guest.state is GuestState.RUNNING
        if self._was_running:
            hands.change(self._uuid, GuestState.PAUSED, GuestEventKind.PAUSED)
        host.neighbourhood.files[self._path] = SavedFile(
            uuid=self._uuid,
            name=running.guest.name,
            memory_id=self._memory_id,
            memory=hands.running[self._uuid].memory,
            bytes=0,
        )
        if self._fault is MoveFault.HANGS:
            return
        late = self._fault is MoveFault.LATE
        delay_ms = host.hands.timeouts().start_ms + _LATE_MS if late else host.save_ms
        hands.submit(lambda: self._finish(running), delay_ms)

    def _finish(self, running: Running) -> None:
        host = self._host
        present = host.hands.running.get(self._uuid)
        free = host.neighbourhood.free_bytes
        if self.ended.done():
            return
        if present is None or present.process != running.process:
            self.ended.set_exception(GuestNotFound(f"Guest {self._uuid} ended while it was saved."))
        elif present.guest.state is GuestState.RUNNING:
            self._fail("somebody resumed it")
        elif self._fault is MoveFault.FAILS or host.neighbourhood.is_storage_gone:
            self._fail("the storage refused")
        elif free is not None and free < host.memory_bytes:
            self._fail("No space left on device")
        else:
            self._complete(running)

    def _complete(self, running: Running) -> None:
        host = self._host
        is_torn = self._fault is MoveFault.TORN
        host.hands.remove(self._uuid, GuestEventKind.CRASHED if is_torn else GuestEventKind.STOPPED)
        if self._uuid in host.hands.running:  # it hangs in I/O
            host.hands.submit(lambda: self._finish(running), host.save_ms)
            return
        if is_torn:
            self.ended.set_exception(GuestOutcomeUnknown(f"Guest {self._uuid} is gone and {self._path} is not whole."))
            return
        partial = host.neighbourhood.files[self._path]
        host.neighbourhood.files[self._path] = replace(partial, is_complete=True, bytes=host.memory_bytes)
        if self._fault is MoveFault.UNANSWERED:
            host.forget(self._uuid)
        else:
            self.ended.set_result(None)

    def recover(self) -> None:
        """The next daemon finds the job of one that ended: it resumes what that one had paused."""
        present = self._host.hands.running.get(self._uuid)
        if self._was_running and present is not None and present.guest.state is GuestState.PAUSED:
            self._host.hands.change(self._uuid, GuestState.RUNNING, GuestEventKind.RESUMED)

    def _fail(self, why: str) -> None:
        self._host.neighbourhood.files.pop(self._path, None)
        if self._was_running:
            self._host.hands.change(self._uuid, GuestState.RUNNING, GuestEventKind.RESUMED)
        self.ended.set_exception(GuestRequestFailed(f"Guest {self._uuid} could not be saved: {why}"))


def unanswered() -> asyncio.Future[None]:
    """A future whose error need not have a reader."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def copied_guest(uuid: str, name: str, memory_id: str) -> Guest:
    """A guest made from memory, which does not execute yet."""
    return Guest(uuid=uuid, name=name, state=GuestState.PAUSED, reason="prepared", memory_id=memory_id)


def _nothing() -> None:
    return
