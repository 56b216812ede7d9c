"""Who may write to a LUN: protect it, look who may, expel somebody.

Rule of the file: only a reading ends an act. Whatever was asked and however it ended, the LUN is read again, and only
a reading that shows the wanted state counts; so a lost reply, a repeated command or somebody else's act in between
changes nothing. A reading that is lost itself ends the act as unknown; repeating the act is harmless.

Two rules for callers. Keys belong to one incarnation of one node and are never used again, so that a late command about
an old key finds nobody. And nobody releases or unregisters while others go on: the reservation goes with its holder,
and whoever was expelled could write. A node that leaves is expelled by another, which takes the reservation over.
Source: SAFE-1, SAFE-2; SPC-4 clause 5.13.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from holdfast.storage.outcome import Attention, AttentionKind, Done, Failed, Outcome, Unknown
from holdfast.storage.port import Lun
from holdfast.storage.scsi.reservations import Reservation, ReservationType

PROTECTION: Final = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
"""Every node that is registered writes, nobody else does; reading is free."""
STEPS_MAX: Final = 6
"""Readings before an act is given up as unknown. Two or three are the rule; others may act on the LUN meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Who may write, as the target tells it.

    attentions    what the target told on the way: that it was reset, or that somebody preempted.
    """

    generation: int
    keys: tuple[int, ...]
    reservation: Reservation | None
    attentions: tuple[Attention, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether a reservation is in force that lets its one holder write, and none of ours."""
        return self.reservation is not None and not self.reservation.type.admits_registrants

    @property
    def may_have_lapsed(self) -> bool:
        """Whether the reservation may have been missing since this nexus last asked.

        A target that forgot everything is told by our own key: that is missing then, too.
        """
        return any(item.kind in _LAPSES for item in self.attentions)


_LAPSES: Final = (AttentionKind.RESERVATIONS_PREEMPTED, AttentionKind.RESERVATIONS_RELEASED)


class RefusalReason(StrEnum):
    """Why a LUN cannot be arbitrated now."""

    NOT_REGISTERED = "not-registered"
    """Our own key is not there: we were expelled, or the target forgot. Registering again needs a reason of its own."""
    FOREIGN_RESERVATION = "foreign-reservation"
    """Somebody who does not follow our rules holds it."""
    UNREACHABLE = "unreachable"
    """The target cannot be reached, or refuses persistent reservations."""
    DEFENDED = "defended"
    """The owner lives and removed our key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No result now, and trying the same again will not help by itself. Parts of it may have been done."""

    reason: RefusalReason
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """This nexus is registered and a reservation of the wanted type is in force: both were read.

    survives_power_loss    False when the target forgets both with its power: then a fenced node can write again.
    """

    holders: Holders
    survives_power_loss: bool


class AbortMethod(StrEnum):
    """What made sure that nothing the victim sent earlier is still carried out."""

    PREEMPT_AND_ABORT = "preempt-and-abort"
    LUN_RESET = "lun-reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expelled:
    """The victim's key was read as gone, the reservation as in force, and its earlier commands are dropped."""

    holders: Holders
    how: AbortMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """Nobody but us is registered: this was read, and what the others had sent before is done or dropped."""

    holders: Holders


ProtectOutcome: TypeAlias = Protected | Refused | Unknown
TakeOutcome: TypeAlias = Alone | Refused | Unknown
ExpelOutcome: TypeAlias = Expelled | Refused | Unknown


async def look(lun: Lun) -> Outcome[Holders]:
    """Return who may write, keys and reservation read at one generation."""
    attentions: tuple[Attention, ...] = ()
    for _ in range(STEPS_MAX):
        held = await lun.read_reservation()
        if not isinstance(held, Done):
            return held
        keys = await lun.read_keys()
        if not isinstance(keys, Done):
            return keys
        attentions += held.attentions + keys.attentions
        if held.value.generation == keys.value.generation:
            holders = Holders(
                generation=keys.value.generation,
                keys=keys.value.keys,
                reservation=held.value.reservation,
                attentions=attentions,
            )
            return Done(value=holders, attentions=attentions)
    return Unknown(words=f"{lun.path}: registrations change faster than they can be read", attentions=attentions)


async def protect(lun: Lun, key: int) -> ProtectOutcome:
    """Register with `key`, whatever this nexus was registered with before, and have the LUN reserved.

    Repeating it is harmless. It overrides having been expelled: call it only for an incarnation that was not.
    A request whose reply is lost may be carried out later: close the nexus before giving this incarnation up.
    """
    before = await look(lun)
    if isinstance(before, Done) and before.value.is_foreign:
        return _foreign(lun, before.value)
    abilities = await lun.capabilities()
    if isinstance(abilities, Unknown):  # registered without it, this node would have the target forget all of them
        return abilities
    survives = isinstance(abilities, Done) and abilities.value.can_survive_power_loss
    for _ in range(STEPS_MAX):
        registered = await lun.register(key=key, existing=None, survives_power_loss=survives)
        if isinstance(registered, Failed):
            return Refused(reason=RefusalReason.UNREACHABLE, words=registered.words)
        if not isinstance(registered, Done):
            # Carried out late, after this node was expelled, it would let it write again: nothing may be under way.
            how, asked = await _drop_unfinished(lun)
            if how is None:
                return Unknown(words=f"{lun.path}: a registration may still be under way. {_words(asked)}")
            continue
        seen = await _settle_reservation(lun, key)
        if not isinstance(seen, _Settled):
            return seen
        return Protected(holders=seen.holders, survives_power_loss=survives)
    return Unknown(words=f"{lun.path}: not seen as registered and reserved after {STEPS_MAX} attempts")


async def expel(lun: Lun, own: int, *, victim: int) -> ExpelOutcome:
    """Take the right to write from everyone registered with `victim`, for good.

    Returns Expelled only when all of this holds, in the words of the target: the victim's key is gone, ours is there, a
    reservation keeps the unregistered from writing, and what the victim sent before is done or dropped. Where the
    target has no PREEMPT AND ABORT, or somebody else removed the key, a LUN reset drops it. Repeating it is harmless.
    Guards SAFE-1 and SAFE-2; tests/contract/storage/test_arbitration.py catches a victim that still writes.
    """
    how: AbortMethod | None = None
    words = ""
    for _ in range(STEPS_MAX):
        seen = await _settle_reservation(lun, own)
        if not isinstance(seen, _Settled):
            return seen
        if seen.has_lapsed:
            how = None
        if victim in seen.holders.keys:
            how, asked = await _remove(lun, own, victim, seen.type)
        elif how is None:
            how, asked = await _drop_unfinished(lun)
        else:
            return Expelled(holders=seen.holders, how=how)
        if isinstance(asked, Failed):
            return Refused(reason=RefusalReason.UNREACHABLE, words=asked.words)
        words = _words(asked)
    return Unknown(words=f"{lun.path}: key {victim:#x} was not seen as expelled. {words}".rstrip())


async def take_over(lun: Lun, own: int) -> TakeOutcome:
    """Expel everybody else who is registered; our own key must be there. Repeating it is harmless.

    So the one who comes takes the reservation from the one who was there, and it is missing at no time.
    """
    for _ in range(STEPS_MAX):
        seen = await _settle_reservation(lun, own)
        if not isinstance(seen, _Settled):
            return seen
        others = [key for key in seen.holders.keys if key != own]
        if not others:
            return Alone(holders=seen.holders)
        outcome = await expel(lun, own, victim=others[0])
        if not isinstance(outcome, Expelled):
            return outcome
    return Unknown(words=f"{lun.path}: others register faster than they can be expelled")


async def settle(lun: Lun, own: int, *, earlier: Sequence[int] | None) -> Refused | Unknown | None:
    """See to it that nothing lands any more of what was sent under these keys; None: it is certain.

    Whoever has another key than ours is expelled. Our own nexus keeps its order: the first reading comes behind all
    that was sent there before, and a LUN reset has that done or dropped. Repeating it is harmless.

    earlier   may name our own key too; None: every key that is registered, ours included.
    """
    seen = await look(lun)
    if not isinstance(seen, Done):
        return Unknown(words=_words(seen))
    keys = sorted(frozenset(seen.value.keys) | {own}) if earlier is None else earlier
    for key in keys:
        outcome = await expel(lun, own, victim=key) if key != own else None
        if outcome is not None and not isinstance(outcome, Expelled):
            return outcome
    if own in keys:
        how, asked = await _drop_unfinished(lun)
        return None if how is not None else Unknown(words=_words(asked))
    return None


async def _remove(lun: Lun, own: int, victim: int, kind: ReservationType) -> tuple[AbortMethod | None, Outcome[None]]:
    """Preempt, and tell how unfinished commands were dropped; None when that is not certain."""
    asked = await lun.preempt(key=own, victim=victim, type=kind, abort=True)
    if isinstance(asked, Failed) and asked.is_unsupported:
        asked = await lun.preempt(key=own, victim=victim, type=kind, abort=False)
        return await _drop_unfinished(lun) if isinstance(asked, Done) else (None, asked)
    return AbortMethod.PREEMPT_AND_ABORT if isinstance(asked, Done) else None, asked


async def _drop_unfinished(lun: Lun) -> tuple[AbortMethod | None, Outcome[None]]:
    asked = await lun.reset()
    return AbortMethod.LUN_RESET if isinstance(asked, Done) else None, asked


async def expel_everywhere(luns: Sequence[Lun], own: int, *, victim: int) -> tuple[ExpelOutcome, ...]:
    """Expel from all of these LUNs at once; the outcomes are in their order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(expel(lun, own, victim=victim)) for lun in luns]
    return tuple(task.result() for task in tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settled:
    """Our key and a reservation that admits only registrants were read together.

    has_lapsed    the reservation was missing for a while: writes of anyone may have been let in.
    """

    holders: Holders
    type: ReservationType
    has_lapsed: bool


async def _settle_reservation(lun: Lun, own: int) -> _Settled | Refused | Unknown:
    """Look, and reserve when nobody did; the reservation is only believed once it was read."""
    has_lapsed = False
    words = ""
    for _ in range(STEPS_MAX):
        seen = await look(lun)
        if isinstance(seen, Unknown):
            return seen
        if not isinstance(seen, Done):
            return Refused(reason=RefusalReason.UNREACHABLE, words=_words(seen))
        holders = seen.value
        has_lapsed = has_lapsed or holders.may_have_lapsed
        if own not in holders.keys:
            return Refused(reason=RefusalReason.NOT_REGISTERED, words=f"{lun.path}: our key {own:#x} is not registered")
        if holders.is_foreign:
            return _foreign(lun, holders)
        if holders.reservation is not None:
            return _Settled(holders=holders, type=holders.reservation.type, has_lapsed=has_lapsed)
        has_lapsed = True
        asked = await lun.reserve(key=own, type=PROTECTION)
        if isinstance(asked, Failed):
            return Refused(reason=RefusalReason.UNREACHABLE, words=asked.words)
        words = _words(asked)
    return Unknown(words=f"{lun.path}: not seen as reserved. {words}".rstrip())


def _foreign(lun: Lun, holders: Holders) -> Refused:
    held = holders.reservation
    words = "" if held is None else f": key {held.key:#x} holds {held.type.words}"
    return Refused(reason=RefusalReason.FOREIGN_RESERVATION, words=f"{lun.path}{words}")


def _words(outcome: Outcome[None] | Outcome[Holders]) -> str:
    if isinstance(outcome, Failed | Unknown):
        return outcome.words
    return "" if isinstance(outcome, Done) else "The target answered with a reservation conflict."
