"""The members of a database in memory, with etcd's own conditions, and the processes that they run as.

Rule of the file: a member that has ever run keeps in mind, here and not on any disk, that it has; one that starts
without its data is the mistake that everything about seats is there to prevent, and fails the test at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from tests.unit.node.dying import Killer

from holdfast.model.errors import Conflict, HoldfastError, Unavailable
from holdfast.store.errors import DataLost, MemberChangeRefused, MemberNotFound
from holdfast.store.port import Member, MemberId, MemberStatus


class SimulatedMembers:
    """`StoreAdmin`. Every act is a step at which its caller may be killed; what was done before stays done."""

    def __init__(self) -> None:
        self.known: dict[MemberId, Member] = {}
        self.running: set[MemberId] = set()
        self.ever_ran: set[MemberId] = set()
        self.leader: MemberId | None = None
        self.killer: Killer | None = None
        self._last = 0

    def found(self, urls: tuple[str, ...]) -> MemberId:
        """The first member, which votes and runs."""
        member = self._new(urls, is_learner=False)
        self.running.add(member.id)
        self.ever_ran.add(member.id)
        self.leader = member.id
        return member.id

    @property
    def voters(self) -> list[MemberId]:
        """Who votes."""
        return [one.id for one in self.known.values() if not one.is_learner]

    def check(self) -> None:
        """Refuse a state in which nothing could be decided."""
        up = [one for one in self.voters if one in self.running]
        assert 2 * len(up) > len(self.voters), f"no majority: {up} of {self.voters}"

    def step(self) -> None:
        """Here the caller could be killed."""
        if self.killer is not None:
            self.killer.step()

    async def members(self, *, timeout_s: float | None = None) -> tuple[Member, ...]:
        """All members."""
        return tuple(self.known.values())

    async def add_learner(self, peer_urls: tuple[str, ...], *, timeout_s: float | None = None) -> Member:
        """One at a time, and not while a voter is away."""
        self.step()
        if any(set(one.peer_urls) & set(peer_urls) for one in self.known.values()):
            raise Conflict("that address is a member's", hint="")
        if any(one.is_learner for one in self.known.values()) or not set(self.voters) <= self.running:
            raise MemberChangeRefused("not now", hint="")
        member = self._new(peer_urls, is_learner=True)
        self.step()
        return member

    async def use_peer_urls(
        self, member: MemberId, peer_urls: tuple[str, ...], *, timeout_s: float | None = None
    ) -> None:
        """Refused where another member is called."""
        self.step()
        if member not in self.known:
            raise MemberNotFound(f"no member {member:x}")
        taken = {url for one in self.known.values() if one.id != member for url in one.peer_urls}
        if taken & set(peer_urls):
            raise Conflict("the address is another member's")
        self.known[member] = replace(self.known[member], peer_urls=peer_urls)

    async def promote(self, member: MemberId, *, timeout_s: float | None = None) -> None:
        """Only one that runs, and so has caught up."""
        self.step()
        self._known(member)
        if member not in self.running:
            raise MemberChangeRefused("it has not caught up", hint="")
        self.known[member] = replace(self.known[member], is_learner=False)
        self.check()
        self.step()

    async def remove(self, member: MemberId, *, timeout_s: float | None = None) -> None:
        """Under etcd's own condition, which is laxer than `check`. Source: etcd `mayRemoveMember`."""
        self.step()
        gone = self._known(member)
        if not gone.is_learner:
            active = len(self.running & set(self.voters))
            if member in self.running and active - 1 < 1 + (len(self.voters) - 2) // 2:
                raise MemberChangeRefused("it would cost the majority", hint="")
        assert member != self.leader, "the leader goes without handing the lead over: an election pauses everything"
        del self.known[member]
        self.running.discard(member)
        self.check()
        self.step()

    async def move_leader(self, to: MemberId, *, timeout_s: float | None = None) -> None:
        """To a voter that runs."""
        self.step()
        if to not in self.running or to not in self.voters:
            raise Unavailable("it cannot lead", hint="")
        self.leader = to
        self.step()

    async def answering(self, *, timeout_s: float) -> frozenset[MemberId]:
        """Who runs."""
        return frozenset(self.running)

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> MemberStatus:
        """The leader's own."""
        assert self.leader is not None
        return MemberStatus(
            member_id=self.leader,
            leader_id=self.leader,
            raft_term=1,
            raft_index=1,
            database_bytes=0,
            version="3",
            is_learner=False,
        )

    def _new(self, urls: tuple[str, ...], *, is_learner: bool) -> Member:
        self._last += 1
        member = Member(id=MemberId(self._last), name="", peer_urls=urls, client_urls=(), is_learner=is_learner)
        self.known[member.id] = member
        return member

    def _known(self, member: MemberId) -> Member:
        if member not in self.known:
            raise MemberNotFound(f"there is no member {member}", hint="")
        return self.known[member]


class SimulatedProcess:
    """`MemberProcess` of one machine. It outlives the daemon that started it."""

    def __init__(self, members: SimulatedMembers, urls: tuple[str, ...], data: Path) -> None:
        self.data = data
        self._members = members
        self._urls = urls
        self._is: MemberId | None = None
        self.problem: HoldfastError | None = None
        self.is_older = False
        """What lies here is a copy that lacks what the member had stored."""

    @property
    def has_data(self) -> bool:
        """Whether it has begun to store here."""
        return (self.data / "member" / "wal" / "0.wal").exists()

    @property
    def is_cleared(self) -> bool:
        """Whether nothing lies here."""
        return not self.data.exists()

    def begin_as(self, member: MemberId) -> None:
        """Run as the founder's."""
        (self.data / "member" / "wal").mkdir(parents=True)
        (self.data / "member" / "wal" / "0.wal").write_text(str(member))
        self._is = member

    def keep_running(self, initial_cluster: tuple[tuple[str, str], ...], *, has_begun: bool) -> None:
        """Start, or adopt what runs."""
        self._members.step()
        if self.is_older:
            self.problem = DataLost("an older copy")
            return
        log = self.data / "member" / "wal" / "0.wal"
        if self._is is None and log.exists():
            self._is = MemberId(int(log.read_text()))
        elif self._is is None:
            assert not has_begun, "it is started without the data that it had"
            mine = [one for one in self._members.known.values() if one.peer_urls == self._urls]
            if mine:
                assert mine[0].id not in self._members.ever_ran, "a member that forgot what it voted for runs again"
                self.begin_as(mine[0].id)
        if self._is in self._members.known:
            assert self._is is not None
            self._members.running.add(self._is)
            self._members.ever_ran.add(self._is)
        self._members.step()

    def note_begun(self) -> None:
        """Said by the seat."""

    async def clear(self) -> None:
        """End it and remove what it stored."""
        await self.stop()
        if self.data.exists():
            rmtree(self.data)
        self.is_older, self.problem = False, None

    async def stop(self) -> None:
        """End it."""
        self._members.step()
        if self._is is not None:
            self._members.running.discard(self._is)
        self._is = None
        self._members.step()

    async def member(self) -> MemberId:
        """Which it is, as long as the others count it."""
        if self._is is None or self._is not in self._members.known:
            raise Unavailable("it does not answer", hint="")
        return self._is
