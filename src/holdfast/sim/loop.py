"""An asyncio event loop of virtual time: it never waits, time jumps to the next timer.

Rule of the file: what happens depends on the order of calls and on nothing else: no clock, no thread, no hash seed, no
memory address. A `Process` is everything scheduled on its behalf: it can be frozen, thawed, or killed between any
two steps, with nothing cleaned up, as SIGKILL does.

A loop of its own rather than a selector that does not wait: the processes need every call at the moment it would run.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from math import inf, nextafter
from typing import Any, Final, TypeVar

T = TypeVar("T")
STEPS_PER_INSTANT: Final = 100_000
Spawnable = Generator[Any, None, T] | Coroutine[Any, Any, T]


class NothingScheduled(Exception):
    """Everything waits for something that will never happen."""


class TimeStandsStill(Exception):
    """Calls cause calls without end at one instant: on a real machine, a process that spins."""


class Process:
    """A process of a simulated machine: what was scheduled from inside of it, and what that scheduled in turn.

    A call of a frozen or killed process that falls due is held: it runs at the thaw, or never.

    rate   how fast its clock runs: 1.01 is one percent too fast. It sees no other time than its own.
    """

    def __init__(self, name: str, loop: VirtualLoop, *, rate: float = 1.0) -> None:
        self.name = name
        self.rate = rate
        self.runs = True
        self.tasks: dict[int, asyncio.Task[Any]] = {}
        self.held: list[_Call] = []
        self._loop = loop
        self._context = Context()
        self._context.run(_PROCESS.set, self)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task inside of the process."""
        return self._loop.create_task(work, context=self._context)

    def call(self, act: Callable[..., None], *arguments: object) -> None:
        """Have it called inside of the process soon: how anything from outside arrives."""
        self._loop.call_soon(act, *arguments, context=self._context)

    def inside(self, act: Callable[..., T], *arguments: object) -> T:
        """Call it inside of the process at once, frozen or not."""
        return self._context.run(act, *arguments)

    def enter(self, act: Callable[..., None], *arguments: object) -> None:
        """Call it inside of the process at once, or at the thaw. Only for callers outside of every process."""
        if self.runs:
            self._context.run(act, *arguments)
        else:
            self.call(act, *arguments)

    def world_time_of(self, when: float) -> float:
        """The first moment of the world at which the clock of the process shows `when`, or it would wake too early."""
        moment = when / self.rate
        while moment * self.rate < when:
            moment = nextafter(moment, inf)
        return moment

    def freeze(self) -> None:
        """Execute nothing from now on."""
        self.runs = False

    def thaw(self) -> None:
        """Go on with everything that fell due meanwhile, in its order."""
        self.runs = True
        self._loop.resume(self)


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


def outside(act: Callable[..., T], *arguments: object) -> T:
    """Call it outside of every process: what it schedules outlives the process that caused it."""
    return Context().run(act, *arguments)


class _Call:
    """A call with the process it belongs to. asyncio only cancels handles, so this is all that it needs of one."""

    __slots__ = ("act", "arguments", "context", "process")

    def __init__(self, act: Callable[..., object], arguments: tuple[Any, ...], context: Context) -> None:
        self.act: Callable[..., object] | None = act
        self.arguments = arguments
        self.context = context
        self.process = context.get(_PROCESS)

    def cancel(self) -> None:
        """See asyncio. A cancelled timer is passed over when its time comes."""
        self.act = None
        self.arguments = ()

    def cancelled(self) -> bool:
        """See asyncio."""
        return self.act is None


class _Task(asyncio.Task[Any]):
    """A task whose place in a set follows from when it was made. asyncio cancels the tasks of a group in that order."""

    def __init__(self, work: Any, *, number: int, **attributes: Any) -> None:
        self._number = number
        super().__init__(work, **attributes)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module. `steps` counts the calls made so far; `errors` are the exceptions that nobody took."""

    def __init__(self) -> None:
        self.steps = 0
        self.errors: list[str] = []
        self._now = 0.0
        self._instant_ends = STEPS_PER_INSTANT
        self._count = 0
        self._ready: deque[_Call] = deque()
        self._timers: list[tuple[float, int, _Call]] = []
        self._orphans: dict[int, asyncio.Task[Any]] = {}

    def time(self) -> float:
        """Virtual seconds since the world began, by the clock of the process that asks."""
        process = _PROCESS.get()
        return self._now if process is None else self._now * process.rate

    def world_time(self) -> float:
        """Virtual seconds since the world began, whoever asks."""
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> _Call:  # type: ignore[override]  # typeshed ties the arguments' types to the callback's
        """See asyncio."""
        call = _Call(callback, args, copy_context() if context is None else context)
        self._ready.append(call)
        return call

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Call:
        """See asyncio. The delay is by the clock of the process that asks, the world's with a context of its own."""
        call = _Call(callback, args, copy_context() if context is None else context)
        when = self._now + delay
        if context is None and call.process is not None and call.process.rate != 1.0:
            when = call.process.world_time_of(self._now * call.process.rate + delay)
        self._count += 1
        heappush(self._timers, (when, self._count, call))
        return call

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Call:
        """See asyncio and `call_later`. Calls of one instant run in the order in which they were scheduled."""
        call = _Call(callback, args, copy_context() if context is None else context)
        if context is None and call.process is not None and call.process.rate != 1.0:
            when = call.process.world_time_of(when)
        self._count += 1
        heappush(self._timers, (when, self._count, call))
        return call

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Spawnable[T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """See asyncio. The task is kept with its process until it is done, so that no collector ends it early."""
        self._count += 1
        number = self._count
        task = _Task(coro, number=number, loop=self, name=name or f"task-{number}", context=context)
        process = (copy_context() if context is None else context).get(_PROCESS)
        kept = self._orphans if process is None else process.tasks
        kept[number] = task
        task.add_done_callback(lambda _: kept.pop(number, None), context=Context())
        return task

    def resume(self, process: Process) -> None:
        """Schedule what was held for a process, before anything that reached it later."""
        held, process.held = process.held, []
        self._ready.extendleft(reversed(held))

    def mark(self) -> int:
        """Return what tells the timers that were set so far from later ones. See `awaits`."""
        return self._count

    def awaits(self, mark: int) -> bool:
        """Whether a timer is still to come that was set before the mark, and by no process."""
        return any(number <= mark and call.act is not None and call.process is None for _, number, call in self._timers)

    def run_until(self, when: float) -> None:
        """Run everything that falls due up to `when`, which is the time afterwards."""
        _set_running_loop(self)
        try:
            self._run(when, None)
        finally:
            _set_running_loop(None)
        self._now = max(self._now, when)

    def run_until_complete(self, future: Spawnable[T] | asyncio.Future[T]) -> T:  # type: ignore[override]  # no other awaitables
        """Run until it is done, and to the end of that instant. Raises: NothingScheduled."""
        _set_running_loop(self)
        try:
            task = future if isinstance(future, asyncio.Future) else self.create_task(future)
            self._run(inf, task)
        finally:
            _set_running_loop(None)
        if not task.done():
            raise NothingScheduled(f"at {self._now:.3f} s nothing is scheduled and {task!r} is not done")
        return task.result()

    def bury(self, *processes: Process) -> None:
        """End every task that is left, parents before children, so that the world can be forgotten without a trace."""
        groups = [self._orphans, *(process.tasks for process in processes)]
        for process in processes:
            process.thaw()
        while any(groups):
            for tasks in groups:
                if tasks:
                    next(iter(tasks.values())).cancel()
            self.run_until(self._now + 1.0)

    def get_debug(self) -> bool:
        """Never in debug mode."""
        return False

    def is_running(self) -> bool:
        """It runs whenever anybody can ask."""
        return True

    def is_closed(self) -> bool:
        """It has nothing to close."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What asyncio has to say is of tasks, and these answer for themselves."""

    def _run(self, limit: float, task: asyncio.Future[Any] | None) -> None:
        """Run what is ready, then timer by timer up to `limit`, or until `task` is done: kept tight, all runs in it."""
        ready = self._ready
        while True:
            while ready:
                call = ready.popleft()
                act, process = call.act, call.process
                if act is None:
                    continue
                if process is not None and not process.runs:
                    process.held.append(call)
                    continue
                self.steps += 1
                try:
                    call.context.run(act, *call.arguments)
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  a loop outlives its callbacks
                    self.errors.append(f"exception in callback {getattr(act, '__qualname__', act)}: {error!r}")
                if self.steps > self._instant_ends:
                    raise TimeStandsStill(f"{STEPS_PER_INSTANT} calls at {self._now:.3f} s, the last one {act!r}")
            if (task is not None and task.done()) or not self._proceed(limit):
                return

    def _proceed(self, limit: float) -> bool:
        """Go to the next timer and make it ready; returns False when none is due up to `limit`."""
        timers = self._timers
        while timers and timers[0][2].act is None:
            heappop(timers)
        if not timers or timers[0][0] > limit:
            return False
        when, _, call = heappop(timers)
        if when > self._now:
            self._now, self._instant_ends = when, self.steps + STEPS_PER_INSTANT
        self._ready.append(call)
        return True
