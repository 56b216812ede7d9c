"""Between the port's values and etcd's messages. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import assert_never

from holdfast.store import port
from holdfast.store.proto import etcd_pb2 as pb


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """Return etcd's ``[key, range_end)`` that holds exactly the keys with this prefix; all keys for the empty one."""
    start = prefix.encode()
    trimmed = start.rstrip(b"\xff")
    if not trimmed:
        return b"\x00", b"\x00"
    return start, trimmed[:-1] + bytes([trimmed[-1] + 1])


def key_value(kv: pb.KeyValue) -> port.KeyValue:
    """Translate one key as etcd stores it."""
    return port.KeyValue(
        key=kv.key.decode(),
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def _compare(compare: port.Compare) -> pb.Compare:
    match compare:
        case port.ModRevision(key, equals=revision):
            return pb.Compare(target=pb.Compare.MOD, key=key.encode(), mod_revision=revision)
        case port.CreateRevision(key, equals=revision):
            return pb.Compare(target=pb.Compare.CREATE, key=key.encode(), create_revision=revision)
        case port.Value(key, equals=value):
            return pb.Compare(target=pb.Compare.VALUE, key=key.encode(), value=value)
        case port.NoneNewer(prefix, than=revision):
            start, end = prefix_range(prefix)
            older, mod = pb.Compare.LESS, pb.Compare.MOD
            return pb.Compare(result=older, target=mod, key=start, range_end=end, mod_revision=revision + 1)
        case _:
            assert_never(compare)


def _operation(operation: port.Operation) -> pb.RequestOp:
    match operation:
        case port.Put(key=key, value=value, lease=lease):
            return pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=value, lease=lease or 0))
        case port.Delete(key=key):
            return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key.encode()))
        case port.DeletePrefix(prefix=prefix):
            key_bytes, range_end = prefix_range(prefix)
            return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key_bytes, range_end=range_end))
        case _:
            assert_never(operation)


def txn_request(txn: port.Txn) -> pb.TxnRequest:
    """Translate a transaction."""
    return pb.TxnRequest(
        compare=[_compare(compare) for compare in txn.compares],
        success=[_operation(operation) for operation in txn.then],
        failure=[pb.RequestOp(request_range=pb.RangeRequest(key=key.encode())) for key in txn.otherwise_read],
    )


def txn_result(response: pb.TxnResponse) -> port.TxnResult:
    """Translate what a transaction did."""
    found = () if response.succeeded else tuple(kv for op in response.responses for kv in op.response_range.kvs)
    return port.TxnResult(
        succeeded=response.succeeded,
        revision=response.header.revision,
        read=tuple(key_value(kv) for kv in found),
    )


def _change(event: pb.Event) -> port.Change:
    if event.type == pb.Event.DELETE:
        return port.Deleted(key=event.kv.key.decode(), mod_revision=event.kv.mod_revision)
    return key_value(event.kv)


def watch_batches(response: pb.WatchResponse, next_revision: int) -> Iterator[port.WatchBatch]:
    """Cut a watch message into one batch per revision, dropping what was seen before ``next_revision``.

    etcd 3.4 may send events again after a member caught up by snapshot. A message without events is progress.
    Only notices that etcd sends on its own count: the answer to a progress *request* can overtake events before 3.4.25.
    Source: etcd CHANGELOG-3.4, "Requested watcher progress notifications are not synchronised with stream".
    """
    for revision, events in groupby(response.events, key=lambda event: event.kv.mod_revision):
        if revision >= next_revision:
            yield port.WatchBatch(revision=revision, changes=tuple(_change(event) for event in events))
    if not (response.events or response.created or response.canceled) and response.header.revision >= next_revision:
        yield port.WatchBatch(revision=response.header.revision)


def member(message: pb.Member) -> port.Member:
    """Translate one member of the database cluster."""
    return port.Member(
        id=port.MemberId(message.ID),
        name=message.name,
        peer_urls=tuple(message.peerURLs),
        client_urls=tuple(message.clientURLs),
        is_learner=message.isLearner,
    )


def member_status(message: pb.StatusResponse) -> port.MemberStatus:
    """Translate what a member says of itself."""
    return port.MemberStatus(
        member_id=port.MemberId(message.header.member_id),
        leader_id=port.MemberId(message.leader) if message.leader else None,
        raft_term=message.raftTerm,
        raft_index=message.raftIndex,
        database_bytes=message.dbSize,
        version=message.version,
        is_learner=message.isLearner,
    )
