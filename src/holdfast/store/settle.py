"""Bring a guarded transaction to a known end although answers get lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from holdfast.store.errors import StoreFull, StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.port import Put, Store, Txn, TxnResult

_PAUSE_S = 0.02


async def txn_settled(store: Store, txn: Txn, *, until: float, attempt_s: float = 0.15) -> TxnResult:
    """Repeat a guarded transaction until its outcome is known, or the event loop's time reaches ``until``.

    Guarded means: once ``txn`` is done, its own compares no longer hold, so a second attempt, or a first one that
    arrives late, does nothing. When a repeat fails its compares, the values that it would have put tell whether an
    earlier attempt did it; so at least one of them must be unique to this transaction (name its author and purpose).
    The result's ``read`` holds ``otherwise_read`` and the keys put. ``attempt_s`` bounds one attempt: short, since
    what was sent to a leader that died is lost, and a repeat is harmless.

    Raises: StoreOutcomeUnknown when any attempt may still have an effect, else StoreUnavailable; StoreFull.
    """
    time = asyncio.get_running_loop().time
    put_keys = tuple(operation.key for operation in txn.then if isinstance(operation, Put))
    txn = replace(txn, otherwise_read=tuple(dict.fromkeys(txn.otherwise_read + put_keys)))
    unknown: StoreOutcomeUnknown | None = None
    while True:
        try:
            result = await store.txn(txn, timeout_s=max(0.0, min(attempt_s, until - time())))
        except StoreOutcomeUnknown as error:
            unknown = error
            failure: StoreOutcomeUnknown | StoreUnavailable = error
        except StoreFull:
            raise
        except StoreUnavailable as error:
            failure = unknown or error
        else:
            return (unknown and _own_effect(txn, result)) or result
        if time() >= until:
            raise failure
        await asyncio.sleep(_PAUSE_S)


def _own_effect(txn: Txn, result: TxnResult) -> TxnResult | None:
    """Return the success of an earlier attempt, if exactly its values stand, all written at one revision."""
    wanted = {operation.key: operation.value for operation in txn.then if isinstance(operation, Put)}
    found = {kv.key: kv for kv in result.read if kv.key in wanted}
    revisions = {kv.mod_revision for kv in found.values()}
    if len(revisions) != 1 or {key: kv.value for key, kv in found.items()} != wanted:
        return None
    return TxnResult(succeeded=True, revision=revisions.pop())
