"""Events on their way into the cluster database.

Rule of the file: an event of a decision travels in the decision's own transaction (`operations`); an observation is
queued (`record`) and written behind, so that it never delays a failover. The queue is bounded; the oldest are dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from holdfast.model.errors import HoldfastError
from holdfast.model.events import Event, EventCode
from holdfast.model.ids import Epoch, NodeName
from holdfast.model.reasons import Reason
from holdfast.model.roles import Ownership
from holdfast.node.clock import Clock
from holdfast.node.transactions import put_events
from holdfast.store.port import Operation, Store, Txn

log = logging.getLogger(__name__)

QUEUE_LENGTH: Final = 500
RETRY_S: Final = 1.0


class EventLog:
    """Makes events of this node and writes those that no decision carries."""

    def __init__(self, node: NodeName, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._count = 0
        self._queue: deque[Operation] = deque(maxlen=QUEUE_LENGTH)
        self._filled = asyncio.Event()

    def event(
        self,
        code: EventCode,
        subject: str,
        *reasons: Reason,
        epoch: Epoch | None = None,
        target: NodeName | None = None,
        record: Ownership | None = None,
    ) -> Event:
        """Make an event of now. `record`: what is committed of a role with it."""
        return Event(
            code=code,
            subject=subject,
            at_ms=self._clock.wall_ms(),
            monotonic_ms=self._clock.monotonic_ms(),
            node=self._node,
            epoch=epoch,
            target=target,
            reasons=reasons,
            phase=record.phase if record is not None else None,
            method=record.method if record is not None else None,
        )

    def operations(self, *events: Event) -> tuple[Operation, ...]:
        """Return what a transaction has to contain to record the events with its decision."""
        self._count += len(events)
        return put_events(events, self._count)

    def record(self, event: Event) -> None:
        """Write an observation soon."""
        log.info("%s %s %s", event.code, event.subject, "; ".join(map(str, event.reasons)))
        self._queue.extend(self.operations(event))
        self._filled.set()

    async def run(self, store: Store) -> None:
        """Write the queue until cancelled. What is written twice after an unknown outcome has the same key."""
        while True:
            await self._filled.wait()
            batch = tuple(self._queue)
            try:
                await store.txn(Txn(then=batch))
            except HoldfastError as error:
                log.warning("%d events wait for the cluster database: %s", len(batch), error)
                await asyncio.sleep(RETRY_S)
                continue
            for operation in batch:
                if self._queue and self._queue[0] is operation:
                    self._queue.popleft()
            if not self._queue:
                self._filled.clear()
