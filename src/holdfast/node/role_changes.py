"""What is seen of a guest as a step needs it, and what a step means for the rest: its event, the files not needed now.

Rule of the file: pure.
"""

from __future__ import annotations

from typing import Final

from holdfast.decide.steps import Act, Step
from holdfast.hypervisor.port import Guest, GuestState
from holdfast.model.events import EventCode
from holdfast.model.ids import Revision
from holdfast.model.nodes import GuestObservation
from holdfast.model.roles import MemoryKind, Ownership, Phase
from holdfast.model.snapshot import Versioned

EVENT_OF_PHASE: Final = {
    Phase.STARTING: EventCode.ROLE_STARTING,
    Phase.ONLINE: EventCode.ROLE_ONLINE,
    Phase.STOPPING: EventCode.ROLE_STOPPING,
    Phase.VACANT: EventCode.ROLE_OFFLINE,
    Phase.SAVING: EventCode.ROLE_MOVING,
    Phase.MIGRATING: EventCode.ROLE_MOVING,
}
GIVES_UP: Final = (Act.DESTROY, Act.SETTLE_SAVE, Act.SETTLE_MIGRATION)
"""Acts that may cost a guest its memory: they are decided on what is seen at that very moment."""


def gives_up(step: Step, before: Ownership) -> bool:
    """Whether a step may cost a guest its memory."""
    drops = before.memory is not None and step.record is not None and step.record.memory is None
    return drops or step.act in GIVES_UP


def needless(before: Ownership, after: Ownership) -> tuple[str, ...]:
    """The files of memory that a record named and that nothing will be started from any more."""
    kept = (after.memory, after.making)
    return tuple(
        one.path
        for one in (before.memory, before.making)
        if one is not None
        and one.kind is MemoryKind.SAVED
        and all(other is None or other.id != one.id for other in kept)
    )


def event_of(after: Ownership, before: Ownership) -> EventCode:
    """The event that tells of a step."""
    if after.phase is Phase.VACANT and after.failed_on != before.failed_on:
        return EventCode.ROLE_FAILED
    if after.phase is before.phase is Phase.ONLINE and (after.target, after.receiving) != (None, before.receiving):
        return EventCode.ROLE_MOVING
    return EVENT_OF_PHASE[after.phase]


def observation_of(guest: Guest | None) -> GuestObservation:
    """What a listed guest means for its role. Anything that may still write counts as there."""
    if guest is None or guest.state is GuestState.STOPPED:
        return GuestObservation.ABSENT
    if guest.state is GuestState.PAUSED:
        return GuestObservation.PAUSED
    if guest.state is GuestState.PAUSED_IO_ERROR:
        return GuestObservation.STALLED
    return GuestObservation.RUNNING


def at_revision(after: Ownership, revision: int, before: Versioned[Ownership]) -> Versioned[Ownership]:
    """The record as it was just committed."""
    return Versioned(value=after, revision=Revision(revision), created=before.created)
