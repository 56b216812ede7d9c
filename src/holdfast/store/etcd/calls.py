"""The calls of etcd's API that Holdfast makes: path, messages, and whether the member must know a leader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from grpclib.const import Cardinality

from holdfast.store.proto import etcd_pb2 as pb

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Request, Reply]):
    """One remote call. ``needs_leader`` makes a member refuse at once, undone, while it knows no leader."""

    path: str
    request: type[Request]
    reply: type[Reply]
    cardinality: Cardinality = Cardinality.UNARY_UNARY
    needs_leader: bool = True


RANGE = Call(path="/etcdserverpb.KV/Range", request=pb.RangeRequest, reply=pb.RangeResponse)
TXN = Call(path="/etcdserverpb.KV/Txn", request=pb.TxnRequest, reply=pb.TxnResponse)
WATCH = Call(
    path="/etcdserverpb.Watch/Watch",
    request=pb.WatchRequest,
    reply=pb.WatchResponse,
    cardinality=Cardinality.STREAM_STREAM,
)
LEASE_GRANT = Call(path="/etcdserverpb.Lease/LeaseGrant", request=pb.LeaseGrantRequest, reply=pb.LeaseGrantResponse)
LEASE_REVOKE = Call(path="/etcdserverpb.Lease/LeaseRevoke", request=pb.LeaseRevokeRequest, reply=pb.LeaseRevokeResponse)
LEASE_KEEP_ALIVE = Call(
    path="/etcdserverpb.Lease/LeaseKeepAlive",
    request=pb.LeaseKeepAliveRequest,
    reply=pb.LeaseKeepAliveResponse,
    cardinality=Cardinality.STREAM_STREAM,
)
MEMBER_LIST = Call(
    path="/etcdserverpb.Cluster/MemberList",
    request=pb.MemberListRequest,
    reply=pb.MembersResponse,
    needs_leader=False,
)
MEMBER_ADD = Call(path="/etcdserverpb.Cluster/MemberAdd", request=pb.MemberAddRequest, reply=pb.MemberAddResponse)
MEMBER_PROMOTE = Call(
    path="/etcdserverpb.Cluster/MemberPromote", request=pb.MemberPromoteRequest, reply=pb.MembersResponse
)
MEMBER_UPDATE = Call(
    path="/etcdserverpb.Cluster/MemberUpdate", request=pb.MemberUpdateRequest, reply=pb.MembersResponse
)
MEMBER_REMOVE = Call(
    path="/etcdserverpb.Cluster/MemberRemove", request=pb.MemberRemoveRequest, reply=pb.MembersResponse
)
MOVE_LEADER = Call(
    path="/etcdserverpb.Maintenance/MoveLeader", request=pb.MoveLeaderRequest, reply=pb.MoveLeaderResponse
)
STATUS = Call(
    path="/etcdserverpb.Maintenance/Status",
    request=pb.StatusRequest,
    reply=pb.StatusResponse,
    needs_leader=False,
)
