"""When a guest was to keep its memory: from the order to move with it until it leaves, or is not to leave any more.

Rule of the file: read from the history alone. Until then its owner may not shut it down, unless a person wants it
offline; nor may the node that it came to end it before it goes on. Source: SAFE-7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.roles import MemoryKind, MoveMethod, Ownership, Phase, RoleSpec, Wanted
from holdfast.sim.history import Commit
from holdfast.sim.memories import HolderEnd
from holdfast.store.port import KeyValue
from holdfast.store.records import OWNERSHIPS, SPECS, decode

WITH_MEMORY: Final = (MoveMethod.LIVE, MoveMethod.QUICK)
LEAVING: Final = (Phase.ONLINE, Phase.SAVING, Phase.MIGRATING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From one revision on, and before another, a guest on this node was to keep its memory."""

    node: NodeName
    since: int
    until: float

    def has(self, end: HolderEnd) -> bool:
        """Whether a process ended within."""
        return end.node == self.node and self.since <= end.revision < self.until


@dataclass(slots=True)
class _Role:
    """What is known of a role so far. `is_excused`: a person wanted it offline since it was online, or does."""

    wanted: Wanted = Wanted.ONLINE
    is_excused: bool = False
    is_kept: bool = False
    before: Ownership | None = None


def kept_on_moves(history: Sequence[Commit]) -> Mapping[str, Sequence[Span]]:
    """The spans of each role, by its name."""
    roles: dict[str, _Role] = {}
    spans: dict[str, list[Span]] = {}
    for revision, name, after in _told(history):
        role = roles.setdefault(name, _Role())
        if isinstance(after, RoleSpec):
            role.wanted = after.wanted
            role.is_excused |= role.wanted is Wanted.OFFLINE
        else:
            _follow(role, after, spans.setdefault(name, []), revision)
    return spans


def stopped_on_arrival(history: Sequence[Commit]) -> Mapping[str, Sequence[Span]]:
    """When each role had a process that was to go on from memory that is nowhere else, and a person had stopped it."""
    wanted: dict[str, Wanted] = {}
    arrived: dict[str, NodeName] = {}
    spans: dict[str, list[Span]] = {}
    for revision, name, after in _told(history):
        if isinstance(after, RoleSpec):
            wanted[name] = after.wanted
        else:
            arrived.pop(name, None)
            spans[name] = [replace(span, until=min(span.until, revision)) for span in spans.get(name, ())]
            if after.owner is not None and _is_arriving(after):
                arrived[name] = after.owner
        if name in arrived and wanted.get(name) is Wanted.OFFLINE:
            spans.setdefault(name, []).append(Span(node=arrived[name], since=revision, until=float("inf")))
    return spans


def arrivals(history: Sequence[Commit]) -> Mapping[str, Mapping[str, int]]:
    """Per role the incarnations that got it with memory that is nowhere else, and the last revision that said so."""
    found: dict[str, dict[str, int]] = {}
    for revision, name, after in _told(history):
        if isinstance(after, Ownership) and after.incarnation is not None and _is_arriving(after):
            found.setdefault(name, {})[after.incarnation] = revision
    return found


def _is_arriving(ownership: Ownership) -> bool:
    memory = ownership.memory
    is_only_one = memory is not None and (memory.is_consumed or memory.kind is MemoryKind.COPIED)
    return ownership.phase is Phase.STARTING and is_only_one


def _told(history: Sequence[Commit]) -> Iterator[tuple[int, str, RoleSpec | Ownership]]:
    """What was written about roles: at which revision, of which one, and its new spec or record."""
    for commit in history:
        for change in commit.changes:
            if isinstance(change, KeyValue) and change.key.startswith(SPECS):
                yield commit.revision, change.key.removeprefix(SPECS), decode(RoleSpec, change.key, change.value)
            elif isinstance(change, KeyValue) and change.key.startswith(OWNERSHIPS):
                name = change.key.removeprefix(OWNERSHIPS)
                yield commit.revision, name, decode(Ownership, change.key, change.value)


def _follow(role: _Role, after: Ownership, spans: list[Span], revision: int) -> None:
    """See a record of a role: end the span that it ends, begin the one that it begins."""
    if role.is_kept:
        last = spans.pop()
        spans.append(Span(node=last.node, since=last.since, until=revision))
    if after.phase is Phase.ONLINE and (role.before is None or role.before.phase is not Phase.ONLINE):
        role.is_excused = role.wanted is Wanted.OFFLINE
    is_on_its_way = after.is_leaving and after.method in WITH_MEMORY
    goes_down = after.phase is Phase.STOPPING and role.is_kept
    role.is_kept = not role.is_excused and (goes_down or (is_on_its_way and after.phase in LEAVING))
    role.before = after
    if role.is_kept and after.owner is not None:
        spans.append(Span(node=after.owner, since=revision, until=float("inf")))
