"""Run calls that block, some of them for ever, without blocking asyncio for ever.

Rule of the file: a call that passes its deadline keeps its thread and its slot until it returns by itself; the caller
is told that the outcome is unknown. When all slots are taken by such calls, further calls are refused: nothing was
sent then. Threads are daemons, so a call that never returns cannot keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from holdfast.hypervisor.errors import HypervisorUnavailable
from holdfast.model.errors import OutcomeUnknown

T = TypeVar("T")


class CallUnanswered(OutcomeUnknown):
    """The call was made and has not returned before its deadline; it may still take effect."""

    code = "call-unanswered"


class BlockingCalls:
    """A bounded set of threads for calls to one outside library."""

    def __init__(self, *, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)

    async def begin(self, call: Callable[[], T], *, deadline: float) -> asyncio.Future[T]:
        """Start the call as soon as there is a slot and return its future, which may never end.

        ``deadline`` is in loop time. Raises HypervisorUnavailable when no slot came free: nothing was sent.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            raise HypervisorUnavailable(
                f"All {self._limit} {self._name} calls to libvirt are waiting for an answer.",
                hint="libvirtd hangs: see `journalctl -u libvirtd`, then restart it; guests keep running.",
            ) from error
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(self._finished)
        threading.Thread(target=_work, args=(call, loop, future), name=f"libvirt-{self._name}", daemon=True).start()
        return future

    async def run(self, call: Callable[[], T], *, deadline: float) -> T:
        """Return what the call returns, or raise what it raises, or CallUnanswered at ``deadline`` (loop time)."""
        return await wait_answer(await self.begin(call, deadline=deadline), deadline=deadline)

    def _finished(self, future: asyncio.Future[Any]) -> None:
        self._slots.release()
        if not future.cancelled():
            future.exception()  # an abandoned call's error has no other reader


async def wait_answer(future: asyncio.Future[T], *, deadline: float) -> T:
    """Return the outcome of a call that was begun; raise CallUnanswered at ``deadline`` (loop time), leaving it be."""
    done, _ = await asyncio.wait([future], timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
    if not done:
        raise CallUnanswered("libvirt has not answered in time.")
    return future.result()


def _work(call: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    try:
        outcome = call()
    except BaseException as error:  # noqa: BLE001  whatever the library raised belongs to the caller, in its own thread
        _deliver(loop, _set_error, future, error)
    else:
        _deliver(loop, _set_result, future, outcome)


def _deliver(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(act, *arguments)
    except RuntimeError:
        return  # the loop has ended: nobody waits for the answer any more


def _set_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _set_result(future: asyncio.Future[Any], outcome: object) -> None:
    if not future.done():
        future.set_result(outcome)
