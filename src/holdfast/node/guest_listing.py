"""The guests of this node as they were listed last.

Rule of the file: while the hypervisor is silent nothing is known of any of them. Source: SAFE-2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from holdfast.hypervisor.port import Guest, Hypervisor
from holdfast.model.errors import Unavailable
from holdfast.model.nodes import GuestObservation
from holdfast.node.role_changes import observation_of


class GuestListing:
    """What the hypervisor shows.

    guests   by uuid; None: nothing is known.
    silent   why nothing is known, for people.
    """

    def __init__(
        self, hypervisor: Hypervisor, *, on_listed: Callable[[Collection[Guest]], None] = lambda _: None
    ) -> None:
        self._hypervisor = hypervisor
        self._on_listed = on_listed
        self._listing = asyncio.Lock()
        self.guests: Mapping[str, Guest] | None = None
        self.silent: str | None = None

    async def renew(self) -> None:
        """List the guests, one listing after the other so that no older one replaces a newer."""
        async with self._listing:
            try:
                self.guests = {guest.uuid: guest for guest in await self._hypervisor.guests()}
                self.silent = None
                self._on_listed(self.guests.values())
            except Unavailable as error:
                self.guests = None
                self.silent = error.message

    def observed(self, uuid: str) -> GuestObservation:
        """What is known of a guest."""
        return GuestObservation.UNKNOWN if self.guests is None else observation_of(self.guests.get(uuid))

    def memory_id(self, uuid: str) -> str:
        """Of the memory that a guest's process was made from; empty: it was started afresh, or none is known."""
        guest = (self.guests or {}).get(uuid)
        return guest.memory_id if guest is not None else ""
