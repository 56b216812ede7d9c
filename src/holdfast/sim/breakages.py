"""The list of deliberate breakages: what each is, which rule's checker must catch it, and within how many seeds.

Rule of the file: one row per breakage. One that is not caught means that a fault or a checker is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from holdfast.decide.freedom import Freedom
from holdfast.sim import broken_parts as broken
from holdfast.sim.breakage import UNBROKEN, Breakage
from holdfast.sim.disk_breakages import OF_DISKS
from holdfast.sim.fault import FaultKind as K
from holdfast.sim.layout import Make
from holdfast.sim.memory_breakages import OF_MEMORY
from holdfast.sim.mutation import BreakageKind, Mutation, inside, within
from holdfast.sim.schedule import QUARANTINE_S, Profile
from holdfast.sim.voter_breakages import OF_VOTES


def _crowded(make: Make) -> Make:
    """Every node has a role to lose, by one network."""
    return replace(make, roles=5, networks=make.networks[:1])


def _by_watchdog(make: Make) -> Make:
    """Only watchdogs prove that a node is down."""
    return replace(_crowded(make), has_fence=False, watchdog_s=3.0)


def _by_fence(make: Make) -> Make:
    """Only fence devices do."""
    return replace(_crowded(make), has_fence=True, watchdog_s=None)


def _by_nothing(make: Make) -> Make:
    """Only people do."""
    return replace(_crowded(make), has_fence=False, watchdog_s=None)


def _deaf(make: Make) -> Make:
    """No guest ends when it is asked to."""
    return replace(make, roles=5, are_guests_deaf=True)


def _in_quarantine(make: Make) -> Make:
    return replace(make, quarantine_s=QUARANTINE_S)


def _by_watchdog_with_clocks(make: Make) -> Make:
    return replace(_by_watchdog(make), clock_error=0.01)


_OF_NODES: Final = {
    "guard-spares": Mutation(
        "the guard kills nobody, and the watchdog that it reports resets nothing",
        within(20, K.PARTITION, K.CABLE_OUT),
        Breakage(kill=lambda _: lambda _victim: None, reset=lambda _: lambda: None),
    ),
    "guard-late": Mutation(
        "the guard's deadline lies half a minute later than holdfastd proved",
        within(20, K.PARTITION, K.CABLE_OUT),
        inside("holdfast.fencing.guard.logic:_extend", broken.later_deadline),
    ),
    "guard-forgets": Mutation(
        "a guard that is started again forgets its deadline and its list",
        within(150, K.CABLE_OUT, K.GUARD_RESTART),
        inside("holdfast.fencing.simulated_guard:restored", lambda _: lambda initial, **_: initial),
    ),
    "entitled-for-ever": Mutation(
        "a node holds itself for entitled whoever hears it",
        within(20, K.PARTITION, K.CABLE_OUT, is_quick=True),
        inside("holdfast.node.entitlement:entitled_until", lambda _: lambda *, now, deadline_s, **_: now + deadline_s),
    ),
    "everybody-votes": Mutation(
        "acknowledgements of nodes that do not vote count for entitlement",
        within(10, K.PARTITION, K.LEADER_CHANGE, K.COMPACTION, nodes=4, profile=Profile.ROUGH, is_quick=True),
        inside("holdfast.node.entitlement:entitled_until", broken.everybody_votes, make=_by_watchdog),
    ),
    "grace-unsaid": Mutation(
        "an orderly stop moves the guard's deadline without promising it in the session",
        within(40, K.HEARTBEATS_DROPPED, K.DAEMON_UPGRADE),
        inside("holdfast.node.session:SessionKeeper.announce_stop", broken.grace_without_saying),
    ),
    "fence-lies": Mutation(
        "fence devices report off and switch nothing",
        within(20, K.PARTITION, K.CABLE_OUT),
        Breakage(device=lambda _: broken.LyingDevice()),
    ),
    "ordered-is-off": Mutation(
        "a node counts as off as soon as it was ordered off",
        within(30, K.FREEZE, K.DAEMON_FREEZE),
        inside("holdfast.node.fencer:switch_off", broken.off_when_ordered),
    ),
    "unknown-is-off": Mutation(
        "a fence device that gives no clear answer counts as reporting off",
        within(60, K.PARTITION, K.CABLE_OUT, K.FENCE_UNCLEAR),
        inside("holdfast.node.power:evidence_of", broken.no_answer_is_off),
    ),
    "watchdog-at-once": Mutation(
        "a watchdog proof does not wait for the watchdog",
        within(60, K.FREEZE, K.STORAGE_CUT, K.PARTITION),
        inside("holdfast.model.settings:Timings.watchdog_proof_after_ms", broken.always(0)),
    ),
    "person-errs": Mutation(
        "a person confirms nodes down without looking",
        within(40, K.FREEZE, K.PERSON_CONFIRMS),
        Breakage(is_person_sure=True),
    ),
    "person-unasked": Mutation(
        "a person's word counts for whichever incarnation the node has, declared lost or not",
        within(20, K.POWER_CUT, K.PERSON_CONFIRMS, is_quick=True),
        inside("holdfast.node.requests:unproven_verdict", broken.any_incarnation_confirmed),
    ),
    "restart-unclean": Mutation(
        "a new incarnation registers without ending what the last one left running",
        within(60, K.CABLE_OUT, K.GUARD_CRASH),
        inside("holdfast.node.life:Life._clean", broken.cleans_nothing),
    ),
    "proof-skipped": Mutation(
        "a role is given away without a proof that its last owner can do no harm",
        within(10, K.PARTITION, K.POWER_CUT, is_quick=True),
        inside("holdfast.decide.coordination:freedom_of", broken.always(Freedom())),
    ),
    "proof-of-another": Mutation(
        "the proof of an earlier incarnation frees the roles of the present one",
        within(20, K.POWER_CUT, K.CABLE_OUT),
        inside("holdfast.decide.coordination:freedom_of", broken.any_proof, make=_by_nothing),
    ),
    "started-is-assigned": Mutation(
        "a role that its owner has claimed is given away like one that has not begun",
        within(10, K.PARTITION, K.POWER_CUT, is_quick=True),
        inside("holdfast.decide.coordination:freedom_of", broken.started_is_assigned),
    ),
    "release-in-hope": Mutation(
        "the hypervisor says that a guest is gone and did not end it",
        within(10, K.ROLE_RESTARTED, K.ROLE_MOVED, is_quick=True),
        Breakage(hypervisor=broken.HopefulHypervisor),
    ),
    "uncertain-is-gone": Mutation(
        "a guest whose end is not certain, or that cannot be looked for, counts as gone",
        within(10, K.ROLE_RESTARTED, K.GUEST_STUCK, is_quick=True),
        Breakage(
            make=_deaf,
            hypervisor=broken.ForgivingHypervisor,
            replaced=(("holdfast.node.guest_listing:GuestListing.observed", broken.unknown_is_absent),),
        ),
    ),
    "claim-unguarded": Mutation(
        "an owner's step compares neither the record nor its own session",
        within(60, K.WRITES_LATE, K.PARTITION, K.ROLE_MOVED, K.POWER_CUT, rules=("SAFE-2", "SAFE-3")),
        inside("holdfast.node.executor:advance", broken.without_compares),
    ),
    "claim-of-any-record": Mutation(
        "an owner's step compares its session and not the record: the epoch does not count",
        within(60, K.WRITES_LATE, K.ROLE_MOVED, K.ROLE_RESTARTED, K.LIBVIRT_HANGS, rules=("SAFE-2", "SAFE-3")),
        inside("holdfast.node.executor:advance", broken.without(broken.about_record)),
    ),
    "claim-without-session": Mutation(
        "an owner's step compares the record and not its session: a verdict does not count",
        within(40, K.FREEZE, K.DAEMON_FREEZE, K.WATCH_SLOW, rules=("SAFE-2", "SAFE-3")),
        inside("holdfast.node.executor:advance", broken.without(broken.about_session), make=_by_nothing),
    ),
    "any-incarnation": Mutation(
        "a node acts on records that name an earlier incarnation of it",
        within(10, K.POWER_CUT, K.REBOOT, rules=("SAFE-3",), is_quick=True),
        inside("holdfast.node.executor:Executor._is_mine", broken.any_incarnation),
    ),
    "start-anyway": Mutation(
        "a guest is started although its claim could not be committed",
        within(60, K.WATCH_SLOW, K.GUEST_CRASH, K.ROLE_MOVED, K.ROLE_RESTARTED, rules=("SAFE-3",)),
        inside("holdfast.node.executor:Executor._commit", broken.commits_anyway),
    ),
    "online-at-once": Mutation(
        "a claim says that the role is online before its guest was started",
        within(5, K.POWER_CUT, rules=("SAFE-3",), is_quick=True),
        inside("holdfast.node.executor:next_step", broken.begins_online),
    ),
    "session-survives": Mutation(
        "a verdict leaves the session of the lost node",
        within(10, K.PARTITION, K.CABLE_OUT, rules=("SAFE-3", "SAFE-4"), is_quick=True),
        inside("holdfast.node.detector:convict", broken.verdict_keeps_session),
    ),
    "session-written-again": Mutation(
        "a node writes its session without comparing it",
        within(20, K.WRITES_LATE, K.HEARTBEATS_DROPPED, K.DATABASE_SLOW, rules=("SAFE-4",), is_quick=True),
        inside("holdfast.node.session:update_session", broken.without_compares),
    ),
    "minority-verdict": Mutation(
        "one node that does not hear another is enough to declare it lost",
        within(10, K.HEARTBEATS_DROPPED, rules=("SAFE-4",), is_quick=True),
        inside("holdfast.decide.detection:_judge_silence", broken.alone_is_majority),
    ),
    "many-coordinators": Mutation(
        "every node decides, and what it decides is committed without comparing who coordinates",
        within(10, K.POWER_CUT, rules=("SAFE-4",), is_quick=True),
        Breakage(
            replaced=(
                ("holdfast.node.coordinator:Coordination._is_coordinator", broken.everybody_coordinates),
                ("holdfast.node.coordinator:change_owner", broken.without(broken.about_coordinator)),
            )
        ),
    ),
    "storm-guard-off": Mutation(
        "nodes are ordered off however many vanished at once, by devices that refuse",
        within(20, K.PARTITION, rules=("SAFE-8",), nodes=9, profile=Profile.ROUGH),
        Breakage(
            device=lambda _: broken.StubbornDevice(),
            replaced=(("holdfast.node.fencer:storm_guard", broken.always(None)),),
            make=_by_fence,
        ),
    ),
    "clocks-run-wild": Mutation(
        "each clock runs at half or at one and a half times its speed, far beyond the margin of a watchdog proof",
        within(40, K.HEARTBEATS_DROPPED, K.STORAGE_DOWN, K.DAEMON_FREEZE),
        inside("holdfast.sim.machine:Process", broken.half_wrong_clocks, make=_by_watchdog_with_clocks),
    ),
    "quarantine-off": Mutation(
        "a node that was lost again and again gets roles as if nothing had been",
        within(60, K.LOST_AGAIN, rules=("QUARANTINE",)),
        inside("holdfast.decide.layout:quarantined", broken.always(None), make=_in_quarantine),
    ),
    "mirror-stale": Mutation(
        "after a compaction a node goes on with what it had read before",
        within(150, K.COMPACTION, K.DATABASE_CUT, K.DATABASE_DOWN, K.POWER_CUT, K.ROLE_MOVED, rules=("SAFE-5",)),
        inside("holdfast.node.mirror:follow", broken.goes_on_after_compaction),
    ),
    "status-flatters": Mutation(
        "every role is shown as online",
        within(20, K.POWER_CUT, rules=("SAFE-5",)),
        inside("holdfast.node.documents:role_state", broken.flattering, make=_by_nothing),
    ),
    "blocked-forgotten": Mutation(
        "a role whose owner is gone is dropped from what has to be decided",
        within(10, K.POWER_CUT, rules=("SAFE-5",), is_quick=True),
        inside("holdfast.decide.coordination:needs_decision", broken.blocked_is_settled),
    ),
}

MUTATIONS: Final[Mapping[BreakageKind, Mutation]] = {
    BreakageKind(name): mutation
    for rows in (_OF_NODES, OF_DISKS, OF_MEMORY, OF_VOTES)
    for name, mutation in rows.items()
}


def breakage_of(kind: BreakageKind | None) -> Breakage:
    """The breakage of that name; None breaks nothing."""
    return UNBROKEN if kind is None else MUTATIONS[kind].breakage
