"""Every consumer hears everything, or is told that it did not."""

from holdfast.hypervisor.event_fanout import BACKLOG, EventFanout
from holdfast.hypervisor.port import ConnectionEvent, ConnectionState, GuestEvent, GuestEventKind

CONNECTED = ConnectionEvent(state=ConnectionState.CONNECTED)


def started(number: int) -> GuestEvent:
    return GuestEvent(uuid=str(number), name="vm", kind=GuestEventKind.STARTED)


async def test_a_new_consumer_hears_the_present_state_first() -> None:
    fanout = EventFanout()
    early = fanout.subscribe()
    fanout.publish(CONNECTED)
    late = fanout.subscribe()
    fanout.publish(started(1))
    first = await anext(early)
    assert isinstance(first, ConnectionEvent)
    assert first.state is ConnectionState.LOST
    assert [await anext(early), await anext(early)] == [CONNECTED, started(1)]
    assert [await anext(late), await anext(late)] == [CONNECTED, started(1)]


async def test_a_slow_consumer_is_told_to_list_again_and_others_lose_nothing() -> None:
    fanout = EventFanout()
    fanout.publish(CONNECTED)
    slow, quick = fanout.subscribe(), fanout.subscribe()
    await anext(quick)
    for number in range(BACKLOG):
        fanout.publish(started(number))
        assert await anext(quick) == started(number)
    missed = await anext(slow)
    assert isinstance(missed, ConnectionEvent)
    assert (missed.state, missed.detail) == (ConnectionState.CONNECTED, "events were missed")
    fanout.publish(started(7))
    assert await anext(slow) == started(7)


async def test_a_consumer_that_went_away_costs_nothing() -> None:
    fanout = EventFanout()
    fanout.subscribe()
    assert len(fanout._subscriptions) == 0
