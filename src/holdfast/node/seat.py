"""This node's seat in the cluster database: starts, stops and clears its own member as its record says.

Rule of the file: the record says which member is this node's; its data begins here once, and is never used again when
it was lost or given up, because a member that forgot what it acknowledged could vote twice. Source: SAFE-4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from holdfast.membership.seat_file import HeldSeat
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Condition, NodeSpec, Seat, SeatState
from holdfast.node.mirror import Mirror
from holdfast.store.errors import DataLost, DataUnwritable, DiskFull
from holdfast.store.etcd.member_config import joining_cluster
from holdfast.store.port import Member, MemberId, Store, StoreAdmin
from holdfast.store.records import CLUSTER

log = logging.getLogger(__name__)

LOOK_S: Final = 0.25
ASK_S: Final = 0.5

Cluster = tuple[tuple[str, str], ...]


class MemberProcess(Protocol):
    """This node's member of the database as a program, with its data."""

    @property
    def has_data(self) -> bool:
        """Whether a member has begun to store here."""

    @property
    def is_cleared(self) -> bool:
        """Whether nothing of any member lies here."""

    @property
    def problem(self) -> HoldfastError | None:
        """Why it does not run; None while it does, or is not meant to."""

    def keep_running(self, initial_cluster: Cluster, *, has_begun: bool) -> None:
        """Start it, and again whenever it ends. `initial_cluster` has a meaning at its very first start only."""

    def note_begun(self) -> None:
        """From now on do not start it without its data."""

    async def clear(self) -> None:
        """End it, whoever started it, and remove all that it stored."""

    async def member(self) -> MemberId:
        """Which member it says it is. Raises: Unavailable."""


class SeatNote(Protocol):
    """What this machine durably knows of its seat."""

    def read(self) -> HeldSeat | None:
        """The seat; None: nothing was ever noted here."""

    def write(self, seat: HeldSeat) -> None:
        """Keep it."""


class SeatKeeper:
    """Does what the record says. `seat` is what the node reports of it."""

    def __init__(
        self,
        *,
        me: NodeName,
        store: Store,
        admin: StoreAdmin,
        mirror: Mirror,
        process: MemberProcess,
        note: SeatNote,
        shortage: Callable[[], DiskFull | None] = lambda: None,
    ) -> None:
        """Take the ports. `shortage`: what the member lacks in room on its disk, while it runs."""
        self._me = me
        self._store = store
        self._mirror = mirror
        self._admin = admin
        self._process = process
        self._shortage = shortage
        self._kept = note
        self._held = note.read()
        self._is_running = False
        self.seat: Seat | None = None

    async def run(self) -> None:
        """Follow the record until cancelled; the member runs on."""
        changed = self._mirror.subscribe()
        while True:
            try:
                await self._round()
            except HoldfastError as error:
                log.info("this node's member of the database: %s", error.message)
            try:
                async with asyncio.timeout(LOOK_S if self._is_unsettled else 4 * LOOK_S):
                    await changed.wait()
            except TimeoutError:
                pass
            changed.clear()

    def conditions(self) -> tuple[Condition, ...]:
        """Standing warnings about this node's member."""
        if self.seat is None or self.seat.state is SeatState.LOST:
            return ()
        problem, state = self._process.problem, "does not run"
        if problem is None and self._is_running:
            problem, state = self._lacking(), "runs and would not start again"
        if problem is None:
            return ()
        text = f"{self._me}: its member of the cluster database {state}: {problem.message}"
        if isinstance(problem, DiskFull):
            return (Condition(code="database-disk-full", subject=self._me, text=text),)
        return (Condition(code="database-member-down", subject=self._me, text=text),)

    def _lacking(self) -> HoldfastError | None:
        """What the member lacks on its disk to start again; a disk that does not answer is lacking, and no more."""
        try:
            return self._shortage()
        except OSError as error:
            return DataUnwritable(f"its disk does not say how full it is: {error.strerror or error}")

    @property
    def _is_unsettled(self) -> bool:
        return self.seat is not None and self.seat.state is not SeatState.RUNNING

    async def _round(self) -> None:
        held = self._held or self._founded()
        record = self._record()
        if record is None or record.seat == held.member or self._held is None:
            await self._attend(held)
        elif held.member is None and record.seat is not None:
            await self._take(held, record.seat)
        elif held.member is not None and held.member in await self._members():
            await self._attend(held)  # the record is behind: it follows the members
        elif held.member is not None:
            await self._give_up(held)

    def _record(self) -> NodeSpec | None:
        """What the database says of this node; None: not known, or not in the cluster any more."""
        snapshot = self._mirror.snapshot
        node = snapshot.nodes.get(self._me) if snapshot is not None else None
        return None if node is None else node.value

    def _founded(self) -> HeldSeat:
        """The seat of a machine that noted none: nothing, or the data of the founder."""
        if not self._process.has_data:
            self._held = HeldSeat()
            return self._held
        return HeldSeat()

    async def _members(self) -> dict[int, Member]:
        """The members by id, from a member that has just caught up. Raises: Unavailable."""
        await self._store.get(CLUSTER)
        return {int(one.id): one for one in await self._admin.members()}

    async def _attend(self, held: HeldSeat) -> None:
        """Have the member run that this node holds data for, and see how it is."""
        if held.member is None and self._held is not None:
            self.seat = None
            if not self._process.is_cleared:
                await self._clear()  # given up by a daemon that ended before it came to this
            return
        is_lost = held.begun and (not self._process.has_data or isinstance(self._process.problem, DataLost))
        if is_lost and (not self._is_running or self._process.problem is not None):
            self._say(held, SeatState.LOST)
            return
        if not self._is_running:
            await self._start(held)
        says = await self._ask()
        if says is None or held.member not in (None, says):
            self._say(held, SeatState.DOWN if held.begun else SeatState.BEGINNING)
            return
        if self._held is None:
            self._note(HeldSeat(member=says, begun=True))
            self._process.note_begun()
        elif not held.begun:
            self._note(held.began())
            self._process.note_begun()
        self._say(self._held or held, SeatState.RUNNING)

    async def _ask(self) -> int | None:
        """Which member answers on this node; None when none does."""
        try:
            async with asyncio.timeout(ASK_S):
                return int(await self._process.member())
        except (HoldfastError, TimeoutError):
            return None

    async def _start(self, held: HeldSeat) -> None:
        """Start the member: what it has stored tells it all; at its first start the list of members does."""
        initial: Cluster = ()
        if not self._process.has_data:
            initial = joining_cluster(await self._admin.members(), self._me)
        self._process.keep_running(initial, has_begun=held.begun)
        self._is_running = True

    async def _take(self, held: HeldSeat, member: int) -> None:
        """Begin a new member, if it is still the learner that was added for this node and never began here."""
        known = await self._members()
        if member in held.ended or (member in known and not known[member].is_learner):
            self.seat = Seat(member=member, state=SeatState.LOST)
            return
        if member not in known:
            return
        await self._clear()
        log.info("this node gets a member of the cluster database: %x", member)
        self._note(held.taking(member))
        await self._attend(held.taking(member))

    async def _give_up(self, held: HeldSeat) -> None:
        """End the member and clear its data: the database does not count it any more."""
        log.info("this node's member of the cluster database is given up: %x", held.member or 0)
        self._note(held.given_up())
        self.seat = None
        await self._clear()

    async def _clear(self) -> None:
        await self._process.clear()
        self._is_running = False

    def _note(self, seat: HeldSeat) -> None:
        self._kept.write(seat)
        self._held = seat

    def _say(self, held: HeldSeat, state: SeatState) -> None:
        self.seat = None if held.member is None else Seat(member=held.member, state=state)
