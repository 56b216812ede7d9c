"""Where the other members of the cluster database call this node's: wherever it listens, as soon as it does.

Rule of the file: an address is added when it is in the own record and something accepts connections on the port of the
member there, and taken away when it is not in the record. Source: docs/membership.md (changing addresses), SAFE-4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from holdfast.membership.endpoint import Endpoint
from holdfast.model.errors import HoldfastError, Unavailable
from holdfast.model.ids import NodeName
from holdfast.model.nodes import NodeSpec, SeatState
from holdfast.model.snapshot import Snapshot
from holdfast.node.address_requests import MemberAddresses
from holdfast.node.mirror import Mirror
from holdfast.store.port import Store
from holdfast.store.records import decode, node_key

log = logging.getLogger(__name__)

LOOK_S: Final = 10.0
CALL_S: Final = 5.0
CONNECT_S: Final = 1.0
RESTART_S: Final = 30.0
AGAIN_S: Final = 0.2

Listens = Callable[[Endpoint], Awaitable[bool]]


class MemberCalls:
    """Has the own member called at every address of the record at which it listens."""

    def __init__(
        self,
        *,
        me: NodeName,
        store: Store,
        mirror: Mirror,
        members: MemberAddresses,
        listens: Listens,
        restart: Callable[[], Awaitable[None]],
    ) -> None:
        """`restart`: ends the own member, which is then started again at the addresses of the record."""
        self._me = me
        self._store = store
        self._mirror = mirror
        self._listens = listens
        self._restart = restart
        self.members = members
        self.changing = asyncio.Lock()
        """Held by whoever changes where the member is called, from what it rests on to the record that follows."""

    async def run(self) -> None:
        """Look now and then, until cancelled: a member that was started anew may listen at more addresses."""
        while True:
            snapshot = self._mirror.snapshot
            try:
                if snapshot is not None:
                    await self.round(snapshot)
            except HoldfastError as error:
                log.info("where the member of this node is called: %s", error.message)
            await asyncio.sleep(LOOK_S)

    async def round(self, snapshot: Snapshot) -> None:
        """Add what is missing and take away what is gone, if the member runs. Raises: HoldfastError."""
        report = snapshot.reports.get(self._me)
        seat = report.value.seat if report is not None else None
        if seat is None or seat.state is not SeatState.RUNNING:
            return
        async with self.changing:
            await self._correct(seat.member)

    async def restart(self, member: int, spec: NodeSpec) -> bool:
        """Have the own member listen wherever the record says, and be called there; False: it listened already.

        Raises: HoldfastError; Unavailable when it does not listen there in time.
        """
        async with self.changing:
            is_needed = not await self._is_everywhere(spec)
            if is_needed:
                await self._restart()
                await self._wait_everywhere(spec)
            await self._correct(member)
            return is_needed

    async def _wait_everywhere(self, spec: NodeSpec) -> None:
        try:
            async with asyncio.timeout(RESTART_S):
                while not await self._is_everywhere(spec):  # noqa: ASYNC110 - another process changes it
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError as error:
            raise Unavailable(
                f"the member of {self._me} was ended, and does not listen everywhere after {RESTART_S:g} s",
                hint="holdfast status says why it does not run",
            ) from error

    async def _is_everywhere(self, spec: NodeSpec) -> bool:
        return all([await self._listens(end) for end in _ends(spec).values()])

    async def _correct(self, member: int) -> None:
        """By the record as the database has it now: by an older one an address would come back that was given up."""
        key = node_key(self._me)
        record = await self._store.get(key, timeout_s=CALL_S)
        own = next((one for one in await self.members.members(timeout_s=CALL_S) if int(one.id) == member), None)
        if record is None or own is None:
            return
        ends = _ends(decode(NodeSpec, key, record.value))
        called = [url for url, end in ends.items() if url in own.peer_urls or await self._listens(end)]
        if called and set(called) != set(own.peer_urls):
            log.info("the other members call this node's at %s from now on", ", ".join(called))
            await self.members.use_peer_urls(own.id, tuple(called), timeout_s=CALL_S)


def _ends(node: NodeSpec) -> dict[str, Endpoint]:
    """Every address of a node's member, as the members know it."""
    ends = (Endpoint(address=address, port=node.etcd_peer_port) for address in node.addresses.values())
    return {f"https://{end}": end for end in ends}


async def listens(end: Endpoint) -> bool:
    """Whether this machine has the address, and a connection from it is accepted there.

    It is made from the address itself: one that moved to another machine meanwhile is answered there, too.
    """
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(end.address, end.port, local_addr=(end.address, 0))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
