"""`node.addresses`: other addresses for the node that is asked, while it and the cluster run.

Rule of the file: what only this machine knows (its addresses, its ports) is tried first, then the other members of the
database forget what goes, and then one transaction changes the record; all else follows the record. Source:
docs/membership.md (changing addresses).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from holdfast.decide.detection import Standing
from holdfast.decide.networks import (
    Reach,
    changed_addresses,
    check_addresses,
    consequence,
    members_addresses_left,
)
from holdfast.membership.endpoint import Endpoint, parse_endpoint
from holdfast.membership.heartbeat_codec import network_tags
from holdfast.model.errors import Conflict, Refused
from holdfast.model.events import EventCode
from holdfast.model.ids import NetworkName
from holdfast.model.nodes import NodeSpec
from holdfast.model.snapshot import Snapshot
from holdfast.node.commits import Commits
from holdfast.node.line_protocol import Result
from holdfast.node.record_changes import find_node
from holdfast.node.request_params import AddressParams
from holdfast.node.residence import require_own_addresses
from holdfast.node.spec_transactions import as_all_nodes_are, set_node
from holdfast.node.voters import of_two_nodes, seated
from holdfast.store.port import Member, MemberId, Txn
from holdfast.store.records import COORDINATOR

CALL_S: Final = 5.0


class MemberAddresses(Protocol):
    """Where the members of the database call each other."""

    async def members(self, *, timeout_s: float | None = None) -> tuple[Member, ...]:
        """Return the members as one of them knows them."""
        ...

    async def use_peer_urls(
        self, member: MemberId, peer_urls: tuple[str, ...], *, timeout_s: float | None = None
    ) -> None:
        """Have the others call a member at these addresses only. Raises: MemberNotFound, Conflict."""
        ...


class AddressRequests:
    """Changes the addresses of one node. `try_addresses` raises when this machine does not have them."""

    methods: Final = frozenset(("node.addresses",))

    def __init__(
        self,
        commits: Commits,
        members: MemberAddresses,
        try_addresses: Callable[[Mapping[str, str], int], None],
        changing: asyncio.Lock,
    ) -> None:
        """`changing`: held while the members have forgotten an address and the record has it still."""
        self._commits = commits
        self._members = members
        self._try = try_addresses
        self._changing = changing

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer with what follows from it. Raises: Conflict, InvalidInput, NotFound, Refused, Unavailable."""
        assert method in self.methods
        wanted = AddressParams.model_validate(params)
        me = self._commits.life.me
        snapshot = await self._commits.snapshot()
        spec = find_node(snapshot, wanted.node).value
        if spec.name != me and not spec.is_witness:
            raise Refused(
                f"only {spec.name} itself can say whether it has an address, and this is {me}",
                hint=f"give the same command on {spec.name}",
            )
        after = changed_addresses(spec, wanted.addresses)
        network_tags(after)
        check_addresses(snapshot, spec.name, after, await self._reach(snapshot))
        fresh = {network: ip for network, ip in after.items() if ip not in spec.addresses.values()}
        self._try({str(network): ip for network, ip in fresh.items()}, spec.heartbeat_port)
        async with self._changing:
            await self._forget(snapshot, spec, after)
            done = await self._change(wanted, await self._reach(await self._commits.snapshot()))
        text = consequence(spec.name, spec.addresses, done.addresses)
        addresses = {str(network): ip for network, ip in done.addresses.items()}
        yield Result({"node": spec.name, "addresses": addresses, "text": text})

    async def _change(self, wanted: AddressParams, reach: Reach) -> NodeSpec:
        """Change the record; returns it."""

        def attempt(newer: Snapshot) -> tuple[Txn, NodeSpec]:
            before = find_node(newer, wanted.node)
            now = changed_addresses(before.value, wanted.addresses)
            check_addresses(newer, before.value.name, now, reach)
            changed = replace(before.value, addresses=now)
            event = self._commits.events.event(EventCode.NODE_ADDRESSES, before.value.name)
            recorded = self._commits.events.operations(event)
            return as_all_nodes_are(set_node(changed, before=before, events=recorded), newer), changed

        return await self._commits.change(attempt)

    async def _reach(self, snapshot: Snapshot) -> Reach:
        life = self._commits.life
        silent = (Standing.SUSPECT, Standing.LOST)
        troubled = sorted(name for name, judged in life.detector.standing.items() if judged.standing in silent)
        if troubled:
            raise Refused(
                f"{', '.join(troubled)}: silent, and networks are not to change while that is judged",
                hint="try again when holdfast status shows every node as up, fenced or down",
            )
        members = await self._all_members()
        if doubts := of_two_nodes(snapshot, members):
            named = ", ".join(f"{member:x} ({' and '.join(homes)})" for member, homes in doubts.items())
            raise Refused(f"members of the cluster database that are called at addresses of two nodes: {named}")
        by_id = {int(member.id): member for member in members}
        homes = {one.node: by_id[one.id] for one in seated(snapshot, members) if one.node is not None}
        called = {name: tuple(_host(url) for url in member.peer_urls) for name, member in sorted(homes.items())}
        return Reach(heard_on=life.heard_on(snapshot), members=called)

    async def _all_members(self) -> tuple[Member, ...]:
        """The members as of now: etcd 3.4 lists them as one of them last knew, so that one catches up first."""
        await self._commits.store.get(COORDINATOR, timeout_s=CALL_S)
        return await self._members.members(timeout_s=CALL_S)

    async def _forget(self, snapshot: Snapshot, spec: NodeSpec, after: Mapping[NetworkName, str]) -> None:
        """Have the other members call this node's one no more where it will not be."""
        members = await self._all_members()
        seat = next((one.id for one in seated(snapshot, members) if one.node == spec.name), None)
        own = next((member for member in members if int(member.id) == seat), None)
        if own is None:
            return
        left = members_addresses_left([_host(url) for url in own.peer_urls], after)
        urls = tuple(url for url in own.peer_urls if _host(url) in left)
        if urls and urls != own.peer_urls:
            await self._members.use_peer_urls(own.id, urls, timeout_s=CALL_S)


def _host(url: str) -> str:
    return parse_endpoint(url.removeprefix("https://")).address


def try_addresses(addresses: Mapping[str, str], port: int) -> None:
    """Raises: InvalidInput for an address that this machine does not have, Conflict for one whose port is taken."""
    require_own_addresses(addresses)
    for network, address in addresses.items():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, port))
            except OSError as error:
                end = Endpoint(address=address, port=port)
                raise Conflict(
                    f"heartbeats of network {network} need UDP {end}, and another process has it ({error.strerror})",
                    hint=f"see who: ss -lunp 'sport = :{port}'",
                ) from error
