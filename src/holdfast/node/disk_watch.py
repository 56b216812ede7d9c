"""One shared disk on this node: looked at twice a second, kept registered and protected, and given up in time.

Rule of the file: `decide.disks` says what to do next; between a look that finds this node unregistered and the end of
what follows from it, the disk is not ready, so that no guest begins on it meanwhile. Source: SAFE-1, docs/safety.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from holdfast.decide.disks import DiskAct, DiskStep, DiskView, guests_of, may_run_elsewhere, next_disk_step
from holdfast.decide.latency import Latency, smoothed
from holdfast.decide.owned_disks import next_owned_disk_step
from holdfast.hypervisor.port import Hypervisor
from holdfast.model.disks import DiskHealth, DiskSpec, DiskState, Protection
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import NodeName
from holdfast.model.snapshot import Snapshot
from holdfast.node.mirror import Mirror
from holdfast.storage.arbitration import (
    PROTECTION,
    Alone,
    ExpelOutcome,
    Holders,
    Protected,
    RefusalReason,
    Refused,
    expel,
    look,
    protect,
    settle,
    take_over,
)
from holdfast.storage.challenge import challenge
from holdfast.storage.outcome import AttentionKind, Conflict, Done
from holdfast.storage.port import Lun
from holdfast.storage.ways import WayKind, parse_way

log = logging.getLogger(__name__)

LOOK_INTERVAL_S: Final = 0.5
CONFIRM_TIMEOUT_S: Final = 2.0
BACK_WITHIN_S: Final = 5.0
AGAIN_S: Final = 0.1
STEADY_S: Final = 10.0
"""After an outage of the target, its nodes reach it again within less of each other."""

Touch = Callable[[float], Awaitable[bool]]
"""A write to the own session within so many seconds; True: no verdict was committed before. Raises: Unavailable."""


class DiskWatch:
    """Keeps one disk for one session of one incarnation.

    health   how this node stands with it.
    users    guests that are being started from it here.
    """

    def __init__(
        self,
        spec: DiskSpec,
        lun: Lun,
        *,
        me: NodeName,
        key: int,
        mirror: Mirror,
        hypervisor: Hypervisor,
        touch: Touch,
    ) -> None:
        self.spec = spec
        self.health = _health(DiskState.NOT_REGISTERED, "it has not been looked at yet")
        self.users: list[str] = []
        self._lun = lun
        self._me = me
        self._key = key
        self._mirror = mirror
        self._hypervisor = hypervisor
        self._touch = touch
        self._latency: Latency | None = None
        self._reach: tuple[bool, float] | None = None
        """Whether the disk is reached, and since when that is so."""
        self._is_confirmed = False
        self._is_identified = False
        self._is_nexus_new = True
        """Whether the nexus may be another one than the one whose key is listed."""
        self._asking = asyncio.Lock()

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                await self.look_once()
                self._note_reach()
                await asyncio.sleep(LOOK_INTERVAL_S)
        finally:
            self.health = _health(DiskState.NOT_REGISTERED, "this node has no session")
            await self._lun.close()

    def _note_reach(self) -> None:
        """Say whether this node lost the disk, or reaches it steadily, by this node's clock alone."""
        now = asyncio.get_running_loop().time()
        is_reached = self.health.state is not DiskState.UNREACHABLE
        if self._reach is None or self._reach[0] is not is_reached:
            self._reach = is_reached, now
        lasted_s = now - self._reach[1]
        limit_s = (self._mirror.snapshot or Snapshot()).settings.storage_loss_move_ms / 1000
        is_lost, is_steady = not is_reached and lasted_s >= limit_s, is_reached and lasted_s >= STEADY_S
        if (is_lost, is_steady) != (self.health.is_lost, self.health.is_steady):
            self.health = replace(self.health, is_lost=is_lost, is_steady=is_steady)

    async def expel(self, victim: int) -> ExpelOutcome:
        """Take the right to write to this disk from a lost incarnation, by its key. Source: SAFE-2."""
        async with self._asking:
            if self.spec.protection is Protection.ROLE:
                return await self._challenge(victim)
            if not self.health.is_ready:
                return Refused(reason=RefusalReason.NOT_REGISTERED, words=self.health.detail)
            return await expel(self._lun, self._key, victim=victim)

    async def _challenge(self, victim: int) -> ExpelOutcome:
        """As `expel`; a node that is not registered does so only while nothing on it could write. Source: SAFE-1."""
        if not self.health.is_ready:
            if not self._is_identified and not await self._identify():
                return Refused(reason=RefusalReason.UNREACHABLE, words=self.health.detail)
            self._unready()
            if await self._is_used_here():
                return Refused(reason=RefusalReason.NOT_REGISTERED, words="a guest that uses it may be on this node")
            if not await self._still_up():
                return Refused(reason=RefusalReason.NOT_REGISTERED, words="this node has no session any more")
        return await challenge(self._lun, self._key, victim=victim)

    async def take(self) -> None:
        """Become the only one that is registered: for the node whose claim on the disk's role is committed.

        It registers only while nothing on it could write. Whoever else is registered is expelled only after a write to
        the own session, made after the own key was read: one that was lost meanwhile takes nothing from its successor.
        Ready when all of it went well, else `health` says what did not. Source: SAFE-1, SAFE-2.
        """
        async with self._asking:
            if not self._is_identified and not await self._identify():
                return
            seen = await look(self._lun)
            if not isinstance(seen, Done):
                self._is_confirmed = False
                self.health = DiskHealth(state=DiskState.UNREACHABLE, detail=_words(seen))
                return
            self._unready()
            if not await self._has_key(seen.value) and not await self._registered():
                return
            if not await self._still_up():
                return
            outcome = await take_over(self._lun, self._key)
            if isinstance(outcome, Alone):
                self._is_confirmed = True
                self.health = _health(DiskState.READY, "")
            else:
                self.health = _health(DiskState.NOT_REGISTERED, outcome.words)

    async def come_back(self) -> None:
        """Look now, and wait while this node registers anew after another's start took its key: see `settle`.

        An expulsion shows in a look only; who started a guest without one would fail for nothing. Source: SAFE-1.
        """
        if self._way is not WayKind.HELPER or self.spec.protection is not Protection.NODE:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + BACK_WITHIN_S
        while True:
            await self.look_once()
            self._note_reach()
            if self.health.state not in (DiskState.NOT_REGISTERED, DiskState.EXPELLED) or loop.time() >= until:
                return
            await asyncio.sleep(AGAIN_S)

    async def settle(self, earlier: tuple[int, ...] | None) -> str | None:
        """See to it that nothing lands any more that guests wrote under these keys, or say why not; None: any key.

        A device of the kernel does not let a process end before its writes are done. A helper does, and sends them
        when its path is back. Nobody is proven lost by it: a node that lives registers anew. Source: SAFE-1.
        """
        if self._way is not WayKind.HELPER:
            return None
        async with self._asking:
            outcome = await settle(self._lun, self._key, earlier=earlier)
        return None if outcome is None else outcome.words

    @property
    def _way(self) -> WayKind:
        return parse_way(self.spec.filled(self.spec.reservations)).kind

    async def _still_up(self) -> bool:
        """Whether a write to the own session succeeded just now."""
        try:
            return await self._touch(CONFIRM_TIMEOUT_S)
        except HoldfastError as error:
            log.warning("disk %s: %s", self.spec.name, error)
            return False

    def _unready(self) -> None:
        """From here on no start may begin, or the answer to "does a guest use it?" would be old at once."""
        self._is_confirmed = False
        self.health = _health(DiskState.NOT_REGISTERED, DETAILS[DiskState.NOT_REGISTERED])

    async def _registered(self) -> bool:
        """Register, if nothing here could write and the session stands; whether the own key was read there."""
        if await self._is_used_here() or not await self._still_up():
            return False
        outcome = await protect(self._lun, self._key)
        if not isinstance(outcome, Protected):
            self.health = _health(DiskState.NOT_REGISTERED, outcome.words)
        return isinstance(outcome, Protected)

    async def look_once(self) -> None:
        """Look, and do what follows from it. One act at a time is on its way to the disk."""
        async with self._asking:
            if not self._is_identified and not await self._identify():
                return
            began = asyncio.get_running_loop().time()
            seen = await look(self._lun)
            took_ms = (asyncio.get_running_loop().time() - began) * 1000
            if not isinstance(seen, Done):
                self._is_nexus_new = True
                words = getattr(seen, "words", "reservations cannot be read")
                self.health = DiskHealth(state=DiskState.UNREACHABLE, detail=words)
                return
            step = await self._judge(seen.value)
            self._latency = smoothed(self._latency, took_ms)
            self.health = DiskHealth(
                state=step.state,
                detail=DETAILS[step.state],
                latency_ms=round(self._latency.mean_ms),
                is_slow=self._latency.is_slow,
            )
            try:
                await self._act(step, seen.value)
            except HoldfastError as error:
                log.warning("disk %s: %s", self.spec.name, error)

    async def _identify(self) -> bool:
        """Whether the way leads to the very disk of the record."""
        found = await self._lun.identity()
        if isinstance(found, Done) and found.value.designator == self.spec.designator:
            self._is_identified = True
            return True
        words = f"{self._lun.path} is {found.value.designator}" if isinstance(found, Done) else _words(found)
        self.health = _health(DiskState.UNREACHABLE, f"{words}, and {self.spec.designator} is wanted")
        return False

    async def _judge(self, holders: Holders) -> DiskStep:
        held = holders.reservation
        view = DiskView(
            has_key=await self._has_key(holders),
            is_protected=held is not None and held.type.admits_registrants,
            is_foreign=holders.is_foreign,
        )
        if not view.has_key:
            self._unready()
        snapshot = self._mirror.snapshot or Snapshot()
        if self.spec.protection is Protection.ROLE:
            has_others = any(key != self._key for key in holders.keys)
            matters = not view.has_key or has_others or not self._is_confirmed
            return next_owned_disk_step(
                view,
                has_others=has_others,
                is_confirmed=self._is_confirmed,
                is_used_here=matters and await self._is_used_here(),
                is_used_elsewhere=may_run_elsewhere(self.spec.name, snapshot, self._me),
            )
        return next_disk_step(
            view,
            is_confirmed=self._is_confirmed,
            is_used_here=not view.has_key and await self._is_used_here(),
            is_used_elsewhere=may_run_elsewhere(self.spec.name, snapshot, self._me),
        )

    async def _has_key(self, holders: Holders) -> bool:
        """Whether this very nexus is registered with the own key. Registers nothing.

        Some targets make a new nexus at each login and still list the key of the old one. After any interruption the
        nexus is asked itself, by changing its key to the one that it has; only where a way is one nexus for certain.
        """
        if self._key not in holders.keys:
            return False
        if any(item.kind is AttentionKind.POWER_ON_OR_RESET for item in holders.attentions):
            self._is_nexus_new = True
        if self._is_nexus_new and self._way is WayKind.HELPER:
            keeps = not self.spec.forgets_reservations
            asked = await self._lun.register(key=self._key, existing=self._key, survives_power_loss=keeps)
            self._is_nexus_new = not isinstance(asked, Done)
            return not isinstance(asked, Conflict)
        return True

    async def _is_used_here(self) -> bool:
        """Whether a guest that uses the disk exists here or is being started; also when that is not known.

        A start that is under way is asked for first: it may end, with its guest there, while the guests are listed.
        """
        if self.users:
            return True
        ours = guests_of(self.spec.name, self._mirror.snapshot or Snapshot())
        try:
            present = {guest.uuid for guest in await self._hypervisor.guests() if guest.is_present}
        except HoldfastError:
            return True
        return not ours.isdisjoint(present)

    async def _act(self, step: DiskStep, holders: Holders) -> None:
        match step.act:
            case DiskAct.NOTHING:
                return
            case DiskAct.RESERVE:
                await self._lun.reserve(key=self._key, type=PROTECTION)
            case DiskAct.END_GUESTS:
                await self._end_guests()
            case DiskAct.REGISTER:
                await self._register()
            case DiskAct.CONFIRM:
                await self._confirm()
            case DiskAct.DEFEND:
                await self._defend(holders)

    async def _register(self) -> None:
        """Register; ready only when a write to the own session, made after that, shows that no verdict was given."""
        if not await self._touch(CONFIRM_TIMEOUT_S):
            return
        outcome = await protect(self._lun, self._key)
        if isinstance(outcome, Protected):
            await self._confirm()
        else:
            self.health = _health(DiskState.NOT_REGISTERED, outcome.words)

    async def _defend(self, holders: Holders) -> None:
        """Remove whoever registered beside this owner; where that is refused this node was expelled itself."""
        if holders.reservation is None:
            return
        for other in sorted(frozenset(holders.keys) - {self._key}):
            log.warning("disk %s: key %#x registered beside this owner and is removed", self.spec.name, other)
            await self._lun.preempt(key=self._key, victim=other, type=holders.reservation.type, abort=False)

    async def _confirm(self) -> None:
        if await self._touch(CONFIRM_TIMEOUT_S):
            self._is_confirmed = True
            self.health = _health(DiskState.READY, "")

    async def _end_guests(self) -> None:
        """End what may still believe that it writes to this disk. Source: SAFE-1."""
        for uuid in sorted(guests_of(self.spec.name, self._mirror.snapshot or Snapshot())):
            log.warning("this node was expelled from disk %s; ending guest %s", self.spec.name, uuid)
            await self._hypervisor.destroy(uuid)


DETAILS: Final = {
    DiskState.READY: "",
    DiskState.UNREACHABLE: "it is reserved by somebody who is no node of this cluster",
    DiskState.NOT_REGISTERED: "this node is not registered with it yet",
    DiskState.EXPELLED: "this node was expelled from it, so its guests there are ended",
    DiskState.STANDBY: "",
    DiskState.LAPSED: "its target forgot who may write; once every role that uses it is stopped it is protected again",
}


def _health(state: DiskState, detail: str) -> DiskHealth:
    return DiskHealth(state=state, detail=detail)


def _words(outcome: object) -> str:
    return str(getattr(outcome, "words", "it does not say who it is"))
