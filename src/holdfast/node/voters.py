"""The coordinator's hands on the members of the cluster database: one change at a time, until those vote that should.

Rule of the file: the database's own list of members is the truth, the nodes' records follow it, and every round begins
by reading it; so a coordinator that dies between any two lines leaves nothing that the next one does not find.
Source: DESIGN section 6, docs/quorum.md, SAFE-4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from holdfast.decide.voters import SeatedMember, VoterAct, VoterStep, is_up, next_voter_step
from holdfast.membership.endpoint import Endpoint
from holdfast.model.errors import Conflict, HoldfastError, Unavailable
from holdfast.model.events import EventCode
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Condition, NodeSpec
from holdfast.model.reasons import Reason
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.clock import Clock
from holdfast.node.event_log import EventLog
from holdfast.node.mirror import Mirror
from holdfast.node.spec_transactions import set_node
from holdfast.node.transactions import end_vote_order, order_votes, revision_of
from holdfast.store.port import KeyValue, Member, MemberId, ModRevision, Store, StoreAdmin, Txn
from holdfast.store.records import COORDINATOR, VOTE_ORDER, RecordUnreadable, decode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pause:
    """How long until the next round, in seconds; `is_firm`: news do not end it."""

    s: float
    is_firm: bool = False


LOOK: Final = Pause(10.0)
BUSY: Final = Pause(0.25)
REFUSED: Final = Pause(1.0, is_firm=True)
"""What is tried in vain is written down before, which is news: without a rest it would be tried again at once."""
CALL_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteOrder:
    """The change of members that is about to be made, by whom: a write that shows that it still coordinates.

    It stays until another one follows, or until an event tells what came of it.
    """

    act: VoterAct
    node: NodeName | None
    member: int | None
    by: NodeName
    at_ms: int
    reasons: tuple[Reason, ...] = ()


class VoterKeeper:
    """Keeps the votes where they belong, while its node coordinates. `waits_for` says what holds a change up."""

    def __init__(
        self,
        *,
        me: NodeName,
        store: Store,
        admin: StoreAdmin,
        mirror: Mirror,
        clock: Clock,
        events: EventLog,
        is_heard: Callable[[NodeName], bool],
    ) -> None:
        """`is_heard`: whether a node is certainly alive; its session outlives it for a while."""
        self._me = me
        self._store = store
        self._admin = admin
        self._mirror = mirror
        self._clock = clock
        self._events = events
        self._is_heard = is_heard
        self._absent_since_ms: dict[NodeName, int] = {}
        self._learner: tuple[int, int] | None = None
        self._doubts: dict[int, tuple[NodeName, ...]] = {}
        self.waits_for: str | None = None

    async def run(self) -> None:
        """Work until cancelled: when this node stops being the coordinator."""
        changed = self._mirror.subscribe()
        self._absent_since_ms.clear()
        self._learner = None
        try:
            while True:
                pause = await self._round()
                if pause.is_firm:
                    await asyncio.sleep(pause.s)
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause.s):
                            await changed.wait()
                changed.clear()
        finally:
            self.waits_for = None
            self._doubts = {}

    async def _round(self) -> Pause:
        """Make at most one change; returns when to look again."""
        snapshot = self._mirror.snapshot
        if snapshot is None:
            return LOOK
        if snapshot.is_frozen:
            self.waits_for = "the cluster is frozen, and votes do not move then"
            return LOOK
        try:
            order, members = await self._look()
            await self._tell(order, members)
            snapshot = self._mirror.snapshot or snapshot  # that could take long, and members may have died meanwhile
            self._doubts = of_two_nodes(snapshot, members)
            if self._doubts:
                self.waits_for = "; ".join(condition.text for condition in self._doubtful())
                log.warning("voters: %s", self.waits_for)
                return LOOK
            if await self._correct(snapshot, members):
                return BUSY
            silent = frozenset(name for name in snapshot.sessions if not self._is_heard(name))
            step = next_voter_step(
                snapshot,
                seated(snapshot, members),
                absent_ms=self._absent_ms(snapshot),
                learning_ms=self._learning(members),
                silent=silent,
            )
            if step is None:
                self.waits_for = _too_few(snapshot, members, silent)
                return LOOK
            if step.act is VoterAct.WAIT:
                self.waits_for = f"{step.node} has to catch up with the database before it votes in its place"
                return BUSY
            if await self._may_change(step, snapshot):
                await self._make(step, snapshot, members)
        except HoldfastError as error:
            self.waits_for = error.message
            log.info("voters: %s", error.message)
            return REFUSED
        self.waits_for = None
        return BUSY

    def conditions(self) -> tuple[Condition, ...]:
        """Each member of two nodes, and each node that leaves and keeps its vote so far, with what holds that up."""
        snapshot = self._mirror.snapshot
        if snapshot is None or self.waits_for is None:
            return ()
        staying = (
            Condition(code="vote-stays", subject=name, text=f"the vote of {name} stays for now: {self.waits_for}")
            for name, node in sorted(snapshot.nodes.items())
            if node.value.is_leaving and (node.value.is_voter or node.value.seat is not None)
        )
        return *self._doubtful(), *staying

    def _doubtful(self) -> tuple[Condition, ...]:
        """What is left alone until one record less, or the member itself, gives such an address up."""
        return tuple(
            Condition(
                code="member-of-two-nodes",
                subject=f"{member:x}",
                text=f"member {member:x} of the cluster database is called at addresses of {' and '.join(homes)}, "
                "and no vote moves while nobody can say whose it is",
            )
            for member, homes in sorted(self._doubts.items())
        )

    async def _look(self) -> tuple[KeyValue | None, tuple[Member, ...]]:
        """The last order, and the members as of now: etcd 3.4 lists them as one last knew, so it catches up first."""
        order = await self._store.get(VOTE_ORDER, timeout_s=CALL_S)
        return order, await self._admin.members(timeout_s=CALL_S)

    async def _tell(self, written: KeyValue | None, members: tuple[Member, ...]) -> None:
        """Record what came of the last order: once, by whoever coordinates when the members show it."""
        if written is None:
            return
        try:
            order = decode(VoteOrder, VOTE_ORDER, written.value)
        except RecordUnreadable as error:
            log.error("%s", error)
            return
        code = outcome(order, members)
        if code is not None:
            event = self._events.event(code, order.node or f"member {order.member:x}", *order.reasons)
            told = end_vote_order(written, events=self._events.operations(event))
            await self._store.txn(told, timeout_s=CALL_S)

    async def _correct(self, snapshot: Snapshot, members: tuple[Member, ...]) -> bool:
        """Let the nodes' records follow the members; returns whether any did not."""
        corrections = following(snapshot, members)
        for before, after in corrections:
            txn = set_node(after, before=before, events=())
            still = ModRevision(COORDINATOR, equals=revision_of(snapshot.coordinator))
            await self._store.txn(Txn(compares=(*txn.compares, still), then=txn.then), timeout_s=CALL_S)
        return bool(corrections)

    def _absent_ms(self, snapshot: Snapshot) -> dict[NodeName, int]:
        """Per node that is down, or whose member is, for how long this coordinator has known it."""
        now_ms = self._clock.monotonic_ms()
        away = [name for name in sorted(snapshot.nodes) if not is_up(snapshot, name)]
        self._absent_since_ms = {name: self._absent_since_ms.get(name, now_ms) for name in away}
        return {name: now_ms - since_ms for name, since_ms in self._absent_since_ms.items()}

    def _learning(self, members: tuple[Member, ...]) -> int:
        """For how long the present learner has been known here."""
        now_ms = self._clock.monotonic_ms()
        learner = next((int(member.id) for member in members if member.is_learner), None)
        if learner is None:
            self._learner = None
        elif self._learner is None or self._learner[0] != learner:
            self._learner = (learner, now_ms)
        return 0 if self._learner is None else now_ms - self._learner[1]

    async def _may_change(self, step: VoterStep, snapshot: Snapshot) -> bool:
        """Whether the database, asked by a write, has this node coordinate. Source: SAFE-4."""
        order = VoteOrder(
            act=step.act,
            node=step.node,
            member=step.member,
            by=self._me,
            at_ms=self._clock.wall_ms(),
            reasons=step.reasons,
        )
        return (await self._store.txn(order_votes(order, snapshot=snapshot), timeout_s=CALL_S)).succeeded

    async def _make(self, step: VoterStep, snapshot: Snapshot, members: tuple[Member, ...]) -> None:
        """Make one change. What came of it shows in the members at the next round, also when no answer came."""
        log.info("voters: %s %s", step.act, step.node or f"member {step.member}")
        if step.act is VoterAct.ADD and step.node is not None:
            await self._add(snapshot.nodes[step.node].value, members)
        elif step.act is VoterAct.PROMOTE and step.member is not None:
            await self._admin.promote(MemberId(step.member), timeout_s=CALL_S)
        elif step.act is VoterAct.REMOVE and step.member is not None:
            await self._remove(MemberId(step.member), snapshot, members)

    async def _add(self, node: NodeSpec, members: tuple[Member, ...]) -> None:
        try:
            await self._admin.add_learner(peer_urls(node), timeout_s=CALL_S)
        except Conflict:
            log.info("voters: %s has a member already: %s", node.name, [str(member.peer_urls) for member in members])

    async def _remove(self, member: MemberId, snapshot: Snapshot, members: tuple[Member, ...]) -> None:
        """Remove a member; one that leads hands the lead over first, which costs no election.

        No vote goes unless most of those that stay answer right before: reports are seconds old. Raises: Unavailable.
        """
        if (await self._admin.status(timeout_s=CALL_S)).leader_id == member:
            heir = _heir(snapshot, members, without=member)
            if heir is not None:
                await self._admin.move_leader(heir, timeout_s=CALL_S)
        staying = {one.id for one in members if not one.is_learner and one.id != member}
        if any(one.id == member and not one.is_learner for one in members):
            answering = staying & await self._admin.answering(timeout_s=CALL_S)
            if 2 * len(answering) <= len(staying):
                raise Unavailable(
                    f"of the {len(staying)} members of the cluster database that would vote then, "
                    f"{len(answering)} answer now, and most have to",
                    hint="it is tried again by itself",
                )
        await self._admin.remove(member, timeout_s=CALL_S)


def outcome(order: VoteOrder, members: Iterable[Member]) -> EventCode | None:
    """What the members show of an order: a vote that was taken or given by it; None: nothing so far."""
    found = next((member for member in members if int(member.id) == order.member), None)
    if order.act is VoterAct.REMOVE and found is None:
        return EventCode.VOTE_TAKEN
    if order.act is VoterAct.PROMOTE and found is not None and not found.is_learner:
        return EventCode.VOTE_GIVEN
    return None


def _too_few(snapshot: Snapshot, members: tuple[Member, ...], silent: frozenset[NodeName]) -> str | None:
    """Why nobody's vote is taken back although a node leaves; None when none does."""
    voting = [member.node for member in seated(snapshot, members) if member.node is not None and not member.is_learner]
    going = min((name for name in voting if snapshot.nodes[name].value.is_leaving), default=None)
    if going is None:
        return None
    staying = sorted(name for name in voting if name != going)
    down = [name for name in staying if name in silent or not is_up(snapshot, name)]
    needed, up = len(staying) // 2 + 1, len(staying) - len(down)
    named = ", ".join(down) or "none"
    return f"of those who would vote without {going} {needed} are needed to decide and {up} are up (down: {named})"


def why_vote_stays(snapshot: Snapshot, node: NodeName) -> str | None:
    """What the coordinator says holds it up that a node which leaves has no vote any more; None: nothing so far."""
    told = (condition for name in sorted(snapshot.reports) for condition in snapshot.reports[name].value.conditions)
    return next((one.text for one in told if (one.code, one.subject) == ("vote-stays", node)), None)


def peer_urls(node: NodeSpec) -> tuple[str, ...]:
    """Where a node's member listens for other members."""
    addresses = node.addresses.values()
    return tuple(f"https://{Endpoint(address=address, port=node.etcd_peer_port)}" for address in addresses)


def seated(snapshot: Snapshot, members: Iterable[Member]) -> tuple[SeatedMember, ...]:
    """The members with the nodes that they belong to: the addresses tell, as a new member has no name yet."""
    return tuple(
        SeatedMember(id=int(member.id), node=homes[0] if len(homes) == 1 else None, is_learner=member.is_learner)
        for member, homes in _with_homes(snapshot, members)
    )


def of_two_nodes(snapshot: Snapshot, members: Iterable[Member]) -> dict[int, tuple[NodeName, ...]]:
    """The members that are called at addresses of several nodes, with those: whose such a member is nobody can say."""
    return {int(member.id): homes for member, homes in _with_homes(snapshot, members) if len(homes) > 1}


def _with_homes(snapshot: Snapshot, members: Iterable[Member]) -> Iterator[tuple[Member, tuple[NodeName, ...]]]:
    """Per member the nodes at whose addresses it is called; of several, that whose record says it has the member."""
    known = {name: frozenset(peer_urls(node.value)) for name, node in sorted(snapshot.nodes.items())}
    for member in sorted(members, key=lambda member: member.id):
        homes = tuple(name for name, urls in known.items() if urls.intersection(member.peer_urls))
        holders = tuple(name for name in homes if snapshot.nodes[name].value.seat == member.id)
        yield member, holders if len(holders) == 1 else homes


def following(snapshot: Snapshot, members: tuple[Member, ...]) -> tuple[tuple[Versioned[NodeSpec], NodeSpec], ...]:
    """The records that do not say what the members are, each with what it should say."""
    seats = {member.node: member for member in seated(snapshot, members)}
    changes = []
    for name, before in sorted(snapshot.nodes.items()):
        member = seats.get(name)
        seat = None if member is None else member.id
        after = replace(before.value, seat=seat, is_voter=member is not None and not member.is_learner)
        if after != before.value:
            changes.append((before, after))
    return tuple(changes)


def _heir(snapshot: Snapshot, members: tuple[Member, ...], *, without: MemberId) -> MemberId | None:
    """Who leads instead: a voter that is up, a host before a witness."""
    candidates = [
        (snapshot.nodes[member.node].value.is_witness, member.id)
        for member in seated(snapshot, members)
        if member.node is not None and is_up(snapshot, member.node) and member.id != without and not member.is_learner
    ]
    return MemberId(min(candidates)[1]) if candidates else None
