"""One copy of a running guest from one simulated machine to another, step by step.

Rule of the file: the stages of libvirt's migration protocol. A step that cannot reach the other side waits, and gives
up when that lasts as long as libvirt's keep-alive. The source's guest goes on after every failure, unless somebody else
had suspended it; the copy never executes by itself. Source: libvirt, src/qemu/qemu_migration.c (v3 protocol).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from holdfast.hypervisor.errors import GuestNotFound, GuestRequestFailed
from holdfast.hypervisor.memory import MigrationTarget
from holdfast.hypervisor.port import GuestEventKind, GuestState
from holdfast.hypervisor.simulated_guest import MoveFault, Running

if TYPE_CHECKING:
    from holdfast.hypervisor.simulated_moves import SimulatedMoves

STEP_MS: Final = 20


class _Stage(StrEnum):
    PREPARE = "prepare"
    COPY = "copy"
    FINISH = "finish"
    CONFIRM = "confirm"


_NETWORK_DIES: Final = {
    MoveFault.NETWORK_DIES_AT_PREPARE: _Stage.PREPARE,
    MoveFault.NETWORK_DIES_AT_COPY: _Stage.COPY,
    MoveFault.NETWORK_DIES_AT_FINISH: _Stage.FINISH,
    MoveFault.NETWORK_DIES_AT_CONFIRM: _Stage.CONFIRM,
}


class Migration:
    """A copy under way."""

    def __init__(
        self, source: SimulatedMoves, uuid: str, target: MigrationTarget, memory_id: str, fault: MoveFault | None
    ) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._source = source
        self._target = source.neighbourhood.hosts.get(target.uri)
        self._uri = target.uri
        self._uuid = uuid
        self._memory_id = memory_id
        self._fault = fault
        self._stage = _Stage.PREPARE
        self._original: Running | None = None
        self._copy: Running | None = None
        self._stage_began = 0.0
        self._silent_since: float | None = None
        self._was_running = False
        self._is_cancelled = False
        self._daemon = source.hands.daemon()

    @property
    def fraction(self) -> float:
        """How much of it is done."""
        if self._stage is not _Stage.COPY:
            return 0.0 if self._stage is _Stage.PREPARE else 1.0
        return min(1.0, self._in_stage_ms() / self._source.copy_ms)

    def begin(self) -> None:
        """The daemon was told to."""
        try:
            self._original = self._source.require(self._uuid)
        except GuestNotFound as error:
            self.ended.set_exception(error)
            return
        self._was_running = self._original.guest.state is GuestState.RUNNING
        self._enter(_Stage.PREPARE)

    def cancel(self) -> None:
        """Give it up; too late once the copy is whole."""
        if self._stage in (_Stage.FINISH, _Stage.CONFIRM):
            raise GuestRequestFailed(f"The copy of guest {self._uuid} is whole already")
        self._is_cancelled = True

    def _enter(self, stage: _Stage) -> None:
        self._stage = stage
        self._stage_began = asyncio.get_running_loop().time()
        self._silent_since = None
        self._again()

    def _again(self) -> None:
        asyncio.get_running_loop().call_later(STEP_MS / 1000, self._step)

    def _step(self) -> None:
        if not self._is_original_there():
            self._fail("its process ended")
        elif self._source.hands.daemon() != self._daemon:
            self._recover()
        elif not self._source.hands.can_act():
            self._again()
        elif self._is_cancelled:
            self._fail("cancelled")
        elif self._copy is not None and not self._is_copy_there() and self._is_target_heard():
            self._fail("the copy ended")
        elif self._fault is MoveFault.HANGS:
            self._again()
        elif not self._is_target_heard():
            self._wait_target()
        else:
            self._silent_since = None
            self._act()

    def _act(self) -> None:
        match self._stage:
            case _Stage.PREPARE:
                self._prepare()
            case _Stage.COPY:
                if self._in_stage_ms() < self._source.copy_ms:
                    self._again()
                else:
                    self._pause_original()
                    self._enter(_Stage.FINISH)
            case _Stage.FINISH:
                self._finish()
            case _Stage.CONFIRM:
                self._source.hands.remove(self._uuid, GuestEventKind.STOPPED)
                if self._is_original_there():  # it hangs in I/O
                    self._again()
                    return
                self._source.note_moved_away(self._uuid)
                if self._fault is MoveFault.UNANSWERED:
                    self._source.forget(self._uuid)
                else:
                    self._settle(lambda: self.ended.set_result(None))

    def _prepare(self) -> None:
        assert self._target is not None, "it is heard"
        assert self._original is not None, "it has begun"
        if self._fault is MoveFault.FAILS:
            self._fail("the target refused: the CPU does not fit")
        elif self._uuid in self._target.hands.running:
            self._fail("domain is already active at the target")
        else:
            self._copy = self._target.place_copy(self._original, self._memory_id)
            self._enter(_Stage.COPY)

    def _finish(self) -> None:
        assert self._target is not None, "it is heard"
        assert self._original is not None, "it has begun"
        now = self._source.hands.running[self._uuid]
        self._target.complete_copy(self._uuid, now.memory)
        self._copy = None  # it stays, whatever comes
        if self._fault is MoveFault.FINISH_REPLY_LOST:
            self._fail("the target does not answer")
        else:
            self._enter(_Stage.CONFIRM)

    def _wait_target(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        if self._stage is _Stage.CONFIRM:
            self._act()  # the source alone ends it
        elif (now - self._silent_since) * 1000 >= self._source.keep_alive_ms:
            self._fail("the target does not answer")
        else:
            self._again()

    def _recover(self) -> None:
        """Another daemon finds the job: when the copy may be whole, the original stays paused for others to judge.

        Source: libvirt, qemuProcessRecoverMigrationOut.
        """
        if self._stage in (_Stage.PREPARE, _Stage.COPY):
            self._resume_original()
        self._drop_copy()

    def _fail(self, why: str) -> None:
        self._resume_original()
        self._drop_copy()
        error = GuestRequestFailed(f"Guest {self._uuid} could not be copied to {self._uri}: {why}")
        self._settle(lambda: self.ended.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        if not self.ended.done():
            settle()

    def _pause_original(self) -> None:
        if self._source.hands.running[self._uuid].guest.state is GuestState.RUNNING:
            self._source.hands.change(self._uuid, GuestState.PAUSED, GuestEventKind.PAUSED)

    def _resume_original(self) -> None:
        """It goes on if it executed when the copying began, also when somebody suspended it meanwhile.

        Source: libvirt, qemuMigrationSrcRestoreDomainState.
        """
        present = self._source.hands.running.get(self._uuid)
        if self._was_running and self._is_original_there() and present and present.guest.state is GuestState.PAUSED:
            self._source.hands.change(self._uuid, GuestState.RUNNING, GuestEventKind.RESUMED)

    def _drop_copy(self) -> None:
        """The target ends a copy that is not whole as soon as it hears that its source is gone, or hears nothing."""
        if self._copy is None:
            return
        if self._is_copy_there() and self._target is not None:
            copy, target = self._copy, self._target
            delay_ms = STEP_MS if self._is_target_heard() else self._source.keep_alive_ms
            asyncio.get_running_loop().call_later(delay_ms / 1000, lambda: target.drop_incoming(copy))
        self._copy = None

    def _is_original_there(self) -> bool:
        present = self._source.hands.running.get(self._uuid)
        return present is not None and self._original is not None and present.process == self._original.process

    def _is_copy_there(self) -> bool:
        assert self._target is not None, "there was a copy"
        present = self._target.hands.running.get(self._uuid)
        return present is not None and self._copy is not None and present.process == self._copy.process

    def _is_target_heard(self) -> bool:
        dies_at = None if self._fault is None else _NETWORK_DIES.get(self._fault)
        return (
            self._target is not None
            and self._target.hands.can_act()
            and self._source.neighbourhood.hosts.get(self._uri) is self._target
            and self._source.neighbourhood.reaches(self._source.uri, self._uri)
            and dies_at is not self._stage
        )

    def _in_stage_ms(self) -> float:
        return (asyncio.get_running_loop().time() - self._stage_began) * 1000
