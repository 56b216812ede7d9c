"""A watch that outlives connections, members and leaders.

It remembers the next revision it owes its reader and asks the next member from there. Source: port.Store.watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from holdfast.store import port
from holdfast.store.errors import Compacted
from holdfast.store.etcd import translate
from holdfast.store.etcd.calls import WATCH
from holdfast.store.etcd.connection import Rejected, StreamReader, Unanswered
from holdfast.store.etcd.endpoints import Endpoint, Endpoints
from holdfast.store.etcd.timing import Timing
from holdfast.store.proto import etcd_pb2 as pb


async def watch(
    endpoints: Endpoints, timing: Timing, prefix: str, from_revision: int
) -> AsyncGenerator[port.WatchBatch, None]:
    """Yield every change of ``from_revision`` and later once, across as many streams as it takes. Raises: Compacted."""
    next_revision = from_revision
    failures = 0
    resting: dict[str, float] = {}
    while True:
        endpoint = _best(endpoints, resting, failures)
        try:
            with endpoints.watched(endpoint):
                async with endpoint.stream(WATCH, _request(prefix, next_revision)) as reader:
                    await _wait_created(reader, timing.read_attempt_s)
                    failures = 0
                    while endpoint is _best(endpoints, resting, failures):
                        for batch in translate.watch_batches(_usable(await reader.read()), next_revision):
                            yield batch
                            next_revision = batch.revision + 1
            continue
        except Unanswered:
            endpoints.suspect(endpoint)
        except (Rejected, _WatchEnded):
            pass
        failures += 1
        resting[endpoint.address] = asyncio.get_running_loop().time() + timing.watch_rest_s
        await asyncio.sleep(min(timing.retry_pause_s * 2 ** min(failures, 8), timing.reconnect_pause_s))


def _best(endpoints: Endpoints, resting: dict[str, float], failures: int) -> Endpoint:
    """The first member worth asking that did not fail this watch lately; in turn, when all of them did.

    A watch moves back to a better member with the next thing that it reads: one that stayed with another node's member
    since the own one was not up yet would hang as soon as that node dies.
    """
    choice = endpoints.preferred()
    now = asyncio.get_running_loop().time()
    rested = [endpoint for endpoint in choice if resting.get(endpoint.address, now) <= now]
    return rested[0] if rested else choice[failures % len(choice)]


class _WatchEnded(Exception):
    """The member ended the watch; it may be opened again from where it was."""


def _request(prefix: str, from_revision: int) -> pb.WatchRequest:
    key, range_end = translate.prefix_range(prefix)
    create = pb.WatchCreateRequest(key=key, range_end=range_end, start_revision=from_revision, progress_notify=True)
    return pb.WatchRequest(create_request=create)


async def _wait_created(reader: StreamReader[pb.WatchResponse], timeout_s: float) -> None:
    """Wait for the member to take the watch. Raises: Unanswered when it does not in time; _WatchEnded."""
    try:
        async with asyncio.timeout(timeout_s):
            _usable(await reader.read())
    except TimeoutError as error:
        raise Unanswered(f"the watch was not taken within {timeout_s:.1f} s") from error


def _usable(response: pb.WatchResponse) -> pb.WatchResponse:
    if response.compact_revision:
        raise Compacted(response.compact_revision)
    if response.canceled:
        raise _WatchEnded(response.cancel_reason)
    return response
