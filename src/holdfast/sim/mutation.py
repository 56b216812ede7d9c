"""What a row of the list of deliberate breakages is made of; the rows are in `breakages` and `disk_breakages`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NewType

from holdfast.sim.breakage import Breakage
from holdfast.sim.fault import FaultKind
from holdfast.sim.layout import Make
from holdfast.sim.schedule import Profile

BreakageKind = NewType("BreakageKind", str)
"""The name of a breakage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Where a breakage has to show.

    seeds      so many at the most, of `nodes` nodes in the profile, a minute of faults each.
    faults     the kinds of fault that the runs draw from: those that it takes.
    rules      one of whose checkers must catch it.
    disks      so many shared disks, which alone protect the roles then.
    is_quick   the tests of every change run it too.
    """

    seeds: int
    faults: tuple[FaultKind, ...]
    rules: tuple[str, ...] = ("SAFE-2",)
    nodes: int = 3
    profile: Profile = Profile.BRUTAL
    disks: int = 0
    is_quick: bool = False


@dataclass(frozen=True, slots=True)
class Mutation:
    """A breakage, in a sentence for people, and what must come of it."""

    what: str
    trial: Trial
    breakage: Breakage


def within(seeds: int, *faults: FaultKind, **special: Any) -> Trial:
    """The trial of so many seeds under these faults; see `Trial` for the rest."""
    return Trial(seeds=seeds, faults=faults, **special)


def inside(place: str, wrap: Callable[[Any], Any], *, make: Callable[[Make], Make] = lambda make: make) -> Breakage:
    """The breakage that replaces one function; see `Breakage`."""
    return Breakage(replaced=((place, wrap),), make=make)
