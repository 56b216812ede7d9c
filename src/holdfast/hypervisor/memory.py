"""A guest's memory on its way: saved to a file, or copied to another node while the guest runs.

Rule of the file: values only. Memory that leaves a process gets an id of its own, and the process that is made from it
carries that id; so nobody takes old memory for new, or a leftover for what the record means. Source: SAFE-7.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from holdfast.model.settings import SaveCompression


class SavedKind(StrEnum):
    """What a file of saved memory is worth."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    """Its writing was not finished, or it is something else: nothing can be restored from it."""
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """A file of saved memory as this node sees it. ``uuid`` and ``memory_id`` are those it carries itself."""

    kind: SavedKind
    bytes: int = 0
    uuid: str = ""
    memory_id: str = ""

    def is_usable(self, *, uuid: str, memory_id: str) -> bool:
        """Whether a guest can be restored from it, and it is the memory that is meant."""
        return self.kind is SavedKind.COMPLETE and (self.uuid, self.memory_id) == (uuid, memory_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """How memory is saved.

    compression   more CPU, fewer bytes, where libvirt takes it for one save (11.2 and later).
    channels      how many streams write at once, where libvirt offers it (11.2 and later).
    timeout_ms    past it the outcome is unknown; the save itself goes on until ``cancel_move``.
    """

    compression: SaveCompression = SaveCompression.NONE
    channels: int = 1
    timeout_ms: int = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationTarget:
    """Where a guest is copied to.

    uri        how this node's hypervisor reaches the target's, such as ``qemu+tls://10.0.0.2/system``.
    data_uri   where the target takes the memory in, such as ``tcp://10.0.0.2``.
    """

    uri: str
    data_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateOptions:
    """How memory is copied.

    bandwidth_bytes_per_s   None: as much as the network carries.
    has_auto_converge       slow the guest's CPUs down when it dirties memory faster than it can be copied.
    shared_directories      that every node sees alike. libvirt copies no guest whose disks lie on a file system that it
                            does not know as shared; it takes the word of whoever names them here.
    channels                connections that carry memory at once; more than 1 is worth it above 10 Gbit/s.
    timeout_ms              past it the outcome is unknown; the copying itself goes on until ``cancel_move``.
    """

    bandwidth_bytes_per_s: int | None = None
    has_auto_converge: bool = True
    shared_directories: tuple[str, ...] = ()
    channels: int = 1
    timeout_ms: int = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveProgress:
    """How far a save or a copy is. Rates are per second; None where the hypervisor does not tell.

    time_left_ms is an estimate by rate and dirty rate; None when it would not end at these.
    """

    bytes_total: int
    bytes_processed: int
    bytes_remaining: int
    bytes_per_s: int | None = None
    dirty_bytes_per_s: int | None = None
    time_left_ms: int | None = None
