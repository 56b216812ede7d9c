"""What one member has stored, without asking any other: what is left when the majority is gone.

Rule of the file: it may be behind, and proves nothing; only a new generation begins from it. Source: SAFE-4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from holdfast.store import port
from holdfast.store.etcd import calls, translate
from holdfast.store.etcd.client import EtcdConnections
from holdfast.store.proto import etcd_pb2 as pb

_RANGE: Final = replace(calls.RANGE, needs_leader=False)


async def read_own_copy(own: EtcdConnections, prefix: str, *, timeout_s: float) -> port.Listing:
    """Return every key below `prefix` as the only member of `own` has applied it. Raises: StoreUnavailable."""
    key, range_end = translate.prefix_range(prefix)
    request = pb.RangeRequest(key=key, range_end=range_end, serializable=True)
    response = await own.caller.call(_RANGE, request, is_repeatable=True, timeout_s=timeout_s)
    return port.Listing(revision=response.header.revision, items=tuple(translate.key_value(kv) for kv in response.kvs))
