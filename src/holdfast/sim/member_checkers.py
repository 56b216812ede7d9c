"""What must hold of the members of the database: judged by what they stored, and by who asked for which change.

Rule of the file: the safety checkers read what the simulated members wrote down and the database's own history; no
record tells who votes, only whom the coordinator should have had vote. Source: SAFE-4, docs/quorum.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.nodes import NodeSpec, Session
from holdfast.model.settings import Settings
from holdfast.model.snapshot import ClusterRecord
from holdfast.sim.history import Commit, kind_and_name
from holdfast.sim.members import Election, Entry, MemberChange, Members
from holdfast.sim.world import World
from holdfast.store.port import Deleted
from holdfast.store.records import CLUSTER, COORDINATOR, NODES, SESSIONS, decode

CALLED_S: Final = 3.0
"""A change that was sent while its sender coordinated arrives so long afterwards at the latest."""
KNOWN_S: Final = 5.0
"""What was written so long ago, a coordinator knows."""
CALM_S: Final = 12.0
TWO_S: Final = 3.0
EVEN_S: Final = 10.0
"""Two voters survive less than one: there should hardly ever be two. Four survive what three do."""
DONE: Final = {"add": "added", "promote": "promoted", "remove": "removed"}
LOOK_EVERY_S: Final = 0.25


def members_keep_the_rules(members: Members | None, history: Sequence[Commit]) -> Iterator[str]:
    """SAFE-4: majorities meet, nothing committed is forgotten, no member votes without its data. VOTES: see below."""
    if members is not None:
        yield from _majorities(members.log)
        yield from _leaders(members.elections)
        yield from (f"SAFE-4: {what}" for what in members.forgetful)
        yield from _changes(members.changes, history)


def votes_not_yet_well(world: World) -> Iterator[str]:
    """SAFE-5: what is missing until an odd number votes, as many as can, all of them run, and the records say so."""
    if world.members is None:
        return
    nodes = [decode(NodeSpec, item.key, item.value) for item in world.database.listing(NODES).items]
    cluster = world.database.get(CLUSTER)
    settings = Settings() if cluster is None else decode(ClusterRecord, CLUSTER, cluster.value).settings
    voters = {one.node: int(one.id) for one in world.members.voters()}
    yield from (f"{one.node} has a member that does not vote" for one in world.members.known.values() if one.is_learner)
    if len(voters) != (wanted := _odd(len(nodes), settings)):
        yield f"{', '.join(voters)} vote, and {wanted} should"
    yield from (f"{name} is out of the cluster" for name, machine in world.machines.items() if machine.is_out)
    running = [one.node for one in world.members.running()]
    yield from (f"the member of {name} votes and does not run" for name in voters if name not in running)
    for node in nodes:
        if (node.is_voter, node.seat) != (node.name in voters, voters.get(node.name)):
            yield f"the record of {node.name} says {node.is_voter} and {node.seat} of its vote and member"
    if [node.is_witness for node in nodes if node.name in voters] == [True] and len(nodes) > 1:
        yield "only a witness votes, and there are hosts"


def _odd(nodes: int, settings: Settings) -> int:
    count = min(nodes, settings.voters_at_most)
    return count - 1 + count % 2


def _majorities(log: Sequence[Entry]) -> Iterator[str]:
    """Whatever was committed, was stored by a majority of those that voted then, and each majority meets the next."""
    before: Entry | None = None
    for entry in log:
        stored = entry.stored & entry.voters
        if len(stored) * 2 <= len(entry.voters):
            yield f"SAFE-4: at {entry.at:.3f} s {len(stored)} of {len(entry.voters)} voters were enough to commit"
        if before is not None and not before.stored & entry.stored:
            yield f"SAFE-4: at {entry.at:.3f} s a majority decided that has no member in common with the one before"
        before = entry


def _leaders(elections: Iterable[Election]) -> Iterator[str]:
    for one in elections:
        if one.stored < one.committed:
            yield (
                f"SAFE-4: {one.node} leads the database since {one.at:.3f} s and has {one.stored} of {one.committed} "
                "entries that were committed"
            )


def _changes(changes: Sequence[MemberChange], history: Sequence[Commit]) -> Iterator[str]:
    """Each change is the coordinator's, and who gives way does so last. Source: docs/quorum.md."""
    known, left = _Known(), list(history)
    for change in changes:
        while left and left[0].at <= change.at and left[0].revision <= change.revision:
            known.apply(left.pop(0))
        where = f"{change.author} had member {change.member} of {change.node} {DONE[change.act]} at {change.at:.3f} s"
        if change.author not in known.coordinators(change.at):
            yield f"VOTES: {where}, and it is not the coordinator"
        is_known_up = change.was_up is not None and change.at - change.was_up >= KNOWN_S
        if change.act == "remove" and change.was_voter and is_known_up and known.is_up(change.node, change.at):
            if len(change.up) * 2 <= len(change.voters):
                yield f"VOTES: {where}, and of those who stay ({', '.join(change.voters)}) no majority is up"
            if len(change.voters) < (wanted := known.wanted(change.at)):
                yield f"VOTES: {where} while it votes and is alive; {len(change.voters)} vote then, and {wanted} could"


@dataclass(slots=True)
class _Known:
    """What the database has said, and since when."""

    settings: Settings = field(default_factory=Settings)
    settings_at: float = 0.0
    nodes: dict[NodeName, NodeSpec] = field(default_factory=dict)
    nodes_at: dict[NodeName, float] = field(default_factory=dict)
    """Since when a node is here to stay or is not."""
    sessions: dict[NodeName, tuple[Session, float]] = field(default_factory=dict)
    elected: list[tuple[str, float]] = field(default_factory=list)

    def apply(self, commit: Commit) -> None:
        """Let it be as after a commit."""
        for change in commit.changes:
            kind, text = kind_and_name(change.key)
            name = NodeName(text)
            value = None if isinstance(change, Deleted) else change.value
            if kind == "nodes/":
                self._node(name, None if value is None else decode(NodeSpec, NODES, value), commit.at)
            elif kind == "sessions/":
                self._session(name, None if value is None else decode(Session, SESSIONS, value), commit.at)
            elif kind == "cluster" and value is not None:
                settings = decode(ClusterRecord, CLUSTER, value).settings
                if settings != self.settings:
                    self.settings, self.settings_at = settings, commit.at
            elif change.key == COORDINATOR:
                self.elected.append(("" if value is None else commit.author.name, commit.at))

    def coordinators(self, at: float) -> set[str]:
        """Who coordinates, and who did shortly before."""
        names = {name for name, _ in self.elected[-1:]}
        for (name, _), (_, until) in zip(self.elected, self.elected[1:], strict=False):
            if at - until <= CALLED_S:
                names.add(name)
        return names

    def is_up(self, node: NodeName, at: float) -> bool:
        """Whether everybody knows that it is."""
        session, since = self.sessions.get(node, (None, at))
        return session is not None and not session.stopping and at - since >= KNOWN_S

    def wanted(self, at: float) -> int:
        """How many could vote for all that everybody knows; 0 while that changes."""
        if at - self.settings_at < KNOWN_S:
            return 0
        able = [
            name
            for name, node in self.nodes.items()
            if not node.is_leaving and at - self.nodes_at[name] >= KNOWN_S and self.is_up(name, at)
        ]
        return _odd(len(able), self.settings)

    def _node(self, name: NodeName, node: NodeSpec | None, at: float) -> None:
        before = self.nodes.pop(name, None)
        if node is not None:
            self.nodes[name] = node
            if before is None or before.is_leaving != node.is_leaving:
                self.nodes_at[name] = at

    def _session(self, name: NodeName, session: Session | None, at: float) -> None:
        before = self.sessions.pop(name, None)
        if session is not None:
            is_same = before is not None and before[0].incarnation == session.incarnation
            self.sessions[name] = (session, before[1] if before is not None and is_same else at)


@dataclass(slots=True)
class VoteWatch:
    """Looks four times a second at how many vote: while nothing is wrong, an even number is a state that passes."""

    world: World
    found: list[str] = field(default_factory=list)
    _calm_since: float | None = None
    _even_since: float | None = None
    _wish: int | None = None

    def start(self) -> None:
        """Look from now on."""
        if self.world.members is not None:
            self._look(self.world.members)
            self.world.loop.call_later(LOOK_EVERY_S, self.start, context=Context())

    def _look(self, members: Members) -> None:
        now = self.world.truth.now()
        if not self._is_calm(members):
            self._calm_since = self._even_since = None
            return
        self._calm_since = now if self._calm_since is None else self._calm_since
        voters = [one.node for one in members.voters()]
        wish = self._voters_at_most()
        if len(voters) % 2:
            self._even_since, self._wish = None, wish
            return
        self._even_since = now if self._even_since is None else self._even_since
        if wish != self._wish:
            self._even_since = float("inf")  # a person changed it half-way
        limit_s = TWO_S if len(voters) == 2 else EVEN_S
        if now - self._calm_since >= CALM_S and now - self._even_since > limit_s:
            self.found.append(
                f"VOTES: at {now:.3f} s {', '.join(voters)} have voted for {limit_s:.0f} s: an even number"
            )
            self._even_since = float("inf")

    def _is_calm(self, members: Members) -> bool:
        """Whether everything works: nothing is down, frozen, cut, slow or about to leave."""
        world = self.world
        machines = list(world.machines.values())
        running = [one.node for one in members.running(voting=False)]
        return (
            world.leader is not None
            and not world.cut_off
            and not world.links
            and world.sky.loss == 0
            and all(one.executes and one.daemon is not None and one.daemon.runs for one in machines)
            and all(one.store.is_well and (one.member is None or one.member.is_well) for one in machines)
            and all(one.node in running for one in members.voters())
            and all(world.reach(one.name, other.name) for one in machines for other in machines if one is not other)
            and not any(node.is_paused for node in self._nodes())
        )

    def _voters_at_most(self) -> int | None:
        cluster = self.world.database.get(CLUSTER)
        return None if cluster is None else decode(ClusterRecord, CLUSTER, cluster.value).settings.voters_at_most

    def _nodes(self) -> list[NodeSpec]:
        listing = self.world.database.listing(NODES)
        return [decode(NodeSpec, item.key, item.value) for item in listing.items]
