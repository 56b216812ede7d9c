"""Guests of this node that an I/O error stopped: since when, and when they may be let go on.

Rule of the file: only what the hypervisor says was stopped by an I/O error counts; a guest that somebody paused is
never touched. Letting one go on is a start to the guard and to its disks: see `GuestStarts`. Source: DESIGN 8, SAFE-1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from holdfast.decide.stalls import STEADY_S, Stall, stalled
from holdfast.hypervisor.port import Guest
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Condition, GuestObservation
from holdfast.model.roles import RoleSpec
from holdfast.node.disks import DiskKeeper
from holdfast.node.role_changes import observation_of


class StalledGuests:
    """Follows them from one listing of the hypervisor to the next."""

    def __init__(self, disks: DiskKeeper) -> None:
        self._disks = disks
        self._stalls: dict[str, Stall] = {}
        self._now: dict[str, Guest] = {}

    def __bool__(self) -> bool:
        """Whether any guest is stalled now."""
        return bool(self._now)

    def listed(self, guests: Iterable[Guest]) -> None:
        """Take a listing in."""
        now_s = asyncio.get_running_loop().time()
        found = {guest.uuid: guest for guest in guests if observation_of(guest) is GuestObservation.STALLED}
        for uuid in found:
            self._stalls[uuid] = stalled(self._stalls.get(uuid), now_s, is_new=uuid not in self._now)
        old = [uuid for uuid, one in self._stalls.items() if uuid not in found and now_s - one.tried_s > STEADY_S]
        for uuid in old:
            del self._stalls[uuid]
        self._now = found

    def can_go_on(self, spec: RoleSpec) -> bool:
        """Whether it is time, and all shared disks of the role would take its writes."""
        if spec.uuid not in self._now or self._disks.problem(spec.disks) is not None:
            return False
        return asyncio.get_running_loop().time() >= self._stalls[spec.uuid].due_s

    def let_go_on(self, uuid: str) -> bool:
        """Count an attempt; returns whether the guest was stalled, and is not only being started."""
        if uuid not in self._now:
            return False
        self._stalls[uuid] = self._stalls[uuid].tried(asyncio.get_running_loop().time())
        return True

    def conditions(self, me: NodeName) -> tuple[Condition, ...]:
        """What a person should know of them."""
        return tuple(
            Condition(
                code="guest-stalled",
                subject=guest.name,
                text=f"{me}: guest {guest.name} stands still after an I/O error; it goes on when its storage is back",
            )
            for _, guest in sorted(self._now.items())
        )
