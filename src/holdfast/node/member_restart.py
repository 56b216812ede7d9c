"""`quorum.restart`: this node's member of the database starts again, to listen at the node's present addresses.

Rule of the file: one member at a time in the whole cluster, and only while the others decide without it; guests and the
machine know nothing of it. Source: docs/membership.md (changing addresses), SAFE-4, SAFE-6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from holdfast.decide.detection import Standing
from holdfast.decide.voters import check_restart
from holdfast.model.errors import Conflict, NotFound, Refused, Unavailable
from holdfast.node.commits import Commits
from holdfast.node.line_protocol import Result
from holdfast.node.member_calls import MemberCalls
from holdfast.node.record_changes import find_node
from holdfast.node.request_params import NodeParams
from holdfast.node.transactions import Self, begin_restart
from holdfast.node.voters import seated
from holdfast.store.port import Delete, ModRevision, Txn
from holdfast.store.records import COORDINATOR, MEMBER_RESTART
from holdfast.store.settle import txn_settled

CALL_S: Final = 5.0
REPORTED_S: Final = 10.0
LOOK_S: Final = 0.5
GIVE_BACK_S: Final = 20.0
SILENT: Final = (Standing.SUSPECT, Standing.LOST)


class MemberRestart:
    """Has the member of the answering node start again."""

    methods: Final = frozenset(("quorum.restart",))

    def __init__(self, commits: Commits, calls: MemberCalls, session: Callable[[], Self | None]) -> None:
        """`session`: what this node's transactions prove themselves by now."""
        self._commits = commits
        self._calls = calls
        self._session = session

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer where it listens then. Raises: Conflict, InvalidInput, NotFound, Refused, Unavailable."""
        assert method in self.methods
        wanted = NodeParams.model_validate(params)
        me = self._commits.life.me
        spec = find_node(await self._commits.snapshot(), wanted.node).value
        if spec.name != me:
            raise Refused(
                f"the member of {spec.name} runs on that machine, and this is {me}",
                hint=f"give the same command on {spec.name}",
            )
        async with self._alone():
            is_new = await self._calls.restart(await self._own_member(), spec)
        said = "started again, and listens" if is_new else "listens already"
        text = f"the member of the cluster database on {me} {said} at {', '.join(spec.addresses.values())}"
        addresses = {str(network): ip for network, ip in spec.addresses.items()}
        yield Result({"node": me, "addresses": addresses, "text": text})

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None, None]:
        """While no other node's member starts again. Raises: Conflict."""
        store, session = self._commits.store, self._session()
        if session is None:
            raise Unavailable("this node is not up", hint="try again once holdfast status shows it as up")
        time = asyncio.get_running_loop().time
        begun = await txn_settled(store, begin_restart(session), until=time() + CALL_S)
        if not begun.succeeded:
            raise Conflict("a member of the cluster database starts again just now", hint="try again in a moment")
        own = ModRevision(MEMBER_RESTART, equals=begun.revision)
        try:
            yield
        finally:
            done = Txn(compares=(own,), then=(Delete(MEMBER_RESTART),))
            await txn_settled(store, done, until=time() + GIVE_BACK_S)

    async def _own_member(self) -> int:
        """The member that may start again, as soon as it may: another that just did is reported as up a moment later.

        Raises: NotFound, Refused.
        """
        time = asyncio.get_running_loop().time
        until = time() + REPORTED_S
        while True:
            try:
                return await self._checked_member()
            except Refused:
                if time() >= until:
                    raise
            await asyncio.sleep(LOOK_S)

    async def _checked_member(self) -> int:
        life = self._commits.life
        await self._commits.store.get(COORDINATOR, timeout_s=CALL_S)
        snapshot = await self._commits.snapshot()
        members = seated(snapshot, await self._calls.members.members(timeout_s=CALL_S))
        own = next((one.id for one in members if one.node == life.me), None)
        if own is None:
            raise NotFound(
                f"{life.me} has no member of the cluster database", hint="holdfast quorum show names who has"
            )
        silent = {name for name, judged in life.detector.standing.items() if judged.standing in SILENT}
        check_restart(snapshot, members, life.me, silent)
        return own
