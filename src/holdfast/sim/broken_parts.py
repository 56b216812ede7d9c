"""The parts that breakages put in place of sound ones.

Rule of the file: each is wrong in exactly the way that its first line says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from holdfast.decide.detection import PowerEvidence
from holdfast.decide.freedom import Freedom
from holdfast.fencing.port import FenceOutcome, FenceResult, PowerReading, PowerState
from holdfast.hypervisor.port import Guest
from holdfast.hypervisor.simulated_guest import Neighbourhood
from holdfast.model.errors import HoldfastError
from holdfast.model.ids import Incarnation
from holdfast.model.nodes import GuestObservation
from holdfast.model.roles import Ownership, Phase
from holdfast.model.status import RoleState
from holdfast.sim.truth import Truth
from holdfast.sim.twins import MachineHypervisor
from holdfast.store.port import Compare, CreateRevision, ModRevision, Txn
from holdfast.store.records import COORDINATOR

HURRY_S: Final = 1.0
Wrap = Callable[[Any], Any]
"""Makes the replacement of a function from the function."""


class LyingDevice:
    """Reports off whatever is true, and switches nothing."""

    async def status(self) -> PowerReading:
        """See `FenceDevice`."""
        return PowerReading(state=PowerState.OFF, detail="the device reports off")

    async def off(self) -> FenceOutcome:
        """See `FenceDevice`."""
        return FenceOutcome(result=FenceResult.DONE, detail="the device reports off")

    on = reboot = monitor = off


class StubbornDevice(LyingDevice):
    """Reports on, and switches nothing."""

    async def status(self) -> PowerReading:
        """See `FenceDevice`."""
        return PowerReading(state=PowerState.ON, detail="the device reports on")

    async def off(self) -> FenceOutcome:
        """See `FenceDevice`."""
        return FenceOutcome(result=FenceResult.FAILED, detail="the device refuses")

    on = reboot = monitor = off


class HopefulHypervisor(MachineHypervisor):
    """Says that a guest is gone as soon as it was told to go, and does not do it."""

    def __init__(self, node: str, truth: Truth, neighbourhood: Neighbourhood) -> None:
        super().__init__(node, truth, neighbourhood)
        self._said_gone: set[str] = set()

    async def prepare(self, domain_xml: str) -> None:
        """See `Hypervisor`."""
        self._said_gone.clear()
        await super().prepare(domain_xml)

    async def shutdown(self, uuid: str) -> None:
        """See `Hypervisor`."""
        self._said_gone.add(uuid)

    async def destroy(self, uuid: str) -> None:
        """See `Hypervisor`."""
        self._said_gone.add(uuid)

    async def guests(self) -> tuple[Guest, ...]:
        """See `Hypervisor`."""
        return tuple(guest for guest in await super().guests() if guest.uuid not in self._said_gone)


class ForgivingHypervisor(MachineHypervisor):
    """Takes it for done when it is not certain that a guest is gone, and for absent what it cannot list."""

    def __init__(self, node: str, truth: Truth, neighbourhood: Neighbourhood) -> None:
        super().__init__(node, truth, neighbourhood)
        self._uncertain: set[str] = set()

    async def prepare(self, domain_xml: str) -> None:
        """See `Hypervisor`."""
        self._uncertain.clear()
        await super().prepare(domain_xml)

    async def destroy(self, uuid: str) -> None:
        """See `Hypervisor`."""
        try:
            async with asyncio.timeout(HURRY_S):
                await super().destroy(uuid)
        except (HoldfastError, TimeoutError):
            self._uncertain.add(uuid)

    async def guests(self) -> tuple[Guest, ...]:
        """See `Hypervisor`."""
        try:
            return tuple(guest for guest in await super().guests() if guest.uuid not in self._uncertain)
        except HoldfastError:
            return ()


def always(value: Any) -> Wrap:
    """The function returns this whatever it is asked."""
    return lambda _original: lambda *_, **__: value


def without_compares(original: Any) -> Any:
    """The transaction compares nothing."""
    return lambda *given, **named: Txn(then=original(*given, **named).then)


def without(is_left_out: Callable[[Compare], bool]) -> Wrap:
    """The transaction compares everything but this."""

    def wrap(original: Any) -> Any:
        def built(*given: Any, **named: Any) -> Txn:
            txn: Txn = original(*given, **named)
            return replace(txn, compares=tuple(compare for compare in txn.compares if not is_left_out(compare)))

        return built

    return wrap


def about_record(compare: Compare) -> bool:
    """Whether it compares a record, not a session."""
    return not isinstance(compare, CreateRevision)


def about_session(compare: Compare) -> bool:
    """Whether it compares that a session has no gap."""
    return isinstance(compare, CreateRevision)


def about_coordinator(compare: Compare) -> bool:
    """Whether it compares who coordinates."""
    return isinstance(compare, ModRevision) and compare.key == COORDINATOR


def verdict_keeps_session(original: Any) -> Any:
    """The verdict leaves the session as it is."""

    def built(verdict: Any, *given: Any, **named: Any) -> Txn:
        txn: Txn = original(verdict, *given, **named)
        kept = tuple(operation for operation in txn.then if not _key_of(operation).endswith(f"sessions/{verdict.node}"))
        return replace(txn, then=kept)

    return built


def _key_of(operation: Any) -> str:
    return str(getattr(operation, "key", ""))


def any_incarnation(original: Any) -> Any:
    """A role is the node's own whichever of its incarnations the record names."""
    return lambda _self, ownership, node: ownership is not None and ownership.value.owner == node


def any_proof(original: Any) -> Any:
    """The proof of any incarnation of the owner frees the role."""

    def free(ownership: Ownership, snapshot: Any, now_ms: int) -> Any:
        found = original(ownership, snapshot, now_ms)
        for incarnation, proof in snapshot.proofs.items():
            if found.blocked and proof.value.node == ownership.owner:
                return Freedom(proof=Incarnation(incarnation))
        return found

    return free


def started_is_assigned(original: Any) -> Any:
    """A role that its owner claimed counts as one that has not begun."""

    def free(ownership: Ownership, snapshot: Any, now_ms: int) -> Any:
        if ownership.phase is Phase.STARTING or ownership.phase is Phase.ONLINE:
            return Freedom()
        return original(ownership, snapshot, now_ms)

    return free


def off_when_ordered(original: Any) -> Any:
    """An order counts as carried out before the device has said so."""

    async def switch_off(device_of: Any, spec: Any) -> PowerEvidence:
        return PowerEvidence(is_off=True, detail="it was ordered off")

    return switch_off


def no_answer_is_off(original: Any) -> Any:
    """A device that does not say anything clear counts as reporting off."""

    def evidence_of(reading: PowerReading) -> PowerEvidence:
        return PowerEvidence(is_off=reading.state is not PowerState.ON, detail=reading.detail)

    return evidence_of


def unknown_is_absent(original: Any) -> Any:
    """A guest that cannot be looked for counts as absent."""

    def observed(self: Any, uuid: str) -> GuestObservation:
        seen: GuestObservation = original(self, uuid)
        return GuestObservation.ABSENT if seen is GuestObservation.UNKNOWN else seen

    return observed


def commits_anyway(original: Any) -> Any:
    """A step whose record could not be committed is taken all the same."""

    async def commit(self: Any, after: Any, before: Any, *given: Any) -> Any:
        done = await original(self, after, before, *given)
        return replace(before, value=after) if done is None and after.phase is Phase.STARTING else done

    return commit


def later_deadline(original: Any) -> Any:
    """The guard's deadline lies half a minute later than holdfastd proved."""
    return lambda state, deadline, now: original(state, deadline + 30.0, now)


def half_wrong_clocks(original: Any) -> Any:
    """A process whose clock is a little too fast or too slow has one that is so by half."""
    return lambda name, loop, *, rate: original(name, loop, rate=1.5 if rate > 1.0 else 0.5)


def everybody_votes(original: Any) -> Any:
    """Every node that acknowledges a heartbeat counts as a voter."""

    def until(*, voters: Any, acknowledged_at: Any, **named: Any) -> float:
        counted: float = original(voters=voters | frozenset(acknowledged_at), acknowledged_at=acknowledged_at, **named)
        return counted

    return until


def alone_is_majority(original: Any) -> Any:
    """One voter that does not hear a node is enough to declare it lost: it is a majority, and always was."""

    def judge(*given: Any, me: Any, timings: Any, **named: Any) -> Any:
        alone = {"voters": frozenset({me}), "together_ms": timings.patience_ms + timings.restart_grace_ms}
        return original(*given, me=me, timings=timings, **(named | alone))

    return judge


def begins_online(original: Any) -> Any:
    """A claim says at once that the role is online."""

    def next_step(*given: Any, **named: Any) -> Any:
        step = original(*given, **named)
        if step.record is None or step.record.phase is not Phase.STARTING:
            return step
        return replace(step, record=replace(step.record, phase=Phase.ONLINE))

    return next_step


def everybody_coordinates(original: Any) -> Any:
    """Whoever sees that there is a coordinator holds itself for it."""
    return lambda _self, snapshot, _me: snapshot.coordinator is not None


def flattering(original: Any) -> Any:
    """Whatever becomes of a role, it is shown as online."""
    return lambda *_: RoleState.ONLINE


def grace_without_saying(original: Any) -> Any:
    """An orderly stop lengthens the guard's deadline without promising so in the session."""

    async def announce(_self: Any, *_: Any) -> bool:
        return True

    return announce


def cleans_nothing(original: Any) -> Any:
    """A new incarnation registers without looking what the last one left running."""

    async def clean(_self: Any) -> None:
        return

    return clean


def goes_on_after_compaction(original: Any) -> Any:
    """After a compaction the watch goes on where the history begins again, and what was missed stays missed."""
    from holdfast.store.errors import Compacted, StoreUnavailable

    async def follow(store: Any, prefix: str) -> Any:
        try:
            listing = await store.list(prefix)
        except StoreUnavailable:
            async for item in original(store, prefix):
                yield item
            return
        yield listing
        revision = listing.revision
        while True:
            try:
                async for batch in store.watch(prefix, from_revision=revision + 1):
                    revision = batch.revision
                    yield batch
            except Compacted as error:
                revision = error.revision - 1

    return follow


def any_incarnation_confirmed(original: Any) -> Any:
    """A person's word counts for whichever incarnation the node has now, declared lost or not."""

    def verdict_of(snapshot: Any, node: Any) -> Any:
        session = snapshot.sessions.get(node)
        verdict = snapshot.verdicts.get(node)
        if session is None or verdict is None:
            return original(snapshot, node)
        now = replace(verdict.value, incarnation=session.value.incarnation)
        return replace(verdict, value=now)

    return verdict_of


def blocked_is_settled(original: Any) -> Any:
    """A role that waits for something is dropped from what has to be decided."""

    def needs(spec: Any, ownership: Ownership, snapshot: Any) -> bool:
        return bool(original(spec, ownership, snapshot)) and ownership.phase is not Phase.ONLINE

    return needs
