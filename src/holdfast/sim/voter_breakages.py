"""Deliberate breakages of who votes: when a vote moves, who may have it moved, and what a member starts with.

Rule of the file: see `breakages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from holdfast.sim import broken_votes as broken
from holdfast.sim.breakage import Breakage
from holdfast.sim.broken_parts import everybody_coordinates
from holdfast.sim.fault import FaultKind as K
from holdfast.sim.layout import Make
from holdfast.sim.mutation import Mutation, inside, within


def _three_of_four(make: Make) -> Make:
    """Somebody could vote in the place of each."""
    return replace(make, witness=False, voters_at_most=3, replace_after_s=600)


def _three(make: Make) -> Make:
    return replace(make, witness=False, voters_at_most=3, replace_after_s=600)


def _with_witness(make: Make) -> Make:
    return replace(make, witness=True, voters_at_most=3)


OF_VOTES: Final[Mapping[str, Mutation]] = {
    "gives-way-first": Mutation(
        "a living voter is removed before another one votes in its place",
        within(10, K.NODE_LEAVES, rules=("VOTES",), nodes=4),
        inside("holdfast.node.voters:next_voter_step", broken.gives_way_first, make=_three_of_four),
    ),
    "living-go-first": Mutation(
        "of voters that are too many the living go first, although of those who stay no majority is up",
        within(40, K.MEMBER_CRASH, K.POWER_CUT, K.VOTERS_CHANGED, rules=("VOTES",)),
        Breakage(
            replaced=(
                ("holdfast.node.voters:next_voter_step", broken.living_go_first),
                ("holdfast.sim.machine_member:MachineAdmin.answering", broken.everybody_answers),
            ),
            make=_three,
        ),
    ),
    "even-for-long": Mutation(
        "a second voter is made at once, long before the database admits the third",
        within(40, K.VOTERS_CHANGED, rules=("VOTES",), is_quick=True),
        inside("holdfast.decide.voters:SETTLE_MS", lambda _: 0, make=_three),
    ),
    "votes-unordered": Mutation(
        "every node changes members, without a write that would show that it coordinates",
        within(10, K.VOTERS_CHANGED, rules=("VOTES",), is_quick=True),
        Breakage(
            replaced=(
                ("holdfast.node.coordinator:Coordination._is_coordinator", everybody_coordinates),
                ("holdfast.node.voters:VoterKeeper._may_change", broken.unasked),
            ),
            make=_three,
        ),
    ),
    "starts-without-data": Mutation(
        "a member whose data is gone starts under its old id",
        within(40, K.MEMBER_DATA_LOST, K.DAEMON_CRASH, rules=("SAFE-4",)),
        inside("holdfast.node.seat:SeatKeeper._attend", broken.never_begun, make=_three),
    ),
    "starts-on-older-copy": Mutation(
        "a member starts on an older copy of its data",
        within(20, K.MEMBER_DATA_OLDER, K.DAEMON_CRASH, rules=("SAFE-4",), is_quick=True),
        inside("holdfast.sim.machine_member:is_older", broken.never_older, make=_three),
    ),
    "witness-is-host": Mutation(
        "roles are placed on the witness",
        within(5, K.POWER_CUT, K.WITNESS_CUT, rules=("WITNESS",), nodes=2, is_quick=True),
        Breakage(
            replaced=(
                ("holdfast.decide.layout:closed", broken.witness_is_open),
                ("holdfast.decide.layout:_capacities", broken.witness_has_room),
            ),
            make=_with_witness,
        ),
    ),
}
