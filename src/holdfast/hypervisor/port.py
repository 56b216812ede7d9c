"""The hypervisor as the rest of Holdfast sees it.

Rule of the file: everything that a node may ask of its hypervisor is here, as values and one Protocol; nothing here
knows libvirt. Guests are named by uuid (lower case, with hyphens), because names may be reused. Events are hints to
look again, never the truth: a consumer that gets one lists the guests and acts on what it sees.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget, MoveProgress, SavedState, SaveOptions
from holdfast.model.nodes import Capacity


class GuestState(StrEnum):
    """What the hypervisor says about a guest that it knows on this node."""

    RUNNING = "running"
    PAUSED = "paused"
    PAUSED_IO_ERROR = "paused-io-error"
    SHUTTING_DOWN = "shutting-down"
    CRASHED = "crashed"
    STOPPED = "stopped"
    """Known (someone defined it on this node by hand), but not running."""
    ORPHANED = "orphaned"
    """Its QEMU process runs, and the hypervisor does not know it; only ``destroy`` can help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One guest as the hypervisor of this node sees it now."""

    uuid: str
    name: str
    state: GuestState
    reason: str = ""
    """For people: why it is in this state, such as "booted" or "migrated"; empty when not told."""
    memory_id: str = ""
    """Of the memory that its process was made from, or is being filled from; empty: it was made by a fresh start."""

    @property
    def is_present(self) -> bool:
        """Whether a QEMU process may exist, so that the guest may write to its disks."""
        return self.state is not GuestState.STOPPED

    @property
    def is_running(self) -> bool:
        """Whether it executes."""
        return self.state is GuestState.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestProcess:
    """A QEMU process of this node; the start time tells it from a later process with the same number.

    Source: proc(5), /proc/PID/stat field 22.
    """

    pid: int
    start_ticks: int


class GuestEventKind(StrEnum):
    """What happened to a guest, in the words that matter to a role."""

    STARTED = "started"
    RESUMED = "resumed"
    PAUSED = "paused"
    PAUSED_IO_ERROR = "paused-io-error"
    SHUT_DOWN = "shut-down"
    """The guest powered itself off (or QEMU ended in an orderly way)."""
    STOPPED = "stopped"
    """The host ended it: destroyed, migrated away or saved."""
    CRASHED = "crashed"
    """QEMU died, or the guest's kernel panicked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEvent:
    """Something happened to one guest."""

    uuid: str
    name: str
    kind: GuestEventKind
    detail: str = ""


class ConnectionState(StrEnum):
    """Whether events are flowing."""

    CONNECTED = "connected"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEvent:
    """The link to the hypervisor came or went, or events were missed.

    CONNECTED means: list the guests again, anything may have happened. LOST means: guests may come and go unseen.
    """

    state: ConnectionState
    detail: str = ""


HypervisorEvent: TypeAlias = GuestEvent | ConnectionEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class HypervisorVersion:
    """Versions as people write them, such as "9.0.0"."""

    libvirt: str
    qemu: str


class Hypervisor(Protocol):
    """The hypervisor of this node.

    Every call has a deadline of its own (a setting of the implementation) and raises ``HypervisorUnavailable`` when
    nothing was sent. None of them waits for the hypervisor to come back: callers try again, or wait for CONNECTED.
    """

    async def prepare(self, domain_xml: str) -> None:
        """Make a guest's process, which does not execute before ``resume``: however late it comes, it writes nothing.

        The guest exists only while it runs: no definition and no autostart stays on the node. Returns when its process
        is there. Raises GuestStartFailed (it certainly is not, the message carries the hypervisor's own words),
        GuestAlreadyRunning, HypervisorUnavailable, GuestOutcomeUnknown (it may be there, or come later), InvalidInput
        (no uuid in the XML). Source: SAFE-1.
        """

    async def shutdown(self, uuid: str) -> None:
        """Press the guest's power button (ACPI) and return; the guest may ignore it.

        Raises GuestNotFound, GuestRequestFailed, HypervisorUnavailable, GuestOutcomeUnknown.
        """

    async def destroy(self, uuid: str) -> None:
        """Pull the guest's plug; return only when its QEMU process is certainly gone and no start is under way.

        Absent is fine. Raises GuestOutcomeUnknown whenever that is not certain: try again. Source: SAFE-2.
        """

    async def resume(self, uuid: str) -> None:
        """Let a prepared or paused guest run; a running one is left alone.

        Raises GuestNotFound, GuestRequestFailed, HypervisorUnavailable, GuestOutcomeUnknown.
        """

    async def suspend(self, uuid: str) -> None:
        """Stop a guest's CPUs; one that is paused is left alone. Only ``resume`` lets it execute again.

        A guest that is suspended before ``save`` or ``migrate`` stays so, however these end. Source: SAFE-7.
        Raises GuestNotFound, GuestRequestFailed, HypervisorUnavailable, GuestOutcomeUnknown.
        """

    async def save(self, uuid: str, path: str, memory_id: str, options: SaveOptions) -> None:
        """Put a guest's memory into a new file and end its process; the file carries ``memory_id``.

        Returns when the process is certainly gone and the file is complete and on the storage. Raises GuestNotFound;
        GuestRequestFailed (the process is there, executing only if it did before; the file is gone or partial);
        HypervisorUnavailable; GuestOutcomeUnknown (look for the process, then at ``saved_state``).
        """

    async def saved_state(self, path: str) -> SavedState:
        """Look at a file of saved memory. Raises HypervisorUnavailable when the storage does not answer."""

    async def restore(self, uuid: str, path: str, memory_id: str) -> None:
        """Make a guest's process from saved memory; it does not execute before ``resume``. The file stays as it is.

        Raises as ``prepare`` does; GuestStartFailed also when the file is not the complete memory of this id.
        """

    async def discard_saved(self, path: str) -> None:
        """Remove a file of saved memory; absent is fine. Raises GuestOutcomeUnknown when it may be there still."""

    async def saved_in(self, directory: str) -> tuple[str, ...]:
        """The names of the files in a directory of saved memory, in order.

        Raises HypervisorUnavailable when it is not there or the storage does not answer.
        """

    async def room_to_save(self, directory: str, probe: str) -> int:
        """How many bytes a directory of saved memory takes; a small file of that name is written and removed first.

        Raises HypervisorUnavailable when it takes none, with the storage's own words.
        """

    async def migrate(self, uuid: str, target: MigrationTarget, memory_id: str, options: MigrateOptions) -> None:
        """Copy a running guest to another node; the copy carries ``memory_id`` and stays paused there.

        Returns when the copy is whole and this node's process certainly gone. From its beginning until then a paused
        process with this id may be at the target, whole or not, also after an error: who gives up has it destroyed.
        Raises GuestNotFound; GuestRequestFailed (the guest goes on here: executing if it was); HypervisorUnavailable;
        GuestOutcomeUnknown (look here: present, it may be paused; absent, ask ``has_moved_away``).
        """

    async def progress(self, uuid: str) -> MoveProgress | None:
        """How far a guest's save or copy is; None when none is under way. Raises HypervisorUnavailable."""

    async def cancel_move(self, uuid: str, *, is_target_gone: bool = False) -> None:
        """Have a save or a copy that is under way given up; nothing under way is fine.

        is_target_gone   nobody waits any longer for an answer from where the guest is copied to.
        The call that began it tells how it ended. Raises GuestRequestFailed (too late), HypervisorUnavailable,
        GuestOutcomeUnknown.
        """

    async def has_moved_away(self, uuid: str, name: str) -> bool:
        """Whether the guest's last process on this node certainly ended because its whole copy was at its target.

        False is no evidence of anything. Raises HypervisorUnavailable.
        """

    async def cpu(self) -> str:
        """What a guest sees that is given this host's own CPU: equal on two nodes, memory can go between them.

        Raises HypervisorUnavailable.
        """

    async def can_run(self, domain_xml: str, *, source_cpu: str = "") -> tuple[str, ...]:
        """Why a guest could not be taken over with its memory, for people: none when it can as far as one can tell.

        ``source_cpu``: the other node's ``cpu``, for guests that are given the host's own; empty: do not compare.
        Raises HypervisorUnavailable.
        """

    async def guests(self) -> tuple[Guest, ...]:
        """All guests on this node, also those that Holdfast did not start, ordered by name.

        Raises HypervisorUnavailable.
        """

    async def process_of(self, uuid: str) -> GuestProcess | None:
        """The QEMU process of a guest, found without the hypervisor's help; None when there is none now.

        None alone does not prove that the guest stays away: a start may be under way.
        """

    def events(self) -> AsyncIterator[HypervisorEvent]:
        """Events from now on, for one consumer; call again for another.

        The first one tells the present state of the connection. A consumer that falls far behind loses events and gets
        a CONNECTED instead.
        """

    async def capacity(self) -> Capacity:
        """Memory and CPUs of this node in all, whether used or not. Raises HypervisorUnavailable."""

    async def warm(self) -> None:
        """Have the hypervisor probe QEMU's capabilities now, so that no failover pays the 4 to 5 s for it.

        Raises HypervisorUnavailable.
        """

    async def version(self) -> HypervisorVersion:
        """Versions of libvirt and QEMU. Raises HypervisorUnavailable."""
