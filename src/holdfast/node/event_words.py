"""The sentence that says an event."""

from __future__ import annotations

from holdfast.model.events import Event, EventCode
from holdfast.model.status import EventLine
from holdfast.node.documents import words


def event_line(event: Event) -> EventLine:
    """An event with its sentence."""
    text = _EVENT_WORDS[event.code].format(subject=event.subject, target=event.target)
    reasons = "; ".join(words(event.reasons))
    return EventLine(event=event, text=f"{text}: {reasons}" if reasons else text)


_EVENT_WORDS: dict[EventCode, str] = {
    EventCode.CLUSTER_CREATED: "cluster {subject} was created",
    EventCode.NODE_JOINED: "node {subject} joined",
    EventCode.SETTINGS_CHANGED: "settings were changed: {subject}",
    EventCode.NODE_ADDRESSES: "the addresses of node {subject} were changed",
    EventCode.NODE_LEFT: "node {subject} left",
    EventCode.VOTE_GIVEN: "node {subject} votes now",
    EventCode.VOTE_TAKEN: "node {subject} votes no more",
    EventCode.NODE_UP: "node {subject} is up",
    EventCode.NODE_SUSPECT: "node {subject} is suspect",
    EventCode.NODE_CLEARED: "node {subject} is heard again",
    EventCode.NODE_LOST: "node {subject} is lost",
    EventCode.NODE_FENCED: "node {subject} is proven unable to do harm",
    EventCode.FENCE_ORDERED: "node {subject} is ordered off",
    EventCode.FENCE_FAILED: "node {subject} could not be fenced",
    EventCode.COORDINATOR_ELECTED: "node {subject} is the coordinator",
    EventCode.ROLE_ADDED: "role {subject} was added",
    EventCode.ROLE_REMOVED: "role {subject} was removed",
    EventCode.ROLE_CHANGED: "role {subject} was changed",
    EventCode.ROLE_ASSIGNED: "role {subject} goes to {target}",
    EventCode.ROLE_MOVING: "role {subject} moves to {target}",
    EventCode.ROLE_STARTING: "role {subject} is starting",
    EventCode.ROLE_ONLINE: "role {subject} is online",
    EventCode.ROLE_STOPPING: "role {subject} is stopping",
    EventCode.ROLE_OFFLINE: "role {subject} is offline",
    EventCode.ROLE_FAILED: "role {subject} failed",
    EventCode.ROLE_ADOPTED: "role {subject} was found running and adopted",
    EventCode.ROLE_RESUMED: "role {subject} goes on",
    EventCode.ROLE_BLOCKED: "role {subject} is blocked",
    EventCode.CLUSTER_FROZEN: "cluster {subject} is frozen",
    EventCode.CLUSTER_UNFROZEN: "cluster {subject} is not frozen any more",
    EventCode.NODE_DRAINING: "node {subject} is being drained",
    EventCode.NODE_RESUMED: "node {subject} is resumed",
    EventCode.NODE_EVICTED: "node {subject} was evicted: it is no node of the cluster any more",
    EventCode.DISK_ADDED: "disk {subject} was added",
    EventCode.DISK_REMOVED: "disk {subject} was removed",
    EventCode.CONDITION_RAISED: "condition: {subject}",
    EventCode.CONDITION_CLEARED: "condition cleared: {subject}",
}
