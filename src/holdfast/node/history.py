"""The planned moves of a role, told from its events.

Rule of the file: pure; only what an event says is told. The events are bounded, so the oldest move may have lost its
beginning. Times of different nodes are compared as people compare them: by their wall clocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast.model.events import Event, EventCode
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import MoveMethod, Phase
from holdfast.model.status import MoveOutcome, PastMove

_TROUBLE: Final = (
    ReasonCode.MOVE_FAILED,
    ReasonCode.RECEIVE_REFUSED,
    ReasonCode.MEMORY_LOST,
    ReasonCode.MEMORY_KEPT,
    ReasonCode.GUEST_START_FAILED,
    ReasonCode.NOT_CLAIMED,
    ReasonCode.MOVE_CANCELLED,
    ReasonCode.NODE_FENCED,
)
_STANDS_STILL: Final = (Phase.STOPPING, Phase.SAVING)


@dataclass(slots=True, kw_only=True)
class _Move:
    """A move that is being told."""

    began: Event
    source: NodeName | None
    target: NodeName
    method: MoveMethod | None
    why: tuple[str, ...]
    still_from_ms: int | None = None
    trouble: dict[str, None] = field(default_factory=dict)

    def ended(self, role: RoleName, last: Event | None) -> PastMove:
        """The move as it ended with an event; None: it goes on."""
        owner = last.node if last is not None else None
        still = self.still_from_ms
        return PastMove(
            role=role,
            at_ms=self.began.at_ms,
            outcome=self._outcome(owner),
            method=self.method,
            source=self.source,
            target=self.target,
            owner=owner,
            total_ms=max(0, last.at_ms - self.began.at_ms) if last is not None else None,
            pause_ms=max(0, last.at_ms - still) if last is not None and still is not None else None,
            why=self.why,
            trouble=tuple(self.trouble),
        )

    def _outcome(self, owner: NodeName | None) -> MoveOutcome:
        if owner is None:
            return MoveOutcome.UNDER_WAY
        if owner == self.source:
            return MoveOutcome.RETURNED
        return MoveOutcome.ARRIVED if owner == self.target else MoveOutcome.ELSEWHERE


def moves_of(role: RoleName, events: Iterable[Event]) -> tuple[PastMove, ...]:
    """Return the moves of a role, oldest first. `events`: of any subject, in their order."""
    told: list[PastMove] = []
    move: _Move | None = None
    home: NodeName | None = None
    for event in events:
        if event.subject != role:
            continue
        if move is None:
            move = _begun(event, home)
        else:
            _goes_on(move, event)
        if move is not None and _ends(event):
            told.append(move.ended(role, event if event.code is EventCode.ROLE_ONLINE else _at_home(event, move)))
            move = None
        if event.code in (EventCode.ROLE_ONLINE, EventCode.ROLE_ADOPTED):
            home = event.node
    return (*told, move.ended(role, None)) if move is not None else tuple(told)


def _begun(event: Event, home: NodeName | None) -> _Move | None:
    if event.code is not EventCode.ROLE_MOVING or event.target is None:
        return None
    why = tuple(str(reason) for reason in event.reasons)
    return _Move(began=event, source=home, target=event.target, method=event.method, why=why)


def _goes_on(move: _Move, event: Event) -> None:
    """Take note of what an event adds to a move."""
    if event.phase in (*_STANDS_STILL, Phase.MIGRATING):
        move.source = move.source or event.node
    if event.code is EventCode.ROLE_MOVING and event.target is not None:
        move.target = event.target
    move.method = event.method or move.method
    begins_to_stand = event.phase in _STANDS_STILL and move.still_from_ms is None
    is_handed_over = event.phase is Phase.STARTING and move.method is MoveMethod.LIVE
    if begins_to_stand or (is_handed_over and move.still_from_ms is None):
        move.still_from_ms = event.at_ms
    for reason in event.reasons:
        if reason.code in _TROUBLE:
            move.trouble[str(reason)] = None


def _ends(event: Event) -> bool:
    """Whether the role is on no move any more after this."""
    if event.code is EventCode.ROLE_CHANGED:
        return event.phase is Phase.ONLINE
    return event.code is EventCode.ROLE_REMOVED or (event.code is EventCode.ROLE_ONLINE and event.target is None)


def _at_home(event: Event, move: _Move) -> Event | None:
    """The end of a move that was cancelled before anything was done: the role is where it was."""
    if event.code is EventCode.ROLE_REMOVED or move.source is None:
        return None
    return replace(event, node=move.source)
