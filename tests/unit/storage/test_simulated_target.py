"""The simulated target's levers: what is late, lost, torn, hung or aborted."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine

import pytest

from holdfast.sim.loop import Process, VirtualLoop
from holdfast.storage.arbitration import AbortMethod, Expelled, Protected, expel, protect
from holdfast.storage.outcome import Conflict, Done, Failed, Unknown
from holdfast.storage.port import Lun
from holdfast.storage.scsi.command import Command, OperationCode, write
from holdfast.storage.scsi.reservations import OutAction, ReservationType, ReserveOut
from holdfast.storage.scsi.sense import Sense, SenseKey
from holdfast.storage.scsi.status import Status
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import INSTANT, ORDINARY, Exchange, Fate, SimulatedTarget
from holdfast.storage.simulated_disk import FORGETFUL, DiskTraits, SimulatedDisk, WriteEffect, check_condition
from holdfast.storage.transport import Answer

A, B, C = 0xA, 0xB, 0xC
WE_RO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
BLOCK = b"holdfast" * 64


def virtually(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run a test on virtual time: exact, and no slower on a loaded machine."""

    @functools.wraps(test)
    def run(*arguments: object, **named: object) -> None:
        VirtualLoop().run_until_complete(test(*arguments, **named))  # type: ignore[abstract]  # as in the world

    return run


class Scene:
    """One disk, two protected initiators, and a fate for the commands of one of them."""

    def __init__(self, traits: DiskTraits | None = None) -> None:
        self.effects: list[WriteEffect] = []
        self.disk = SimulatedDisk(1, traits=traits, observe=self.effects.append)
        self.target = SimulatedTarget([self.disk], fate=self.fate_of)
        self.fate = ORDINARY
        self.concerns: Callable[[Exchange], bool] = lambda _: False

    def fate_of(self, exchange: Exchange) -> Fate:
        return self.fate if self.concerns(exchange) else ORDINARY

    def connect(self, name: str, timeout_ms: int = 200) -> Lun:
        return ScsiLun(self.target.connect(name, self.disk.name), timeout_ms=timeout_ms)

    async def protected(self, name: str, key: int) -> Lun:
        lun = self.connect(name)
        assert isinstance(await protect(lun, key), Protected)
        return lun

    def give(self, fate: Fate, operation: OperationCode, initiator: str) -> None:
        self.fate = fate
        self.concerns = lambda item: (item.command.operation, item.initiator) == (operation, initiator)


@pytest.mark.parametrize("traits", [DiskTraits(), FORGETFUL], ids=["good", "forgetful"])
@virtually
async def test_a_late_write_lands_after_a_plain_preempt_and_never_after_an_expulsion(traits: DiskTraits) -> None:
    """SAFE-1: this is what PREEMPT AND ABORT, or the reset, is for."""
    for expels in (False, True):
        scene = Scene(traits)
        a, b = await scene.protected("a", A), await scene.protected("b", B)
        assert isinstance(await b.read(block=0, count=1), Done)
        scene.give(Fate(execution_ms=50), OperationCode.WRITE_16, "b")
        late = asyncio.create_task(b.write(block=0, data=BLOCK))
        await asyncio.sleep(0.01)
        if expels:
            assert isinstance(await expel(a, A, victim=B), Expelled)
        else:
            assert isinstance(await a.preempt(key=A, victim=B, type=WE_RO, abort=False), Done)
        outcome = await late
        assert isinstance(outcome, Unknown if expels else Done)
        assert bool(scene.effects) is not expels


@virtually
async def test_a_write_on_its_way_while_its_node_is_expelled_meets_a_conflict() -> None:
    scene = Scene()
    a, b = await scene.protected("a", A), await scene.protected("b", B)
    assert isinstance(await b.read(block=0, count=1), Done)
    scene.give(Fate(request_ms=50), OperationCode.WRITE_16, "b")
    late = asyncio.create_task(b.write(block=0, data=BLOCK))
    await asyncio.sleep(0.01)
    assert isinstance(await expel(a, A, victim=B), Expelled)
    assert isinstance(await late, Conflict)
    assert scene.effects == []


@virtually
async def test_what_is_recalled_on_its_way_never_lands_and_what_is_sent_after_it_does() -> None:
    scene = Scene()
    path = scene.target.connect("a", scene.disk.name)
    first, second = (write(block=0, data=BLOCK, block_bytes=512, is_forced=False) for _ in range(2))
    scene.give(Fate(request_ms=50), OperationCode.WRITE_16, "a")
    for command in (Command(cdb=bytes(6)), first, second):
        path.send(command, lambda _: None)
    path.recall(first)
    assert not scene.disk.is_idle
    await asyncio.sleep(0.1)
    assert len(scene.effects) == 1
    assert scene.disk.is_idle


@pytest.mark.parametrize("fate", [Fate(request_ms=None), Fate(reply_ms=None)], ids=["request", "reply"])
@pytest.mark.parametrize("traits", [DiskTraits(), FORGETFUL], ids=["good", "forgetful"])
@virtually
async def test_a_lost_preempt_is_settled_by_reading_back(traits: DiskTraits, fate: Fate) -> None:
    scene = Scene(traits)
    a, b = await scene.protected("a", A), await scene.protected("b", B)
    lost: list[Exchange] = []

    def first_preempt(exchange: Exchange) -> bool:
        if exchange.command.operation == OperationCode.PERSISTENT_RESERVE_OUT and not lost:
            lost.append(exchange)
            return True
        return False

    scene.fate, scene.concerns = fate, first_preempt
    outcome = await expel(a, A, victim=B)
    assert lost
    assert isinstance(outcome, Expelled)
    if traits is FORGETFUL or fate.reply_ms is None:
        assert outcome.how is AbortMethod.LUN_RESET
    assert isinstance(await b.write(block=0, data=BLOCK), Conflict)


@pytest.mark.parametrize("tells", [True, False], ids=["told", "not-told"])
@virtually
async def test_a_reservation_that_lapsed_on_the_way_is_made_up_for(tells: bool) -> None:
    """Its holder leaves between the preempt and the reading back, and the expelled node gets a late write in."""
    scene = Scene()
    c, a, b = await scene.protected("c", C), await scene.protected("a", A), await scene.protected("b", B)
    assert isinstance(await c.check(), Done)
    assert isinstance(await b.read(block=0, count=1), Done)
    late: list[asyncio.Task[object]] = []

    def after_the_preempt(exchange: Exchange) -> bool:
        if exchange.initiator == "b":
            return exchange.command.operation == OperationCode.WRITE_16
        if B not in scene.disk.reservations.registered.values() and not late:
            scene.disk.execute("c", ReserveOut(action=OutAction.REGISTER, key=C).command())
            if not tells:
                scene.disk.attentions["a"].clear()
            late.append(asyncio.create_task(b.write(block=0, data=BLOCK)))
        return bool(late) and exchange.command.operation == OperationCode.PERSISTENT_RESERVE_IN

    scene.fate, scene.concerns = Fate(execution_ms=100, request_ms=1), after_the_preempt
    outcome = await expel(a, A, victim=B)
    assert late
    assert isinstance(outcome, Expelled)
    assert outcome.how is AbortMethod.LUN_RESET
    await asyncio.wait(late)
    assert scene.effects == []


@virtually
async def test_a_hung_write_stays_until_it_is_dropped() -> None:
    scene = Scene()
    a = await scene.protected("a", A)
    scene.give(Fate(execution_ms=None), OperationCode.WRITE_16, "a")
    assert isinstance(await a.write(block=0, data=BLOCK), Unknown)
    assert len(scene.disk.pending) == 1
    assert isinstance(await a.reset(), Done)
    assert scene.disk.pending == []
    assert scene.effects == []


@virtually
async def test_a_torn_write_leaves_its_beginning() -> None:
    scene = Scene()
    a = await scene.protected("a", A)
    scene.give(Fate(blocks_written=1), OperationCode.WRITE_16, "a")
    assert isinstance(await a.write(block=4, data=BLOCK * 3), Unknown)
    assert [effect.block for effect in scene.effects] == [4]
    assert await a.read(block=4, count=2) == Done(value=BLOCK + bytes(512))


@virtually
async def test_power_loss_drops_what_was_under_way() -> None:
    scene = Scene()
    a = await scene.protected("a", A)
    scene.give(Fate(execution_ms=50), OperationCode.WRITE_16, "a")
    late = asyncio.create_task(a.write(block=0, data=BLOCK))
    await asyncio.sleep(0.01)
    scene.target.stop()
    assert isinstance(await late, Unknown)
    assert isinstance(await a.check(), Failed)
    scene.target.start()
    await asyncio.sleep(0.1)
    assert scene.effects == []


@virtually
async def test_what_was_sent_arrives_although_its_sender_is_gone() -> None:
    scene = Scene()
    a = await scene.protected("a", A)
    assert isinstance(await a.read(block=0, count=1), Done)
    scene.give(Fate(request_ms=30), OperationCode.WRITE_16, "a")
    sent = asyncio.create_task(a.write(block=0, data=BLOCK))
    await asyncio.sleep(0.01)
    await a.close()
    assert isinstance(await sent, Unknown)
    await asyncio.sleep(0.05)
    assert [effect.nexus for effect in scene.effects] == ["a"]


@pytest.mark.parametrize("end", ["freeze", "kill"])
def test_a_write_goes_on_without_the_process_that_sent_it(end: str) -> None:
    """The hardest case of SAFE-1: the owner freezes with a write on its way, and thaws after it was expelled."""
    loop = VirtualLoop()  # type: ignore[abstract]  # as in the world
    scene = Scene()
    a, b = (loop.run_until_complete(scene.protected(name, key)) for name, key in (("a", A), ("b", B)))
    loop.run_until_complete(b.read(block=0, count=1))
    scene.give(Fate(request_ms=10), OperationCode.WRITE_16, "b")
    process = Process("b", loop)
    work = process.spawn(b.write(block=0, data=BLOCK))
    loop.run_until(loop.time() + 0.005)
    process.freeze()
    loop.run_until(loop.time() + 1)
    assert [effect.block for effect in scene.effects] == [0]
    assert isinstance(loop.run_until_complete(expel(a, A, victim=B)), Expelled)
    if end == "freeze":
        process.thaw()
        assert isinstance(loop.run_until_complete(work), Done), "it was answered before the deadline, unheard"
        assert isinstance(loop.run_until_complete(b.write(block=0, data=BLOCK)), Conflict)
    loop.bury(process)
    assert len(scene.effects) == 1


@virtually
async def test_a_new_login_ends_the_session_before_it() -> None:
    scene = Scene()
    before = await scene.protected("a", A)
    after = scene.connect("a")
    assert isinstance(await before.check(), Failed)
    assert isinstance(await after.write(block=0, data=BLOCK), Done), "the same nexus, so still registered"


@virtually
async def test_a_forgetful_target_takes_a_new_login_for_a_stranger() -> None:
    scene = Scene(FORGETFUL)
    before = await scene.protected("a", A)
    assert isinstance(await scene.connect("a").write(block=0, data=BLOCK), Conflict)
    assert isinstance(await before.write(block=0, data=BLOCK), Done)


@pytest.mark.parametrize("status", [Status.BUSY, Status.TASK_SET_FULL])
@virtually
async def test_a_busy_target_is_asked_again_until_the_deadline(status: Status) -> None:
    scene = Scene()
    a = await scene.protected("a", A)
    scene.give(Fate(answer=Answer(status=status)), OperationCode.TEST_UNIT_READY, "a")
    asked = asyncio.create_task(a.check())
    await asyncio.sleep(0.05)
    scene.fate = ORDINARY
    assert isinstance(await asked, Done)
    scene.fate = Fate(answer=Answer(status=status))
    refused = await a.check()
    assert isinstance(refused, Failed)
    assert status.words in refused.words


@pytest.mark.parametrize(
    ("key", "outcome"),
    [
        (SenseKey.RECOVERED_ERROR, Done),
        (SenseKey.NOT_READY, Failed),
        (SenseKey.DATA_PROTECT, Failed),
        (SenseKey.MEDIUM_ERROR, Unknown),
        (SenseKey.HARDWARE_ERROR, Unknown),
        (SenseKey.ABORTED_COMMAND, Unknown),
        (SenseKey.UNIT_ATTENTION, Failed),
    ],
)
@virtually
async def test_only_what_is_certainly_not_done_has_failed(key: SenseKey, outcome: type) -> None:
    """A write that the medium or the target gave up may be there in part; one that never stops is a broken target."""
    scene = Scene()
    a = await scene.protected("a", A)
    scene.give(Fate(answer=check_condition(Sense(key=key, code=0x2900))), OperationCode.WRITE_16, "a")
    assert isinstance(await a.write(block=0, data=BLOCK), outcome)


@virtually
async def test_an_aborted_command_may_have_been_done() -> None:
    scene = Scene()
    a = await scene.protected("a", A)
    scene.give(Fate(answer=Answer(status=Status.TASK_ABORTED)), OperationCode.WRITE_16, "a")
    assert isinstance(await a.write(block=0, data=BLOCK), Unknown)


@virtually
async def test_an_instant_command_takes_no_time_and_overtakes_nothing() -> None:
    scene = Scene()
    a = await scene.protected("a", A)
    assert isinstance(await a.read(block=0, count=1), Done)
    scene.give(INSTANT, OperationCode.READ_16, "a")
    began = asyncio.get_running_loop().time()
    assert await a.read(block=0, count=1) == Done(value=bytes(512))
    assert asyncio.get_running_loop().time() == began
    written = asyncio.create_task(a.write(block=0, data=BLOCK))
    await asyncio.sleep(0)
    assert await a.read(block=0, count=1) == Done(value=BLOCK)
    assert asyncio.get_running_loop().time() > began
    assert isinstance(await written, Done)
