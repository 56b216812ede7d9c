"""From a seed to a cluster and a schedule of faults.

Rule of the file: swarm testing. Each seed draws which kinds of fault it knows and how thick they come, so that rare
combinations occur and no kind always hides another; half of the faults hit one victim, so that they add up.
Source: Groce et al., "Swarm Testing", ISSTA 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Final

from holdfast.model.ids import NetworkName
from holdfast.sim.chance import chance
from holdfast.sim.fault import (
    HARMLESS_CUTS,
    OF_HOLDFASTD,
    OF_MEMORY,
    OF_THE_DATABASE,
    OF_THE_TARGET,
    OF_THE_WITNESS,
    OF_VOTES,
    TAKING_A_NODE,
    Fault,
    FaultKind,
)
from holdfast.sim.layout import Make
from holdfast.storage.simulated_disk import DiskTraits

START_S: Final = 6.0
"""Time for the cluster to come up before anything goes wrong."""


class Profile(StrEnum):
    """How bad the days are.

    CALM: only faults of the database and of wall clocks. UPGRADE: only ends of holdfastd that are short or announced.
    Neither may stop a guest (SAFE-6). ROUGH: a few kinds, one at a time. BRUTAL: many kinds, thick together.
    """

    CALM = "calm"
    UPGRADE = "upgrade"
    ROUGH = "rough"
    BRUTAL = "brutal"


HARMLESS: Final = {Profile.CALM: OF_THE_DATABASE, Profile.UPGRADE: OF_HOLDFASTD}
"""Profiles of faults that may stop no guest, in any number. Source: SAFE-6."""

CLOCK_ERRORS: Final = (0.0, 0.0001, 0.0001, 0.01)
"""An oscillator is off by 0.01 %. One percent is what the margin of a watchdog proof allows at the least: 1 s in 45 s,
shared by the two clocks that it compares."""

QUARANTINED: Final = 0.3
QUARANTINE_S: Final = 20
"""The share of seeds with quarantine, and how long it lasts: it ends by time alone, and has to within the run."""

WITH_DISKS: Final = 0.3
"""The share of seeds whose roles write to shared disks. In half of them nothing else protects the nodes."""
WITH_HELPERS: Final = 0.25
"""Of these, the share in which the guests' writes wait in a helper while a path is out."""

MOVING_MEMORY: Final = 0.5
"""The share of seeds in which guests move with their memory."""

WITH_VOTES: Final = 0.4
"""The share of seeds in which votes move. Elsewhere the same nodes vote always, both of two."""

LONG_ONE: Final = 0.6
"""The share of seeds in which a node is gone for long: what follows a loss takes half a minute."""

BACK_WITHIN_S: Final = 1.0
"""A holdfastd that crashed is started again so soon: docs/safety.md allows it 3 s in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """How many kinds a seed knows, how long it waits between two faults and how long they last, in seconds."""

    kinds: tuple[int, int]
    gap_s: float
    longest_s: float


WEIGHTS: Final = {
    Profile.CALM: Weight(kinds=(1, 5), gap_s=6.0, longest_s=30.0),
    Profile.UPGRADE: Weight(kinds=(1, 4), gap_s=5.0, longest_s=20.0),
    Profile.ROUGH: Weight(kinds=(1, 6), gap_s=8.0, longest_s=60.0),
    Profile.BRUTAL: Weight(kinds=(4, len(FaultKind)), gap_s=2.5, longest_s=30.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A cluster and what will go wrong, in the order of time. `ends_s`: when everything is healed."""

    make: Make
    faults: tuple[Fault, ...]
    ends_s: float


def known_to(profile: Profile) -> list[FaultKind]:
    """The kinds of fault that a profile draws from, without those of shared disks."""
    return [kind for kind in HARMLESS.get(profile, FaultKind) if kind not in (*OF_THE_TARGET, *OF_MEMORY, *OF_VOTES)]


def askable_of(profile: Profile) -> list[FaultKind]:
    """The kinds of fault that a profile draws when it is asked for them."""
    return known_to(profile) if profile in HARMLESS else list(FaultKind)


def draw(
    seed: int,
    *,
    nodes: int,
    profile: Profile,
    minutes: float,
    only: tuple[FaultKind, ...] | None = None,
    disks: int | None = None,
    votes: bool | None = None,
) -> Schedule:
    """Draw the schedule of a seed. The same arguments give the same schedule, always.

    only    the kinds of fault that it knows, as far as the profile does; None: it draws them too.
    disks   so many shared disks, and if any, nothing else that protects; None: it draws that too.
    votes   whether votes move; None: it draws that too, and everything else as it would without.
    """
    draws = chance(seed, "schedule")
    weight = WEIGHTS[profile]
    ends_s = START_S + minutes * 60
    make = Make(
        nodes=nodes,
        roles=draws.randint(1, 5),
        networks=(NetworkName("cluster-a"), NetworkName("cluster-b"))[: draws.choice((1, 2, 2))],
        has_fence=draws.random() < 0.35,
        watchdog_s=draws.choice((None, 3.0, 3.0, 10.0)),
        are_guests_deaf=draws.random() < 0.3,
        clock_error=draws.choice(CLOCK_ERRORS),
    )
    known = known_to(profile)
    kinds = draws.sample(known, draws.randint(weight.kinds[0], min(weight.kinds[1], len(known))))
    if profile not in HARMLESS:
        kinds.append(draws.choice(TAKING_A_NODE))
    make, of_disks = _with_disks(make, chance(seed, "disks"), disks)
    make, of_memory = _with_memory(make, chance(seed, "memory"), only)
    further = [kind for kind in (*of_disks, *of_memory) if profile not in HARMLESS]
    kinds = kinds + further if only is None else [kind for kind in only if kind in askable_of(profile)]
    if FaultKind.CLOCK_JUMP not in kinds and draws.random() < QUARANTINED:
        make = replace(make, quarantine_s=QUARANTINE_S)  # it is measured by wall clocks
    victim = draws.getrandbits(8)
    faults: list[Fault] = []
    at_s = START_S
    while kinds and (at_s := at_s + draws.expovariate(1 / weight.gap_s)) < ends_s:
        kind = draws.choice(kinds)
        longest_s = weight.longest_s
        if kind is FaultKind.DAEMON_CRASH and profile in HARMLESS:
            longest_s = BACK_WITHIN_S
        faults.append(
            Fault(
                kind=kind,
                at_s=round(at_s, 3),
                lasts_s=round(_length(draws, longest_s), 3),
                target=draws.choice((victim, draws.getrandbits(8))),
                other=draws.getrandbits(8),
                amount=round(draws.random(), 3),
            )
        )
    if profile not in HARMLESS and draws.random() < LONG_ONE:
        faults.append(
            _long_one(draws, victim, ends_s, [kind for kind in TAKING_A_NODE if only is None or kind in only])
        )
    make, of_votes = _with_votes(make, chance(seed, "votes"), only, votes, profile)
    if only is None:
        faults += _thrown_in(chance(seed, "votes-faults"), of_votes, weight, ends_s)
    return Schedule(make=make, faults=tuple(sorted(faults, key=lambda fault: fault.at_s)), ends_s=ends_s)


def _with_disks(make: Make, draws: Random, disks: int | None) -> tuple[Make, list[FaultKind]]:
    """The cluster with its shared disks, and the kinds of fault that these have."""
    is_alone = disks is not None or draws.random() < 0.5
    if disks is None:
        disks = draws.randint(1, 3) if draws.random() < WITH_DISKS else 0
    if not disks:
        return make, []
    if is_alone:
        make = replace(make, has_fence=False, watchdog_s=None)
    traits = DiskTraits(can_survive_power_loss=draws.random() < 0.6, can_abort=draws.random() < 0.7)
    make = replace(make, disks=disks, target=traits, paths=draws.choice((1, 1, 2)))
    kinds = draws.sample(OF_THE_TARGET, draws.randint(1, 4))
    make = replace(make, heartbeats=draws.choice((0, 1, 1, 2)))
    make = replace(make, owned=draws.randint(0, make.roles))
    is_helped = draws.random() < WITH_HELPERS and make.paths == 1
    return replace(make, helped=make.roles - make.owned if is_helped else 0), kinds


def _with_memory(make: Make, draws: Random, only: tuple[FaultKind, ...] | None) -> tuple[Make, list[FaultKind]]:
    """Let guests move with their memory in a part of the seeds, and thickly where they do."""
    kinds = [FaultKind.MEMORY_MOVED, *draws.sample(OF_MEMORY, draws.randint(1, len(OF_MEMORY)))]
    is_drawn = draws.random() < MOVING_MEMORY if only is None else any(kind in OF_MEMORY for kind in only)
    return replace(make, keeps_memory=is_drawn), kinds if is_drawn else []


def _with_votes(
    make: Make, draws: Random, only: tuple[FaultKind, ...] | None, votes: bool | None, profile: Profile
) -> tuple[Make, list[FaultKind]]:
    """Let votes move in a part of the seeds, mostly of two hosts beside a witness, and the faults that they have."""
    asked = () if only is None else only
    is_drawn = draws.random() < WITH_VOTES if only is None else any(kind in OF_VOTES for kind in only)
    needs_witness = any(kind in OF_THE_WITNESS for kind in asked)
    make = replace(
        make,
        votes=is_drawn if votes is None else votes,
        witness=draws.random() < (0.7 if make.nodes == 2 else 0.3) or needs_witness,
        voters_at_most=draws.choice((1, 3, 3, 5, 5)),
        replace_after_s=draws.choice((20, 20, 30, 600)),
    )
    if not make.votes:
        return replace(make, witness=False), []
    kinds = draws.sample(OF_VOTES, draws.randint(1, 5))
    if profile in HARMLESS:
        kinds = []
    if profile is Profile.CALM and make.witness:
        kinds = [draws.choice(HARMLESS_CUTS) if make.nodes == 2 else FaultKind.WITNESS_CUT]
        make = replace(make, voters_at_most=max(3, make.voters_at_most))
    return make, kinds if make.witness else [kind for kind in kinds if kind not in OF_THE_WITNESS]


def _thrown_in(draws: Random, kinds: Sequence[FaultKind], weight: Weight, ends_s: float) -> list[Fault]:
    """Faults that come on top, from draws of their own."""
    victim = draws.getrandbits(8)
    faults: list[Fault] = []
    at_s = START_S
    while kinds and (at_s := at_s + draws.expovariate(1 / weight.gap_s)) < ends_s:
        faults.append(
            Fault(
                kind=draws.choice(kinds),
                at_s=round(at_s, 3),
                lasts_s=round(_length(draws, weight.longest_s), 3),
                target=draws.choice((victim, draws.getrandbits(8))),
                other=draws.getrandbits(8),
                amount=round(draws.random(), 3),
            )
        )
    return faults


def _long_one(draws: Random, victim: int, ends_s: float, kinds: Sequence[FaultKind]) -> Fault:
    """A node is taken from the others for longer than every patience, and for most proofs."""
    return Fault(
        kind=draws.choice(kinds or TAKING_A_NODE),
        at_s=round(draws.uniform(START_S, (START_S + ends_s) / 2), 3),
        lasts_s=round(draws.uniform(18.0, 45.0), 3),
        target=victim,
        other=draws.getrandbits(8),
        amount=round(draws.random(), 3),
    )


def _length(draws: Random, longest_s: float) -> float:
    """Short ones race with what is under way; long ones outlast every patience."""
    return draws.uniform(0.2, 1.0) * longest_s if draws.random() < 0.3 else longest_s ** draws.random() - 0.9
