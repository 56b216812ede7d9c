"""Why something was decided: the one form that every decision, event and explanation shares.

Rule of the file: a reason is data (code, subject, facts); its sentence is made from a template beside its code, so that
`explain`, events and the console can never tell different stories.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """What a reason can say. The template of each is in `SENTENCES`."""

    SILENT = "silent"
    POWER_OFF = "power-off"
    POWER_UNKNOWN = "power-unknown"
    POWER_ON = "power-on"
    STILL_HEARD = "still-heard"
    STOPPING = "stopping"
    OBSERVER_ISOLATED = "observer-isolated"
    NO_MAJORITY_AGREES = "no-majority-agrees"
    PATIENCE_OVER = "patience-over"
    NODE_LOST = "node-lost"
    NODE_FENCED = "node-fenced"
    NO_PROOF = "no-proof"
    NO_FENCE_DEVICE = "no-fence-device"
    FENCE_ORDERED = "fence-ordered"
    FENCE_FAILED = "fence-failed"
    STORM_GUARD = "storm-guard"
    WAITING_FOR_WATCHDOG = "waiting-for-watchdog"
    PREFERRED_OWNER = "preferred-owner"
    MOST_FREE = "most-free"
    ONLY_CANDIDATE = "only-candidate"
    NOT_POSSIBLE_OWNER = "not-possible-owner"
    NODE_ABSENT = "node-absent"
    NODE_PAUSED = "node-paused"
    NODE_QUARANTINED = "node-quarantined"
    NODE_NOT_READY = "node-not-ready"
    MEMORY_SHORT = "memory-short"
    VCPUS_SHORT = "vcpus-short"
    START_FAILED_HERE = "start-failed-here"
    NO_CANDIDATE = "no-candidate"
    FAILOVER_LIMIT = "failover-limit"
    WANTED_OFFLINE = "wanted-offline"
    WANTED_ONLINE = "wanted-online"
    NOT_CLAIMED = "not-claimed"
    GUEST_ENDED = "guest-ended"
    GUEST_START_FAILED = "guest-start-failed"
    RESTART_LIMIT = "restart-limit"
    ADOPTED = "adopted"
    HYPERVISOR_SILENT = "hypervisor-silent"
    GUARD_SILENT = "guard-silent"
    NOT_OURS = "not-ours"
    NODE_RESTARTED = "node-restarted"
    NODE_COMING_BACK = "node-coming-back"
    CONFIRMED_BY_PERSON = "confirmed-by-person"


SENTENCES: dict[ReasonCode, str] = {
    ReasonCode.SILENT: "{subject} has been silent on every network for {silent_ms} ms (limit {limit_ms} ms)",
    ReasonCode.POWER_OFF: "the fence device reports {subject} as off",
    ReasonCode.POWER_UNKNOWN: "the fence device does not say whether {subject} is on or off: {detail}",
    ReasonCode.POWER_ON: "the fence device reports {subject} as on",
    ReasonCode.STOPPING: "holdfastd on {subject} said that it would stop and be back",
    ReasonCode.STILL_HEARD: "{subject} is still heard by {heard_by}",
    ReasonCode.OBSERVER_ISOLATED: "{subject} hears no other node and concludes nothing about them",
    ReasonCode.NO_MAJORITY_AGREES: "only {agreeing} of {voters} voters report {subject} as silent ({needed} needed)",
    ReasonCode.PATIENCE_OVER: "{subject} stayed silent beyond the patience of {limit_ms} ms",
    ReasonCode.NODE_LOST: "{subject} is lost",
    ReasonCode.NODE_FENCED: "{subject} is proven unable to touch storage ({proof})",
    ReasonCode.NO_PROOF: "there is no proof yet that {subject} can do no harm",
    ReasonCode.NO_FENCE_DEVICE: (
        "{subject} has no fence device; if it is surely off, run: holdfast node confirm-down {subject}"
    ),
    ReasonCode.FENCE_ORDERED: (
        "the fence device of {subject} is asked to switch it off and has not answered yet; "
        "if it is surely off, run: holdfast node confirm-down {subject}"
    ),
    ReasonCode.FENCE_FAILED: (
        "fencing {subject} did not succeed: {detail}; if it is surely off, run: holdfast node confirm-down {subject}"
    ),
    ReasonCode.STORM_GUARD: (
        "{vanished} of {alive_before} nodes vanished at once; fencing of {subject} waits for a person: "
        "holdfast node confirm-down {subject}"
    ),
    ReasonCode.WAITING_FOR_WATCHDOG: "the watchdog of {subject} must have fired in {remaining_ms} ms",
    ReasonCode.PREFERRED_OWNER: "{subject} is preferred owner number {rank}",
    ReasonCode.MOST_FREE: "{subject} has the most free memory of {candidates} candidates",
    ReasonCode.ONLY_CANDIDATE: "{subject} is the only candidate",
    ReasonCode.NOT_POSSIBLE_OWNER: "{subject} is not a possible owner",
    ReasonCode.NODE_ABSENT: "{subject} is not up",
    ReasonCode.NODE_PAUSED: "{subject} is paused",
    ReasonCode.NODE_QUARANTINED: "{subject} is in quarantine after {losses} losses",
    ReasonCode.NODE_NOT_READY: "{subject} cannot start guests: {detail}",
    ReasonCode.MEMORY_SHORT: "{subject} has {free_bytes} bytes of memory free, {needed_bytes} needed",
    ReasonCode.VCPUS_SHORT: "{subject} has {free_vcpus} vCPUs free, {needed_vcpus} needed",
    ReasonCode.START_FAILED_HERE: "it failed on {subject} before",
    ReasonCode.NO_CANDIDATE: "no node can take {subject}",
    ReasonCode.FAILOVER_LIMIT: (
        "{subject} failed over {failovers} times within {period_s} s (limit {limit}); "
        "once it is mended, run: holdfast vm start {subject}"
    ),
    ReasonCode.WANTED_OFFLINE: "{subject} is wanted offline",
    ReasonCode.WANTED_ONLINE: "{subject} is wanted online",
    ReasonCode.NOT_CLAIMED: "{subject} did not take it up within {limit_ms} ms",
    ReasonCode.GUEST_ENDED: "the guest of {subject} ended by itself: {detail}",
    ReasonCode.GUEST_START_FAILED: "the guest of {subject} did not start: {detail}",
    ReasonCode.RESTART_LIMIT: "{subject} was restarted {restarts} times within {period_s} s (limit {limit})",
    ReasonCode.ADOPTED: "the guest of {subject} was already running and was adopted",
    ReasonCode.HYPERVISOR_SILENT: "the hypervisor does not answer on {subject}: {detail}",
    ReasonCode.GUARD_SILENT: "holdfast-guard does not answer on {subject}: {detail}",
    ReasonCode.NOT_OURS: "{subject} is owned by {owner}",
    ReasonCode.NODE_COMING_BACK: "{subject} was started again and is heard; it proves this itself once it is up",
    ReasonCode.NODE_RESTARTED: "{subject} is back with a new incarnation, so nothing of the old one runs",
    ReasonCode.CONFIRMED_BY_PERSON: "{person} confirmed that {subject} is down: {detail}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason: what it says, about whom, with which facts (values as shown to a person)."""

    code: ReasonCode
    subject: str
    facts: dict[str, str | int]

    def __str__(self) -> str:
        return SENTENCES[self.code].format(subject=self.subject, **self.facts)


def because(code: ReasonCode, subject: str, /, **facts: str | int) -> Reason:
    """Make a reason. `facts` are the fields that its sentence names."""
    return Reason(code=code, subject=subject, facts=facts)
