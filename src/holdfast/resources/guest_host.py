"""What the ``virtual-machine`` agent needs of a hypervisor.

Rule of the file: the hypervisor's port fits these protocols by its shape; neither package imports the other. Errors are
read by their kind in the model: OutcomeUnknown, Unavailable (nothing done), Conflict (it runs already), NotFound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class GuestView(Protocol):
    """What the agent reads of a guest."""

    @property
    def uuid(self) -> str:
        """Its identity: lower case, with hyphens."""

    @property
    def name(self) -> str:
        """Its name, unique on one node only."""

    @property
    def reason(self) -> str:
        """Why it is in its state, for people."""

    @property
    def is_present(self) -> bool:
        """Whether it may write to its disks."""

    @property
    def is_running(self) -> bool:
        """Whether it executes."""


class GuestHost(Protocol):
    """The part of a hypervisor that starts, ends and shows guests of this node."""

    async def prepare(self, domain_xml: str) -> None:
        """Make a guest's process, which does not execute yet."""

    async def restore(self, uuid: str, path: str, memory_id: str) -> None:
        """Make a guest's process from saved memory, which does not execute yet."""

    async def resume(self, uuid: str) -> None:
        """Let a prepared or paused guest execute; one that does is left alone."""

    async def shutdown(self, uuid: str) -> None:
        """Press the power button and return."""

    async def destroy(self, uuid: str) -> None:
        """Pull the plug; return only when the guest is certainly gone."""

    async def guests(self) -> Sequence[GuestView]:
        """List all guests of the node."""

    async def process_of(self, uuid: str) -> object | None:
        """Find the guest's process without asking the hypervisor."""
