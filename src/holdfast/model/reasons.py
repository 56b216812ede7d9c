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
    STILL_STAMPS = "still-stamps"
    SILENT_ON_STORAGE = "silent-on-storage"
    NOBODY_LISTENS = "nobody-listens"
    OBSERVER_ISOLATED = "observer-isolated"
    NO_MAJORITY_AGREES = "no-majority-agrees"
    MAJORITY_IS_NEW = "majority-is-new"
    PATIENCE_OVER = "patience-over"
    NODE_LOST = "node-lost"
    NODE_FENCED = "node-fenced"
    NO_PROOF = "no-proof"
    PARTLY_FENCED = "partly-fenced"
    NOT_EXPELLED = "not-expelled"
    EXPELLED = "expelled"
    NO_FENCE_DEVICE = "no-fence-device"
    FENCE_ORDERED = "fence-ordered"
    FENCE_FAILED = "fence-failed"
    STORM_GUARD = "storm-guard"
    STORM_OVER = "storm-over"
    WAITING_FOR_WATCHDOG = "waiting-for-watchdog"
    PREFERRED_OWNER = "preferred-owner"
    PREFERRED_SITE = "preferred-site"
    SAME_SITE = "same-site"
    JOINS = "joins"
    WISHED_NEIGHBOURS = "wished-neighbours"
    MOST_FREE = "most-free"
    ONLY_CANDIDATE = "only-candidate"
    NOT_POSSIBLE_OWNER = "not-possible-owner"
    NODE_ABSENT = "node-absent"
    NODE_PAUSED = "node-paused"
    NODE_QUARANTINED = "node-quarantined"
    NODE_NOT_READY = "node-not-ready"
    DISK_NOT_READY = "disk-not-ready"
    STORAGE_BACK = "storage-back"
    DISK_SLOW = "disk-slow"
    STORAGE_LOST = "storage-lost"
    MEMORY_SHORT = "memory-short"
    VCPUS_SHORT = "vcpus-short"
    START_FAILED_HERE = "start-failed-here"
    MUST_JOIN = "must-join"
    MUST_AVOID = "must-avoid"
    ONE_NODE_WRITES = "one-node-writes"
    NO_CANDIDATE = "no-candidate"
    MORE_NODES = "more-nodes"
    FROZEN = "frozen"
    FROZEN_BY_PERSON = "frozen-by-person"
    SETTLING = "settling"
    MOVE_REQUESTED = "move-requested"
    MOVE_CANCELLED = "move-cancelled"
    DRAINED = "drained"
    RESUMED = "resumed"
    FAILBACK = "failback"
    BALANCED = "balanced"
    LAST_NODE = "last-node"
    NOT_DRAINED = "not-drained"
    CANNOT_LEAVE_DOWN = "cannot-leave-down"
    VOTES_TOO_FEW = "votes-too-few"
    STILL_WITH = "still-with"
    ONLY_POSSIBLE_OWNER = "only-possible-owner"
    COPIES_NO_MEMORY = "copies-no-memory"
    NOWHERE_TO_SAVE = "nowhere-to-save"
    MOVE_FAILED = "move-failed"
    RECEIVE_REFUSED = "receive-refused"
    BEING_COPIED = "being-copied"
    MEMORY_KEPT = "memory-kept"
    MEMORY_LOST = "memory-lost"
    MEMORY_OVERTAKEN = "memory-overtaken"
    MEMORY_DISCARDED = "memory-discarded"
    NOT_RUNNING = "not-running"
    ALREADY_HERE = "already-here"
    FAILOVER_LIMIT = "failover-limit"
    WANTED_OFFLINE = "wanted-offline"
    NO_AUTOSTART = "no-autostart"
    WANTED_ONLINE = "wanted-online"
    NOT_CLAIMED = "not-claimed"
    GUEST_ENDED = "guest-ended"
    GUEST_START_FAILED = "guest-start-failed"
    RESTART_LIMIT = "restart-limit"
    ADOPTED = "adopted"
    HYPERVISOR_SILENT = "hypervisor-silent"
    VOTERS_UNHEARD = "voters-unheard"
    GUARD_SILENT = "guard-silent"
    NOT_OURS = "not-ours"
    NODE_RESTARTED = "node-restarted"
    NODE_COMING_BACK = "node-coming-back"
    NOT_ACCOUNTED_FOR = "not-accounted-for"
    RESTORED = "restored"
    CONFIRMED_BY_PERSON = "confirmed-by-person"
    NODE_IS_WITNESS = "node-is-witness"
    VOTES_TO_SPREAD = "votes-to-spread"
    VOTER_LEAVES = "voter-leaves"
    VOTER_UNKNOWN = "voter-unknown"
    VOTER_DATA_LOST = "voter-data-lost"
    VOTER_AWAY = "voter-away"
    VOTER_SURPLUS = "voter-surplus"
    VOTER_SLOW = "voter-slow"


SENTENCES: dict[ReasonCode, str] = {
    ReasonCode.SILENT: "{subject} has been silent on every network for {silent_ms} ms (limit {limit_ms} ms)",
    ReasonCode.POWER_OFF: "the fence device reports {subject} as off",
    ReasonCode.POWER_UNKNOWN: "the fence device does not say whether {subject} is on or off: {detail}",
    ReasonCode.POWER_ON: "the fence device reports {subject} as on",
    ReasonCode.STOPPING: "holdfastd on {subject} said that it would stop and be back",
    ReasonCode.STILL_STAMPS: (
        "{subject} stamped its slot on the heartbeat disks {silent_ms} ms ago: it lives, is cut off, and gets patience"
    ),
    ReasonCode.SILENT_ON_STORAGE: "{subject} has not stamped its slot on the heartbeat disks for {silent_ms} ms either",
    ReasonCode.NOBODY_LISTENS: "the machine of {subject} answers that its holdfastd does not run, and gets patience",
    ReasonCode.STILL_HEARD: "{subject} is still heard by {heard_by}",
    ReasonCode.OBSERVER_ISOLATED: "{subject} hears no other node and concludes nothing about them",
    ReasonCode.NO_MAJORITY_AGREES: "only {agreeing} of {voters} voters report {subject} as silent ({needed} needed)",
    ReasonCode.MAJORITY_IS_NEW: (
        "{subject} has been together with a majority of voters for {together_ms} ms only; patience ({limit_ms} ms) "
        "began anew with it"
    ),
    ReasonCode.PATIENCE_OVER: "{subject} stayed silent beyond the patience of {limit_ms} ms",
    ReasonCode.NODE_LOST: "{subject} is lost",
    ReasonCode.NODE_FENCED: "{subject} is proven unable to touch storage ({proof})",
    ReasonCode.NO_PROOF: "there is no proof yet that {subject} can do no harm",
    ReasonCode.PARTLY_FENCED: (
        "{subject} is kept from writing to {disks} only, and {role} writes elsewhere, too; another proof is needed"
    ),
    ReasonCode.EXPELLED: "the storage refuses the writes of {subject} to {disks}",
    ReasonCode.NOT_EXPELLED: "{subject} could not be kept from writing to disk {disk} yet: {detail}",
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
    ReasonCode.STORM_OVER: (
        "fencing of {subject} waits {remaining_ms} ms more for those that come back after many nodes vanished at once"
    ),
    ReasonCode.STORM_GUARD: (
        "{vanished} of {alive_before} nodes vanished at once; fencing of {subject} waits for a person: "
        "holdfast node confirm-down {subject}"
    ),
    ReasonCode.WAITING_FOR_WATCHDOG: "the watchdog of {subject} must have fired in {remaining_ms} ms",
    ReasonCode.PREFERRED_OWNER: "{subject} is preferred owner number {rank}",
    ReasonCode.PREFERRED_SITE: "{subject} is in the preferred site {site}",
    ReasonCode.SAME_SITE: "{subject} is in the site {site}, where it was before",
    ReasonCode.JOINS: "{subject} has {role}, which it must be together with (label {label})",
    ReasonCode.WISHED_NEIGHBOURS: "{subject} has {roles} roles that it is wished together with",
    ReasonCode.MOST_FREE: "{subject} has the most free memory of all that can take it",
    ReasonCode.ONLY_CANDIDATE: "{subject} is the only candidate",
    ReasonCode.NOT_POSSIBLE_OWNER: "{subject} is not a possible owner",
    ReasonCode.NODE_ABSENT: "{subject} is not up",
    ReasonCode.NODE_PAUSED: "{subject} is paused",
    ReasonCode.NODE_QUARANTINED: "{subject} is in quarantine after {losses} losses",
    ReasonCode.NODE_NOT_READY: "{subject} cannot start guests: {detail}",
    ReasonCode.DISK_SLOW: "disk {disk} answers slowly on {subject}",
    ReasonCode.STORAGE_LOST: "{subject} has not reached disk {disk} for {limit_ms} ms, and the role is to move then",
    ReasonCode.STORAGE_BACK: "an I/O error had stopped the guest of {subject}; its storage answers again",
    ReasonCode.DISK_NOT_READY: "{subject} cannot use disk {disk} now: {detail}",
    ReasonCode.MEMORY_SHORT: "{subject} has {free_bytes} bytes of memory free, {needed_bytes} needed",
    ReasonCode.VCPUS_SHORT: "{subject} has {free_vcpus} vCPUs free, {needed_vcpus} needed",
    ReasonCode.START_FAILED_HERE: "it failed on {subject} before",
    ReasonCode.MUST_JOIN: "{subject} does not have {role}, which it must be together with (label {label}, on {home})",
    ReasonCode.MUST_AVOID: "{subject} has {role}, which it must be apart from (label {label})",
    ReasonCode.ONE_NODE_WRITES: "disk {disk} admits one node at a time, so {subject} cannot move while it runs",
    ReasonCode.NO_CANDIDATE: "no node can take {subject}",
    ReasonCode.MORE_NODES: "{nodes} more nodes cannot take it; to see them all, run: holdfast explain role {subject}",
    ReasonCode.FROZEN: "the cluster is frozen and does nothing by itself; end that with: holdfast cluster unfreeze",
    ReasonCode.FROZEN_BY_PERSON: "{person} froze {subject}: {detail}",
    ReasonCode.SETTLING: "{subject} may be about to come up; roles are placed when it has, or in {remaining_ms} ms",
    ReasonCode.MOVE_REQUESTED: "it was asked to move to {subject}",
    ReasonCode.MOVE_CANCELLED: "its move was cancelled, so it stays with {subject}",
    ReasonCode.DRAINED: "{subject} is being drained",
    ReasonCode.RESUMED: "{subject} was resumed, and what its drain moved away is to come back",
    ReasonCode.FAILBACK: "{subject} is preferred to {owner} and has been up long enough",
    ReasonCode.LAST_NODE: "{subject} is the only node that the cluster has",
    ReasonCode.NOT_DRAINED: "{subject} is up and takes roles; empty it first: holdfast node drain {subject} --wait",
    ReasonCode.CANNOT_LEAVE_DOWN: (
        "{subject} is down and cannot hand anything on; take it out with: holdfast node evict {subject}"
    ),
    ReasonCode.VOTES_TOO_FEW: (
        "without the vote of {subject} there are {voters} votes, {needed} are needed to decide and {up} are up "
        "(missing: {down}); start these first"
    ),
    ReasonCode.STILL_WITH: "role {role} is still with {subject}, or on its way from or to it",
    ReasonCode.ONLY_POSSIBLE_OWNER: (
        "role {role} may run on {subject} only; let it run elsewhere: holdfast role set {role} --any-owner"
    ),
    ReasonCode.BALANCED: "{subject} is {to_percent} % full and {owner} {from_percent} %, so it helps to balance them",
    ReasonCode.COPIES_NO_MEMORY: "{subject} does not say that it can send and take the memory of a running guest",
    ReasonCode.NOWHERE_TO_SAVE: (
        "there is no place for the saved memory of {subject}; set one with: "
        "holdfast cluster set saved_state_directory PATH"
    ),
    ReasonCode.MOVE_FAILED: "its {method} move to {subject} failed: {detail}",
    ReasonCode.RECEIVE_REFUSED: "{subject} does not take its memory in: {detail}",
    ReasonCode.BEING_COPIED: "{subject} is being copied to another node now; that ends first, or is cancelled",
    ReasonCode.MEMORY_KEPT: (
        "the memory of {subject} is saved in {path}; to give it up and start without it, run: "
        "holdfast role discard-saved-state {subject}"
    ),
    ReasonCode.MEMORY_LOST: "the memory of {subject} is gone: {detail}",
    ReasonCode.MEMORY_OVERTAKEN: "{subject} runs already, so the memory that was kept of it is out of date",
    ReasonCode.MEMORY_DISCARDED: "{person} gave up the saved memory of {subject}",
    ReasonCode.NOT_RUNNING: "{subject} does not run, so there is nothing to move",
    ReasonCode.ALREADY_HERE: "it is on {subject} already",
    ReasonCode.FAILOVER_LIMIT: (
        "{subject} failed over {failovers} times within {period_s} s (limit {limit}); "
        "once it is mended, run: holdfast vm start {subject}"
    ),
    ReasonCode.WANTED_OFFLINE: "{subject} is wanted offline",
    ReasonCode.NO_AUTOSTART: "{subject} has the priority no-autostart and is started by a person only",
    ReasonCode.WANTED_ONLINE: "{subject} is wanted online",
    ReasonCode.NOT_CLAIMED: "{subject} did not take it up within {limit_ms} ms",
    ReasonCode.GUEST_ENDED: "the guest of {subject} ended by itself: {detail}",
    ReasonCode.GUEST_START_FAILED: "the guest of {subject} did not start: {detail}",
    ReasonCode.RESTART_LIMIT: "{subject} was restarted {restarts} times within {period_s} s (limit {limit})",
    ReasonCode.ADOPTED: "the guest of {subject} was already running and was adopted",
    ReasonCode.HYPERVISOR_SILENT: "the hypervisor does not answer on {subject}: {detail}",
    ReasonCode.VOTERS_UNHEARD: (
        "{up} of {voters} voters are up: a node that fewer than half of them hear stops its guests, {subject} too"
    ),
    ReasonCode.GUARD_SILENT: "holdfast-guard does not answer on {subject}: {detail}",
    ReasonCode.NOT_OURS: "{subject} is owned by {owner}",
    ReasonCode.NOT_ACCOUNTED_FOR: (
        "{subject} may still run guests from before the restore: join it anew, or prove that it is down"
    ),
    ReasonCode.RESTORED: "the database was restored from a backup that cannot know what {subject} runs since",
    ReasonCode.NODE_COMING_BACK: "{subject} was started again and is heard; it proves this itself once it is up",
    ReasonCode.NODE_RESTARTED: "{subject} is back with a new incarnation, so nothing of the old one runs",
    ReasonCode.CONFIRMED_BY_PERSON: "{person} confirmed that {subject} is down: {detail}",
    ReasonCode.NODE_IS_WITNESS: "{subject} is a witness and takes no roles",
    ReasonCode.VOTES_TO_SPREAD: "{wanted} votes are to be spread over the nodes, and {subject} is to have one",
    ReasonCode.VOTER_LEAVES: "{subject} leaves the cluster",
    ReasonCode.VOTER_UNKNOWN: "{subject} is no node of the cluster any more",
    ReasonCode.VOTER_DATA_LOST: "the data of the member on {subject} is gone, so it must not vote with what it has",
    ReasonCode.VOTER_AWAY: "{subject} has been down for {away_s} s and another node can vote",
    ReasonCode.VOTER_SURPLUS: "{wanted} votes serve the cluster best, and others have them",
    ReasonCode.VOTER_SLOW: "{subject} did not catch up within {limit_s} s",
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
