"""A node that was emptied because its operating system went down takes roles again once that has started again.

Rule of the file: only what the shutdown itself ordered is taken back, and only by another start of the machine: a
holdfastd that merely restarts, while the system goes down or because that was called off, leaves it as it is.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final

from holdfast.model.errors import HoldfastError
from holdfast.model.events import EventCode
from holdfast.model.ids import Incarnation
from holdfast.model.nodes import NodeSpec
from holdfast.node.event_log import EventLog
from holdfast.node.mirror import Mirror
from holdfast.node.spec_transactions import set_node
from holdfast.node.transactions import Self
from holdfast.store.port import Store, Txn

log = logging.getLogger(__name__)

RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Homecoming:
    """Resumes this node after a shutdown."""

    store: Store
    mirror: Mirror
    events: EventLog
    incarnation: Incarnation

    async def run(self, me: Self) -> None:
        """Look at the node's record as it is since its session began; change it if need be, and end."""
        changed = self.mirror.subscribe()
        while True:
            await changed.wait()
            changed.clear()
            snapshot = self.mirror.snapshot
            if snapshot is None or snapshot.revision < me.created or me.node not in snapshot.nodes:
                continue
            before = snapshot.nodes[me.node]
            after = came_back(before.value, self.incarnation)
            if after is None:
                return
            event = self.events.event(EventCode.NODE_RESUMED, me.node)
            txn = set_node(after, before=before, events=self.events.operations(event))
            try:
                await self.store.txn(Txn(compares=(*txn.compares, me.holds_session), then=txn.then))
            except HoldfastError as error:
                log.warning("this node takes no roles yet: %s", error)
                await asyncio.sleep(RETRY_S)
                changed.set()


def came_back(spec: NodeSpec, incarnation: Incarnation) -> NodeSpec | None:
    """The record of a node whose system has started again after a shutdown that emptied it; None: it stays as it is."""
    if spec.shutting_down is None or spec.shutting_down == incarnation:
        return None
    return replace(spec, is_paused=False, is_draining=False, shutting_down=None)
