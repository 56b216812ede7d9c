"""A node that starts a guest after others ran it: their writes, which a helper keeps while a path is out, land no more.

The helper of the other node is a second nexus, whose writes are held back on their way. Source: SAFE-1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import product

from tests.unit.decide.made_up import incarnation, owned
from tests.unit.node.one_machine import Machine, machine
from tests.unit.node.test_disks import CLUSTER, ONE, A, disk, key_of, keys, spec, state, until
from tests.unit.node.virtual_time import virtual

from holdfast.model.disks import DiskState, reservation_key
from holdfast.model.roles import Phase
from holdfast.storage.arbitration import protect, settle
from holdfast.storage.outcome import Conflict, Done
from holdfast.storage.scsi.command import OperationCode
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import ORDINARY, Exchange, Fate
from holdfast.storage.simulated_disk import SimulatedDisk
from holdfast.store.records import disk_key

B = incarnation("b")
KEY_OF_B = reservation_key(CLUSTER, B)
BLOCK = b"an earlier guest".ljust(512, b"\0")


async def up(a: Machine, *, way: str = "helper:/run/one") -> ScsiLun:
    """A machine that is ready to start a guest from the disk, and the helper of node b, which is registered too."""
    await a.entitle()
    a.database.put(disk_key(ONE), replace(spec(), reservations=way))
    a.database.role(a.web(disks=(ONE,), disk_paths=(), restart_limit=0), None)
    await a.start_daemon()
    await until(lambda: state(a) is DiskState.READY)
    b = ScsiLun(a.target.connect("b", SimulatedDisk(1).name))
    await protect(b, KEY_OF_B)
    return b


def writes_of(name: str, held: Fate) -> Callable[[Exchange], Fate]:
    """Hold what a node writes; everything else fares as usual."""

    def fate(exchange: Exchange) -> Fate:
        is_write = not exchange.is_reset and exchange.command.operation == OperationCode.WRITE_16
        return held if is_write and exchange.initiator == name else ORDINARY

    return fate


def has_landed(a: Machine) -> bool:
    return disk(a).medium.get(0) == BLOCK


ON_ITS_WAY, IN_THE_TARGET = Fate(request_ms=15_000), Fate(execution_ms=15_000)


@virtual
async def test_safe_1_no_write_of_an_earlier_owner_lands_once_the_next_one_started() -> None:
    for held, lingering in product((ON_ITS_WAY, IN_THE_TARGET), ((B,), None)):
        async with machine() as a:
            b = await up(a)
            a.target.fate = writes_of("b", held)
            late = asyncio.create_task(b.write(block=0, data=BLOCK))
            await asyncio.sleep(1)
            a.record(owned("web", "a", Phase.ASSIGNED, lingering=lingering))
            online = await a.wait_phase(Phase.ONLINE)
            assert online.lingering == ()
            assert keys(a) == {key_of()}
            await asyncio.sleep(20)
            assert not has_landed(a)
            assert not isinstance(await late, Done)
            await b.close()


@virtual
async def test_safe_1_no_write_of_this_nodes_own_earlier_guest_lands_once_the_next_one_started() -> None:
    async with machine() as a:
        b = await up(a)
        a.target.fate = writes_of("a", IN_THE_TARGET)
        late = asyncio.create_task(ScsiLun(a.path(SimulatedDisk(1).name)).write(block=0, data=BLOCK))
        await asyncio.sleep(1)
        a.record(owned("web", "a", Phase.ASSIGNED, lingering=(incarnation("a"),)))
        await a.wait_phase(Phase.ONLINE)
        assert keys(a) == {key_of(), KEY_OF_B}
        await asyncio.sleep(20)
        assert not has_landed(a)
        late.cancel()
        await b.close()


@virtual
async def test_where_nothing_can_wait_nobody_is_expelled() -> None:
    """A device of the kernel lets no process end before its writes are done; and where nobody ran, nobody wrote."""
    for way, lingering in (("sg:/dev/one", (B,)), ("sg:/dev/one", None), ("helper:/run/one", ())):
        async with machine() as a:
            b = await up(a, way=way)
            a.record(owned("web", "a", Phase.ASSIGNED, lingering=lingering))
            await a.wait_phase(Phase.ONLINE)
            assert keys(a) == {key_of(), KEY_OF_B}
            await b.close()


@virtual
async def test_safe_1_a_start_that_cannot_see_to_it_fails_and_names_disk_and_incarnation() -> None:
    async with machine() as a:
        b = await up(a)

        def fate(exchange: Exchange) -> Fate:
            is_out = exchange.is_reset or exchange.command.operation == OperationCode.PERSISTENT_RESERVE_OUT
            return Fate(request_ms=None) if is_out and exchange.initiator == A else ORDINARY

        a.target.fate = fate
        a.record(owned("web", "a", Phase.ASSIGNED, lingering=(B,)))
        gone = await a.wait_phase(Phase.VACANT, time_s=120)
        assert f"disk one: writes of incarnation {B} may still wait for it" in str(gone.reasons[0])
        assert gone.lingering == (B, incarnation("a"))
        assert not await a.runs()
        await b.close()


@virtual
async def test_safe_1_holdfastd_killed_at_any_moment_of_such_a_start() -> None:
    """Whenever the guest exists, nothing of the earlier owner can land any more."""
    seen = set()
    for after_ms in range(0, 60, 2):
        async with machine() as a:
            b = await up(a)
            a.record(owned("web", "a", Phase.ASSIGNED, lingering=(B,)))
            await asyncio.sleep(after_ms / 1000)
            await a.kill_daemon()
            seen.add((a.ownership().phase, KEY_OF_B in keys(a), await a.runs()))
            assert KEY_OF_B not in keys(a) or not await a.runs()
            assert await a.runs() or a.ownership().lingering
            await a.start_daemon()
            await a.wait_phase(Phase.ONLINE)
            assert isinstance(await b.write(block=0, data=BLOCK), Conflict)
            await b.close()
    assert len(seen) >= 4, seen


@virtual
async def test_a_node_that_was_expelled_for_its_earlier_writes_is_ready_again_by_itself() -> None:
    async with machine() as a:
        b = await up(a)
        assert await settle(b, KEY_OF_B, earlier=(key_of(),)) is None
        assert keys(a) == {KEY_OF_B}
        await until(lambda: keys(a) == {KEY_OF_B, key_of()} and state(a) is DiskState.READY, time_s=2)
        await b.close()


@virtual
async def test_a_node_that_was_just_expelled_starts_its_guest_at_the_first_attempt() -> None:
    """As when a role comes back from a node whose own start failed: one failure would be the last, here."""
    for after_ms in (0, 100, 400, 700):
        async with machine() as a:
            b = await up(a)
            assert await settle(b, KEY_OF_B, earlier=(key_of(),)) is None
            await asyncio.sleep(after_ms / 1000)
            a.record(owned("web", "a", Phase.ASSIGNED, lingering=(incarnation("c"), B)))
            online = await a.wait_phase(Phase.ONLINE)
            assert not online.failed_on
            assert KEY_OF_B not in keys(a)
            await b.close()
