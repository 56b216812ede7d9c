"""The parts that breakages of who votes put in place of sound ones.

Rule of the file: each is wrong in exactly the way that its first line says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.decide.layout import Free
from holdfast.decide.voters import SeatedMember, VoterAct, VoterStep, choose_voters, is_up
from holdfast.model.snapshot import Snapshot
from holdfast.store.port import MemberId

Decide = Callable[..., VoterStep | None]


def gives_way_first(original: Decide) -> Decide:
    """Who has to give way does so before another one votes in its place."""
    return _removing(original, VoterAct.ADD)


def living_go_first(original: Decide) -> Decide:
    """Of those who are too many the living go before the dead, whoever stays; together with `everybody_answers`."""
    return _removing(original, VoterAct.REMOVE)


def _removing(original: Decide, instead_of: VoterAct) -> Decide:
    """A living voter that is not wanted goes at once where the next change would be another one."""

    def next_voter_step(snapshot: Snapshot, members: tuple[SeatedMember, ...], **known: Any) -> VoterStep | None:
        step = original(snapshot, members, **known)
        if step is None or step.act is not instead_of:
            return step
        wanted = choose_voters(snapshot, members, absent_ms=known["absent_ms"])
        voters = [one for one in members if not one.is_learner]
        for one in voters:
            if one.node not in wanted and is_up(snapshot, one.node) and len(voters) == len(members):
                return VoterStep(act=VoterAct.REMOVE, node=one.node, member=one.id, reasons=step.reasons)
        return step

    return next_voter_step


def everybody_answers(_original: Any) -> Any:
    """Every member of the database counts as answering, whatever it does."""

    async def answering(self: Any, *, timeout_s: float) -> frozenset[MemberId]:
        return frozenset(member.id for member in await self.members(timeout_s=timeout_s))

    return answering


def never_begun(original: Any) -> Any:
    """What lies on the disk of a member that has begun is not missed when it is gone."""

    async def attend(self: Any, held: Any) -> None:
        await original(self, held.model_copy(update={"begun": False}))

    return attend


def never_older(_original: Any) -> Any:
    """How much a member had stored is not compared with what lies there."""

    def is_older(*_: object) -> bool:
        return False

    return is_older


def unasked(_original: Any) -> Any:
    """Members are changed without a write that would show who coordinates."""

    async def may_change(*_: object) -> bool:
        return True

    return may_change


def witness_is_open(original: Any) -> Any:
    """A witness takes roles like any node."""

    def closed(snapshot: Snapshot, node: Any, now_ms: int) -> Any:
        spec = snapshot.nodes[node]
        if not spec.value.is_witness:
            return original(snapshot, node, now_ms)
        return ()

    return closed


def witness_has_room(original: Any) -> Any:
    """A witness counts as a node with room for roles."""

    def capacities(snapshot: Snapshot) -> dict[Any, Free]:
        found: dict[Any, Free] = original(snapshot)
        for name, node in snapshot.nodes.items():
            if node.value.is_witness and name in snapshot.sessions and found:
                found[name] = max(found.values(), key=lambda free: free.memory_bytes)
        return found

    return capacities
