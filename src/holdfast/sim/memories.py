"""What really became of the guests' memory: who had which, when it executed, and how each process that had it ended.

Rule of the file: bookkeeping only, told by the hypervisors of the world. Memory is told apart by the fresh start that
it comes from and by how often it has begun to execute since.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.hypervisor.simulated_guest import SimulatedMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From one moment on a guest executed, until it was suspended or ended.

    memory       what it executed: its age counts this stretch, too.
    memory_id    what its process carries; empty: it was made by a fresh start.
    is_first     of its process.
    is_whole     False: its memory was still on its way.
    revision     of the database when it began.
    """

    at: float
    uuid: str
    node: str
    incarnation: str
    memory: SimulatedMemory
    memory_id: str
    is_first: bool
    is_whole: bool
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderEnd:
    """The end of a process that had memory.

    was_executing   until then; otherwise it was suspended or never began.
    revision        of the database then.
    """

    at: float
    uuid: str
    node: str
    incarnation: str
    memory: SimulatedMemory
    by: str
    was_executing: bool
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A file of saved memory was removed. `revision`: of the database then."""

    at: float
    path: str
    revision: int


@dataclass(slots=True)
class Memories:
    """Everything that happened to memory, in order. `given_up`: by uuid, when a person first asked to discard it."""

    stretches: list[Stretch] = field(default_factory=list)
    ends: list[HolderEnd] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)
    given_up: dict[str, float] = field(default_factory=dict)
