"""Hand events to every consumer, each at its own pace, none able to hold up the others.

Rule of the file: bounded; a consumer that falls behind loses its backlog and is told to list again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

from holdfast.hypervisor.port import ConnectionEvent, ConnectionState, HypervisorEvent

BACKLOG = 256
"""Events that one consumer may be behind: far more than guests on a host."""


class EventFanout:
    """Remembers the state of the connection and passes every event to all present consumers."""

    def __init__(self) -> None:
        self._connection = ConnectionEvent(state=ConnectionState.LOST, detail="not connected yet")
        self._subscriptions: WeakKeyDictionary[_Subscription, None] = WeakKeyDictionary()
        """A dictionary for its order: consumers get an event in the order in which they came."""

    def publish(self, event: HypervisorEvent) -> None:
        """Queue the event for every consumer. Call in the event loop's thread."""
        if isinstance(event, ConnectionEvent):
            self._connection = event
        for subscription in tuple(self._subscriptions):
            subscription.put(event, self._connection)

    def subscribe(self) -> AsyncIterator[HypervisorEvent]:
        """Return events from this call on, beginning with the state of the connection."""
        subscription = _Subscription(self._connection)
        self._subscriptions[subscription] = None
        return subscription


class _Subscription:
    """One consumer's backlog; it is dropped with the last reference to it."""

    def __init__(self, first: HypervisorEvent) -> None:
        self._queue: asyncio.Queue[HypervisorEvent] = asyncio.Queue(maxsize=BACKLOG)
        self._queue.put_nowait(first)

    def __aiter__(self) -> AsyncIterator[HypervisorEvent]:
        return self

    async def __anext__(self) -> HypervisorEvent:
        return await self._queue.get()

    def put(self, event: HypervisorEvent, connection: ConnectionEvent) -> None:
        if self._queue.full():
            while not self._queue.empty():
                self._queue.get_nowait()
            event = ConnectionEvent(state=connection.state, detail="events were missed")
        self._queue.put_nowait(event)
