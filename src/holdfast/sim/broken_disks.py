"""The broken parts of shared disks. Rule of the file: see `broken_parts`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from holdfast.storage.arbitration import PROTECTION, AbortMethod, Expelled, Holders, Refused
from holdfast.storage.outcome import Done, Unknown

EXPELLED = Expelled(holders=Holders(generation=0, keys=(), reservation=None), how=AbortMethod.PREEMPT_AND_ABORT)


def _counts_as_expelled(kind: type) -> Any:
    def wrap(original: Any) -> Any:
        async def expel(*given: Any, **named: Any) -> Any:
            outcome = await original(*given, **named)
            return EXPELLED if isinstance(outcome, kind) else outcome

        return expel

    return wrap


refused_is_expelled = _counts_as_expelled(Refused)
unknown_is_expelled = _counts_as_expelled(Unknown)


def without_reading(original: Any) -> Any:
    """One preempt, whatever comes of it."""

    async def expel(lun: Any, own: int, *, victim: int) -> Any:
        await lun.preempt(key=own, victim=victim, type=PROTECTION, abort=True)
        return EXPELLED

    return expel


def watch_without_reading(original: Any) -> Any:
    """The same, by the watch of a disk."""

    async def expel(watch: Any, victim: int) -> Any:
        return await without_reading(original)(watch._lun, watch._key, victim=victim)  # noqa: SLF001  as below

    return expel


def unasked(_original: Any) -> Any:
    """A challenge succeeds at once; nothing was sent to the target."""

    async def challenge(*_given: Any, **_named: Any) -> Any:
        return EXPELLED

    return challenge


def used_without_looking(_original: Any) -> Any:
    """Nothing is asked before a guest starts, and nobody is told that it does."""

    @contextmanager
    def used_by(_keeper: Any, _uuid: str, _disks: Any) -> Iterator[None]:
        yield None

    return used_by


def without_abort(original: Any) -> Any:
    """A preempt leaves alone what the victim has under way."""

    async def preempt(*given: Any, abort: bool, **named: Any) -> Any:
        return await original(*given, abort=False, **named)

    return preempt


def nothing_dropped(original: Any) -> Any:
    """A reset is not sent, and counts as done."""

    async def reset(_lun: Any) -> Any:
        return Done(value=None)

    return reset


def never_used(original: Any) -> Any:
    """No guest ever uses the disk."""

    async def is_used_here(_watch: Any) -> bool:
        return False

    return is_used_here


def confirmed_unasked(original: Any) -> Any:
    """The disk is ready without a write to the session."""

    async def confirm(watch: Any) -> None:
        asked, watch._touch = watch._touch, _granted  # noqa: SLF001  a breakage reaches where it breaks
        try:
            await original(watch)
        finally:
            watch._touch = asked  # noqa: SLF001

    return confirm


async def _granted(_timeout_s: float) -> bool:
    return True


def ends_nobody(original: Any) -> Any:
    """Guests on a disk that the node was expelled from run on."""

    async def end_guests(_watch: Any) -> None:
        return

    return end_guests


def settled_unasked(_original: Any) -> Any:
    """Nothing is asked of anybody's writes."""

    async def settle(_keeper: Any, _disks: Any, _lingering: Any) -> None:
        return

    return settle


def settles_others_only(original: Any) -> Any:
    """What this node itself sent before is left alone."""

    async def settle(lun: Any, own: int, *, earlier: Any) -> Any:
        return await original(lun, own, earlier=[key for key in earlier or () if key != own])

    return settle


def nobody_lingers(_original: Any) -> Any:
    """An owner that leaves is not added to those whose writes may wait."""
    return lambda ownership: ownership.lingering
