"""What an error answer of etcd means for the caller: done, certainly not done, or unknown.

Rule of the file: an answer that is not listed leaves a write unknown. Listed is what etcd answers before it
proposes the request to raft, or when it refuses to apply it. Source: etcd 3.4 etcdserver/api/v3rpc/rpctypes/error.go.
"""

from __future__ import annotations

from holdfast.model.errors import Conflict, HoldfastError, InvalidInput
from holdfast.store.errors import (
    LeaseNotFound,
    MemberChangeRefused,
    MemberNotFound,
    StoreFull,
)
from holdfast.store.etcd.connection import Rejected

# Another member, or the same a moment later, may take it: nothing was proposed.
_NOT_TAKEN = frozenset(
    {
        "etcdserver: no leader",
        "etcdserver: not capable",
        "etcdserver: rpc not supported for learner",
        "etcdserver: too many requests",
        "raft proposal dropped",
    }
)

_INVALID = frozenset(
    {
        "etcdserver: key is not provided",
        "etcdserver: too many operations in txn request",
        "etcdserver: duplicate key given in txn request",
        "etcdserver: request is too large",
        "etcdserver: too large lease TTL",
        "etcdserver: given member URLs are invalid",
    }
)

_MEMBER_CHANGE_REFUSED = frozenset(
    {
        "etcdserver: unhealthy cluster",
        "etcdserver: re-configuration failed due to not enough started members",
        "etcdserver: can only promote a learner member which is in sync with leader",
        "etcdserver: can only promote a learner member",
        "etcdserver: too many learner members in cluster",
    }
)


def is_not_taken(rejected: Rejected) -> bool:
    """Tell whether the member certainly did nothing and the request may be sent again."""
    return rejected.message in _NOT_TAKEN


def final_error(rejected: Rejected) -> HoldfastError | None:
    """Return the error that settles the call, nothing having been done; None when the answer settles nothing."""
    message = rejected.message
    if message == "etcdserver: requested lease not found":
        return LeaseNotFound("the lease has ended", hint="grant a new lease")
    if message == "etcdserver: mvcc: database space exceeded":
        return StoreFull(
            "the cluster database has reached its size limit and refuses writes",
            hint="defragment its members, then disarm the alarm: etcdctl defrag; etcdctl alarm disarm",
        )
    if message == "etcdserver: member not found":
        return MemberNotFound("the cluster database has no such member")
    if message in {"etcdserver: Peer URLs already exists", "etcdserver: member ID already exist"}:
        return Conflict("the cluster database has a member with this peer address already")
    if message in _MEMBER_CHANGE_REFUSED:
        return MemberChangeRefused(f"the cluster database refuses to change its members: {message}")
    if message in _INVALID:
        return InvalidInput(f"the cluster database cannot take the request: {message}")
    return None
