"""The members of the simulated database: who votes, what each has stored, and which changes of them are refused.

Rule of the file: as etcd does it. A member leads while a majority of those that vote is connected to it; what is
committed is stored by all that are connected then. One that lost its data and starts under its old id is taken for the
one it was, as by etcd: that it never does is up to the code under test.
Source: etcd `server.go` (`mayAddMember`, `mayRemoveMember`), `cluster.go` (`ValidateConfigurationChange`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from holdfast.model.errors import Conflict
from holdfast.model.ids import NodeName
from holdfast.sim.loop import VirtualLoop
from holdfast.sim.quorum import Reaches
from holdfast.sim.truth import Truth
from holdfast.store.errors import MemberChangeRefused, MemberNotFound, StoreUnavailable
from holdfast.store.port import Member, MemberId, MemberStatus

NOTICED_S: Final = 5.0
"""A member that ended so shortly ago may still be counted on: its node has to say so, and others to read it."""
HEALTH_S: Final = 5.0
"""How long members have to be connected before the database counts them as well. Source: etcd `HealthInterval`."""
CATCH_UP_S: Final = (0.05, 0.6)
"""What a learner takes to get a copy of everything."""
REFUSED: Final = "etcdserver: "


@dataclass(slots=True, kw_only=True)
class Seated:
    """A member.

    stored        how much of the log it holds.
    is_older      it holds less than it did: its data was set back to an older copy.
    caught_up_at  None: no leader sends it anything now.
    """

    id: MemberId
    node: NodeName
    peer_urls: tuple[str, ...]
    is_learner: bool
    has_begun: bool = False
    stored: int = 0
    is_older: bool = False
    caught_up_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What was committed from then on was stored by these, while those voted."""

    at: float
    voters: frozenset[MemberId]
    stored: frozenset[MemberId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """A member leads from now on. `stored` of the `committed` entries it had."""

    at: float
    node: NodeName
    stored: int
    committed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberChange:
    """The database changed its members, asked by a node.

    revision   of the database then.
    voters     who votes from then on, and `up`: those of them that run and are connected to the leader.
    was_up     since when the member that it was about ran; None: it did not.
    """

    at: float
    revision: int
    act: str
    member: MemberId
    node: NodeName
    author: str
    was_voter: bool
    was_up: float | None
    voters: tuple[NodeName, ...]
    up: tuple[NodeName, ...]


@dataclass(slots=True, kw_only=True)
class Members:
    """All members. `holder_of` tells which member runs on a node now; `changed` is called after every change.

    log          who stored what was committed, one entry for as long as that stayed the same.
    forgetful    members that ran again under their old id without all that they had stored.
    """

    loop: VirtualLoop
    truth: Truth
    reaches: Reaches
    holder_of: Callable[[NodeName], MemberId | None]
    nodes: Callable[[], Iterable[tuple[NodeName, bool]]]
    """Every machine with whether it executes."""
    homes: Mapping[str, NodeName]
    """Whose machine has each address for members."""
    random: Random
    changed: Callable[[], None] = lambda: None
    log: list[Entry] = field(default_factory=list)
    elections: list[Election] = field(default_factory=list)
    changes: list[MemberChange] = field(default_factory=list)
    forgetful: list[str] = field(default_factory=list)
    known: dict[MemberId, Seated] = field(default_factory=dict)
    committed: int = 1
    _leading: MemberId | None = None
    _last: int = 0
    _since: dict[tuple[MemberId, MemberId], float] = field(default_factory=dict)
    _last_seen: dict[MemberId, float] = field(default_factory=dict)
    _running_since: dict[MemberId, float] = field(default_factory=dict)

    def found(self, node: NodeName, peer_urls: tuple[str, ...], member: int) -> None:
        """A member that votes from the beginning."""
        self._last = max(self._last, member)
        self.known[MemberId(member)] = Seated(
            id=MemberId(member), node=node, peer_urls=peer_urls, is_learner=False, has_begun=True, stored=1
        )

    @property
    def leader(self) -> NodeName | None:
        """See `Quorum`."""
        leading = self._leads()
        return None if leading is None else leading.node

    def voters(self) -> list[Seated]:
        """Who votes."""
        return [one for one in self.known.values() if not one.is_learner]

    def running(self, *, voting: bool = True) -> list[Seated]:
        """The members that run now, or those of them that vote."""
        return [
            one for one in self.known.values() if self.holder_of(one.node) == one.id and not (voting and one.is_learner)
        ]

    def begins(self, node: NodeName, peer_urls: tuple[str, ...]) -> MemberId | None:
        """A machine without data starts a member: it becomes the one with its addresses, if the database knows it."""
        mine = next((one for one in self.known.values() if set(one.peer_urls) & set(peer_urls)), None)
        if mine is None:
            return None
        if mine.has_begun:
            self.forgetful.append(
                f"member {mine.id} of {node} runs at {self.truth.now():.3f} s without the data it had"
            )
            self.truth.note("world", self.forgetful[-1])
        mine.has_begun, mine.stored = True, 0
        return mine.id

    def set_back(self, member: MemberId, stored: int) -> None:
        """What lies on the disk of a member that does not run is an older copy from now on."""
        seated = self.known[member]
        seated.stored, seated.is_older = stored, True

    def starts(self, member: MemberId) -> None:
        """A machine starts a member on what lies on its disk."""
        seated = self.known.get(member)
        if seated is not None and seated.is_older:
            self.forgetful.append(
                f"member {member} of {seated.node} runs at {self.truth.now():.3f} s on an older copy of the data it had"
            )
            self.truth.note("world", self.forgetful[-1])

    def candidates(self) -> Sequence[NodeName]:
        """See `Quorum`: whom a majority would vote for, which is not ahead of it. Source: Raft, section 5.4.1."""
        running = self.running()
        return sorted(
            one.node
            for one in running
            if self._is_majority(other for other in self._near(one, running) if other.stored <= one.stored)
        )

    def elect(self, node: NodeName) -> None:
        """See `Quorum`."""
        member = next(one for one in self.running() if one.node == node)
        self._leading = member.id
        now = self.truth.now()
        self.elections.append(Election(at=now, node=node, stored=member.stored, committed=self.committed))
        member.stored = self.committed

    def depose(self) -> None:
        """See `Quorum`."""
        self._leading = None

    def together(self) -> frozenset[NodeName]:
        """See `Quorum`. A node uses the database through any member that votes and is connected to the leader."""
        self._follow_connections()
        if self.leader is None:
            return frozenset(name for one in self.candidates() for name in self._clients(self._group_of(one)))
        group = self._group_of(self.leader)
        if not self._is_majority(group):
            return frozenset()
        for member in group:
            member.stored = self.committed
        return self._clients(group)

    def store(self) -> None:
        """Something is committed: everybody stores it who is connected to the leader."""
        self.committed += 1
        group = [] if self.leader is None else self._group_of(self.leader)
        for member in (*group, *self._learning(group)):
            member.stored = self.committed
        entry = Entry(
            at=self.truth.now(),
            voters=frozenset(one.id for one in self.voters()),
            stored=frozenset(one.id for one in group),
        )
        if not self.log or (self.log[-1].voters, self.log[-1].stored) != (entry.voters, entry.stored):
            self.log.append(entry)

    def listing(self) -> tuple[Member, ...]:
        """The members as etcd lists them: one that never ran has no name."""
        return tuple(
            Member(
                id=one.id,
                name=str(one.node) if one.has_begun else "",
                peer_urls=one.peer_urls,
                client_urls=(),
                is_learner=one.is_learner,
            )
            for one in self.known.values()
        )

    def answering(self) -> frozenset[MemberId]:
        """Who is connected to the leader."""
        return frozenset() if self.leader is None else frozenset(one.id for one in self._group_of(self.leader))

    def status(self) -> MemberStatus:
        """What a member says while it is with the leader. Raises: StoreUnavailable."""
        if self._leading is None:
            raise StoreUnavailable(f"{REFUSED}no leader")
        return MemberStatus(
            member_id=self._leading,
            leader_id=self._leading,
            raft_term=len(self.elections),
            raft_index=self.committed,
            database_bytes=0,
            version="3.5",
            is_learner=False,
        )

    def add(self, peer_urls: tuple[str, ...], *, by: NodeName) -> Member:
        """Add a learner. Raises: Conflict, MemberChangeRefused."""
        if any(set(one.peer_urls) & set(peer_urls) for one in self.known.values()):
            raise Conflict(f"{REFUSED}Peer URLs already exists", hint="it is a member already")
        if any(one.is_learner for one in self.known.values()):
            raise MemberChangeRefused(f"{REFUSED}too many learner members in cluster", hint="one at a time")
        if len(self._long_connected(by)) < len(self.voters()):
            raise MemberChangeRefused(f"{REFUSED}unhealthy cluster", hint="wait until all voters are connected")
        self._last += 1
        member = Seated(id=MemberId(self._last), node=self.homes[peer_urls[0]], peer_urls=peer_urls, is_learner=True)
        self.known[member.id] = member
        self._change("add", member, by=by, was_voter=False)
        return next(one for one in self.listing() if one.id == member.id)

    def promote(self, member: MemberId, *, by: NodeName) -> None:
        """Give a learner its vote. Raises: MemberNotFound, MemberChangeRefused."""
        learner = self._known(member)
        if not learner.is_learner:
            raise MemberChangeRefused(f"{REFUSED}can only promote a learner member", hint="it votes")
        at = learner.caught_up_at
        if at is None or self.truth.now() < at or self.holder_of(learner.node) != learner.id:
            raise MemberChangeRefused(
                f"{REFUSED}can only promote a learner member which is in sync with leader", hint="wait"
            )
        self.store()
        learner.is_learner = False
        self._change("promote", learner, by=by, was_voter=False)

    def remove(self, member: MemberId, *, by: NodeName) -> None:
        """Remove a member for good. Raises: MemberNotFound, MemberChangeRefused."""
        gone = self._known(member)
        voters, connected = self.voters(), self._long_connected(by)
        if not gone.is_learner and len(voters) == 1:
            raise MemberChangeRefused(f"{REFUSED}re-configuration failed due to not enough started members", hint="")
        if not gone.is_learner and gone in self._connected(by) and len(connected) - 1 < 1 + (len(voters) - 2) // 2:
            raise MemberChangeRefused(f"{REFUSED}unhealthy cluster", hint="wait until enough voters are connected")
        self.store()
        del self.known[member]
        self._change("remove", gone, by=by, was_voter=not gone.is_learner)

    def move_leader(self, to: MemberId) -> None:
        """Have another voter lead, at once. Raises: StoreUnavailable."""
        heir = self._known(to)
        if heir.node not in self.candidates() or heir not in self.running():
            raise StoreUnavailable(f"{REFUSED}request timed out, leader transfer took too long")
        self.truth.note("world", f"the database's lead goes to {heir.node}", code="leader-moved", subject=heir.node)
        self.elect(heir.node)

    def _change(self, act: str, member: Seated, *, by: NodeName, was_voter: bool) -> None:
        was_up = self._running_since.get(member.id)
        self.truth.note("world", f"{by} has the database {act} member {member.id} of {member.node}")
        self.changed()
        running = self.running()
        self.changes.append(
            MemberChange(
                at=self.truth.now(),
                revision=self.truth.revision(),
                act=act,
                member=member.id,
                node=member.node,
                author=by,
                was_voter=was_voter,
                was_up=was_up,
                voters=tuple(one.node for one in self.voters()),
                up=tuple(one.node for one in self.voters() if one in running or self._fell_silent(one)),
            )
        )

    def _fell_silent(self, member: Seated) -> bool:
        """Whether it was there so shortly ago that nobody can have noticed."""
        return self.truth.now() - self._last_seen.get(member.id, float("-inf")) <= NOTICED_S

    def _known(self, member: MemberId) -> Seated:
        if member not in self.known:
            raise MemberNotFound(f"the database has no member {member:x}", hint="list the members")
        return self.known[member]

    def _is_majority(self, group: Iterable[Seated]) -> bool:
        return sum(1 for one in group if not one.is_learner) * 2 > len(self.voters())

    def _near(self, one: Seated, among: list[Seated]) -> list[Seated]:
        return [other for other in among if other is one or self.reaches(one.node, other.node)]

    def _group_of(self, leader: NodeName) -> list[Seated]:
        """The voters that run and are connected to the leader, itself among them."""
        running = self.running()
        leading = next((one for one in running if one.node == leader), None)
        return [] if leading is None else self._near(leading, running)

    def _learning(self, group: list[Seated]) -> list[Seated]:
        """The learners that follow the leader and have caught up."""
        now = self.truth.now()
        return [
            one
            for one in self.running(voting=False)
            if group and one.is_learner and one.caught_up_at is not None and one.caught_up_at <= now
        ]

    def _clients(self, group: list[Seated]) -> frozenset[NodeName]:
        serving = [one.node for one in group]
        return frozenset(
            name
            for name, executes in self.nodes()
            if executes and (name in serving or any(self.reaches(name, other) for other in serving))
        )

    def _follow_connections(self) -> None:
        """Note since when members have been connected, and from when on a learner follows the leader."""
        now, running = self.truth.now(), self.running(voting=False)
        pairs = [
            (one.id, other.id)
            for one in running
            for other in running
            if one is not other and self.reaches(one.node, other.node)
        ]
        self._since = {pair: self._since.get(pair, now) for pair in pairs}
        runs = {one.id: self._running_since.get(one.id, now) for one in running}
        self._last_seen |= dict.fromkeys(self._running_since.keys() - runs.keys(), now)
        self._running_since = runs
        for one in running:
            if one.is_learner and self._leading is not None and (self._leading, one.id) in self._since:
                if one.caught_up_at is None:
                    one.caught_up_at = now + self.random.uniform(*CATCH_UP_S)
            else:
                one.caught_up_at = None

    def _asked(self, by: NodeName) -> Seated | None:
        """The member that a node asks: its own, else the leader."""
        own = next((one for one in self.running() if one.node == by), None)
        return own or self._leads()

    def _leads(self) -> Seated | None:
        return None if self._leading is None else self.known.get(self._leading)

    def _connected(self, by: NodeName) -> list[Seated]:
        """The voters that the member which a node asks is connected to, and itself."""
        asked = self._asked(by)
        if asked is None:
            return []
        return [one for one in self.voters() if one is asked or (asked.id, one.id) in self._since]

    def _long_connected(self, by: NodeName) -> list[Seated]:
        """Those of them for so long that the database counts them as well."""
        asked, limit = self._asked(by), self.truth.now() - HEALTH_S
        return [
            one
            for one in self._connected(by)
            if asked is one or (asked is not None and self._since[asked.id, one.id] <= limit)
        ]
