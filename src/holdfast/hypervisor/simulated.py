"""A hypervisor in memory, with levers for everything that goes wrong with a real one.

Rule of the file: same port, same certainty as libvirt; all delays are loop time, nothing is random. A guest is no more
than a name, a uuid, a state, a process number and what stands for its memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from holdfast.hypervisor.blocking_calls import CallUnanswered, wait_answer
from holdfast.hypervisor.domain_xml import parse_guest
from holdfast.hypervisor.errors import (
    GuestAlreadyRunning,
    GuestNotFound,
    GuestOutcomeUnknown,
    GuestStartFailed,
    HypervisorUnavailable,
)
from holdfast.hypervisor.event_fanout import EventFanout
from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget, MoveProgress, SavedState, SaveOptions
from holdfast.hypervisor.port import (
    ConnectionEvent,
    ConnectionState,
    Guest,
    GuestEvent,
    GuestEventKind,
    GuestProcess,
    GuestState,
    HypervisorEvent,
    HypervisorVersion,
)
from holdfast.hypervisor.simulated_guest import Neighbourhood, Running, SimulatedMemory
from holdfast.hypervisor.simulated_moves import Hands, SimulatedMoves
from holdfast.hypervisor.timeouts import HypervisorTimeouts
from holdfast.model.errors import HoldfastError
from holdfast.model.nodes import Capacity


class SimulatedHypervisor:
    """Guests that exist only here. The levers below the port are for tests and the simulator."""

    def __init__(
        self,
        *,
        capacity: Capacity | None = None,
        timeouts: HypervisorTimeouts | None = None,
        answer_ms: int = 2,
        start_ms: int = 50,
        neighbourhood: Neighbourhood | None = None,
        uri: str = "",
    ) -> None:
        """``uri``: under which the others of the neighbourhood copy guests to this one."""
        self._capacity = capacity or Capacity(memory_bytes=8 * 2**30, vcpus=8)
        self._timeouts = timeouts or HypervisorTimeouts()
        self._answer_ms = answer_ms
        self._start_ms = start_ms
        self._events = EventFanout()
        self._running: dict[str, Running] = {}
        self._neighbourhood = neighbourhood or Neighbourhood()
        self._unanswered: dict[asyncio.Future[None], Callable[[], None]] = {}
        self._starting: dict[str, asyncio.Future[None]] = {}
        self._is_up = True
        self._is_frozen = False
        self._held: list[GuestEvent] = []
        """Events of a frozen daemon: they come when it thaws, and never if it dies."""
        self._daemons = 1
        self._last_pid = 1000
        self._refusal: str | None = None
        self.heeds_power_button = True
        """Whether guests shut down when their power button is pressed."""
        self.stuck: set[str] = set()
        """Guests whose process hangs in I/O and outlives even SIGKILL, by uuid."""
        self.undrained: set[str] = set()
        """Guests that end while what they wrote waits outside; their memory goes nowhere, as QEMU waits for it."""
        self.moves = SimulatedMoves(self._hands(), self._neighbourhood, uri)
        """Memory on its way, with levers of its own."""
        self._events.publish(ConnectionEvent(state=ConnectionState.CONNECTED))

    def _hands(self) -> Hands:
        return Hands(
            running=self._running,
            submit=self._submit,
            change=self._change,
            place=self._place,
            remove=self._part_with,
            can_act=lambda: self._is_up and not self._is_frozen,
            daemon=lambda: self._daemons,
            timeouts=lambda: self._timeouts,
        )

    async def prepare(self, domain_xml: str) -> None:
        """Make a guest's process. See the port."""
        definition = parse_guest(domain_xml, uuid_if_missing="")
        uuid = definition.uuid
        self._refuse_second_start(uuid)
        starting = self._submit(lambda: self._boot(uuid, definition.name), self._start_ms)
        self._starting[uuid] = starting
        await self._wait_done(starting, self._timeouts.start_ms, f"Starting guest {uuid}")

    async def suspend(self, uuid: str) -> None:
        """Stop a guest's CPUs. See the port."""
        await self.moves.suspend(uuid)

    async def save(self, uuid: str, path: str, memory_id: str, options: SaveOptions) -> None:
        """Put a guest's memory into a file. See the port."""
        await self.moves.save(uuid, path, memory_id, options)

    async def saved_state(self, path: str) -> SavedState:
        """Look at saved memory. See the port."""
        return await self.moves.saved_state(path)

    async def restore(self, uuid: str, path: str, memory_id: str) -> None:
        """Make a guest's process from saved memory. See the port."""
        self._refuse_second_start(uuid)
        starting = self.moves.restore(uuid, path, memory_id)
        self._starting[uuid] = starting
        await self._wait_done(starting, self._timeouts.restore_ms, f"Restoring guest {uuid}")

    async def discard_saved(self, path: str) -> None:
        """Remove saved memory. See the port."""
        await self.moves.discard_saved(path)

    async def saved_in(self, directory: str) -> tuple[str, ...]:
        """List saved memory. See the port."""
        return await self.moves.saved_in(directory)

    async def room_to_save(self, directory: str, probe: str) -> int:
        """See whether memory could be saved. See the port."""
        return await self.moves.room_to_save(directory)

    async def migrate(self, uuid: str, target: MigrationTarget, memory_id: str, options: MigrateOptions) -> None:
        """Copy a running guest. See the port."""
        await self.moves.migrate(uuid, target, memory_id, options)

    async def progress(self, uuid: str) -> MoveProgress | None:
        """How far it is. See the port."""
        return await self.moves.progress(uuid)

    async def cancel_move(self, uuid: str, *, is_target_gone: bool = False) -> None:
        """Give it up; here nothing waits for a target that is gone. See the port."""
        await self.moves.cancel_move(uuid)

    async def has_moved_away(self, uuid: str, name: str) -> bool:
        """Whether its last process was moved. See the port."""
        return await self.moves.has_moved_away(uuid)

    async def cpu(self) -> str:
        """The host's own CPU. See the port."""
        await self._wait_answer()
        return self.moves.cpu

    async def can_run(self, domain_xml: str, *, source_cpu: str = "") -> tuple[str, ...]:
        """Why it could not be taken over. See the port."""
        await self._wait_answer()
        if source_cpu and source_cpu != self.moves.cpu:
            return (f"its CPU is {source_cpu}; this host has {self.moves.cpu}",)
        return ()

    async def shutdown(self, uuid: str) -> None:
        """Press the power button. See the port."""

        def press() -> None:
            self._require(uuid)
            if self.heeds_power_button:
                self._remove(uuid, GuestEventKind.SHUT_DOWN)

        await self._wait_done(self._submit(press), self._timeouts.ask_ms, f"Shutting down guest {uuid}")

    async def resume(self, uuid: str) -> None:
        """Let a guest run. See the port."""

        def run_on() -> None:
            if self._require(uuid).guest.state is not GuestState.RUNNING:
                self._change(uuid, GuestState.RUNNING, GuestEventKind.RESUMED)

        await self._wait_done(self._submit(run_on), self._timeouts.ask_ms, f"Resuming guest {uuid}")

    async def destroy(self, uuid: str) -> None:
        """Pull the plug. See the port."""
        deadline = asyncio.get_running_loop().time() + self._timeouts.destroy_ms / 1000
        try:
            await self._end(uuid, deadline)
            starting = self._starting.get(uuid)
            if starting is not None:
                await asyncio.wait([starting], timeout=deadline - asyncio.get_running_loop().time())
                await self._end(uuid, deadline)
        except (HypervisorUnavailable, CallUnanswered) as error:
            raise GuestOutcomeUnknown(f"Guest {uuid} is not certainly gone: {error.message}") from error

    async def guests(self) -> tuple[Guest, ...]:
        """All guests. See the port."""
        await self._wait_answer()
        return tuple(
            sorted((item.guest for item in self._running.values()), key=lambda guest: (guest.name, guest.uuid))
        )

    async def process_of(self, uuid: str) -> GuestProcess | None:
        """The guest's process. See the port."""
        running = self._running.get(uuid)
        return running.process if running else None

    def events(self) -> AsyncIterator[HypervisorEvent]:
        """Events from now on. See the port."""
        return self._events.subscribe()

    async def capacity(self) -> Capacity:
        """Memory and CPUs. See the port."""
        await self._wait_answer()
        return self._capacity

    async def warm(self) -> None:
        """Nothing to probe here. See the port."""
        await self._wait_answer()

    async def version(self) -> HypervisorVersion:
        """Versions. See the port."""
        await self._wait_answer()
        return HypervisorVersion(libvirt="0.0.0", qemu="0.0.0")

    def memory_of(self, uuid: str) -> SimulatedMemory:
        """What is in a guest's memory; for those who judge what happened. Raises GuestNotFound."""
        return self._require(uuid).memory

    def crash(self, uuid: str) -> None:
        """Kill the guest's QEMU."""
        self._remove(uuid, GuestEventKind.CRASHED)

    def pause_on_io_error(self, uuid: str) -> None:
        """Take the guest's storage away: it pauses."""
        self._change(uuid, GuestState.PAUSED_IO_ERROR, GuestEventKind.PAUSED_IO_ERROR)

    def refuse_next_start(self, message: str) -> None:
        """Let the next start fail for certain."""
        self._refusal = message

    def freeze(self) -> None:
        """Stop the daemon's answers; what is asked meanwhile happens at ``thaw``, however late."""
        self._is_frozen = True

    def thaw(self) -> None:
        """Let the daemon answer again, in the order it was asked."""
        self._is_frozen = False
        held, self._held = self._held, []
        for event in held:
            self._events.publish(event)
        waiting, self._unanswered = self._unanswered, {}
        for future, act in waiting.items():
            _settle(future, act)

    def stop_daemon(self) -> None:
        """Kill the daemon: guests run on, nothing can be asked, what was asked is never answered."""
        self._is_up = self._is_frozen = False
        self._held = []
        waiting, self._unanswered = self._unanswered, {}
        for future in waiting:
            future.set_exception(CallUnanswered("the connection to the hypervisor broke."))
        self.moves.daemon_ended()
        self._events.publish(ConnectionEvent(state=ConnectionState.LOST, detail="the daemon ended"))

    def start_daemon(self) -> None:
        """Start the daemon again: it finds the guests that run."""
        self._is_up = True
        self._daemons += 1
        self.moves.daemon_started()
        self._events.publish(ConnectionEvent(state=ConnectionState.CONNECTED))

    def _boot(self, uuid: str, name: str) -> None:
        if uuid in self._running:
            raise GuestAlreadyRunning(f"Guest {uuid} runs on this node already.")
        refusal, self._refusal = self._refusal, None
        if refusal is None and any(item.guest.name == name for item in self._running.values()):
            refusal = f"domain {name!r} exists already with another uuid"
        if refusal is not None:
            raise GuestStartFailed(f"Guest {uuid} could not be started: {refusal}")
        guest = Guest(uuid=uuid, name=name, state=GuestState.PAUSED, reason="prepared")
        self._place(guest, self._neighbourhood.fresh_memory(), False)

    def _place(self, guest: Guest, memory: SimulatedMemory, is_incoming: bool) -> Running:
        if guest.uuid in self._running:
            raise GuestAlreadyRunning(f"Guest {guest.uuid} runs on this node already.")
        self._last_pid += 1
        ticks = int(asyncio.get_running_loop().time() * 100)
        process = GuestProcess(pid=self._last_pid, start_ticks=ticks)
        placed = self._running[guest.uuid] = Running(guest, process, memory, is_incoming)
        self.moves.note_placed(guest.uuid)
        self._publish(guest.uuid, guest.name, GuestEventKind.STARTED)
        return placed

    def _refuse_second_start(self, uuid: str) -> None:
        if uuid in self._starting and not self._starting[uuid].done():
            raise GuestOutcomeUnknown(f"An earlier start of guest {uuid} has not been answered.")

    async def _end(self, uuid: str, deadline: float) -> None:
        def end() -> None:
            self._remove(uuid, GuestEventKind.STOPPED)

        try:
            await wait_answer(self._submit(end), deadline=deadline)
        finally:
            self._remove(uuid, GuestEventKind.CRASHED)  # SIGKILL needs no daemon
        if uuid in self._running:
            raise CallUnanswered("its process does not end.")

    def _remove(self, uuid: str, kind: GuestEventKind) -> None:
        if uuid in self._running and uuid not in self.stuck:
            name = self._running.pop(uuid).guest.name
            self._publish(uuid, name, kind)

    def _part_with(self, uuid: str, kind: GuestEventKind) -> None:
        """End a process whose memory is elsewhere, unless it still has to drain."""
        if kind is not GuestEventKind.STOPPED or uuid not in self.undrained:
            self._remove(uuid, kind)

    def _change(self, uuid: str, state: GuestState, kind: GuestEventKind) -> None:
        running = self._running[uuid]
        memory = running.memory
        if state is GuestState.RUNNING and running.guest.state is not GuestState.RUNNING:
            memory = replace(memory, age=memory.age + 1)
        guest = replace(running.guest, state=state, reason=kind.value)
        self._running[uuid] = replace(running, guest=guest, memory=memory)
        self._publish(uuid, running.guest.name, kind)

    def _require(self, uuid: str) -> Running:
        if uuid not in self._running:
            raise GuestNotFound(f"No guest {uuid} runs on this node.")
        return self._running[uuid]

    def _publish(self, uuid: str, name: str, kind: GuestEventKind) -> None:
        event = GuestEvent(uuid=uuid, name=name, kind=kind)
        if self._is_frozen:
            self._held.append(event)
        elif self._is_up:
            self._events.publish(event)

    def _submit(self, act: Callable[[], None], delay_ms: int | None = None) -> asyncio.Future[None]:
        if not self._is_up:
            raise HypervisorUnavailable("No connection to the hypervisor: the daemon does not run.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(lambda done: done.exception())  # an abandoned call's error has no other reader
        self._unanswered[future] = act
        loop.call_later((self._answer_ms if delay_ms is None else delay_ms) / 1000, self._answer, future)
        return future

    def _answer(self, future: asyncio.Future[None]) -> None:
        if not self._is_frozen and future in self._unanswered:
            _settle(future, self._unanswered.pop(future))

    async def _wait_done(self, future: asyncio.Future[None], timeout_ms: int, what: str) -> None:
        try:
            await wait_answer(future, deadline=asyncio.get_running_loop().time() + timeout_ms / 1000)
        except CallUnanswered as error:
            raise GuestOutcomeUnknown(
                f"{what} was not answered within {timeout_ms} ms; it may still happen."
            ) from error

    async def _wait_answer(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._timeouts.ask_ms / 1000
        try:
            await wait_answer(self._submit(_nothing), deadline=deadline)
        except CallUnanswered as error:
            raise HypervisorUnavailable(f"No answer within {self._timeouts.ask_ms} ms.") from error


def _settle(future: asyncio.Future[None], act: Callable[[], None]) -> None:
    try:
        act()
    except HoldfastError as error:
        future.set_exception(error)
    else:
        future.set_result(None)


def _nothing() -> None:
    return
