"""One connection to libvirtd, kept open for as long as the node lives.

Rule of the file: opening may hang or fail for any length of time without hurting anybody; whoever needs the connection
now gets it or a HypervisorUnavailable that says why not. libvirt's callbacks come in its own thread and leave it again.
No keep-alive: the socket is local, so the end of libvirtd is seen at once, and a libvirtd that hangs is seen by the
deadlines of our calls. libvirt 9.0 crashes the process when a keep-alive ends a connection on which a call still waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from holdfast.hypervisor.blocking_calls import BlockingCalls
from holdfast.hypervisor.errors import HypervisorUnavailable
from holdfast.hypervisor.event_fanout import EventFanout
from holdfast.hypervisor.libvirt_library import libvirt_module
from holdfast.hypervisor.libvirt_words import guest_event
from holdfast.hypervisor.port import ConnectionEvent, ConnectionState, GuestEvent

_RETRY_S = 0.2
_CLOSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenConnection:
    """An open connection; ``since`` is loop time."""

    handle: Any
    since: float


class LibvirtConnection:
    """Opens, watches and reopens the connection; publishes what it hears."""

    def __init__(self, *, uri: str, events: EventFanout) -> None:
        self._uri = uri
        self._events = events
        self._calls = BlockingCalls(name="connection", limit=2)
        self._open: OpenConnection | None = None
        self._why_not = "libvirtd has not answered yet"

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        while True:
            try:
                await self._hold_one()
            except HypervisorUnavailable as error:
                self._why_not = error.message
            await asyncio.sleep(_RETRY_S)

    def current(self) -> OpenConnection:
        """Return the open connection. Raises HypervisorUnavailable with the reason when there is none."""
        if self._open is None:
            raise HypervisorUnavailable(
                f"No connection to libvirt at {self._uri}: {self._why_not}.",
                hint="See `systemctl status libvirtd` and `journalctl -u libvirtd` on this node; guests keep running.",
            )
        return self._open

    async def _hold_one(self) -> None:
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[str] = loop.create_future()
        opening = await self._calls.begin(lambda: self._connect(loop, lost), deadline=loop.time() + _CLOSE_S)
        await asyncio.wait(
            [opening]
        )  # not "await opening": being cancelled must not free the slot of a call that hangs
        handle = opening.result()
        del opening  # libvirt closes with the last reference, and closing may block: only a thread may do it
        self._open = OpenConnection(handle=handle, since=loop.time())
        self._events.publish(ConnectionEvent(state=ConnectionState.CONNECTED))
        try:
            self._why_not = await lost
            self._events.publish(ConnectionEvent(state=ConnectionState.LOST, detail=self._why_not))
        finally:
            self._open = None
            closing = await self._calls.begin(lambda: _close(handle), deadline=loop.time() + _CLOSE_S)
            await asyncio.wait([closing], timeout=_CLOSE_S)

    def _connect(self, loop: asyncio.AbstractEventLoop, lost: asyncio.Future[str]) -> Any:
        libvirt = libvirt_module()

        def on_close(_handle: Any, reason: int, _opaque: object) -> None:
            _post(loop, _resolve, lost, _CLOSE_REASONS.get(reason, f"closed ({reason})"))

        def on_lifecycle(_handle: Any, domain: Any, event: int, detail: int, _opaque: object) -> None:
            known = guest_event(event, detail)
            if known is not None:
                kind, why = known
                happened = GuestEvent(uuid=domain.UUIDString(), name=domain.name(), kind=kind, detail=why)
                _post(loop, self._events.publish, happened)

        try:
            handle = libvirt.open(self._uri)
            handle.registerCloseCallback(on_close, None)
            handle.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_lifecycle, None)
        except libvirt.libvirtError as error:
            raise HypervisorUnavailable(str(error)) from error
        return handle


_CLOSE_REASONS = {
    0: "the connection failed",
    1: "libvirtd ended",
    2: "libvirtd did not answer keep-alive messages",
    3: "closed by us",
}
"""Source: virConnectCloseReason."""


def _close(handle: Any) -> None:
    libvirt = libvirt_module()
    try:
        handle.unregisterCloseCallback()
        handle.close()
    except libvirt.libvirtError:
        return  # it was broken already


def _post(loop: asyncio.AbstractEventLoop, act: Any, *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(act, *arguments)
    except RuntimeError:
        return  # the loop has ended: nobody listens any more


def _resolve(future: asyncio.Future[str], text: str) -> None:
    if not future.done():
        future.set_result(text)
