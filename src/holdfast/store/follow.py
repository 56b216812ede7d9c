"""Keep a reader's picture of a prefix current: everything once, then every change, on any store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from holdfast.model.errors import Unavailable
from holdfast.store.errors import Compacted
from holdfast.store.port import Listing, Store, WatchBatch

_RETRY_PAUSE_S = 0.2  # the store's own call has waited for seconds already


async def follow(store: Store, prefix: str) -> AsyncGenerator[Listing | WatchBatch, None]:
    """Yield a full ``Listing``, then each ``WatchBatch`` after it; a new ``Listing`` when history was compacted away.

    It waits for ever while the store is unavailable: silence means only that nothing is known to have changed.
    Whoever needs to know whether the store can be reached writes to it. Source: SAFE-4.
    """
    while True:
        try:
            listing = await store.list(prefix)
        except Unavailable:
            await asyncio.sleep(_RETRY_PAUSE_S)
            continue
        yield listing
        try:
            async with aclosing(store.watch(prefix, from_revision=listing.revision + 1)) as batches:
                async for batch in batches:
                    yield batch
        except Compacted:
            continue
