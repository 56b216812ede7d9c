"""The coordinator at work on lost nodes: an order, a proof, or a wait with reasons. Source: SAFE-2, SAFE-4, SAFE-8."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.decide.made_up import incarnation, node_spec, owned, proof, role_spec, session, verdict
from tests.unit.node.one_machine import LoopClock
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.virtual_time import virtual

from holdfast.fencing.simulated import DeviceFault, SimulatedFenceDevice
from holdfast.membership.heartbeat import Heartbeat
from holdfast.model.disks import DiskSpec
from holdfast.model.ids import ClusterId, DiskName, Incarnation, NetworkName, NodeName
from holdfast.model.nodes import FenceSpec, ProofKind
from holdfast.model.reasons import ReasonCode
from holdfast.model.roles import Phase
from holdfast.node.event_log import EventLog
from holdfast.node.fencer import Fencer
from holdfast.node.hearing import Hearing
from holdfast.node.mirror import Mirror
from holdfast.storage.arbitration import AbortMethod, Expelled, ExpelOutcome, Holders, RefusalReason, Refused
from holdfast.storage.outcome import Unknown
from holdfast.store.memory import MemoryStore
from holdfast.store.records import disk_key, proof_key

A, B, C = (NodeName(name) for name in "abc")
DEVICE = FenceSpec(agent="fence_test")
PROVEN_AFTER_S = (4000 + 500 + 10_000 + 1000) / 1000


class Desk:
    """Node a coordinates a cluster of three voters; b is lost, and its fence device is on the table."""

    def __init__(self, *, fence: FenceSpec | None = DEVICE, **changes: Any) -> None:
        self.database = SmallDatabase()
        self.store = MemoryStore(self.database.database)
        self.device = SimulatedFenceDevice(timeout_ms=1000)
        self.answers: dict[DiskName, ExpelOutcome] = {}
        self.takes_s: dict[DiskName, float] = {}
        self.asked: list[tuple[DiskName, Incarnation]] = []
        self.suspects: set[NodeName] = set()
        for name in (A, B, C):
            self.database.node(node_spec(name, fence=fence if name == B else None))
        self.me = self.database.up(session(A))
        self.database.up(session(C))
        self.database.elect(self.me, incarnation(A))
        self.database.lose(verdict(B, **changes))
        self.mirror = Mirror()
        self.hearing = Hearing(A, (NetworkName("x"),))
        clock = LoopClock()
        self.fencer = Fencer(
            me=A,
            store=self.store,
            mirror=self.mirror,
            clock=clock,
            events=EventLog(A, clock),
            hearing=self.hearing,
            device_of=lambda _: self.device,
            expel=self.expel,
            suspects=lambda: self.suspects,
        )

    async def expel(self, disk: DiskSpec, incarnation: Incarnation) -> ExpelOutcome:
        """What the storage says of an attempt to expel b; see `answers`."""
        self.asked.append((disk.name, incarnation))
        await asyncio.sleep(self.takes_s.get(disk.name, 0.01))
        return self.answers[disk.name]

    def refuse(self) -> None:
        """Node c says in a heartbeat that it acknowledges b no more."""
        said = Heartbeat(
            cluster_id=ClusterId("id"),
            node=C,
            incarnation=incarnation(C),
            sequence=1,
            sent_at_ms=0,
            wall_clock_ms=0,
            refused=(incarnation(B),),
        )
        self.hearing.received(said, NetworkName("x"), LoopClock().monotonic_ms())

    def hear_again(self, sequence: int) -> None:
        """A newer incarnation of b is heard."""
        said = Heartbeat(
            cluster_id=ClusterId("id"),
            node=B,
            incarnation=incarnation(B, 2),
            sequence=sequence,
            sent_at_ms=0,
            wall_clock_ms=0,
        )
        self.hearing.received(said, NetworkName("x"), LoopClock().monotonic_ms())

    def is_on(self) -> bool:
        return self.device.is_on

    def proof_kind(self) -> ProofKind | None:
        found = self.database.snapshot().proofs.get(incarnation(B))
        return found.value.kind if found is not None else None

    def waits_for(self) -> list[ReasonCode]:
        return [reason.code for reason in self.fencer.progress[B]]


@asynccontextmanager
async def desk(**given: Any) -> AsyncIterator[Desk]:
    made = Desk(**given)
    tasks = [asyncio.create_task(made.mirror.run(made.store)), asyncio.create_task(made.fencer.run())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@virtual
async def test_a_lost_node_is_switched_off_and_that_is_its_proof() -> None:
    async with desk() as found:
        await asyncio.sleep(1)
        assert not found.device.is_on
        assert found.proof_kind() is ProofKind.POWER


@pytest.mark.parametrize("fault", [DeviceFault.FAIL, DeviceFault.HANG, DeviceFault.UNKNOWN])
def test_safe_2_a_device_that_does_not_report_off_proves_nothing_and_is_tried_again(fault: DeviceFault) -> None:
    @virtual
    async def scenario() -> None:
        async with desk() as found:
            found.device.fault = fault
            await asyncio.sleep(60)
            assert found.proof_kind() is None
            assert ReasonCode.FENCE_FAILED in found.waits_for()
            found.device.fault = DeviceFault.NONE
            await asyncio.sleep(12)
            assert found.proof_kind() is ProofKind.POWER

    scenario()


@virtual
async def test_safe_2_without_device_and_watchdog_it_waits_for_a_person() -> None:
    async with desk(fence=None) as found:
        found.refuse()
        await asyncio.sleep(3000)
        assert found.proof_kind() is None
        assert found.waits_for() == [ReasonCode.NO_FENCE_DEVICE]
        found.database.put(proof_key(incarnation(B)), proof(B, kind=ProofKind.PERSON))
        await asyncio.sleep(1)
        assert found.fencer.progress.keys() <= {B}


@virtual
async def test_safe_2_the_watchdog_counts_from_when_a_majority_of_voters_refused() -> None:
    async with desk(fence=None, watchdog_timeout_ms=10_000) as found:
        await asyncio.sleep(100)
        assert found.proof_kind() is None
        found.refuse()
        await asyncio.sleep(PROVEN_AFTER_S - 0.2)
        assert found.proof_kind() is None
        await asyncio.sleep(0.6)
        assert found.proof_kind() is ProofKind.WATCHDOG


@virtual
async def test_safe_2_a_majority_of_the_voters_that_the_lost_node_knew_has_to_refuse_too() -> None:
    """It never heard that c votes by now: by the voters that it knew, its own acknowledgement keeps it entitled."""
    async with desk(fence=None, watchdog_timeout_ms=10_000, voters=(A, B)) as found:
        found.refuse()
        await asyncio.sleep(10 * PROVEN_AFTER_S)
        assert found.proof_kind() is None


@virtual
async def test_safe_2_a_new_coordinator_counts_anew() -> None:
    async with desk(fence=None, watchdog_timeout_ms=10_000) as found:
        found.refuse()
        await asyncio.sleep(PROVEN_AFTER_S - 1)
    again = Desk(fence=None, watchdog_timeout_ms=10_000)
    again.refuse()
    tasks = [asyncio.create_task(again.mirror.run(again.store)), asyncio.create_task(again.fencer.run())]
    await asyncio.sleep(PROVEN_AFTER_S - 1)
    assert again.proof_kind() is None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@virtual
async def test_a_lost_node_that_was_started_again_is_not_switched_off_for_as_long_as_patience_lasts() -> None:
    """It went down and came up while the database was out; its new incarnation is healthy and about to register."""
    async with desk() as found:
        ends_at = asyncio.get_running_loop().time() + 4.5
        sequence = 0
        while asyncio.get_running_loop().time() < ends_at:
            sequence += 1
            found.hear_again(sequence)
            await asyncio.sleep(0.2)
        assert found.is_on()
        assert found.waits_for() == [ReasonCode.NODE_COMING_BACK]
        await asyncio.sleep(3)
        assert not found.is_on()


@virtual
async def test_safe_8_a_storm_pauses_orders_until_it_is_over() -> None:
    made = Desk()
    made.database.node(replace(node_spec("d")))
    made.database.lose(verdict("d"))
    made.database.lose(verdict(C))
    tasks = [asyncio.create_task(made.mirror.run(made.store)), asyncio.create_task(made.fencer.run())]
    await asyncio.sleep(60)
    assert made.is_on()
    assert ReasonCode.STORM_GUARD in made.waits_for()
    made.database.put(proof_key(incarnation("d")), proof("d", kind=ProofKind.PERSON))
    await asyncio.sleep(4)
    assert made.is_on(), "those who vanished together come back one by one"
    assert ReasonCode.STORM_OVER in made.waits_for()
    await asyncio.sleep(2)
    assert not made.is_on()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@virtual
async def test_safe_8_nobody_is_switched_off_while_most_of_the_cluster_falls_silent() -> None:
    """The other one's verdict is yet to come."""
    async with desk() as found:
        found.suspects = {C}
        await asyncio.sleep(2)
        assert found.is_on()
        assert ReasonCode.STORM_GUARD in found.waits_for()
        found.suspects = set()
        await asyncio.sleep(1)
        assert not found.is_on()


@virtual
async def test_a_proof_whose_answer_was_lost_is_found_committed() -> None:
    async with desk() as found:
        found.store.faults.lost_replies = 1
        await asyncio.sleep(2)
        assert found.proof_kind() is ProofKind.POWER


@virtual
async def test_safe_4_a_coordinator_in_a_minority_switches_nobody_off() -> None:
    """It was cut off from the database: the majority may have elected another, and b may be back and healthy."""
    made = Desk()
    following = asyncio.create_task(made.mirror.run(made.store))
    await asyncio.sleep(0.1)
    made.store.faults.is_cut = True
    fencing = asyncio.create_task(made.fencer.run())
    await asyncio.sleep(30)
    was_left_alone = made.device.is_on
    for task in (following, fencing):
        task.cancel()
    await asyncio.gather(following, fencing, return_exceptions=True)
    assert was_left_alone


ONE, TWO = DiskName("one"), DiskName("two")
GONE = Expelled(holders=Holders(generation=1, keys=(), reservation=None), how=AbortMethod.PREEMPT_AND_ABORT)
NOT_GONE = Refused(reason=RefusalReason.NOT_REGISTERED, words="our key is not there")


def disk(name: DiskName, designator: str = "naa.1") -> DiskSpec:
    return DiskSpec(name=name, designator=designator, size_bytes=1, guest_source="/dev/x", reservations="sg:/dev/x")


def with_disks(found: Desk, one: ExpelOutcome, two: ExpelOutcome) -> None:
    """Two shared disks, what becomes of expelling b from each, and a role of b that writes to both."""
    found.answers = {ONE: one, TWO: two}
    found.database.role(role_spec("web", disks=(ONE, TWO), disk_paths=()), owned("web", B, Phase.ONLINE))
    for name in (ONE, TWO):
        found.database.put(disk_key(name), disk(name))


def kept_off(found: Desk) -> tuple[DiskName, ...]:
    record = found.database.snapshot().proofs.get(incarnation(B))
    return record.value.disks if record is not None else ()


@virtual
async def test_a_lost_node_is_expelled_from_every_disk_and_that_is_its_proof() -> None:
    async with desk(fence=None) as found:
        with_disks(found, GONE, GONE)
        await asyncio.sleep(1)
        assert found.proof_kind() is ProofKind.STORAGE_RESERVATION
        assert kept_off(found) == (ONE, TWO)
        asked = len(found.asked)
        assert set(found.asked) == {(ONE, incarnation(B)), (TWO, incarnation(B))}
        await asyncio.sleep(5)
        assert len(found.asked) == asked


@pytest.mark.parametrize("answer", [NOT_GONE, Unknown(words="no answer")])
def test_safe_2_a_disk_that_was_not_read_back_as_taken_is_not_in_the_proof_and_is_tried_again(
    answer: ExpelOutcome,
) -> None:
    @virtual
    async def scenario() -> None:
        async with desk(fence=None) as found:
            with_disks(found, answer, GONE)
            await asyncio.sleep(3)
            assert kept_off(found) == (TWO,)
            told = [reason for reason in found.fencer.progress[B] if reason.code is ReasonCode.NOT_EXPELLED]
            assert [reason.facts["disk"] for reason in told] == [ONE]
            found.answers[ONE] = GONE
            await asyncio.sleep(2)
            assert kept_off(found) == (ONE, TWO)

    scenario()


@virtual
async def test_a_disk_that_hangs_does_not_keep_the_others_from_being_proven() -> None:
    async with desk(fence=None) as found:
        with_disks(found, GONE, GONE)
        found.takes_s[ONE] = 30.0
        await asyncio.sleep(1)
        assert kept_off(found) == (TWO,)
        await asyncio.sleep(32)
        assert kept_off(found) == (ONE, TWO)


@virtual
async def test_safe_2_what_reservations_do_not_cover_is_fenced_by_power_beside() -> None:
    async with desk() as found:
        with_disks(found, NOT_GONE, GONE)
        await asyncio.sleep(1)
        assert found.proof_kind() is ProofKind.POWER
        assert not found.device.is_on
        found.answers[ONE] = GONE
        await asyncio.sleep(5)
        assert found.proof_kind() is ProofKind.POWER


@virtual
async def test_safe_8_while_fencing_pauses_nobody_is_expelled() -> None:
    async with desk(fence=None) as found:
        found.database.lose(verdict(C))
        with_disks(found, GONE, GONE)
        await asyncio.sleep(5)
        assert found.asked == []
        assert ReasonCode.STORM_GUARD in found.waits_for()


@virtual
async def test_safe_2_a_disk_that_was_replaced_meanwhile_is_not_in_the_proof() -> None:
    async with desk(fence=None) as found:
        with_disks(found, GONE, NOT_GONE)
        found.takes_s[ONE] = 2.0
        await asyncio.sleep(1)
        found.database.put(disk_key(ONE), disk(ONE, "naa.2"))
        await asyncio.sleep(1.5)
        assert kept_off(found) == ()
