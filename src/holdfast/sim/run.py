"""One seed, one run: faults, then healing, then the checkers.

Rule of the file: the same arguments give the same run, step by step. Safety is judged over all of it; progress after
everything is healed. Source: DESIGN section 11.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from holdfast.sim.breakages import breakage_of
from holdfast.sim.chance import chance
from holdfast.sim.checkers import (
    disks_agree,
    harmless_stays_harmless,
    is_steady,
    needing_a_person,
    not_yet_well,
    nothing_ends_by_itself,
    runs_once,
)
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.faults import FAULTS
from holdfast.sim.loop import TimeStandsStill
from holdfast.sim.member_checkers import VoteWatch, members_keep_the_rules, votes_not_yet_well
from holdfast.sim.memory_checkers import (
    memory_is_consumed_first,
    memory_is_not_lost,
    memory_is_used_once,
    saved_memory_is_kept,
)
from holdfast.sim.mutation import BreakageKind
from holdfast.sim.person_faults import tidy
from holdfast.sim.record_checkers import commits_keep_the_rules, nobody_is_lost
from holdfast.sim.schedule import HARMLESS, START_S, Profile, Schedule, draw
from holdfast.sim.shared_disk_checkers import (
    ExpelledWatch,
    guests_begin_on_ready_disks,
    nobody_enters_with_guests,
    only_the_lost_are_refused,
    proofs_by_reservation_hold,
    reservations_cover_what_they_free,
    shared_disks_agree,
)
from holdfast.sim.status_checkers import StatusWatch
from holdfast.sim.truth import Entry
from holdfast.sim.world import World

WELL_WITHIN_S: Final = 150.0
"""Fence devices are looked at every 60 s, so a condition about one may stand so long; the rest takes seconds."""
ECHO_S: Final = 16.0
"""What was asked before the healing may still be answered, or fail, so long: a start of a guest takes up to 15 s."""
WHOLE_ECHO: Final = 0.25
"""The share of seeds that are judged after the whole of it; the others as soon as nothing from before is to come."""
PERSON_AFTER_S: Final = 20.0
STEADY_S: Final = 8.0
LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run.

    kinds   the kinds of fault that the schedule is drawn from; None: these are drawn too.
    disks   so many shared disks that the roles write to, protected by their reservations and by nothing else; None:
            that is drawn too.
    votes   whether votes move, with or without a witness; None: that is drawn too.
    kept    the faults of the schedule that take place, by their number; None means all.
    """

    seed: int
    nodes: int = 3
    profile: Profile = Profile.ROUGH
    minutes: float = 1.0
    kinds: tuple[FaultKind, ...] | None = None
    kept: tuple[int, ...] | None = None
    broken: BreakageKind | None = None
    disks: int | None = None
    votes: bool | None = None

    def replay(self) -> str:
        """The command that runs exactly this again."""
        words = f"holdfast sim run --seed {self.seed} --nodes {self.nodes} --profile {self.profile}"
        words += f" --minutes {self.minutes:g}"
        if self.kinds is not None:
            words += f" --faults {','.join(self.kinds)}"
        if self.disks is not None:
            words += f" --disks {self.disks}"
        if self.votes is not None:
            words += " --votes" if self.votes else " --no-votes"
        if self.kept is not None:
            words += f" --only {','.join(map(str, self.kept)) or 'none'}"
        return words if self.broken is None else f"{words} --break {self.broken}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it went. `digest` differs when anything that happened differs."""

    order: Order
    failures: tuple[str, ...]
    faults: tuple[tuple[int, Fault], ...]
    entries: tuple[Entry, ...]
    virtual_s: float
    steps: int
    digest: str


def run(order: Order) -> Outcome:
    """Run one seed to its end."""
    schedule = draw(
        order.seed,
        nodes=order.nodes,
        profile=order.profile,
        minutes=order.minutes,
        only=order.kinds,
        disks=order.disks,
        votes=order.votes,
    )
    faults = tuple(
        (number, fault) for number, fault in enumerate(schedule.faults) if order.kept is None or number in order.kept
    )
    breakage = breakage_of(order.broken)
    with breakage.applied(), quiet():
        world = World(breakage.make(schedule.make), seed=order.seed, breakage=breakage)
        is_spinning = False
        try:
            failures = tuple(_live_through(world, schedule, order, [fault for _, fault in faults]))
        except TimeStandsStill as error:
            failures, is_spinning = (f"SPIN: {error}",), True
        entries, digest = tuple(world.truth.entries), world.truth.digest()
        virtual_s, steps = world.loop.time(), world.loop.steps
        if not is_spinning:
            world.close()
    return Outcome(
        order=order,
        failures=failures,
        faults=faults,
        entries=entries,
        virtual_s=virtual_s,
        steps=steps,
        digest=digest,
    )


def shrink(outcome: Outcome, *, attempts: int = 60, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Leave out faults, halves first and then one by one, as long as a run fails for the same rule."""
    rules = _rules(outcome)
    kept = [number for number, _ in outcome.faults]
    size = max(1, len(kept) // 2)
    while size >= 1 and attempts > 0:
        start = 0
        while start < len(kept) and attempts > 0:
            attempts -= 1
            fewer = kept[:start] + kept[start + size :]
            tried = run(replace(outcome.order, kept=tuple(fewer)))
            if rules & _rules(tried):
                outcome, kept = tried, fewer
                tell(f"{len(kept)} faults left")
            else:
                start += size
        size = size // 2 if size > 1 else 0
    return outcome


def _rules(outcome: Outcome) -> set[str]:
    return {failure.partition(":")[0] for failure in outcome.failures}


def broken_rules(world: World) -> Iterator[str]:
    """Every rule that was broken so far, whatever happened to the cluster."""
    yield from runs_once(world.truth, but=world.shared_disks.roles)
    yield from disks_agree(world)
    yield from shared_disks_agree(world.shared_disks, world.truth)
    yield from proofs_by_reservation_hold(world.database.history, world.shared_disks)
    yield from reservations_cover_what_they_free(world.database.history, world.shared_disks)
    yield from nobody_enters_with_guests(world.shared_disks, world.truth)
    yield from guests_begin_on_ready_disks(world.database.history, world.shared_disks, world.truth)
    yield from only_the_lost_are_refused(world.database.history, world.shared_disks, world.truth)
    yield from commits_keep_the_rules(world.database.history, world.truth)
    yield from memory_is_used_once(world.truth)
    yield from memory_is_not_lost(world.truth, world.database.history)
    yield from memory_is_consumed_first(world.truth, world.database.history)
    yield from saved_memory_is_kept(world.truth, world.database.history)
    yield from members_keep_the_rules(world.members, world.database.history)
    yield from nothing_ends_by_itself(world)


def _live_through(world: World, schedule: Schedule, order: Order, faults: Collection[Fault]) -> Iterator[str]:
    standing: dict[Fault, _Standing] = {}
    watches = (StatusWatch(world), ExpelledWatch(world), VoteWatch(world))
    for watch in watches:
        world.loop.call_at(START_S, watch.start, context=Context())
    for fault in faults:
        world.loop.call_at(fault.at_s, partial(_begin, world, fault, standing), context=Context())
    world.loop.run_until(schedule.ends_s)
    for one in standing.values():
        one.cancel()
    mark = world.loop.mark()
    world.loop.call_soon(partial(_heal, world, [one.end for one in standing.values()]), context=Context())
    echo_s = ECHO_S if chance(order.seed, "echo").random() < WHOLE_ECHO else 0.0
    yield from _progress(world, schedule.ends_s, mark, echo_s)
    yield from broken_rules(world)
    for watch in watches:
        yield from watch.found
    if order.profile in HARMLESS:
        yield from harmless_stays_harmless(world.truth)
    if order.profile is Profile.CALM:
        yield from nobody_is_lost(world.database.history)


@dataclass(frozen=True, slots=True)
class _Standing:
    """A fault that is not over: what ends it, and what takes back that this happens at its time."""

    end: Callable[[], None]
    cancel: Callable[[], None]


def _begin(world: World, fault: Fault, standing: dict[Fault, _Standing]) -> None:
    world.truth.note("world", f"fault: {fault}")
    end = FAULTS[fault.kind](world, fault)
    timer = world.loop.call_later(fault.lasts_s, partial(_end, world, fault, standing), context=Context())
    standing[fault] = _Standing(end, timer.cancel)


def _end(world: World, fault: Fault, standing: dict[Fault, _Standing]) -> None:
    world.truth.note("world", f"over:  {fault}")
    standing.pop(fault).end()


def _heal(world: World, ends: list[Callable[[], None]]) -> None:
    world.truth.note("world", "everything is healed")
    for end in ends:
        end()
    for machine in world.machines.values():
        machine.heal()
    world.settle()


def _help(world: World) -> None:
    """What only a person does: switch on what was fenced, and start what failed too often."""
    for machine in world.machines.values():
        machine.power_on()
    for role in needing_a_person(world):
        world.start_role(role)
    tidy(world)


def _progress(world: World, since_s: float, mark: int, echo_s: float) -> Iterator[str]:
    """SAFE-5: everything gets well, and stays so. What changes while the echo lasts is no flapping.

    Nor is what follows at once on getting well, such as the removal of what a move that failed left at its target.
    """
    loop = world.loop
    missing, is_new = ["not looked yet"], True
    person_at_s = since_s + PERSON_AFTER_S
    loop.run_until(since_s + echo_s)
    while missing and loop.time() < since_s + WELL_WITHIN_S:
        if loop.time() >= person_at_s:
            person_at_s += PERSON_AFTER_S
            loop.call_soon(_help, world, context=Context())
        loop.run_until(loop.time() + LOOK_S)
        missing = _not_well(world)
        is_echo = loop.time() < since_s + ECHO_S
        if missing or (is_echo and loop.awaits(mark)):
            missing, is_new = missing or ["what was asked before the healing is still to come"], True
            continue
        if is_new and not is_echo:
            missing, is_new = ["it has got well just now"], False
            continue
        before = len(world.truth.entries)
        loop.run_until(loop.time() + STEADY_S)
        missing = [*is_steady(before, world.truth), *_not_well(world)]
        if not is_echo:
            yield from (f"SAFE-5: no longer well: {what}" for what in missing)
            return
    yield from (f"SAFE-5: {WELL_WITHIN_S:.0f} s after the healing {what}" for what in missing)


def _not_well(world: World) -> list[str]:
    return [*not_yet_well(world), *votes_not_yet_well(world)]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the log of the nodes out of the way: the time line tells what happened."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
