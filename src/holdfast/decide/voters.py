"""Who votes: which nodes should, and the one change that comes next on the way there.

Rule of the file: what the database says of its members is the truth; what is wanted follows from the nodes. One change
at a time, learners first, and nobody who votes and is alive gives way before another one can vote in its place.
Source: DESIGN section 6, docs/quorum.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from holdfast.model.errors import Refused
from holdfast.model.ids import NodeName
from holdfast.model.nodes import NodeSpec, SeatState
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.snapshot import Snapshot

SETTLE_MS: Final = 6_000
"""A second voter is only a risk until the third is there. The database admits the next member when all voters have been
connected for 5 s; a learner is connected like a voter, so it waits as one. Source: etcd `HealthInterval`."""
LEARN_MS: Final = 60_000
"""A learner that did not get so far within this time makes room for another one: there can only be one."""


class VoterAct(StrEnum):
    """What to do with the members of the database."""

    ADD = "add"
    PROMOTE = "promote"
    REMOVE = "remove"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatedMember:
    """A member of the database. `node` None: of no node that the cluster has."""

    id: int
    node: NodeName | None
    is_learner: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VoterStep:
    """The next change. `member` None: the node gets a new one."""

    act: VoterAct
    node: NodeName | None
    member: int | None
    reasons: tuple[Reason, ...]


def next_voter_step(
    snapshot: Snapshot,
    members: tuple[SeatedMember, ...],
    *,
    absent_ms: Mapping[NodeName, int],
    learning_ms: int,
    silent: Collection[NodeName] = (),
) -> VoterStep | None:
    """Return the next change of the members, or None when those vote that should.

    absent_ms     per node that is not up, for how long.
    learning_ms   how long the present learner, if there is one, has been a member.
    silent        nodes that are not heard now, whatever their sessions say: no vote is taken back in reliance on them.
    """
    wanted = choose_voters(snapshot, members, absent_ms=absent_ms)
    learner = next((member for member in members if member.is_learner), None)
    if learner is not None:
        return _with_learner(snapshot, members, learner, wanted, learning_ms)
    voters = [member for member in members if not member.is_learner]
    surplus = [member for member in voters if member.node not in wanted or is_lost(snapshot, member)]
    lost = [member for member in surplus if is_lost(snapshot, member)]
    down = [member for member in surplus if not is_up(snapshot, member.node) and member not in lost]
    holding = {member.node for member in voters if member not in surplus}
    missing = [node for node in wanted if node not in holding and node not in {m.node for m in surplus}]
    if lost:
        return _removal(snapshot, lost[0], wanted, absent_ms)
    if down:
        idle = next((member for member in down if _keeps_majority(snapshot, voters, member, silent)), None)
        return None if idle is None else _removal(snapshot, idle, wanted, absent_ms)
    if missing:
        spread = because(ReasonCode.VOTES_TO_SPREAD, missing[0], wanted=len(wanted))
        return VoterStep(act=VoterAct.ADD, node=missing[0], member=None, reasons=(spread,))
    if surplus and _keeps_majority(snapshot, voters, going := _first_to_go(snapshot, surplus), silent):
        return _removal(snapshot, going, wanted, absent_ms)
    return None


def votes_without(snapshot: Snapshot, node: NodeName) -> tuple[NodeName, ...]:
    """Return who would vote once a node has left, as far as that is known before it begins."""
    members = tuple(
        SeatedMember(id=one.value.seat or 0, node=name, is_learner=False)
        for name, one in sorted(snapshot.nodes.items())
        if one.value.is_voter and name != node
    )
    others = {name: one for name, one in snapshot.nodes.items() if name != node}
    return choose_voters(replace(snapshot, nodes=others), members, absent_ms={})


def _keeps_majority(
    snapshot: Snapshot, voters: Iterable[SeatedMember], going: SeatedMember, silent: Collection[NodeName]
) -> bool:
    """Whether those who vote without this one decide as soon as it is gone.

    That counts for one that is down too: its member may be all that a majority has while its node cannot be reached.
    The database's own check is laxer: of an even number it lets half be enough. Source: etcd `mayRemoveMember`.
    """
    staying = [member for member in voters if member.id != going.id]
    return 2 * sum(is_up(snapshot, member.node) and member.node not in silent for member in staying) > len(staying)


def check_restart(
    snapshot: Snapshot, members: Iterable[SeatedMember], node: NodeName, silent: Collection[NodeName]
) -> None:
    """Refuse that a node's member starts again while the others could not decide without it. Raises: Refused."""
    voters = [member for member in members if not member.is_learner]
    others = [member for member in voters if member.node != node]
    up = sorted(str(one.node) for one in others if _is_running(snapshot, one) and one.node not in silent)
    needed = len(voters) // 2 + 1
    if len(up) < needed:
        raise Refused(
            f"of {len(voters)} votes {needed} are needed to decide, and without the member on {node} "
            f"{len(up)} are there ({', '.join(up) or 'nobody'})",
            hint="wait until more voters are up, or give the cluster more of them, such as a witness",
        )


def choose_voters(
    snapshot: Snapshot, members: tuple[SeatedMember, ...], *, absent_ms: Mapping[NodeName, int]
) -> tuple[NodeName, ...]:
    """Return the nodes that should vote: an odd number, spread over the sites, those who vote already first.

    One that votes and is down stays, for a while always, and longer while nobody could vote in its place: each member
    less is one less to come back. A witness is a site of its own, and never the only one who votes while a host could.
    """
    away_ms = snapshot.settings.voter_replace_after_s * 1000
    voting = {member.node for member in members if not member.is_learner and not is_lost(snapshot, member)}
    candidates = [
        node.value
        for name, node in sorted(snapshot.nodes.items())
        if not node.value.is_leaving and (name in voting or _can_begin(snapshot, name))
    ]
    count = min(len(candidates), snapshot.settings.voters_at_most)
    count -= 1 - count % 2 if count else 0
    chosen: list[NodeSpec] = []

    def rank(node: NodeSpec) -> tuple[bool, bool, int, bool, bool, int, NodeName]:
        crowd = sum(1 for other in chosen if _place(other) == _place(node))
        is_away = absent_ms.get(node.name, 0) >= away_ms
        is_new, is_down = node.name not in voting, not is_up(snapshot, node.name)
        return is_away, count == 1 and node.is_witness, crowd, is_new, is_down, node.joined_at_ms, node.name

    while len(chosen) < count:
        best = min(candidates, key=rank)
        candidates.remove(best)
        chosen.append(best)
    return tuple(node.name for node in chosen)


def _place(node: NodeSpec) -> tuple[bool, str]:
    """What several voters should not have in common."""
    return node.is_witness and node.site is None, node.site or ""


def _can_begin(snapshot: Snapshot, name: NodeName) -> bool:
    """Whether a node that does not vote could begin to: it is up and here to stay."""
    session = snapshot.sessions.get(name)
    return session is not None and not session.value.stopping


def is_up(snapshot: Snapshot, node: NodeName | None) -> bool:
    """Whether a node has a session, and does not say that its member of the database is down: then it cannot vote."""
    if node is None or node not in snapshot.sessions:
        return False
    report = snapshot.reports.get(node)
    seat = report.value.seat if report is not None else None
    return seat is None or seat.state is not SeatState.DOWN


def is_lost(snapshot: Snapshot, member: SeatedMember) -> bool:
    """Whether the node itself says that the data of this very member must not be used again."""
    report = snapshot.reports.get(member.node) if member.node is not None else None
    seat = report.value.seat if report is not None else None
    return seat is not None and seat.member == member.id and seat.state is SeatState.LOST


def _is_running(snapshot: Snapshot, member: SeatedMember) -> bool:
    """Whether the node says that this very member has begun on its disk and answers."""
    report = snapshot.reports.get(member.node) if member.node is not None else None
    seat = report.value.seat if report is not None else None
    return seat is not None and seat.member == member.id and seat.state is SeatState.RUNNING


def _with_learner(
    snapshot: Snapshot,
    members: tuple[SeatedMember, ...],
    learner: SeatedMember,
    wanted: tuple[NodeName, ...],
    learning_ms: int,
) -> VoterStep:
    """What becomes of the learner: nothing else is begun while there is one."""
    if learner.node not in wanted or is_lost(snapshot, learner):
        return _removal(snapshot, learner, wanted, {})
    if learning_ms >= LEARN_MS:
        slow = because(ReasonCode.VOTER_SLOW, learner.node or "", limit_s=LEARN_MS // 1000)
        return VoterStep(act=VoterAct.REMOVE, node=learner.node, member=learner.id, reasons=(slow,))
    spread = because(ReasonCode.VOTES_TO_SPREAD, learner.node or "", wanted=len(wanted))
    becomes_two = len(members) == 2 and len(wanted) > 1
    is_ready = _is_running(snapshot, learner) and (learning_ms >= SETTLE_MS or not becomes_two)
    act = VoterAct.PROMOTE if is_ready else VoterAct.WAIT
    return VoterStep(act=act, node=learner.node, member=learner.id, reasons=(spread,))


def _first_to_go(snapshot: Snapshot, surplus: Iterable[SeatedMember]) -> SeatedMember:
    """Who leaves goes before who is merely one too many."""

    def stays(member: SeatedMember) -> tuple[bool, NodeName, int]:
        leaving = member.node is None or snapshot.nodes[member.node].value.is_leaving
        return not leaving, member.node or NodeName(""), member.id

    return min(surplus, key=stays)


def _removal(
    snapshot: Snapshot, member: SeatedMember, wanted: tuple[NodeName, ...], absent_ms: Mapping[NodeName, int]
) -> VoterStep:
    return VoterStep(
        act=VoterAct.REMOVE,
        node=member.node,
        member=member.id,
        reasons=(_why_removed(snapshot, member, wanted, absent_ms),),
    )


def _why_removed(
    snapshot: Snapshot, member: SeatedMember, wanted: tuple[NodeName, ...], absent_ms: Mapping[NodeName, int]
) -> Reason:
    if member.node is None:
        return because(ReasonCode.VOTER_UNKNOWN, f"member {member.id:x}")
    if is_lost(snapshot, member):
        return because(ReasonCode.VOTER_DATA_LOST, member.node)
    if snapshot.nodes[member.node].value.is_leaving:
        return because(ReasonCode.VOTER_LEAVES, member.node)
    if not is_up(snapshot, member.node):
        return because(ReasonCode.VOTER_AWAY, member.node, away_s=absent_ms.get(member.node, 0) // 1000)
    return because(ReasonCode.VOTER_SURPLUS, member.node, wanted=len(wanted))
