"""Deliberate breakages: each must be caught by a checker, or a checker or a fault is missing.

Rule of the file: a breakage is a wrapped port, or a function replaced for the time of one run. Neither the code under
test nor a checker is changed. Source: DESIGN section 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any, Final

from holdfast.decide.coordination import Freedom
from holdfast.fencing.guard.logic import Victim
from holdfast.fencing.port import FenceDevice, FenceOutcome, FenceResult, PowerReading, PowerState
from holdfast.hypervisor.port import Guest
from holdfast.sim.truth import Truth
from holdfast.sim.twins import MachineHypervisor
from holdfast.store.port import Txn


class BreakageKind(StrEnum):
    """What can be broken on purpose; what each means is said in `BREAKAGES`."""

    GUARD_SPARES = "guard-spares"
    FENCE_LIES = "fence-lies"
    RELEASE_IN_HOPE = "release-in-hope"
    PROOF_SKIPPED = "proof-skipped"
    WATCHDOG_AT_ONCE = "watchdog-at-once"
    ENTITLED_FOR_EVER = "entitled-for-ever"
    CLAIM_UNGUARDED = "claim-unguarded"


class _LyingDevice:
    """Reports off whatever is true, and switches nothing."""

    async def status(self) -> PowerReading:
        return PowerReading(state=PowerState.OFF, detail="the device reports off")

    async def off(self) -> FenceOutcome:
        return FenceOutcome(result=FenceResult.DONE, detail="the device reports off")

    on = reboot = monitor = off


class _HopefulHypervisor(MachineHypervisor):
    """Says that a guest is gone as soon as it was told to go, and does not do it."""

    def __init__(self, node: str, truth: Truth) -> None:
        super().__init__(node, truth)
        self._said_gone: set[str] = set()

    async def start(self, domain_xml: str) -> None:
        self._said_gone.clear()
        await super().start(domain_xml)

    async def shutdown(self, uuid: str) -> None:
        self._said_gone.add(uuid)

    async def destroy(self, uuid: str) -> None:
        self._said_gone.add(uuid)

    async def guests(self) -> tuple[Guest, ...]:
        return tuple(guest for guest in await super().guests() if guest.uuid not in self._said_gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """One breakage, or none.

    replaced   per "module:name" (a name may be "Class.method") what takes its place.
    """

    hypervisor: Callable[[str, Truth], MachineHypervisor] = MachineHypervisor
    device: Callable[[FenceDevice], FenceDevice] = lambda device: device
    kill: Callable[[Callable[[Victim], None]], Callable[[Victim], None]] = lambda kill: kill
    reset: Callable[[Callable[[], None]], Callable[[], None]] = lambda reset: reset
    replaced: tuple[tuple[str, Any], ...] = ()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the functions, and put them back."""
        undo: list[tuple[Any, str, Any]] = []
        try:
            for place, replacement in self.replaced:
                module, _, path = place.partition(":")
                owner: Any = import_module(module)
                *outer, name = path.split(".")
                for part in outer:
                    owner = getattr(owner, part)
                undo.append((owner, name, getattr(owner, name)))
                setattr(owner, name, replacement)
            yield
        finally:
            for owner, name, original in undo:
                setattr(owner, name, original)


def _unguarded(after: Any, **given: Any) -> Txn:
    from holdfast.node.transactions import advance

    return Txn(then=advance(after, **given).then)


BREAKAGES: Final[dict[BreakageKind | None, Breakage]] = {
    None: Breakage(),
    # The guard kills nobody, and the watchdog that it reports resets nothing.
    BreakageKind.GUARD_SPARES: Breakage(kill=lambda _: lambda _victim: None, reset=lambda _: lambda: None),
    # Fence devices report off and switch nothing.
    BreakageKind.FENCE_LIES: Breakage(device=lambda _: _LyingDevice()),
    # A role is released although nobody made sure that its guest is gone.
    BreakageKind.RELEASE_IN_HOPE: Breakage(hypervisor=_HopefulHypervisor),
    # A role is given away without a proof that its last owner can do no harm.
    BreakageKind.PROOF_SKIPPED: Breakage(replaced=(("holdfast.decide.coordination:freedom_of", lambda *_: Freedom()),)),
    # A watchdog proof does not wait for the watchdog.
    BreakageKind.WATCHDOG_AT_ONCE: Breakage(
        replaced=(("holdfast.model.settings:Timings.watchdog_proof_after_ms", lambda _self, **_: 0),)
    ),
    # A node holds itself for entitled whoever hears it.
    BreakageKind.ENTITLED_FOR_EVER: Breakage(
        replaced=(("holdfast.node.entitlement:entitled_until", lambda *, now, deadline_s, **_: now + deadline_s),)
    ),
    # An owner claims a role without comparing the record and its own session.
    BreakageKind.CLAIM_UNGUARDED: Breakage(replaced=(("holdfast.node.executor:advance", _unguarded),)),
}
