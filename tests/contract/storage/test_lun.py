"""The contract of `Lun`: what a target does with reservations, on the simulated target and on tgtd."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from tests.contract.storage.conftest import Bench

from holdfast.storage.outcome import AttentionKind, Conflict, Done, Failed, Outcome, T, Unknown
from holdfast.storage.port import Lun
from holdfast.storage.scsi.reservations import Reservation, ReservationType

A, B, C = 0xA, 0xB, 0xC
WE = ReservationType.WRITE_EXCLUSIVE
EA = ReservationType.EXCLUSIVE_ACCESS
WE_RO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
EA_RO = ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY
WE_AR = ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS
EA_AR = ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS
BLOCK = b"holdfast" * 64


def value(outcome: Outcome[T]) -> T:
    assert isinstance(outcome, Done), outcome
    return outcome.value


async def keys_of(lun: Lun) -> list[int]:
    return sorted(value(await lun.read_keys()).keys)


async def reservation_of(lun: Lun) -> Reservation | None:
    return value(await lun.read_reservation()).reservation


async def register(lun: Lun, key: int, *, existing: int | None = None) -> None:
    value(await lun.register(key=key, existing=existing, survives_power_loss=False))


async def two(bench: Bench) -> tuple[Lun, Lun]:
    """Two initiators, registered with A and B; both have been told what a new nexus is told."""
    a, b = await bench.connect("a"), await bench.connect("b")
    await register(a, A)
    await register(b, B)
    return a, b


async def test_a_disk_says_who_it_is(bench: Bench) -> None:
    first, other = await bench.connect("a", 1), await bench.connect("a-too", 2)
    one, two_ = value(await first.identity()), value(await other.identity())
    assert one.designator != two_.designator
    assert one.vendor == "HOLDFAST"
    assert one.serial_number != two_.serial_number
    assert value(await (await bench.connect("b", 1)).identity()).designator == one.designator


async def test_blocks_are_read_as_written(bench: Bench) -> None:
    lun = await bench.connect("a")
    capacity = value(await lun.capacity())
    assert capacity.block_bytes == 512
    value(await lun.write(block=7, data=BLOCK + bytes(512)))
    value(await lun.flush())
    assert value(await lun.read(block=6, count=3)) == bytes(512) + BLOCK + bytes(512)
    assert isinstance(await lun.read(block=capacity.blocks, count=1), Failed)
    assert isinstance(await lun.write(block=0, data=b"half a block"), Failed)


async def test_a_new_nexus_is_told_so_once_and_the_command_is_repeated(bench: Bench) -> None:
    lun = await bench.connect("a")
    first, second = await lun.check(), await lun.check()
    assert isinstance(first, Done)
    assert [item.kind for item in first.attentions] == [AttentionKind.POWER_ON_OR_RESET]
    assert second == Done(value=None)


async def test_keys_come_and_go_and_the_generation_counts(bench: Bench) -> None:
    a, b = await bench.connect("a"), await bench.connect("b")
    generations = [value(await a.read_keys()).generation]
    for lun, key in ((a, A), (b, B), (a, C), (b, 0)):
        await register(lun, key)
        generations.append(value(await a.read_keys()).generation)
    assert await keys_of(b) == [C]
    assert all(later > earlier for earlier, later in pairwise(generations))


async def test_a_register_that_names_another_key_than_there_is_conflicts(bench: Bench) -> None:
    a = await bench.connect("a")
    assert isinstance(await a.register(key=A, existing=B, survives_power_loss=False), Conflict)
    await register(a, A, existing=0)
    assert isinstance(await a.register(key=C, existing=B, survives_power_loss=False), Conflict)
    await register(a, C, existing=A)
    assert await keys_of(a) == [C]


async def test_only_a_registered_nexus_reserves(bench: Bench) -> None:
    a = await bench.connect("a")
    assert isinstance(await a.reserve(key=A, type=WE_RO), Conflict)
    await register(a, A)
    if bench.is_exact:
        assert isinstance(await a.reserve(key=B, type=WE_RO), Conflict)
    value(await a.reserve(key=A, type=WE_RO))
    value(await a.reserve(key=A, type=WE_RO))
    assert await reservation_of(a) == Reservation(key=A, type=WE_RO)


@pytest.mark.parametrize("kind", list(ReservationType), ids=lambda kind: kind.words)
async def test_a_reservation_keeps_out_whom_it_should(bench: Bench, kind: ReservationType) -> None:
    """Who may read and write under each type. Source: SBC-3 table 13."""
    holder, registrant = await two(bench)
    stranger = await bench.connect("c")
    value(await stranger.check())
    value(await holder.reserve(key=A, type=kind))
    held = await reservation_of(stranger)
    assert held is not None
    assert held.type is kind
    for lun, writes, reads in (
        (holder, True, True),
        (registrant, kind not in (WE, EA), kind is not EA),
        (stranger, False, kind in (WE, WE_RO, WE_AR)),
    ):
        written, read = await lun.write(block=1, data=BLOCK), await lun.read(block=1, count=1)
        assert isinstance(written, Done if writes else Conflict), (kind, lun.path)
        assert isinstance(read, Done if reads else Conflict), (kind, lun.path)
        value(await lun.check())
        value(await lun.identity())


async def test_a_reservation_that_is_held_is_not_taken(bench: Bench) -> None:
    a, b = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    assert isinstance(await b.reserve(key=B, type=WE_RO), Conflict)
    assert isinstance(await a.reserve(key=A, type=EA), Conflict)
    value(await b.release(key=B, type=WE_RO))
    assert await reservation_of(a) == Reservation(key=A, type=WE_RO)
    assert isinstance(await a.release(key=A, type=EA), Failed)
    value(await a.release(key=A, type=WE_RO))
    assert await reservation_of(a) is None


async def test_registrants_hear_of_a_release(bench: Bench) -> None:
    a, b = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    value(await a.release(key=A, type=WE_RO))
    heard = await b.check()
    assert [item.kind for item in heard.attentions] == [AttentionKind.RESERVATIONS_RELEASED] * bench.is_exact


async def test_a_holder_that_unregisters_releases(bench: Bench) -> None:
    a, b = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    await register(a, 0)
    heard = await b.check()
    assert [item.kind for item in heard.attentions] == [AttentionKind.RESERVATIONS_RELEASED] * bench.is_exact
    assert await reservation_of(b) is None
    assert await keys_of(b) == [B]


@pytest.mark.parametrize("kind", [WE_AR, EA_AR], ids=lambda kind: kind.words)
async def test_all_registrants_hold_until_the_last_one_leaves(bench: Bench, kind: ReservationType) -> None:
    a, b = await two(bench)
    value(await a.reserve(key=A, type=kind))
    value(await b.reserve(key=B, type=kind))
    await register(a, 0)
    assert await reservation_of(b) == Reservation(key=0, type=kind)
    await register(b, 0)
    assert await reservation_of(b) is None


async def test_a_preempted_nexus_hears_of_it_and_writes_no_more(bench: Bench) -> None:
    a, b = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    value(await b.write(block=1, data=BLOCK))
    value(await a.preempt(key=A, victim=B, type=WE_RO, abort=False))
    assert await keys_of(a) == [A]
    after = await b.write(block=1, data=bytes(512))
    assert isinstance(after, Conflict)
    told = AttentionKind.REGISTRATIONS_PREEMPTED if bench.is_exact else AttentionKind.RESERVATIONS_PREEMPTED
    assert [item.kind for item in after.attentions] == [told]
    assert isinstance(await b.flush(), Conflict)
    assert value(await b.read(block=1, count=1)) == BLOCK
    assert isinstance(await b.preempt(key=B, victim=A, type=WE_RO, abort=False), Conflict)


async def test_preempting_the_holder_takes_the_reservation_over(bench: Bench) -> None:
    a, b = await two(bench)
    value(await b.reserve(key=B, type=WE_RO))
    value(await a.preempt(key=A, victim=B, type=WE_RO, abort=False))
    assert await reservation_of(a) == Reservation(key=A, type=WE_RO)
    assert await keys_of(a) == [A]


async def test_preempting_a_key_that_nobody_has_conflicts(bench: Bench) -> None:
    a, _ = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    assert isinstance(await a.preempt(key=A, victim=C, type=WE_RO, abort=False), Conflict)
    assert await keys_of(a) == [A, B]


async def test_preempting_removes_every_nexus_with_the_key(bench: Bench) -> None:
    a, b = await two(bench)
    other = await bench.connect("b-too")
    await register(other, B)
    value(await a.reserve(key=A, type=WE_RO))
    value(await a.preempt(key=A, victim=B, type=WE_RO, abort=False))
    assert await keys_of(a) == [A]
    assert isinstance(await b.write(block=1, data=BLOCK), Conflict)
    assert isinstance(await other.write(block=1, data=BLOCK), Conflict)


async def test_key_zero_preempts_all_registrants(bench: Bench) -> None:
    a, _ = await two(bench)
    await register(await bench.connect("c"), C)
    value(await a.reserve(key=A, type=WE_AR))
    value(await a.preempt(key=A, victim=0, type=WE_RO, abort=False))
    assert await keys_of(a) == [A]
    assert await reservation_of(a) == Reservation(key=A, type=WE_RO)


async def test_key_zero_preempts_nobody_else(bench: Bench) -> None:
    a, _ = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    assert isinstance(await a.preempt(key=A, victim=0, type=WE_RO, abort=False), Failed)
    assert await keys_of(a) == [A, B]


async def test_clearing_removes_everything_and_tells(bench: Bench) -> None:
    a, b = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    value(await b.clear(key=B))
    assert await keys_of(a) == []
    assert await reservation_of(a) is None


async def test_preempt_and_abort_is_known_or_refused_as_unsupported(bench: Bench) -> None:
    a, _ = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    asked = await a.preempt(key=A, victim=B, type=WE_RO, abort=True)
    if bench.can_abort:
        value(asked)
        assert await keys_of(a) == [A]
    else:
        assert isinstance(asked, Failed)
        assert asked.is_unsupported
        assert await keys_of(a) == [A, B]


async def test_a_reset_keeps_reservations_and_is_told(bench: Bench) -> None:
    a, b = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    value(await a.reset())
    heard = await b.write(block=1, data=BLOCK)
    assert isinstance(heard, Done)
    assert [item.kind for item in heard.attentions] == [AttentionKind.POWER_ON_OR_RESET]
    assert await keys_of(a) == [A, B]
    assert await reservation_of(a) == Reservation(key=A, type=WE_RO)


@pytest.mark.parametrize("wants_to_survive", [False, True])
async def test_a_restart_forgets_unless_asked_not_to_and_can_be_noticed(bench: Bench, wants_to_survive: bool) -> None:
    a = await bench.connect("a")
    asked = await a.register(key=A, existing=None, survives_power_loss=wants_to_survive)
    if wants_to_survive and not bench.survives_power_loss:
        assert isinstance(asked, Failed)
        return
    value(await a.reserve(key=A, type=WE_RO))
    await bench.restart()
    assert isinstance(await a.check(), Failed | Unknown)
    again = await bench.connect("a")
    seen = await again.read_keys()
    assert [item.kind for item in seen.attentions][:1] == [AttentionKind.POWER_ON_OR_RESET]
    assert value(seen).keys == ((A,) if wants_to_survive else ())
    assert value(seen).generation == 0
    stranger = await bench.connect("b")
    assert isinstance(await stranger.write(block=1, data=BLOCK), Conflict if wants_to_survive else Done)


async def test_capabilities_are_told(bench: Bench) -> None:
    told = value(await (await bench.connect("a")).capabilities())
    assert told.can_survive_power_loss is bench.survives_power_loss
    assert WE_RO in told.types


async def test_full_status_names_initiators_where_the_target_can(bench: Bench) -> None:
    a, _ = await two(bench)
    value(await a.reserve(key=A, type=WE_RO))
    told = await a.read_full_status()
    if not bench.is_exact:
        assert isinstance(told, Failed)
        assert told.is_unsupported
        return
    assert [(item.key, item.is_holder) for item in value(told).registrations] == [(A, True), (B, False)]
    assert value(told).registrations[0].initiator.startswith("iqn.2026-11.test:a")


async def test_a_target_that_does_not_answer_leaves_it_unknown(bench: Bench) -> None:
    lun = await bench.connect("a", timeout_ms=300)
    value(await lun.check())
    bench.hang()
    began = asyncio.get_running_loop().time()
    assert isinstance(await lun.register(key=A, existing=None, survives_power_loss=False), Unknown)
    assert asyncio.get_running_loop().time() - began < 5
    assert isinstance(await lun.reset(), Unknown)
    bench.recover()


async def test_a_closed_way_sends_nothing(bench: Bench) -> None:
    lun = await bench.connect("a")
    await bench.restart()
    outcomes = [await lun.check() for _ in range(2)]
    assert isinstance(outcomes[-1], Failed)
