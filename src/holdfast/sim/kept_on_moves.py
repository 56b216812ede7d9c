"""When a guest was to keep its memory: from the order to move with it until it leaves, or is not to leave any more.

Rule of the file: read from the history alone. Until then its owner may not shut it down, unless a person wants it
offline. Source: SAFE-7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.model.roles import MoveMethod, Ownership, Phase, RoleSpec, Wanted
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
    for commit in history:
        for change in commit.changes:
            if not isinstance(change, KeyValue):
                continue
            if change.key.startswith(SPECS):
                role = roles.setdefault(change.key.removeprefix(SPECS), _Role())
                role.wanted = decode(RoleSpec, change.key, change.value).wanted
                role.is_excused |= role.wanted is Wanted.OFFLINE
            elif change.key.startswith(OWNERSHIPS):
                name = change.key.removeprefix(OWNERSHIPS)
                after = decode(Ownership, change.key, change.value)
                _follow(roles.setdefault(name, _Role()), after, spans.setdefault(name, []), commit.revision)
    return spans


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
