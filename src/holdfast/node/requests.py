"""What a person may ask of this node through the local socket.

Rule of the file: reads are answered from the mirror; every change is one guarded transaction, tried again on a fresh
snapshot when something else changed meanwhile. Source: SAFE-4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, Protocol
from uuid import uuid4

from holdfast.hypervisor.domain_xml import parse_guest
from holdfast.model.errors import NotFound, Refused, Unavailable
from holdfast.model.events import Event, EventCode
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import Proof, ProofKind
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.roles import RoleSpec, Wanted
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import Progress, RoleState, RoleStatus
from holdfast.node.address_requests import AddressRequests, try_addresses
from holdfast.node.balance_requests import BalanceRequests
from holdfast.node.certificate_requests import CertificateRequests
from holdfast.node.commits import Commits
from holdfast.node.documents import (
    cluster_status,
    explanation,
    node_status,
    quorum_status,
)
from holdfast.node.event_words import event_line
from holdfast.node.eviction_requests import EvictionRequests, Revoke, revokes_nothing
from holdfast.node.history import moves_of
from holdfast.node.iscsi_requests import READS as ISCSI_READS
from holdfast.node.iscsi_requests import IscsiRequests
from holdfast.node.key_requests import KeyRequests
from holdfast.node.life import Life
from holdfast.node.line_protocol import Result
from holdfast.node.maintenance_requests import MaintenanceRequests
from holdfast.node.member import device_of
from holdfast.node.member_calls import MemberCalls
from holdfast.node.member_restart import MemberRestart
from holdfast.node.record_changes import (
    changed_node,
    check_addition,
    find_node,
    find_role,
    is_owned,
    new_role,
    unproven_verdict,
    with_choices,
)
from holdfast.node.request_params import (
    AddParams,
    ConfirmParams,
    EventParams,
    HistoryParams,
    NodeParams,
    NodeSetParams,
    RemoveParams,
    RoleParams,
    RoleSetParams,
    TokenParams,
)
from holdfast.node.settings_requests import READS as SETTINGS_READS
from holdfast.node.settings_requests import SettingsRequests
from holdfast.node.shutdown_requests import ShutdownRequests
from holdfast.node.spec_transactions import add_role, remove_role, set_node, set_role
from holdfast.node.storage_requests import READS as STORAGE_READS
from holdfast.node.storage_requests import StorageRequests
from holdfast.node.transactions import record_proof
from holdfast.storage.open_iscsi.initiator import OpenIscsi
from holdfast.store.port import Store, Txn
from holdfast.store.records import EVENTS, decode

WAIT_S: Final = 180.0
STREAM_LENGTH: Final = 1000
EVENTS_READ: Final = 100_000
"""More than are ever kept."""
READS: Final = STORAGE_READS.union(
    ISCSI_READS,
    SETTINGS_READS,
    ("status", "status.watch", "quorum.show", "explain", "events", "events.follow", "role.history"),
    ("vm.xml", "node.fence-test", "certificate.list"),
)
"""What is answered without a majority of voters; everything else is refused at once, with nothing sent."""


class Tokens(Protocol):
    """Who makes join tokens."""

    async def create_token(self, ttl_ms: int) -> tuple[str, int]:
        """A token and the wall-clock ms until which it can be used."""


class Requests:
    """Answers requests about the cluster that one node lives in."""

    def __init__(
        self,
        life: Life,
        store: Store,
        tokens: Tokens,
        revoke: Revoke = revokes_nothing,
        calls: MemberCalls | None = None,
    ) -> None:
        """`calls` None: the addresses of this node are somebody else's business."""
        self._life = life
        self._store = store
        self._events = life.events
        self._tokens = tokens
        self._commits = Commits(life, store)
        self._parts = (
            MaintenanceRequests(self._commits),
            BalanceRequests(self._commits),
            EvictionRequests(self._commits, revoke),
            CertificateRequests(self._commits),
            KeyRequests(self._commits),
            ShutdownRequests(self._commits),
            StorageRequests(self._commits),
            IscsiRequests(self._commits, OpenIscsi()),
            SettingsRequests(self._commits),
            *(() if calls is None else self._about_member(calls)),
        )

    def _about_member(self, calls: MemberCalls) -> tuple[AddressRequests, MemberRestart]:
        addresses = AddressRequests(self._commits, calls.members, try_addresses, calls.changing)
        return addresses, MemberRestart(self._commits, calls, lambda: self._life.session)

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer one request: items first, a `Result` last."""
        if method not in READS and not await self._commits.database_answers():
            raise Unavailable(
                f"no majority of voters of the cluster database answers, so {method} is refused; nothing was done",
                hint="guests run on where at least half of the voters hear their node; "
                "check that a majority of the voters is up (holdfast status), then try again",
            )
        for part in self._parts:
            if method in part.methods:
                async for item in part.handle(method, params):
                    yield item
                return
        if method in self._streams:
            async for item in self._streams[method](self, params):
                yield item
        elif method in self._answers:
            yield Result(await self._answers[method](self, params))
        else:
            raise NotFound(
                f"there is no method {method!r}", hint="CLI and daemon differ in version: holdfast --version"
            )

    async def _status(self, _: dict[str, Any]) -> object:
        snapshot = await self._commits.snapshot()
        return cluster_status(snapshot, await self._commits.view(snapshot))

    async def _quorum(self, _: dict[str, Any]) -> object:
        snapshot = await self._commits.snapshot()
        return quorum_status(snapshot, await self._commits.view(snapshot))

    async def _watch_status(self, _: dict[str, Any]) -> AsyncGenerator[object, None]:
        changed = self._life.mirror.subscribe()
        while True:
            yield await self._status({})
            try:
                async with asyncio.timeout(2.0):
                    await changed.wait()
            except TimeoutError:
                continue
            changed.clear()
            await asyncio.sleep(0.1)

    async def _explain(self, params: dict[str, Any]) -> object:
        role = RoleParams.model_validate(params).role
        snapshot = await self._commits.snapshot()
        find_role(snapshot, role)
        return explanation(RoleName(role), snapshot, await self._commits.view(snapshot))

    async def _list_events(self, params: dict[str, Any]) -> object:
        return [event_line(event) for _, event in await self._last_events(EventParams.model_validate(params).limit)]

    async def _follow_events(self, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        queue: asyncio.Queue[tuple[str, Event]] = asyncio.Queue(maxsize=STREAM_LENGTH)

        def take(key: str, event: Event) -> None:
            if not queue.full():
                queue.put_nowait((key, event))

        stop = self._life.mirror.on_event(take)
        try:
            shown = set()
            for key, event in await self._last_events(EventParams.model_validate(params).limit):
                shown.add(key)
                yield event_line(event)
            while True:
                key, event = await queue.get()
                if key not in shown:
                    yield event_line(event)
        finally:
            stop()

    async def _last_events(self, limit: int) -> list[tuple[str, Event]]:
        listing = await self._store.list(EVENTS)
        chosen = listing.items[-limit:] if limit else ()
        return [(item.key, decode(Event, item.key, item.value)) for item in chosen]

    async def _history(self, params: dict[str, Any]) -> object:
        wanted = HistoryParams.model_validate(params)
        name = find_role(await self._commits.snapshot(), wanted.role).value.name
        events = [event for _, event in await self._last_events(EVENTS_READ)]
        return moves_of(name, events)[-wanted.limit :]

    async def _create_token(self, params: dict[str, Any]) -> object:
        ttl_s = TokenParams.model_validate(params).ttl_s
        token, expires_at_ms = await self._tokens.create_token(ttl_s * 1000)
        return {"token": token, "expires_at_ms": expires_at_ms}

    async def _set_node(self, params: dict[str, Any]) -> object:
        wanted = NodeSetParams.model_validate(params)

        def attempt(snapshot: Snapshot) -> tuple[Txn, NodeName]:
            before = find_node(snapshot, wanted.node)
            return set_node(changed_node(before.value, wanted, snapshot), before=before, events=()), before.value.name

        name = await self._commits.change(attempt)
        snapshot = await self._commits.snapshot()
        return node_status(name, snapshot, await self._commits.view(snapshot))

    async def _test_fence(self, params: dict[str, Any]) -> object:
        node = find_node(await self._commits.snapshot(), NodeParams.model_validate(params).node).value
        if node.fence is None:
            raise Refused(
                f"node {node.name} has no fence device",
                hint=f"give it one: holdfast node set {node.name} --fence-agent AGENT --fence-option KEY=VALUE",
            )
        reading = await device_of(node.fence).status()
        return {"state": reading.state, "detail": reading.detail}

    async def _confirm_down(self, params: dict[str, Any]) -> object:
        wanted = ConfirmParams.model_validate(params)

        def attempt(snapshot: Snapshot) -> tuple[Txn, object]:
            node = find_node(snapshot, wanted.node).value.name
            verdict = unproven_verdict(snapshot, node)
            proof = Proof(
                node=node,
                incarnation=verdict.value.incarnation,
                kind=ProofKind.PERSON,
                at_ms=self._life.clock.wall_ms(),
                by=wanted.person,
                reasons=(because(ReasonCode.CONFIRMED_BY_PERSON, node, person=wanted.person, detail=wanted.reason),),
            )
            event = self._events.event(EventCode.NODE_FENCED, node, *proof.reasons)
            before = snapshot.proofs.get(proof.incarnation)
            txn = record_proof(proof, verdict=verdict, before=before, events=self._events.operations(event))
            return txn, {"node": node, "incarnation": proof.incarnation}

        return await self._commits.change(attempt)

    async def _add_role(self, params: dict[str, Any]) -> object:
        wanted = AddParams.model_validate(params)
        guest = parse_guest(wanted.domain_xml, uuid_if_missing=str(uuid4()))

        def attempt(snapshot: Snapshot) -> tuple[Txn, RoleName]:
            spec = with_choices(new_role(guest, wanted), wanted, snapshot)
            check_addition(spec, guest, snapshot)
            cluster = snapshot.cluster
            assert cluster is not None
            counted = replace(cluster.value, role_set=cluster.value.role_set + 1)
            event = self._events.event(EventCode.ROLE_ADDED, spec.name)
            txn = add_role(spec, cluster=cluster, counted=counted, events=self._events.operations(event))
            return txn, spec.name

        return await self._commits.role_document(await self._commits.change(attempt))

    async def _set_role(self, params: dict[str, Any]) -> object:
        wanted = RoleSetParams.model_validate(params)
        return await self._commits.role_document(
            await self._change_role(wanted.role, lambda spec, snapshot: with_choices(spec, wanted, snapshot))
        )

    async def _start(self, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        async for item in self._want(RoleParams.model_validate(params), Wanted.ONLINE, RoleState.ONLINE):
            yield item

    async def _stop(self, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        async for item in self._want(RoleParams.model_validate(params), Wanted.OFFLINE, RoleState.OFFLINE):
            yield item

    async def _want(self, params: RoleParams, wanted: Wanted, goal: RoleState) -> AsyncGenerator[object, None]:
        def change(spec: RoleSpec, _: Snapshot) -> RoleSpec:
            return replace(spec, wanted=wanted, generation=spec.generation + 1)

        name = await self._change_role(params.role, change)

        def is_over(status: RoleStatus) -> bool:
            return not params.wait or status.state in (goal, RoleState.BLOCKED)

        async for item in self._commits.follow_role(name, is_over, WAIT_S):
            yield item if isinstance(item, Progress) else Result(item)

    async def _remove(self, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        wanted = RemoveParams.model_validate(params)
        if wanted.force and is_owned(await self._commits.snapshot(), wanted.role):
            async for item in self._stop({"role": wanted.role, "wait": True}):
                if not isinstance(item, Result):
                    yield item

        def attempt(snapshot: Snapshot) -> tuple[Txn, object]:
            spec = find_role(snapshot, wanted.role)
            if spec.value.wanted is Wanted.ONLINE or is_owned(snapshot, wanted.role):
                raise Refused(
                    f"role {wanted.role} is not stopped",
                    hint=f"stop it first: holdfast vm stop {wanted.role} (or remove it with --force)",
                )
            event = self._events.event(EventCode.ROLE_REMOVED, wanted.role)
            ownership = snapshot.ownerships.get(RoleName(wanted.role))
            return remove_role(spec, ownership, events=self._events.operations(event)), {"name": wanted.role}

        yield Result(await self._commits.change(attempt))

    async def _xml(self, params: dict[str, Any]) -> object:
        spec = find_role(await self._commits.snapshot(), RoleParams.model_validate(params).role)
        return {"domain_xml": spec.value.domain_xml}

    async def _change_role(self, role: str, change: Callable[[RoleSpec, Snapshot], RoleSpec]) -> RoleName:
        def attempt(snapshot: Snapshot) -> tuple[Txn, RoleName]:
            before = find_role(snapshot, role)
            event = self._events.event(EventCode.ROLE_CHANGED, role)
            after = change(before.value, snapshot)
            return set_role(after, before=before, events=self._events.operations(event)), after.name

        return await self._commits.change(attempt)

    _answers: Final[dict[str, Callable[[Requests, dict[str, Any]], Awaitable[object]]]] = {
        "status": _status,
        "quorum.show": _quorum,
        "explain": _explain,
        "events": _list_events,
        "role.history": _history,
        "token.create": _create_token,
        "node.set": _set_node,
        "node.fence-test": _test_fence,
        "node.confirm-down": _confirm_down,
        "vm.add": _add_role,
        "vm.set": _set_role,
        "role.set": _set_role,
        "vm.xml": _xml,
    }
    _streams: Final[dict[str, Callable[[Requests, dict[str, Any]], AsyncGenerator[object, None]]]] = {
        "status.watch": _watch_status,
        "events.follow": _follow_events,
        "vm.start": _start,
        "vm.stop": _stop,
        "vm.remove": _remove,
    }
