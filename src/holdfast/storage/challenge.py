"""Taking a disk from its owner, which may be alive: challenge, time to defend itself, and only then the preempt.

Rule of the file: `decide.owned_disks` says what is next; an owner that lives removes the challenger's key within the
defence time and wins. Source: DESIGN section 9, SAFE-2.
"""

from __future__ import annotations

import asyncio
from typing import Final

from holdfast.decide.owned_disks import ChallengeAct, ChallengeView, next_challenge_act
from holdfast.storage.arbitration import ExpelOutcome, Protected, RefusalReason, Refused, expel, look, protect
from holdfast.storage.outcome import Conflict, Done, Failed, Unknown
from holdfast.storage.port import Lun

LOOK_AGAIN_S: Final = 0.25


async def challenge(lun: Lun, own: int, *, victim: int) -> ExpelOutcome:
    """Register beside an owner that was declared lost, let it defend itself, and expel it when it does not.

    For a node on which nothing could write to the disk. Our key stays; the next owner takes the disk over from us.
    """
    stood_since: float | None = None
    while True:
        seen = await look(lun)
        if not isinstance(seen, Done):
            return _unread(lun, seen)
        keys = seen.value.keys
        view = ChallengeView(has_own=own in keys, has_owner=victim in keys, is_foreign=seen.value.is_foreign)
        now = asyncio.get_running_loop().time()
        if view.has_own and stood_since is None:
            stood_since = now
        match next_challenge_act(view, stood_s=None if stood_since is None else now - stood_since):
            case ChallengeAct.REGISTER:
                registered = await protect(lun, own)
                if not isinstance(registered, Protected):
                    return registered
                stood_since = asyncio.get_running_loop().time()
            case ChallengeAct.WAIT:
                await asyncio.sleep(LOOK_AGAIN_S)
            case ChallengeAct.EXPEL:
                return await expel(lun, own, victim=victim)
            case ChallengeAct.GIVE_UP:
                return _given_up(lun, view)


def _given_up(lun: Lun, view: ChallengeView) -> Refused:
    if view.is_foreign:
        return Refused(reason=RefusalReason.FOREIGN_RESERVATION, words=f"{lun.path}: somebody else reserved it")
    return Refused(reason=RefusalReason.DEFENDED, words=f"{lun.path}: its owner is alive there and defends it")


def _unread(lun: Lun, seen: Conflict | Failed | Unknown) -> Refused | Unknown:
    if isinstance(seen, Unknown):
        return seen
    words = seen.words if isinstance(seen, Failed) else f"{lun.path}: who is registered cannot be read"
    return Refused(reason=RefusalReason.UNREACHABLE, words=words)
