"""Calls into the kernel that may never return: in threads of their own, with a deadline.

Rule of the file: past the deadline the thread is left alone, for nothing can end it, and its outcome is unknown. Each
device may hold up only a few threads; then nothing more is asked of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from holdfast.storage.errors import LunUnreachable

T = TypeVar("T")
STUCK_MAX: Final = 8


class KernelCalls:
    """The calls about one device. The threads are daemons: a stuck one does not keep the program from ending."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stuck = 0

    async def run(self, act: Callable[[], T], *, timeout_ms: int) -> T:
        """Return what `act` returns, or raise what it raises.

        Raises TimeoutError when it did not return in time, and LunUnreachable when too many calls before it did not.
        """
        if self._stuck >= STUCK_MAX:
            raise LunUnreachable(f"{self._name}: {self._stuck} earlier calls hang in the kernel")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[_Outcome[T]] = loop.create_future()
        self._stuck += 1

        def settle(result: _Outcome[T]) -> None:
            self._stuck -= 1
            if not outcome.done():
                outcome.set_result(result)

        def work() -> None:
            result = _attempt(act)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=work, name=f"call {self._name}", daemon=True).start()
        async with asyncio.timeout(timeout_ms / 1000):
            return (await outcome).take()


class _Outcome(Generic[T]):
    """A value or an error, carried from a thread to the loop."""

    def __init__(self, value: T | None, error: OSError | None) -> None:
        self._value = value
        self._error = error

    def take(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set whenever there is no error


def _attempt(act: Callable[[], T]) -> _Outcome[T]:
    try:
        return _Outcome(act(), None)
    except OSError as error:
        return _Outcome(None, error)
