"""A guest of the simulated hypervisor, and what several of them have in common.

Rule of the file: values and a registry; nothing here takes time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from holdfast.hypervisor.port import Guest, GuestProcess

if TYPE_CHECKING:
    from holdfast.hypervisor.simulated_moves import SimulatedMoves


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMemory:
    """What is in a guest's memory. Used twice, or after its disks went on, shows as an age that was there before.

    boot   which fresh start of any guest it comes from.
    age    how often it began to execute since.
    """

    boot: int
    age: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A guest's process. ``is_incoming``: it is being filled from another node and is not whole yet."""

    guest: Guest
    process: GuestProcess
    memory: SimulatedMemory
    is_incoming: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedFile:
    """Saved memory on the storage that all nodes share."""

    uuid: str
    name: str
    memory_id: str
    memory: SimulatedMemory
    bytes: int
    is_complete: bool = False


class MoveAct(StrEnum):
    """What can be made to go wrong."""

    SUSPEND = "suspend"
    SAVE = "save"
    RESTORE = "restore"
    MIGRATE = "migrate"


class MoveFault(StrEnum):
    """How it goes wrong, once."""

    FAILS = "fails"
    """Refused for certain."""
    HANGS = "hangs"
    """Nothing happens until it is cancelled or the daemon ends."""
    LATE = "late"
    """Done long after the deadline."""
    UNANSWERED = "unanswered"
    """Done, and the answer is lost."""
    TORN = "torn"
    """A save: the process is gone and the file is not whole."""
    FINISH_REPLY_LOST = "finish-reply-lost"
    """A migration: the copy is whole at the target, and the source, which does not hear so, goes on."""
    NETWORK_DIES_AT_PREPARE = "network-dies-at-prepare"
    NETWORK_DIES_AT_COPY = "network-dies-at-copy"
    NETWORK_DIES_AT_FINISH = "network-dies-at-finish"
    NETWORK_DIES_AT_CONFIRM = "network-dies-at-confirm"


@dataclass(slots=True, kw_only=True)
class Neighbourhood:
    """What the hypervisors of several nodes share: a directory of saved memory, and ways to each other.

    reaches      whether packets pass between two nodes now, by their URIs.
    free_bytes   what the directory still takes; None: as much as there is. A lever.
    """

    reaches: Callable[[str, str], bool] = lambda _source, _target: True
    free_bytes: int | None = None
    is_storage_gone: bool = False
    """A lever: reads and writes in the directory are not answered."""
    on_removed: Callable[[str], None] = lambda _path: None
    """Told of each file that a node had removed."""
    files: dict[str, SavedFile] = field(default_factory=dict)
    hosts: dict[str, SimulatedMoves] = field(default_factory=dict)
    """By the URI under which others reach it; a machine that starts anew takes its old one's place."""
    boots: int = 0

    def fresh_memory(self) -> SimulatedMemory:
        """Memory of a guest that is started afresh."""
        self.boots += 1
        return SimulatedMemory(boot=self.boots)
