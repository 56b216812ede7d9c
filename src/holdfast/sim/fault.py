"""A fault as a value, and which kinds there are.

Rule of the file: a fault names what it hits by numbers, so that a schedule is a list of plain values that can be
printed, shortened and replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FaultKind(StrEnum):
    """See `FAULTS` for what each does."""

    POWER_CUT = "power-cut"
    MASS_POWER_CUT = "mass-power-cut"
    LOST_AGAIN = "lost-again"
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    FREEZE = "freeze"
    DAEMON_CRASH = "daemon-crash"
    DAEMON_FREEZE = "daemon-freeze"
    DAEMON_UPGRADE = "daemon-upgrade"
    GUARD_CRASH = "guard-crash"
    GUARD_RESTART = "guard-restart"
    PARTITION = "partition"
    CUT_ONE_WAY = "cut-one-way"
    DEAF = "deaf"
    HEARTBEATS_DROPPED = "heartbeats-dropped"
    GRAY_LINK = "gray-link"
    CABLE_OUT = "cable-out"
    CABLE_FLAPS = "cable-flaps"
    BAD_WEATHER = "bad-weather"
    DATABASE_DOWN = "database-down"
    DATABASE_CUT = "database-cut"
    DATABASE_SLOW = "database-slow"
    WATCH_SLOW = "watch-slow"
    REPLIES_LOST = "replies-lost"
    REQUESTS_LOST = "requests-lost"
    WRITES_LATE = "writes-late"
    COMPACTION = "compaction"
    LEADER_CHANGE = "leader-change"
    LIBVIRT_HANGS = "libvirt-hangs"
    LIBVIRT_RESTART = "libvirt-restart"
    START_REFUSED = "start-refused"
    GUEST_CRASH = "guest-crash"
    GUEST_STUCK = "guest-stuck"
    STORAGE_CUT = "storage-cut"
    STORAGE_DOWN = "storage-down"
    FENCE_FAILS = "fence-fails"
    FENCE_HANGS = "fence-hangs"
    FENCE_UNCLEAR = "fence-unclear"
    CLOCK_JUMP = "clock-jump"
    ROLE_RESTARTED = "role-restarted"
    ROLE_MOVED = "role-moved"
    NODE_DRAINED = "node-drained"
    CLUSTER_FROZEN = "cluster-frozen"
    SETTINGS_CHANGED = "settings-changed"
    PERSON_CONFIRMS = "person-confirms"
    TARGET_RESTART = "target-restart"
    TARGET_FORGETS = "target-forgets"
    TARGET_HANGS = "target-hangs"
    TARGET_SLOW = "target-slow"
    TARGET_REPLIES_LOST = "target-replies-lost"
    TARGET_WRITES_TORN = "target-writes-torn"
    TARGET_WRITES_HELD = "target-writes-held"
    TARGET_RESET = "target-reset"
    TARGET_SESSION_LOST = "target-session-lost"
    TARGET_PATH_OUT = "target-path-out"
    PREEMPT_RACE = "preempt-race"
    REGISTER_RACE = "register-race"
    MEMORY_MOVED = "memory-moved"
    MEMORY_ACT_FAILS = "memory-act-fails"
    SAVED_STORAGE_FULL = "saved-storage-full"
    SAVED_STORAGE_GONE = "saved-storage-gone"
    MEMORY_DISCARDED = "memory-discarded"
    MEMBER_CRASH = "member-crash"
    MEMBER_DISK_FULL = "member-disk-full"
    MEMBER_DATA_LOST = "member-data-lost"
    MEMBER_DATA_OLDER = "member-data-older"
    LEADER_FROZEN = "leader-frozen"
    HOSTS_CUT = "hosts-cut"
    WITNESS_CUT = "witness-cut"
    WITNESS_GONE = "witness-gone"
    VOTERS_CHANGED = "voters-changed"
    NODE_LEAVES = "node-leaves"


OF_THE_DATABASE: Final = (
    FaultKind.DATABASE_DOWN,
    FaultKind.DATABASE_CUT,
    FaultKind.DATABASE_SLOW,
    FaultKind.WATCH_SLOW,
    FaultKind.REPLIES_LOST,
    FaultKind.REQUESTS_LOST,
    FaultKind.WRITES_LATE,
    FaultKind.COMPACTION,
    FaultKind.LEADER_CHANGE,
    FaultKind.CLOCK_JUMP,
)
"""Faults of the database and of wall clocks."""

OF_THE_TARGET: Final = (
    FaultKind.TARGET_RESTART,
    FaultKind.TARGET_FORGETS,
    FaultKind.TARGET_HANGS,
    FaultKind.TARGET_SLOW,
    FaultKind.TARGET_REPLIES_LOST,
    FaultKind.TARGET_WRITES_TORN,
    FaultKind.TARGET_WRITES_HELD,
    FaultKind.TARGET_RESET,
    FaultKind.TARGET_SESSION_LOST,
    FaultKind.TARGET_PATH_OUT,
    FaultKind.PREEMPT_RACE,
    FaultKind.REGISTER_RACE,
)
"""Faults of shared disks: drawn only where there are any."""

OF_MEMORY: Final = (
    FaultKind.MEMORY_MOVED,
    FaultKind.MEMORY_ACT_FAILS,
    FaultKind.SAVED_STORAGE_FULL,
    FaultKind.SAVED_STORAGE_GONE,
    FaultKind.MEMORY_DISCARDED,
)
"""Faults of memory on its way: drawn only where guests move with it."""

OF_VOTES: Final = (
    FaultKind.MEMBER_CRASH,
    FaultKind.MEMBER_DISK_FULL,
    FaultKind.MEMBER_DATA_LOST,
    FaultKind.MEMBER_DATA_OLDER,
    FaultKind.LEADER_FROZEN,
    FaultKind.HOSTS_CUT,
    FaultKind.WITNESS_CUT,
    FaultKind.WITNESS_GONE,
    FaultKind.VOTERS_CHANGED,
    FaultKind.NODE_LEAVES,
)
"""Faults of who votes: drawn only where votes move."""

OF_THE_WITNESS: Final = (FaultKind.WITNESS_CUT, FaultKind.WITNESS_GONE)
"""Those that take a witness."""

HARMLESS_CUTS: Final = (FaultKind.HOSTS_CUT, FaultKind.WITNESS_CUT)
"""Each of them, without the other, leaves both of two hosts with a majority beside a witness."""

OF_HOLDFASTD: Final = (
    FaultKind.DAEMON_CRASH,
    FaultKind.DAEMON_UPGRADE,
    FaultKind.COMPACTION,
    FaultKind.CLOCK_JUMP,
)
"""Ends of holdfastd that are short or announced."""


TAKING_A_NODE: Final = (
    FaultKind.POWER_CUT,
    FaultKind.FREEZE,
    FaultKind.DAEMON_CRASH,
    FaultKind.PARTITION,
    FaultKind.CABLE_OUT,
    FaultKind.DEAF,
    FaultKind.HEARTBEATS_DROPPED,
)
"""Faults that take a node from the others when they last: without one of them little else matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of a schedule.

    at_s, lasts_s   virtual seconds.
    target, other   numbers that pick a node, a role or a network; they are taken modulo what there is.
    amount          how strong, from 0 to 1.
    """

    kind: FaultKind
    at_s: float
    lasts_s: float
    target: int
    other: int
    amount: float

    def __str__(self) -> str:
        return f"{self.kind} for {self.lasts_s:.2f} s (target {self.target}, other {self.other}, {self.amount:.2f})"
