"""A disk that only the owner of its role is registered with: hold it, defend it, stand by, and challenge its owner.

Rule of the file: nobody leaves by itself, because the reservation goes with its holder. Whoever comes with a right to
the disk registers and takes the reservation over from all others in one command: the next owner after its claim, the
coordinator after a verdict on the owner. Source: SAFE-1, SAFE-2, docs/safety.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from holdfast.decide.disks import DiskAct, DiskStep, DiskView
from holdfast.model.disks import DiskState

DEFENCE_S: Final = 2.0
"""So long an owner has to defend its disk: four looks, of which one has to be answered."""


def next_owned_disk_step(
    view: DiskView, *, has_others: bool, is_confirmed: bool, is_used_here: bool, is_used_elsewhere: bool
) -> DiskStep:
    """Decide the next step of a node that reaches such a disk. It never registers by itself: a claim comes first.

    has_others      somebody else is registered too.
    is_used_here    a guest that uses the disk exists on this node or is being started, or that is not known.
    The rest is as for `next_disk_step`.
    """
    if view.is_foreign:
        return DiskStep(state=DiskState.UNREACHABLE)
    if view.has_key and not view.is_protected:
        return DiskStep(state=DiskState.LAPSED, act=DiskAct.RESERVE)
    if view.has_key:
        return _held(has_others=has_others, is_confirmed=is_confirmed, is_used_here=is_used_here)
    if is_used_here and view.is_protected:
        return DiskStep(state=DiskState.EXPELLED, act=DiskAct.END_GUESTS)
    if is_used_here or (is_used_elsewhere and not view.is_protected):
        return DiskStep(state=DiskState.LAPSED)
    return DiskStep(state=DiskState.STANDBY)


def _held(*, has_others: bool, is_confirmed: bool, is_used_here: bool) -> DiskStep:
    """A key without a guest is what a released role or a challenge left: it neither starts nor defends anything."""
    if not is_used_here:
        return DiskStep(state=DiskState.READY if is_confirmed else DiskState.STANDBY)
    if not is_confirmed:
        return DiskStep(state=DiskState.NOT_REGISTERED, act=DiskAct.CONFIRM)
    return DiskStep(state=DiskState.READY, act=DiskAct.DEFEND if has_others else DiskAct.NOTHING)


class ChallengeAct(StrEnum):
    """What a coordinator does next with the disk of a lost owner.

    REGISTER   register the own key beside the owner's: the challenge.
    WAIT       let the owner defend itself.
    EXPEL      take the disk from it.
    GIVE_UP    the owner lives and defended its disk, or nothing can be said: refused for now.
    """

    REGISTER = "register"
    WAIT = "wait"
    EXPEL = "expel"
    GIVE_UP = "give-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeView:
    """What a challenger reads, at one generation."""

    has_own: bool
    has_owner: bool
    is_foreign: bool = False


def next_challenge_act(view: ChallengeView, *, stood_s: float | None) -> ChallengeAct:
    """Decide the next act of a challenge.

    stood_s   for so long the own key has been there since it was read there first; None: not registered yet.
    """
    if view.is_foreign:
        return ChallengeAct.GIVE_UP
    if not view.has_own:
        return ChallengeAct.REGISTER if stood_s is None else ChallengeAct.GIVE_UP
    if not view.has_owner or (stood_s is not None and stood_s >= DEFENCE_S):
        return ChallengeAct.EXPEL
    return ChallengeAct.WAIT
