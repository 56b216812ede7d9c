"""Who votes in etcd, and how each member is. Source: the promises of ``port.StoreAdmin``."""

from __future__ import annotations

import asyncio

from holdfast.model.errors import InvalidInput
from holdfast.store import port
from holdfast.store.errors import StoreUnavailable
from holdfast.store.etcd import calls, translate
from holdfast.store.etcd.client import EtcdConnections
from holdfast.store.etcd.connection import CallFailed
from holdfast.store.etcd.endpoints import Endpoint
from holdfast.store.proto import etcd_pb2 as pb


class EtcdAdmin:
    """``port.StoreAdmin`` on etcd. A change whose outcome is unknown is not repeated: list the members to see."""

    def __init__(self, connections: EtcdConnections) -> None:
        self._endpoints = connections.endpoints
        self._timing = connections.timing
        self._call = connections.caller.call

    async def members(self, *, timeout_s: float | None = None) -> tuple[port.Member, ...]:
        """Return the members as of now. etcd 3.4 does not know how: it answers as the one that is asked knows them."""
        request = pb.MemberListRequest(linearizable=True)
        response = await self._call(calls.MEMBER_LIST, request, is_repeatable=True, timeout_s=timeout_s)
        return tuple(translate.member(member) for member in response.members)

    async def add_learner(self, peer_urls: tuple[str, ...], *, timeout_s: float | None = None) -> port.Member:
        """Add a member without a vote."""
        request = pb.MemberAddRequest(peerURLs=peer_urls, isLearner=True)
        response = await self._call(calls.MEMBER_ADD, request, is_repeatable=False, timeout_s=timeout_s)
        return translate.member(response.member)

    async def promote(self, member: port.MemberId, *, timeout_s: float | None = None) -> None:
        """Give a learner its vote."""
        request = pb.MemberPromoteRequest(ID=member)
        await self._call(calls.MEMBER_PROMOTE, request, is_repeatable=False, timeout_s=timeout_s)

    async def use_peer_urls(
        self, member: port.MemberId, peer_urls: tuple[str, ...], *, timeout_s: float | None = None
    ) -> None:
        """Have the others call a member at these addresses from now on."""
        request = pb.MemberUpdateRequest(ID=member, peerURLs=peer_urls)
        await self._call(calls.MEMBER_UPDATE, request, is_repeatable=False, timeout_s=timeout_s)

    async def remove(self, member: port.MemberId, *, timeout_s: float | None = None) -> None:
        """Remove a member for good."""
        request = pb.MemberRemoveRequest(ID=member)
        await self._call(calls.MEMBER_REMOVE, request, is_repeatable=False, timeout_s=timeout_s)

    async def move_leader(self, to: port.MemberId, *, timeout_s: float | None = None) -> None:
        """Have another voter lead. Only the leader takes this, so every member that is known is asked in turn."""
        request = pb.MoveLeaderRequest(targetID=to)
        failure: CallFailed | None = None
        for endpoint in self._endpoints.preferred():
            try:
                await endpoint.call(calls.MOVE_LEADER, request, timeout_s=timeout_s or self._timing.read_attempt_s)
            except CallFailed as error:
                failure = error
                continue
            return
        raise StoreUnavailable(f"no member of the database handed its lead over ({failure})")

    async def answering(self, *, timeout_s: float) -> frozenset[port.MemberId]:
        """Ask every member that this node knows of, at once; return who says that it has a leader."""

        async def ask(endpoint: Endpoint) -> port.MemberStatus | None:
            try:
                return translate.member_status(
                    await endpoint.call(calls.STATUS, pb.StatusRequest(), timeout_s=timeout_s)
                )
            except CallFailed:
                return None

        found = await asyncio.gather(*map(ask, self._endpoints.every()))
        return frozenset(one.member_id for one in found if one is not None and one.leader_id is not None)

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> port.MemberStatus:
        """Ask one member (``host:port``), or the preferred one that answers, how it is."""
        request = pb.StatusRequest()
        if endpoint is None:
            return translate.member_status(
                await self._call(calls.STATUS, request, is_repeatable=True, timeout_s=timeout_s)
            )
        target = self._endpoints.named(endpoint)
        if target is None:
            raise InvalidInput(f"{endpoint!r} is not a member of the cluster database that this node knows")
        try:
            return translate.member_status(
                await target.call(calls.STATUS, request, timeout_s=timeout_s or self._timing.read_attempt_s)
            )
        except CallFailed as error:
            raise StoreUnavailable(f"database member {endpoint} does not say how it is ({error})") from error
