"""Checking step by step that a disk is what it is said to be, and that a node can be kept off it.

Rule of the file: `inspect` only reads. `rehearse` registers and reserves with a key of its own, is only for a disk that
nobody uses, and stops where it sees somebody else; it leaves the disk as it found it. Source: SAFE-1, docs/storage.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from holdfast.model.disk_status import CheckResult, CheckStep, has_passed
from holdfast.storage.arbitration import PROTECTION, Holders, look
from holdfast.storage.outcome import Conflict, Done, Failed
from holdfast.storage.port import Lun
from holdfast.storage.survey import words_of

SLOW_MS: Final = 500
"""A disk whose answer takes longer is warned of: every failover waits for several answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a disk should be; None: whatever it is.

    keys            who may be registered, by key, in words for people: nodes of this cluster.
    own_key         this node's, which must be there. None: it is not registered now.
    is_in_cluster   others may be registered; else nobody may.
    """

    designator: str | None = None
    size_bytes: int | None = None
    keys: Mapping[int, str] = field(default_factory=dict)
    own_key: int | None = None
    is_in_cluster: bool = False


class Check:
    """A check in progress, and what was learnt on the way."""

    def __init__(self, lun: Lun) -> None:
        self._lun = lun
        self.steps: list[CheckStep] = []
        self.designator = ""
        self.size_bytes = 0
        self.holders: Holders | None = None
        self.keeps_reservations = False

    @property
    def has_passed(self) -> bool:
        """Whether no step failed so far."""
        return has_passed(self.steps)

    async def inspect(self, expected: Expected) -> None:
        """Read who the disk is, what it can do, and who may write to it."""
        if not await self._reach() or not await self._identify(expected):
            return
        await self._measure(expected)
        await self._ask_power_loss()
        seen = await look(self._lun)
        if not isinstance(seen, Done):
            self._failed("reservations", f"cannot be read: {words_of(seen)}")
            return
        self.holders = seen.value
        self._judge_holders(seen.value, expected)

    async def rehearse(self, key: int, *, nobody: int) -> None:
        """Protect the disk with a throw-away key, try what expels a node, and take everything back.

        `nobody` is a key that nobody has. Only after `inspect` found the disk free.
        """
        assert self.holders is not None, "a disk is inspected first"
        assert not self.holders.keys, "a disk that somebody uses is only read"
        if await self._register(key):
            try:
                if await self._reserve(key):
                    await self._try_expelling(key, nobody)
            finally:
                await self._tidy(key)

    async def _reach(self) -> bool:
        begun = asyncio.get_running_loop().time()
        answered = await self._lun.check()
        latency_ms = (asyncio.get_running_loop().time() - begun) * 1000
        if not isinstance(answered, Done):
            return self._failed("reach", words_of(answered))
        words = f"answers after {latency_ms:.1f} ms"
        return self._warned("reach", f"{words}; that is slow") if latency_ms > SLOW_MS else self._ok("reach", words)

    async def _identify(self, expected: Expected) -> bool:
        who = await self._lun.identity()
        if not isinstance(who, Done):
            return self._failed("identity", words_of(who))
        self.designator = who.value.designator
        words = f"{who.value.designator} ({who.value.vendor} {who.value.product})"
        if expected.designator not in (None, self.designator):
            return self._failed("identity", f"another disk is here: {words}; {expected.designator} is wanted")
        if not who.value.is_registered:
            return self._warned("identity", f"{words}; only its administrator vouches that no other is called so")
        return self._ok("identity", words)

    async def _measure(self, expected: Expected) -> bool:
        size = await self._lun.capacity()
        if not isinstance(size, Done):
            return self._failed("size", words_of(size))
        self.size_bytes = size.value.blocks * size.value.block_bytes
        words = f"{self.size_bytes} bytes in blocks of {size.value.block_bytes}"
        if expected.size_bytes not in (None, self.size_bytes):
            return self._warned("size", f"{words}; {expected.size_bytes} bytes when it was added")
        return self._ok("size", words)

    async def _ask_power_loss(self) -> bool:
        can = await self._lun.capabilities()
        if not isinstance(can, Done):
            return self._warned("power loss", f"taken to forget reservations: {words_of(can)}")
        if PROTECTION not in can.value.types:
            return self._failed("power loss", f"the target does not offer {PROTECTION.words}")
        self.keeps_reservations = can.value.can_survive_power_loss
        if not self.keeps_reservations:
            return self._warned("power loss", "the target forgets reservations when it loses power")
        return self._ok("power loss", "the target can keep reservations without power (APTPL)")

    def _judge_holders(self, holders: Holders, expected: Expected) -> bool:
        strangers = [key for key in holders.keys if key not in expected.keys]
        named = sorted(expected.keys[key] for key in holders.keys if key in expected.keys)
        held = "nobody reserved it" if holders.reservation is None else f"reserved: {holders.reservation.type.words}"
        words = f"{held}; registered: {', '.join(named) or 'nobody'}"
        if strangers:
            words += f" and, unknown to the cluster, {', '.join(f'{key:#x}' for key in strangers)}"
        if holders.is_foreign:
            return self._failed("reservations", words)
        if expected.own_key is None and expected.is_in_cluster:
            return self._warned("reservations", words) if strangers else self._ok("reservations", words)
        if expected.own_key is None:
            return self._failed("reservations", words) if holders.keys else self._ok("reservations", words)
        if holders.reservation is None:
            return self._failed("reservations", f"{words}; nothing protects it")
        if expected.own_key not in holders.keys:
            return self._failed("reservations", f"{words}; this node may not write")
        return self._warned("reservations", words) if strangers else self._ok("reservations", words)

    async def _register(self, key: int) -> bool:
        asked = await self._lun.register(key=key, existing=0, survives_power_loss=self.keeps_reservations)
        if isinstance(asked, Conflict):
            return self._failed("register", "somebody registered over this very path meanwhile")
        if isinstance(asked, Failed):
            return self._failed("register", words_of(asked))
        seen = await look(self._lun)
        if not isinstance(seen, Done) or key not in seen.value.keys:
            self._failed("register", f"the key is not there: {words_of(asked)}; {words_of(seen)}")
        elif seen.value.keys != (key,):
            self._failed("register", "somebody else registered meanwhile")
        else:
            self._ok("register", "a throw-away key is registered, and read back")
        return True

    async def _reserve(self, key: int) -> bool:
        if not self.has_passed:
            return False
        asked = await self._lun.reserve(key=key, type=PROTECTION)
        held = await self._lun.read_reservation()
        reservation = held.value.reservation if isinstance(held, Done) else None
        if reservation is None or (reservation.key, reservation.type) != (key, PROTECTION):
            return self._failed("reserve", f"{PROTECTION.words} was not seen in force: {words_of(asked)}")
        return self._ok("reserve", f"{PROTECTION.words} is in force, and read back")

    async def _try_expelling(self, key: int, nobody: int) -> bool:
        asked = await self._lun.preempt(key=key, victim=nobody, type=PROTECTION, abort=True)
        if isinstance(asked, Done | Conflict):
            return self._ok("expel", "PREEMPT AND ABORT is understood")
        if not (isinstance(asked, Failed) and asked.is_unsupported):
            return self._failed("expel", f"PREEMPT AND ABORT: {words_of(asked)}")
        reset = await self._lun.reset()
        if not isinstance(reset, Done):
            return self._failed("expel", f"no PREEMPT AND ABORT, and no reset instead: {words_of(reset)}")
        return self._warned("expel", "no PREEMPT AND ABORT: a LUN reset drops what an expelled node had sent")

    async def _tidy(self, key: int) -> bool:
        """Take the key away. Not when others registered: the reservation that they rely on goes with its holder."""
        seen = await look(self._lun)
        if isinstance(seen, Done) and set(seen.value.keys) - {key}:
            return self._warned("tidy up", f"others registered meanwhile, so the throw-away key {key:#x} stays")
        await self._lun.release(key=key, type=PROTECTION)
        await self._lun.register(key=0, existing=key, survives_power_loss=False)
        seen = await look(self._lun)
        if not isinstance(seen, Done) or key in seen.value.keys:
            return self._failed("tidy up", f"the throw-away key {key:#x} may be left: {words_of(seen)}")
        return self._ok("tidy up", "the throw-away key is gone")

    def _ok(self, name: str, words: str) -> bool:
        return self._record(name, CheckResult.OK, words)

    def _warned(self, name: str, words: str) -> bool:
        return self._record(name, CheckResult.WARNING, words)

    def _failed(self, name: str, words: str) -> bool:
        return self._record(name, CheckResult.FAILED, words)

    def _record(self, name: str, result: CheckResult, words: str) -> bool:
        self.steps.append(CheckStep(name=name, result=result, words=words))
        return result is not CheckResult.FAILED


async def clear_keys(lun: Lun, key: int) -> str:
    """Remove every registration and the reservation, whoever's they are. Returns what went wrong, empty if nothing.

    A person said that nobody uses the disk. Guards nothing: it is for disks outside of the cluster.
    """
    asked = await lun.register(key=key, existing=None, survives_power_loss=False)
    if isinstance(asked, Done):
        asked = await lun.clear(key=key)
    seen = await look(lun)
    if isinstance(seen, Done) and not seen.value.keys and seen.value.reservation is None:
        return ""
    return f"the keys are still there: {words_of(asked)}"
