"""A machine's member of the simulated database as a program with its data, and the machine's way to change members.

Rule of the file: the program outlives holdfastd, the data outlives the power, and a request that was sent arrives
whatever becomes of who sent it. When what fails is decided by faults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Final, TypeVar

from holdfast.membership.seat_file import HeldSeat
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import NodeName
from holdfast.sim.database import REQUEST_TIMEOUT_S, NodeStore
from holdfast.sim.loop import Process, VirtualLoop, outside
from holdfast.sim.members import Members
from holdfast.store.errors import DataLost, DiskFull, MemberExited, StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.etcd.stored import Stored, SurelyStored, is_older
from holdfast.store.port import Member, MemberId, MemberStatus

T = TypeVar("T")
START_AGAIN_S: Final = 0.5
ANSWER_S: Final = 0.001


class MachineMember:
    """`seat.MemberProcess` and `seat.SeatNote` of one machine.

    is_held_down, is_full   are for whoever makes faults: it ends and cannot start, or its disk has no room.
    holds                   the member that runs here from the beginning of the world; None: none.
    held, noted             what holdfastd noted on the machine's disk: its seat, and what the member surely stored.
    """

    def __init__(
        self,
        node: NodeName,
        peer_urls: tuple[str, ...],
        members: Members,
        *,
        loop: VirtualLoop,
        executes: Callable[[], bool],
        holds: MemberId | None,
    ) -> None:
        self.held: HeldSeat | None = None if holds is None else HeldSeat(member=holds, begun=True)
        self.noted: Stored | None = None
        self.problem: HoldfastError | None = None
        self.is_held_down = self.is_full = False
        self._node = node
        self._peer_urls = peer_urls
        self._members = members
        self._loop = loop
        self._executes = executes
        self._stored_as = holds
        self._runs = holds is not None
        self._has_begun = False
        self._surely = SurelyStored()
        self._keeper: Process | None = None
        self._daemon: Process | None = None

    @property
    def running(self) -> MemberId | None:
        """The member that runs on the machine now."""
        return self._stored_as if self._runs and self._executes() else None

    @property
    def is_well(self) -> bool:
        """Whether nothing keeps the program from running."""
        return not (self.is_held_down or self.is_full)

    @property
    def holds(self) -> MemberId | None:
        """The member whose data lies here; None: no data."""
        return self._stored_as

    @property
    def data(self) -> Stored | None:
        """What lies here of a member that the database knows."""
        return None if self._stored_as not in self._members.known else self._stored(self._stored_as)

    @property
    def has_data(self) -> bool:
        """See `MemberProcess`."""
        return self._stored_as is not None

    @property
    def is_cleared(self) -> bool:
        """See `MemberProcess`."""
        return self._stored_as is None

    def read(self) -> HeldSeat | None:
        """See `SeatNote`."""
        return self.held

    def write(self, seat: HeldSeat) -> None:
        """See `SeatNote`."""
        self.held = seat

    def keep_running(self, initial_cluster: tuple[tuple[str, str], ...], *, has_begun: bool) -> None:
        """See `MemberProcess`."""
        self._has_begun = has_begun
        self._keeper = self._daemon
        outside(self._start)

    def note_begun(self) -> None:
        """See `MemberProcess`."""
        self._has_begun = True

    async def clear(self) -> None:
        """See `MemberProcess`."""
        self._keeper = None
        await asyncio.sleep(ANSWER_S)
        outside(self._wipe)

    async def member(self) -> MemberId:
        """See `MemberProcess`."""
        await asyncio.sleep(ANSWER_S)
        running = self.running
        if running is None or running not in self._members.known:
            raise StoreUnavailable("this node's member of the database does not answer")
        self.noted = self._surely.saw(self._stored(running), self._loop.world_time()) or self.noted
        return running

    def daemon_starts(self, daemon: Process) -> None:
        """A holdfastd starts, which does not know whether the program runs."""
        self._daemon, self._keeper, self.problem, self._has_begun = daemon, None, None, False
        self._surely = SurelyStored()

    def daemon_ends(self) -> None:
        """Nobody keeps the program running; it runs on."""
        self._daemon = self._keeper = None

    def end(self) -> None:
        """The program ends; whoever keeps it running starts it again."""
        if self._runs:
            self._runs = False
            self.problem = MemberExited("the member of the database ended by itself")
            self._members.changed()
        self._again()

    def lose_power(self) -> None:
        """The machine is off."""
        self._runs = False
        self.daemon_ends()

    def lose_data(self) -> None:
        """What it stored is gone, with the folder that it was in."""
        self._stored_as = None
        self.end()

    def set_back(self, copy: Stored) -> None:
        """An older copy of its data is put in the place of what it stored."""
        self._members.set_back(MemberId(copy.member), copy.index)
        self.end()

    def leave_cluster(self) -> None:
        """Everything of the cluster is removed from the machine, and a new holdfastd knows nothing of it."""
        self._keeper, self.held = None, None
        self._wipe()

    def join_cluster(self) -> None:
        """The machine has joined: it holds no seat."""
        self.held = HeldSeat()

    def _wipe(self) -> None:
        self._runs, self._stored_as, self.problem = False, None, None
        self.noted, self._surely = None, SurelyStored()
        self._members.changed()

    def _again(self) -> None:
        if self._keeper is not None:
            self._loop.call_later(START_AGAIN_S, self._start, context=Context())

    def _start(self) -> None:
        """Start the program if it does not run and somebody keeps it running."""
        keeper = self._keeper
        if self._runs or keeper is None:
            return
        self.problem = self._obstacle()
        if self.problem is not None or not keeper.runs or not self._executes():
            self._again()
            return
        if self._stored_as is None:
            self._stored_as = self._members.begins(self._node, self._peer_urls)
        if self._stored_as is None:
            self.problem = MemberExited("the database has no member with these addresses")
            self._again()
            return
        self._members.starts(self._stored_as)
        self._runs = True
        self._members.changed()

    def _obstacle(self) -> HoldfastError | None:
        if self.is_held_down:
            return MemberExited("the member of the database ends as soon as it starts")
        if self.is_full:
            return DiskFull("no room for the database")
        if self._has_begun and self._stored_as is None:
            return DataLost("the data of this node's member of the cluster database is gone")
        if self._has_begun and is_older(self.data, self.noted):
            return DataLost("the data of this node's member of the cluster database is an older copy")
        return None

    def _stored(self, member: MemberId) -> Stored:
        return Stored(member=int(member), index=self._members.known[member].stored)


class MachineAdmin:
    """`StoreAdmin` of one machine, by the same connections as its `NodeStore`."""

    def __init__(self, node: NodeName, members: Members, store: NodeStore) -> None:
        self._node = node
        self._members = members
        self._store = store

    async def members(self, *, timeout_s: float | None = None) -> tuple[Member, ...]:
        """See `StoreAdmin`."""
        return await self._ask(self._members.listing, timeout_s, is_change=False)

    async def add_learner(self, peer_urls: tuple[str, ...], *, timeout_s: float | None = None) -> Member:
        """See `StoreAdmin`."""
        return await self._ask(lambda: self._members.add(peer_urls, by=self._node), timeout_s)

    async def promote(self, member: MemberId, *, timeout_s: float | None = None) -> None:
        """See `StoreAdmin`."""
        await self._ask(lambda: self._members.promote(member, by=self._node), timeout_s)

    async def remove(self, member: MemberId, *, timeout_s: float | None = None) -> None:
        """See `StoreAdmin`."""
        await self._ask(lambda: self._members.remove(member, by=self._node), timeout_s)

    async def move_leader(self, to: MemberId, *, timeout_s: float | None = None) -> None:
        """See `StoreAdmin`."""
        await self._ask(lambda: self._members.move_leader(to), timeout_s)

    async def answering(self, *, timeout_s: float) -> frozenset[MemberId]:
        """See `StoreAdmin`."""
        return await self._ask(self._members.answering, timeout_s, is_change=False)

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> MemberStatus:
        """See `StoreAdmin`."""
        return await self._ask(self._members.status, timeout_s, is_change=False)

    async def _ask(self, act: Callable[[], T], timeout_s: float | None, *, is_change: bool = True) -> T:
        """Send a request, which arrives also when nobody waits for its answer any more."""
        faults, limit_s = self._store.faults, REQUEST_TIMEOUT_S if timeout_s is None else timeout_s
        if faults.is_cut:
            await asyncio.sleep(min(self._store.silence_s, limit_s))
            raise StoreUnavailable("the cluster database cannot be reached")
        if is_change and faults.lost_requests > 0:
            faults.lost_requests -= 1
            raise StoreOutcomeUnknown("the request was lost")
        outcome: list[T | HoldfastError] = []
        answered: asyncio.Future[None] = outside(asyncio.get_running_loop().create_future)

        def arrive() -> None:
            if faults.is_cut:
                return
            try:
                outcome.append(act())
            except HoldfastError as error:
                outcome.append(error)
            if not answered.done():
                answered.set_result(None)

        outside(asyncio.get_running_loop().call_later, faults.delay_s, arrive)
        await asyncio.wait([answered], timeout=limit_s)
        if is_change and outcome and faults.lost_replies > 0:
            faults.lost_replies -= 1
            raise StoreOutcomeUnknown("the reply was lost")
        if not outcome:
            raise StoreOutcomeUnknown("no answer came in time")
        if isinstance(outcome[0], HoldfastError):
            raise outcome[0]
        return outcome[0]
