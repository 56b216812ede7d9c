"""A schedule: which failures befall which node when. Drawn from a seed, the same for ever.

Rule of the file: pure. Nodes are named by what they are at that moment (the owner, the coordinator), so that the same
schedule means the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final


class Act(StrEnum):
    """What happens, and is undone when its time is over."""

    POWER_OFF = "power-off"
    FREEZE = "freeze"
    CUT_CLUSTER = "cut-cluster"
    CUT_STORAGE = "cut-storage"
    CUT_ALL = "cut-all"
    RESTART_TARGET = "restart-target"
    HANG_TARGET = "hang-target"
    HANG_DATABASE = "hang-database"
    RIVALS = "rivals"
    """Every node expels who is lost, at the same moment as the coordinator."""
    DIES_BEFORE = "dies-before-preempt"
    DIES_AFTER = "dies-after-preempt"
    """Whoever preempts next dies before the target has it, or after it and before anything can be committed."""
    FREEZES_AFTER = "freezes-after-preempt"
    REPLY_LOST = "preempt-reply-late"
    REQUEST_LATE = "preempt-request-late"


class Who(StrEnum):
    """Whom it befalls."""

    OWNER = "owner"
    COORDINATOR = "coordinator"
    LEADER = "database-leader"
    """In the light world, where the database is on none of the nodes, the coordinator."""
    BYSTANDER = "bystander"
    """The first that is neither the owner nor, if possible, the coordinator."""
    NOBODY = "nobody"


TRAPS: Final = (Act.DIES_BEFORE, Act.DIES_AFTER, Act.FREEZES_AFTER, Act.REPLY_LOST, Act.REQUEST_LATE)
FAILURES: Final = (Act.POWER_OFF, Act.FREEZE, Act.CUT_CLUSTER, Act.CUT_STORAGE, Act.CUT_ALL)
_WEIGHTS: Final = (2, 4, 3, 1, 2)
_TRAP_WEIGHTS: Final = (2, 2, 2, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One failure. Times in units of the world: what passes until a silent node is called lost is 1.0."""

    at: float
    act: Act
    who: Who = Who.NOBODY
    lasts: float = 0.0

    def __str__(self) -> str:
        who = "" if self.who is Who.NOBODY else f" of the {self.who}"
        return f"{self.at:.2f} {self.act}{who}" + (f" for {self.lasts:.2f}" if self.lasts else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What befalls a cluster. `is_guard_blunt`: the guards kill nobody, so that the disks alone decide."""

    seed: int
    steps: tuple[Step, ...]
    is_guard_blunt: bool = False

    def __str__(self) -> str:
        guard = "; the guards are blunt" if self.is_guard_blunt else ""
        return "; ".join(map(str, self.steps)) + guard


def draw(seed: int, *, has_traps: bool = True) -> Schedule:
    """The schedule of a seed: a failure of one node, and in most of them something that makes it worse.

    has_traps   whether the world can do something at the very moment of a PREEMPT, and hang the database.
    """
    random = Random(f"storage schedule {seed}")  # noqa: S311 - to be repeatable is the point
    steps = [_failure(random, random.uniform(0.0, 0.3))]
    chance = random.random()
    if chance < 0.45:
        steps = _trapped(random) if has_traps else steps
    elif chance < 0.60:
        steps.append(_failure(random, random.uniform(0.0, 1.6)))
    elif chance < 0.70:
        steps += [Step(at=0.0, act=Act.RIVALS)] if has_traps else []
    elif chance < 0.85:
        steps = _target(random, steps)
    elif chance < 0.95:
        steps = [_lost(random, 2.9, 3.6)]
    if random.random() < 0.15 and has_traps:
        steps.append(Step(at=random.uniform(0.8, 1.6), act=Act.HANG_DATABASE, lasts=random.uniform(0.1, 0.6)))
    steps.sort(key=lambda step: step.at)
    return Schedule(seed=seed, steps=tuple(steps), is_guard_blunt=has_traps and random.random() < 0.5)


def _failure(random: Random, at: float) -> Step:
    [act] = random.choices(FAILURES, _WEIGHTS)
    who = random.choices((Who.OWNER, Who.COORDINATOR, Who.LEADER, Who.BYSTANDER), (6, 2, 1, 1))[0]
    return Step(at=at, act=act, who=who, lasts=random.uniform(0.6, 1.9))


def _trapped(random: Random) -> list[Step]:
    [trap] = random.choices(TRAPS, _TRAP_WEIGHTS)
    return [Step(at=0.0, act=trap), _lost(random, 2.0, 3.6)]


def _lost(random: Random, least: float, most: float) -> Step:
    """An owner that is lost, perhaps while it writes on, for so long that a trap is sprung or its successor writes."""
    act = random.choice((Act.FREEZE, Act.CUT_CLUSTER, Act.CUT_CLUSTER))
    return Step(at=random.uniform(0.0, 0.2), act=act, who=Who.OWNER, lasts=random.uniform(least, most))


def _target(random: Random, steps: list[Step]) -> list[Step]:
    """The target hangs, or restarts before anybody could be expelled: what it forgets takes a proof back."""
    if random.random() < 0.5:
        return [*steps, Step(at=random.uniform(0.0, 1.5), act=Act.HANG_TARGET, lasts=random.uniform(0.3, 1.2))]
    later = [Step(at=step.at + 0.3, act=step.act, who=step.who, lasts=step.lasts) for step in steps]
    return [Step(at=0.0, act=Act.RESTART_TARGET), *later]
