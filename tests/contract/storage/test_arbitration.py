"""Protecting, looking and expelling, on the simulated target and on tgtd."""

from __future__ import annotations

import asyncio

import pytest
from tests.contract.storage.conftest import Bench

from holdfast.storage.arbitration import (
    AbortMethod,
    Expelled,
    Protected,
    RefusalReason,
    Refused,
    expel,
    expel_everywhere,
    look,
    protect,
    settle,
)
from holdfast.storage.outcome import Conflict, Done, Unknown
from holdfast.storage.port import Lun
from holdfast.storage.scsi.reservations import Reservation, ReservationType

A, B, C = 0xA, 0xB, 0xC
WE_RO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
BLOCK = b"holdfast" * 64


async def protected(bench: Bench, name: str, key: int, disk: int = 1) -> Lun:
    lun = await bench.connect(name, disk)
    outcome = await protect(lun, key)
    assert isinstance(outcome, Protected), outcome
    return lun


async def test_everyone_who_protects_may_write_and_nobody_else(bench: Bench) -> None:
    a, b = await protected(bench, "a", A), await protected(bench, "b", B)
    stranger = await bench.connect("c")
    assert isinstance(await a.write(block=0, data=BLOCK), Done)
    assert isinstance(await b.write(block=0, data=BLOCK), Done)
    assert isinstance(await stranger.write(block=0, data=bytes(512)), Conflict)
    seen = await look(stranger)
    assert isinstance(seen, Done)
    assert sorted(seen.value.keys) == [A, B]
    assert seen.value.reservation == Reservation(key=A, type=WE_RO)


async def test_protecting_again_changes_nothing_and_tells_what_survives(bench: Bench) -> None:
    a = await protected(bench, "a", A)
    again = await protect(a, A)
    assert isinstance(again, Protected)
    assert again.holders.keys == (A,)
    assert again.survives_power_loss is bench.survives_power_loss


async def test_a_new_incarnation_replaces_its_old_key(bench: Bench) -> None:
    a = await protected(bench, "a", A)
    assert isinstance(await protect(a, C), Protected)
    seen = await look(a)
    assert isinstance(seen, Done)
    assert seen.value.keys == (C,)


async def test_an_expelled_node_writes_no_more_and_is_proven_gone(bench: Bench) -> None:
    """SAFE-1, SAFE-2."""
    a, b = await protected(bench, "a", A), await protected(bench, "b", B)
    outcome = await expel(a, A, victim=B)
    assert isinstance(outcome, Expelled)
    assert outcome.how is (AbortMethod.PREEMPT_AND_ABORT if bench.can_abort else AbortMethod.LUN_RESET)
    assert outcome.holders.keys == (A,)
    assert outcome.holders.reservation == Reservation(key=A, type=WE_RO)
    assert isinstance(await b.write(block=0, data=BLOCK), Conflict)
    assert isinstance(await a.write(block=0, data=BLOCK), Done)


async def test_the_holder_is_expelled_like_anyone_else(bench: Bench) -> None:
    a, b = await protected(bench, "a", A), await protected(bench, "b", B)
    assert isinstance(await expel(b, B, victim=A), Expelled)
    assert isinstance(await a.write(block=0, data=BLOCK), Conflict)
    assert isinstance(await b.write(block=0, data=BLOCK), Done)


async def test_expelling_again_proves_it_again(bench: Bench) -> None:
    a = await protected(bench, "a", A)
    await protected(bench, "b", B)
    assert isinstance(await expel(a, A, victim=B), Expelled)
    again = await expel(a, A, victim=B)
    assert isinstance(again, Expelled)
    assert again.how is AbortMethod.LUN_RESET, "who did not see the abort done must see to it"


async def test_of_two_that_expel_each_other_one_wins(bench: Bench) -> None:
    a, b = await protected(bench, "a", A), await protected(bench, "b", B)
    outcomes = await asyncio.gather(expel(a, A, victim=B), expel(b, B, victim=A))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Expelled", "Refused"]
    loser = next(outcome for outcome in outcomes if isinstance(outcome, Refused))
    assert loser.reason is RefusalReason.NOT_REGISTERED


async def test_two_that_expel_the_same_both_prove_it(bench: Bench) -> None:
    a, c = await protected(bench, "a", A), await protected(bench, "c", C)
    await protected(bench, "b", B)
    outcomes = await asyncio.gather(expel(a, A, victim=B), expel(c, C, victim=B))
    assert [type(outcome) for outcome in outcomes] == [Expelled, Expelled]


async def test_who_is_not_registered_expels_nobody(bench: Bench) -> None:
    await protected(bench, "b", B)
    outcome = await expel(await bench.connect("a"), A, victim=B)
    assert isinstance(outcome, Refused)
    assert outcome.reason is RefusalReason.NOT_REGISTERED


async def test_a_missing_reservation_is_made_before_anyone_counts_as_expelled(bench: Bench) -> None:
    """Without a reservation, the unregistered write as they please. SAFE-1."""
    a, b = await bench.connect("a"), await bench.connect("b")
    for lun, key in ((a, A), (b, B)):
        assert isinstance(await lun.register(key=key, existing=None, survives_power_loss=False), Done)
    outcome = await expel(a, A, victim=B)
    assert isinstance(outcome, Expelled)
    assert isinstance(await b.write(block=0, data=BLOCK), Conflict)


@pytest.mark.parametrize("kind", [ReservationType.WRITE_EXCLUSIVE, ReservationType.EXCLUSIVE_ACCESS])
async def test_a_foreign_reservation_is_left_alone(bench: Bench, kind: ReservationType) -> None:
    foreign = await bench.connect("foreign")
    assert isinstance(await foreign.register(key=C, existing=None, survives_power_loss=False), Done)
    assert isinstance(await foreign.reserve(key=C, type=kind), Done)
    outcome = await protect(await bench.connect("a"), A)
    assert isinstance(outcome, Refused)
    assert outcome.reason is RefusalReason.FOREIGN_RESERVATION
    seen = await look(foreign)
    assert isinstance(seen, Done)
    assert seen.value.keys == (C,)
    assert seen.value.reservation == Reservation(key=C, type=kind)


async def test_after_a_restart_that_forgot_nobody_is_expelled_without_protecting_first(bench: Bench) -> None:
    await protected(bench, "a", A)
    await protected(bench, "b", B)
    await bench.restart()
    outcome = await expel(await bench.connect("a"), A, victim=B)
    if bench.survives_power_loss:
        assert isinstance(outcome, Expelled)
    else:
        assert isinstance(outcome, Refused)
        assert outcome.reason is RefusalReason.NOT_REGISTERED


async def test_a_silent_target_proves_nothing(bench: Bench) -> None:
    """SAFE-2: unknown is not expelled."""
    await protected(bench, "b", B)
    a = await bench.connect("a", timeout_ms=100)
    assert isinstance(await protect(a, A), Protected)
    bench.hang()
    assert isinstance(await expel(a, A, victim=B), Unknown)
    bench.recover()


async def test_all_luns_are_taken_at_once(bench: Bench) -> None:
    mine = [await protected(bench, "a", A, disk) for disk in (1, 2)]
    theirs = [await protected(bench, "b", B, disk) for disk in (1, 2)]
    outcomes = await expel_everywhere(mine, A, victim=B)
    assert [type(outcome) for outcome in outcomes] == [Expelled, Expelled]
    for lun in theirs:
        assert isinstance(await lun.write(block=0, data=BLOCK), Conflict)


async def test_safe_1_who_wrote_before_is_expelled_and_may_come_back_by_itself(bench: Bench) -> None:
    a, b, c = await protected(bench, "a", A), await protected(bench, "b", B), await protected(bench, "c", C)
    assert await settle(a, A, earlier=(B,)) is None
    assert isinstance(await b.write(block=0, data=BLOCK), Conflict)
    assert isinstance(await c.write(block=0, data=BLOCK), Done)
    assert isinstance(await protect(b, B), Protected)
    assert isinstance(await b.write(block=0, data=BLOCK), Done)


async def test_safe_1_when_it_is_not_known_who_wrote_before_all_others_are_expelled(bench: Bench) -> None:
    a, b, c = await protected(bench, "a", A), await protected(bench, "b", B), await protected(bench, "c", C)
    assert await settle(a, A, earlier=None) is None
    for other in (b, c):
        assert isinstance(await other.write(block=0, data=BLOCK), Conflict)
    assert isinstance(await a.write(block=0, data=BLOCK), Done)


async def test_where_nobody_wrote_before_nobody_is_expelled(bench: Bench) -> None:
    a, b = await protected(bench, "a", A), await protected(bench, "b", B)
    assert await settle(a, A, earlier=()) is None
    assert await settle(a, A, earlier=(A,)) is None
    assert isinstance(await b.write(block=0, data=BLOCK), Done)


async def test_safe_1_what_a_silent_target_was_sent_before_is_not_settled(bench: Bench) -> None:
    await protected(bench, "b", B)
    a = await bench.connect("a", timeout_ms=100)
    assert isinstance(await protect(a, A), Protected)
    bench.hang()
    for earlier in ((A,), (B,), None):
        assert isinstance(await settle(a, A, earlier=earlier), Unknown)
    bench.recover()
