"""Mistakes that the schedules must find: parts of a light node put in place of the sound ones, by name.

Rule of the file: each is wrong in exactly the way that its first line says. Source: DESIGN section 11, SAFE-1, SAFE-2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from holdfast.lab.errors import LabBroken
from holdfast.sim.breakage import UNBROKEN, Breakage
from holdfast.storage.arbitration import PROTECTION, AbortMethod, Expelled, Holders
from holdfast.storage.outcome import Unknown

_NOTHING_READ: Final = Holders(generation=0, keys=(), reservation=None)
Wrap = Callable[[Any], Any]


def _expelled() -> Expelled:
    return Expelled(holders=_NOTHING_READ, how=AbortMethod.LUN_RESET)


def expels_nobody(original: Any) -> Any:
    """Expelling says that it is done, and asks nobody."""

    async def expel(lun: Any, own: int, *, victim: int) -> Expelled:
        return _expelled()

    return expel


def reads_nothing_back(original: Any) -> Any:
    """One PREEMPT is sent, and that is taken for the end of it."""

    async def expel(lun: Any, own: int, *, victim: int) -> Expelled:
        await lun.preempt(key=own, victim=victim, type=PROTECTION, abort=False)
        return _expelled()

    return expel


def unknown_is_done(original: Any) -> Any:
    """An expulsion that ended unknown counts as done."""

    async def expel(lun: Any, own: int, *, victim: int) -> Any:
        outcome = await original(lun, own, victim=victim)
        return _expelled() if isinstance(outcome, Unknown) else outcome

    return expel


def nobody_is_here(original: Any) -> Any:
    """A node whose key is missing registers again without asking whether its guests still run."""

    async def is_used_here(_self: Any) -> bool:
        return False

    return is_used_here


def asks_no_session(original: Any) -> Any:
    """A registration follows without a write to the own session."""

    async def touch(_self: Any, _within_s: float) -> bool:
        return True

    return touch


def ends_no_guests(original: Any) -> Any:
    """A node that was expelled lets its guests be."""

    async def end(_self: Any) -> None:
        return

    return end


BREAKAGES: Final = {
    "expels-nobody": Breakage(replaced=(("holdfast.node.disk_watch:expel", expels_nobody),)),
    "reads-nothing-back": Breakage(replaced=(("holdfast.node.disk_watch:expel", reads_nothing_back),)),
    "unknown-is-done": Breakage(replaced=(("holdfast.node.disk_watch:expel", unknown_is_done),)),
    "registers-again": Breakage(
        replaced=(
            ("holdfast.node.disk_watch:DiskWatch._is_used_here", nobody_is_here),
            ("holdfast.node.session:SessionKeeper.touch", asks_no_session),
        )
    ),
    "leaves-guests": Breakage(replaced=(("holdfast.node.disk_watch:DiskWatch._end_guests", ends_no_guests),)),
}


def breakage_named(name: str) -> Breakage:
    """The breakage of this name; none for an empty one. Raises LabBroken."""
    if name and name not in BREAKAGES:
        raise LabBroken(f"there is no breakage {name}", hint=f"one of {', '.join(BREAKAGES)}")
    return BREAKAGES[name] if name else UNBROKEN
