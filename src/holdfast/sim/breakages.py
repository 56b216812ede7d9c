"""The list of deliberate breakages: what each is, which rule's checker must catch it, and within how many seeds.

Rule of the file: one row per breakage. One that is not caught means that a fault or a checker is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from holdfast.decide.freedom import Freedom
from holdfast.sim import broken_parts as broken
from holdfast.sim.breakage import UNBROKEN, Breakage
from holdfast.sim.fault import FaultKind
from holdfast.sim.layout import Make
from holdfast.sim.schedule import QUARANTINE_S, Profile


class BreakageKind(StrEnum):
    """The names; what each means is said in `MUTATIONS`."""

    GUARD_SPARES = "guard-spares"
    GUARD_LATE = "guard-late"
    GUARD_FORGETS = "guard-forgets"
    ENTITLED_FOR_EVER = "entitled-for-ever"
    EVERYBODY_VOTES = "everybody-votes"
    GRACE_UNSAID = "grace-unsaid"
    FENCE_LIES = "fence-lies"
    ORDERED_IS_OFF = "ordered-is-off"
    UNKNOWN_IS_OFF = "unknown-is-off"
    WATCHDOG_AT_ONCE = "watchdog-at-once"
    PERSON_ERRS = "person-errs"
    PERSON_UNASKED = "person-unasked"
    RESTART_UNCLEAN = "restart-unclean"
    PROOF_SKIPPED = "proof-skipped"
    PROOF_OF_ANOTHER = "proof-of-another"
    STARTED_IS_ASSIGNED = "started-is-assigned"
    RELEASE_IN_HOPE = "release-in-hope"
    UNCERTAIN_IS_GONE = "uncertain-is-gone"
    CLAIM_UNGUARDED = "claim-unguarded"
    CLAIM_OF_ANY_RECORD = "claim-of-any-record"
    CLAIM_WITHOUT_SESSION = "claim-without-session"
    ANY_INCARNATION = "any-incarnation"
    START_ANYWAY = "start-anyway"
    ONLINE_AT_ONCE = "online-at-once"
    SESSION_SURVIVES = "session-survives"
    SESSION_WRITTEN_AGAIN = "session-written-again"
    MINORITY_VERDICT = "minority-verdict"
    MANY_COORDINATORS = "many-coordinators"
    STORM_GUARD_OFF = "storm-guard-off"
    CLOCKS_RUN_WILD = "clocks-run-wild"
    QUARANTINE_OFF = "quarantine-off"
    MIRROR_STALE = "mirror-stale"
    STATUS_FLATTERS = "status-flatters"
    BLOCKED_FORGOTTEN = "blocked-forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A breakage and what must come of it.

    what         a sentence for people.
    caught_by    rules, one of whose checkers must catch it.
    faults       the kinds of fault that the runs draw from: those that it takes.
    within       so many seeds of `nodes` nodes in the profile, a minute of faults each.
    is_quick     the tests of every change run it too.
    """

    what: str
    caught_by: tuple[str, ...]
    faults: tuple[FaultKind, ...]
    within: int
    breakage: Breakage
    nodes: int = 3
    profile: Profile = Profile.BRUTAL
    is_quick: bool = False


def _replaced(*pairs: tuple[str, broken.Wrap], make: Callable[[Make], Make] = lambda make: make) -> Breakage:
    return Breakage(replaced=pairs, make=make)


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


def _in_quarantine(make: Make) -> Make:
    return replace(make, quarantine_s=QUARANTINE_S)


def _by_watchdog_with_clocks(make: Make) -> Make:
    return replace(_by_watchdog(make), clock_error=0.01)


MUTATIONS: Final[dict[BreakageKind, Mutation]] = {
    BreakageKind.GUARD_SPARES: Mutation(
        what="the guard kills nobody, and the watchdog that it reports resets nothing",
        caught_by=("SAFE-2",),
        faults=(FaultKind.PARTITION, FaultKind.CABLE_OUT),
        within=20,
        breakage=Breakage(kill=lambda _: lambda _victim: None, reset=lambda _: lambda: None),
    ),
    BreakageKind.GUARD_LATE: Mutation(
        what="the guard's deadline lies half a minute later than holdfastd proved",
        caught_by=("SAFE-2",),
        faults=(FaultKind.PARTITION, FaultKind.CABLE_OUT),
        within=20,
        breakage=_replaced(("holdfast.fencing.guard.logic:_extend", broken.later_deadline)),
    ),
    BreakageKind.GUARD_FORGETS: Mutation(
        what="a guard that is started again forgets its deadline and its list",
        caught_by=("SAFE-2",),
        faults=(FaultKind.CABLE_OUT, FaultKind.GUARD_RESTART),
        within=150,
        breakage=_replaced(("holdfast.fencing.simulated_guard:restored", lambda _: lambda initial, **_: initial)),
    ),
    BreakageKind.ENTITLED_FOR_EVER: Mutation(
        what="a node holds itself for entitled whoever hears it",
        caught_by=("SAFE-2",),
        faults=(FaultKind.PARTITION, FaultKind.CABLE_OUT),
        within=20,
        is_quick=True,
        breakage=_replaced(
            ("holdfast.node.entitlement:entitled_until", lambda _: lambda *, now, deadline_s, **_: now + deadline_s)
        ),
    ),
    BreakageKind.EVERYBODY_VOTES: Mutation(
        what="acknowledgements of nodes that do not vote count for entitlement",
        caught_by=("SAFE-2",),
        faults=(FaultKind.PARTITION, FaultKind.LEADER_CHANGE, FaultKind.COMPACTION),
        within=10,
        nodes=4,
        profile=Profile.ROUGH,
        is_quick=True,
        breakage=_replaced(("holdfast.node.entitlement:entitled_until", broken.everybody_votes), make=_by_watchdog),
    ),
    BreakageKind.GRACE_UNSAID: Mutation(
        what="an orderly stop moves the guard's deadline without promising it in the session",
        caught_by=("SAFE-2",),
        faults=(FaultKind.HEARTBEATS_DROPPED, FaultKind.DAEMON_UPGRADE),
        within=40,
        breakage=_replaced(("holdfast.node.session:SessionKeeper.announce_stop", broken.grace_without_saying)),
    ),
    BreakageKind.FENCE_LIES: Mutation(
        what="fence devices report off and switch nothing",
        caught_by=("SAFE-2",),
        faults=(FaultKind.PARTITION, FaultKind.CABLE_OUT),
        within=20,
        breakage=Breakage(device=lambda _: broken.LyingDevice()),
    ),
    BreakageKind.ORDERED_IS_OFF: Mutation(
        what="a node counts as off as soon as it was ordered off",
        caught_by=("SAFE-2",),
        faults=(FaultKind.FREEZE, FaultKind.DAEMON_FREEZE),
        within=30,
        breakage=_replaced(("holdfast.node.fencer:switch_off", broken.off_when_ordered)),
    ),
    BreakageKind.UNKNOWN_IS_OFF: Mutation(
        what="a fence device that gives no clear answer counts as reporting off",
        caught_by=("SAFE-2",),
        faults=(FaultKind.PARTITION, FaultKind.CABLE_OUT, FaultKind.FENCE_UNCLEAR),
        within=60,
        breakage=_replaced(("holdfast.node.power:evidence_of", broken.no_answer_is_off)),
    ),
    BreakageKind.WATCHDOG_AT_ONCE: Mutation(
        what="a watchdog proof does not wait for the watchdog",
        caught_by=("SAFE-2",),
        faults=(FaultKind.FREEZE, FaultKind.STORAGE_CUT, FaultKind.PARTITION),
        within=60,
        breakage=_replaced(("holdfast.model.settings:Timings.watchdog_proof_after_ms", broken.always(0))),
    ),
    BreakageKind.PERSON_ERRS: Mutation(
        what="a person confirms nodes down without looking",
        caught_by=("SAFE-2",),
        faults=(FaultKind.FREEZE, FaultKind.PERSON_CONFIRMS),
        within=40,
        breakage=Breakage(is_person_sure=True),
    ),
    BreakageKind.PERSON_UNASKED: Mutation(
        what="a person's word counts for whichever incarnation the node has, declared lost or not",
        caught_by=("SAFE-2",),
        faults=(FaultKind.POWER_CUT, FaultKind.PERSON_CONFIRMS),
        within=20,
        is_quick=True,
        breakage=_replaced(("holdfast.node.requests:unproven_verdict", broken.any_incarnation_confirmed)),
    ),
    BreakageKind.RESTART_UNCLEAN: Mutation(
        what="a new incarnation registers without ending what the last one left running",
        caught_by=("SAFE-2",),
        faults=(FaultKind.CABLE_OUT, FaultKind.GUARD_CRASH),
        within=60,
        breakage=_replaced(("holdfast.node.life:Life._clean", broken.cleans_nothing)),
    ),
    BreakageKind.PROOF_SKIPPED: Mutation(
        what="a role is given away without a proof that its last owner can do no harm",
        caught_by=("SAFE-2",),
        faults=(FaultKind.PARTITION, FaultKind.POWER_CUT),
        within=10,
        is_quick=True,
        breakage=_replaced(("holdfast.decide.coordination:freedom_of", broken.always(Freedom()))),
    ),
    BreakageKind.PROOF_OF_ANOTHER: Mutation(
        what="the proof of an earlier incarnation frees the roles of the present one",
        caught_by=("SAFE-2",),
        faults=(FaultKind.POWER_CUT, FaultKind.CABLE_OUT),
        within=20,
        breakage=_replaced(("holdfast.decide.coordination:freedom_of", broken.any_proof), make=_by_nothing),
    ),
    BreakageKind.STARTED_IS_ASSIGNED: Mutation(
        what="a role that its owner has claimed is given away like one that has not begun",
        caught_by=("SAFE-2",),
        faults=(FaultKind.PARTITION, FaultKind.POWER_CUT),
        within=10,
        is_quick=True,
        breakage=_replaced(("holdfast.decide.coordination:freedom_of", broken.started_is_assigned)),
    ),
    BreakageKind.RELEASE_IN_HOPE: Mutation(
        what="the hypervisor says that a guest is gone and did not end it",
        caught_by=("SAFE-2",),
        faults=(FaultKind.ROLE_RESTARTED, FaultKind.ROLE_MOVED),
        within=10,
        is_quick=True,
        breakage=Breakage(hypervisor=broken.HopefulHypervisor),
    ),
    BreakageKind.UNCERTAIN_IS_GONE: Mutation(
        what="a guest whose end is not certain, or that cannot be looked for, counts as gone",
        caught_by=("SAFE-2",),
        faults=(FaultKind.ROLE_RESTARTED, FaultKind.GUEST_STUCK, FaultKind.LIBVIRT_HANGS),
        within=100,
        breakage=Breakage(
            hypervisor=broken.ForgivingHypervisor,
            replaced=(("holdfast.node.executor:Executor._observed", broken.unknown_is_absent),),
        ),
    ),
    BreakageKind.CLAIM_UNGUARDED: Mutation(
        what="an owner's step compares neither the record nor its own session",
        caught_by=("SAFE-2", "SAFE-3"),
        faults=(FaultKind.WRITES_LATE, FaultKind.PARTITION, FaultKind.ROLE_MOVED, FaultKind.POWER_CUT),
        within=60,
        breakage=_replaced(("holdfast.node.executor:advance", broken.without_compares)),
    ),
    BreakageKind.CLAIM_OF_ANY_RECORD: Mutation(
        what="an owner's step compares its session and not the record: the epoch does not count",
        caught_by=("SAFE-2", "SAFE-3"),
        faults=(FaultKind.WRITES_LATE, FaultKind.ROLE_MOVED, FaultKind.ROLE_RESTARTED, FaultKind.LIBVIRT_HANGS),
        within=60,
        breakage=_replaced(("holdfast.node.executor:advance", broken.without(broken.about_record))),
    ),
    BreakageKind.CLAIM_WITHOUT_SESSION: Mutation(
        what="an owner's step compares the record and not its session: a verdict does not count",
        caught_by=("SAFE-2", "SAFE-3"),
        faults=(FaultKind.FREEZE, FaultKind.DAEMON_FREEZE, FaultKind.WATCH_SLOW),
        within=40,
        breakage=_replaced(("holdfast.node.executor:advance", broken.without(broken.about_session)), make=_by_nothing),
    ),
    BreakageKind.ANY_INCARNATION: Mutation(
        what="a node acts on records that name an earlier incarnation of it",
        caught_by=("SAFE-3",),
        faults=(FaultKind.POWER_CUT, FaultKind.REBOOT),
        within=10,
        is_quick=True,
        breakage=_replaced(("holdfast.node.executor:Executor._is_mine", broken.any_incarnation)),
    ),
    BreakageKind.START_ANYWAY: Mutation(
        what="a guest is started although its claim could not be committed",
        caught_by=("SAFE-3",),
        faults=(FaultKind.WATCH_SLOW, FaultKind.GUEST_CRASH, FaultKind.ROLE_MOVED, FaultKind.ROLE_RESTARTED),
        within=60,
        breakage=_replaced(("holdfast.node.executor:Executor._commit", broken.commits_anyway)),
    ),
    BreakageKind.ONLINE_AT_ONCE: Mutation(
        what="a claim says that the role is online before its guest was started",
        caught_by=("SAFE-3",),
        faults=(FaultKind.POWER_CUT,),
        within=5,
        is_quick=True,
        breakage=_replaced(("holdfast.node.executor:next_step", broken.begins_online)),
    ),
    BreakageKind.SESSION_SURVIVES: Mutation(
        what="a verdict leaves the session of the lost node",
        caught_by=("SAFE-3", "SAFE-4"),
        faults=(FaultKind.PARTITION, FaultKind.CABLE_OUT),
        within=10,
        is_quick=True,
        breakage=_replaced(("holdfast.node.detector:convict", broken.verdict_keeps_session)),
    ),
    BreakageKind.SESSION_WRITTEN_AGAIN: Mutation(
        what="a node writes its session without comparing it",
        caught_by=("SAFE-4",),
        faults=(FaultKind.WRITES_LATE, FaultKind.HEARTBEATS_DROPPED, FaultKind.DATABASE_SLOW),
        within=20,
        is_quick=True,
        breakage=_replaced(("holdfast.node.session:update_session", broken.without_compares)),
    ),
    BreakageKind.MINORITY_VERDICT: Mutation(
        what="one node that does not hear another is enough to declare it lost",
        caught_by=("SAFE-4",),
        faults=(FaultKind.HEARTBEATS_DROPPED,),
        within=10,
        is_quick=True,
        breakage=_replaced(("holdfast.decide.detection:_judge_silence", broken.alone_is_majority)),
    ),
    BreakageKind.MANY_COORDINATORS: Mutation(
        what="every node decides, and what it decides is committed without comparing who coordinates",
        caught_by=("SAFE-4",),
        faults=(FaultKind.POWER_CUT,),
        within=10,
        is_quick=True,
        breakage=_replaced(
            ("holdfast.node.coordinator:Coordination._is_coordinator", broken.everybody_coordinates),
            ("holdfast.node.coordinator:change_owner", broken.without(broken.about_coordinator)),
        ),
    ),
    BreakageKind.STORM_GUARD_OFF: Mutation(
        what="nodes are ordered off however many vanished at once, by devices that refuse",
        caught_by=("SAFE-8",),
        faults=(FaultKind.PARTITION,),
        within=20,
        nodes=9,
        profile=Profile.ROUGH,
        breakage=Breakage(
            device=lambda _: broken.StubbornDevice(),
            replaced=(("holdfast.node.fencer:storm_guard", broken.always(None)),),
            make=_by_fence,
        ),
    ),
    BreakageKind.CLOCKS_RUN_WILD: Mutation(
        what="each clock runs at half or at one and a half times its speed, far beyond the margin of a watchdog proof",
        caught_by=("SAFE-2",),
        faults=(FaultKind.HEARTBEATS_DROPPED, FaultKind.STORAGE_DOWN, FaultKind.DAEMON_FREEZE),
        within=40,
        breakage=_replaced(("holdfast.sim.machine:Process", broken.half_wrong_clocks), make=_by_watchdog_with_clocks),
    ),
    BreakageKind.QUARANTINE_OFF: Mutation(
        what="a node that was lost again and again gets roles as if nothing had been",
        caught_by=("QUARANTINE",),
        faults=(FaultKind.LOST_AGAIN,),
        within=60,
        breakage=_replaced(("holdfast.decide.layout:quarantined", broken.always(None)), make=_in_quarantine),
    ),
    BreakageKind.MIRROR_STALE: Mutation(
        what="after a compaction a node goes on with what it had read before",
        caught_by=("SAFE-5",),
        faults=(
            FaultKind.COMPACTION,
            FaultKind.DATABASE_CUT,
            FaultKind.DATABASE_DOWN,
            FaultKind.POWER_CUT,
            FaultKind.ROLE_MOVED,
        ),
        within=150,
        breakage=_replaced(("holdfast.node.mirror:follow", broken.goes_on_after_compaction)),
    ),
    BreakageKind.STATUS_FLATTERS: Mutation(
        what="every role is shown as online",
        caught_by=("SAFE-5",),
        faults=(FaultKind.POWER_CUT,),
        within=20,
        breakage=_replaced(("holdfast.node.documents:role_state", broken.flattering), make=_by_nothing),
    ),
    BreakageKind.BLOCKED_FORGOTTEN: Mutation(
        what="a role whose owner is gone is dropped from what has to be decided",
        caught_by=("SAFE-5",),
        faults=(FaultKind.POWER_CUT,),
        within=10,
        is_quick=True,
        breakage=_replaced(("holdfast.decide.coordination:needs_decision", broken.blocked_is_settled)),
    ),
}


def breakage_of(kind: BreakageKind | None) -> Breakage:
    """The breakage of that name; None breaks nothing."""
    return UNBROKEN if kind is None else MUTATIONS[kind].breakage
