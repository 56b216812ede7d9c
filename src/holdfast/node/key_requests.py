"""`cluster.rotate-key`: another secret for the heartbeats, while they go on.

Rule of the file: the request only adds the new secret; each node and the coordinator do the rest, whether anybody waits
for it or not, and asking again while a change is under way follows that one. Source: docs/security.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from holdfast.decide.heartbeat_keys import is_changing, lagging
from holdfast.membership.cluster_key import create_cluster_key
from holdfast.model.certificates import HeartbeatKeys
from holdfast.model.errors import Unavailable
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import Progress
from holdfast.node.commits import Commits, wait_change
from holdfast.node.heartbeat_keys import named
from holdfast.node.line_protocol import Result
from holdfast.node.request_params import NoParams
from holdfast.node.transactions import revision_of
from holdfast.store.port import ModRevision, Put, Txn
from holdfast.store.records import HEARTBEAT_KEYS, encode

ROTATE_WAIT_S: Final = 60.0


class KeyRequests:
    """Begins and follows a change of the heartbeats' secret."""

    methods: Final = frozenset(("cluster.rotate-key",))

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer: steps, then the id of the secret that is used now. Raises: Unavailable."""
        assert method in self.methods
        NoParams.model_validate(params)
        await self._commits.change(self._begin)
        until = asyncio.get_running_loop().time() + ROTATE_WAIT_S
        changed = self._commits.life.mirror.subscribe()
        told = ""
        while is_changing(snapshot := await self._commits.snapshot()):
            text = _stage(snapshot)
            if text != told:
                told = text
                yield Progress(text=text)
            if asyncio.get_running_loop().time() > until:
                raise Unavailable(
                    f"the change of the heartbeats' key is not over after {ROTATE_WAIT_S:.0f} s: {text}",
                    hint="until it is over both keys are good; it goes on when these nodes are well, or have left",
                )
            await wait_change(changed)
        keys = snapshot.heartbeat_keys
        yield Result({"id": keys.value.used if keys is not None else ""})

    def _begin(self, snapshot: Snapshot) -> tuple[Txn, None]:
        """Have another secret accepted beside the present one, unless a change is under way."""
        if is_changing(snapshot):
            return Txn(), None
        before = snapshot.heartbeat_keys
        present = before.value.accepted[-1] if before is not None else named(self._commits.life.codec.used)
        keys = HeartbeatKeys(accepted=(present, named(create_cluster_key())), used=present.id)
        unchanged = ModRevision(HEARTBEAT_KEYS, equals=revision_of(before))
        return Txn(compares=(unchanged,), then=(Put(HEARTBEAT_KEYS, encode(keys)),)), None


def _stage(snapshot: Snapshot) -> str:
    assert snapshot.heartbeat_keys is not None
    keys = snapshot.heartbeat_keys.value
    what = "accept" if keys.used != keys.accepted[-1].id else "use"
    waits = ", ".join(lagging(snapshot))
    return f"the new key is one to {what}" + (f"; not yet done: {waits}" if waits else "")
