"""What an eviction writes, in which order, and what it refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.decide.made_up import cluster, incarnation, node_spec, owned, proof, role_spec, session, up, verdict
from tests.unit.node.test_maintenance_requests import A, B, Desk, desk
from tests.unit.node.virtual_time import virtual

from holdfast.decide.certificates import revoked_without
from holdfast.model.certificates import IssuedCertificate, NodeCertificates, Revocations, RevokedCertificate
from holdfast.model.errors import NotFound, Refused
from holdfast.model.ids import NodeName, Revision
from holdfast.model.nodes import Capacity, Condition, NodeReport, NodeSpec
from holdfast.model.snapshot import Freeze, Snapshot, Versioned
from holdfast.model.status import Progress
from holdfast.node.commits import Commits
from holdfast.node.eviction_requests import EvictionRequests
from holdfast.node.line_protocol import Result
from holdfast.store.port import Put
from holdfast.store.records import CLUSTER, REVOCATIONS, certificates_key, encode, proof_key, report_key, verdict_key

C = NodeName("c")


async def evict(here: Desk, node: str, method: str = "node.evict") -> list[object]:
    requests = EvictionRequests(Commits(here.life, here.store))
    return [item async for item in requests.handle(method, {"node": node})]


async def leave(here: Desk, node: str) -> list[object]:
    return await evict(here, node, "node.leave")


def without_vote(name: str, **changes: object) -> NodeSpec:
    return replace(node_spec(name), is_voter=False, **changes)  # type: ignore[arg-type]


def keys(here: Desk) -> list[str]:
    return [item.key for item in here.database.database.listing("holdfast/").items]


@virtual
async def test_a_drained_node_leaves_with_all_its_records_and_its_name_in_the_roles() -> None:
    async with desk(a=8, b=8, c=8) as here:
        here.database.node(without_vote("b", is_paused=True, is_draining=True))
        spec = role_spec("web", preferred_owners=(B, A), possible_owners=(A, B, C))
        here.database.role(spec, owned("web", "a"))
        await asyncio.sleep(1)
        assert await evict(here, "b") == [Result({"node": "b", "was_up": True})]
        after = here.database.snapshot()
        assert sorted(after.nodes) == [A, C]
        assert [key for key in keys(here) if key.endswith("/b")] == []
        left = after.specs[spec.name].value
        assert (left.preferred_owners, left.possible_owners) == ((A,), (A, C))
        assert [key for key in keys(here) if "events" in key]


@virtual
async def test_a_node_that_is_down_leaves_once_that_is_proven() -> None:
    async with desk(a=8) as here:
        here.database.node(without_vote("b"))
        here.database.put(verdict_key(B), verdict("b"))
        await asyncio.sleep(1)
        with pytest.raises(Refused, match="no proof yet that b can do no harm"):
            await evict(here, "b")
        assert B in here.database.snapshot().nodes
        assert not here.database.snapshot().nodes[B].value.is_leaving
        here.database.put(proof_key(proof("b").incarnation), proof("b"))
        await asyncio.sleep(1)
        assert await evict(here, "b") == [Result({"node": "b", "was_up": False})]
        assert B not in here.database.snapshot().verdicts


@virtual
async def test_its_vote_goes_first_and_roles_and_votes_avoid_it_from_then_on() -> None:
    async with desk(a=8, b=8) as here:
        here.database.node(replace(node_spec("b"), is_paused=True, seat=7))
        await asyncio.sleep(1)
        evicting = asyncio.create_task(evict(here, "b"))
        await asyncio.sleep(5)
        waiting = here.spec(B)
        assert (waiting.is_leaving, waiting.is_paused) == (True, True)
        here.database.node(replace(waiting, is_voter=False, seat=None))
        *steps, _ = await asyncio.wait_for(evicting, 5)
        assert steps == [Progress(text="the vote of b is being taken back")]
        assert B not in here.database.snapshot().nodes


@virtual
async def test_a_vote_that_cannot_be_taken_back_keeps_the_node_and_resuming_it_ends_that() -> None:
    async with desk(a=8, b=8) as here:
        here.database.node(replace(node_spec("b"), is_paused=True))
        await asyncio.sleep(1)
        with pytest.raises(Refused, match=r"within 120 s \(the coordinator has named no reason\)") as refused:
            await evict(here, "b")
        assert "b is paused and still leaves: its vote goes by itself" in refused.value.message
        assert "holdfast node resume b" in refused.value.hint
        assert here.spec(B).is_leaving
        await here.ask("node.resume", node="b")
        assert not here.spec(B).is_leaving


@virtual
async def test_what_holds_a_vote_up_is_said_when_the_patience_ends() -> None:
    async with desk(a=8, b=8) as here:
        here.database.node(node_spec("b", is_paused=True))
        stays = Condition(code="vote-stays", subject="b", text="the vote of b stays for now: too few are up")
        other = Condition(code="vote-stays", subject="c", text="another")
        report = NodeReport(
            node=C,
            incarnation=incarnation("c"),
            capacity=Capacity(memory_bytes=0, vcpus=0),
            hears={},
            conditions=(other, stays),
        )
        here.database.put(report_key(C), report)
        await asyncio.sleep(1)
        with pytest.raises(Refused, match=r"within 120 s \(the vote of b stays for now: too few are up\)"):
            await evict(here, "b")


@virtual
async def test_while_the_cluster_is_frozen_who_has_a_vote_stays_as_it_is() -> None:
    async with desk(a=8, b=8) as here:
        here.database.node(node_spec("b", is_paused=True))
        cluster = here.database.snapshot().cluster
        assert cluster is not None
        here.database.put(CLUSTER, replace(cluster.value, frozen=Freeze(by="Ada", reason="switches", at_ms=1)))
        await asyncio.sleep(1)
        with pytest.raises(Refused, match="votes do not move while the cluster is frozen") as refused:
            await asyncio.wait_for(evict(here, "b"), 5)
        assert "holdfast cluster unfreeze" in refused.value.hint
        assert not here.spec(B).is_leaving
        here.database.node(without_vote("b", is_paused=True))
        await asyncio.sleep(1)
        assert await evict(here, "b") == [Result({"node": "b", "was_up": True})]


@virtual
async def test_a_node_that_is_resumed_meanwhile_stays() -> None:
    async with desk(a=8, b=8) as here:
        here.database.node(replace(node_spec("b"), is_paused=True))
        await asyncio.sleep(1)
        evicting = asyncio.create_task(evict(here, "b"))
        await asyncio.sleep(5)
        here.database.node(without_vote("b"))
        with pytest.raises(Refused, match="b is up and takes roles"):
            await asyncio.wait_for(evicting, 5)
        assert B in here.database.snapshot().sessions


@virtual
async def test_nobody_evicts_himself_or_who_is_not_there() -> None:
    async with desk(a=8, b=8) as here:
        with pytest.raises(Refused, match="cannot evict itself"):
            await evict(here, "a")
        with pytest.raises(NotFound, match="no node 'x'"):
            await evict(here, "x")
        assert session("a").node in here.database.snapshot().sessions


@virtual
async def test_a_node_leaves_by_its_own_wish_once_its_vote_is_with_another() -> None:
    async with desk(a=8, b=8) as here:
        here.database.node(node_spec("a", seat=7))
        here.database.node(without_vote("b"))
        await asyncio.sleep(1)
        leaving = asyncio.create_task(leave(here, "a"))
        await asyncio.sleep(5)
        assert (here.spec(A).is_leaving, here.spec(A).is_paused) == (True, True)
        here.database.node(node_spec("b", seat=8))
        await asyncio.sleep(5)
        assert not leaving.done()
        here.database.node(replace(here.spec(A), is_voter=False, seat=None))
        *steps, result = await asyncio.wait_for(leaving, 10)
        assert (steps, result) == (
            [Progress(text="the vote of a is being taken back")],
            Result({"node": "a", "was_up": True}),
        )
        assert [key for key in keys(here) if key.endswith("/a")] == []
        events = [item.value for item in here.database.database.listing("holdfast/events/").items]
        assert b"node-left" in events[-1]


@virtual
async def test_a_node_with_a_role_or_nobody_to_leave_its_vote_to_stays_as_it_is() -> None:
    async with desk(a=8, b=8) as here:
        here.database.role(role_spec("web"), owned("web", "a"))
        await asyncio.sleep(1)
        with pytest.raises(Refused, match="a cannot leave: role web is still with a"):
            await leave(here, "a")
        here.database.end_session(B)
        await asyncio.sleep(1)
        with pytest.raises(Refused, match=r"1 are needed to decide and 0 are up \(missing: b\)"):
            await leave(here, "a")
        with pytest.raises(Refused, match="b is down and cannot hand anything on"):
            await leave(here, "b")
        assert not here.spec(A).is_leaving


@virtual
async def test_the_certificates_of_who_goes_are_revoked_in_the_same_transaction() -> None:
    async with desk(a=8, b=8) as here:
        here.database.node(without_vote("b", is_paused=True))
        old, new = IssuedCertificate(serial="1", until_ms=10**15), IssuedCertificate(serial="2", until_ms=10**15)
        here.database.put(certificates_key(B), NodeCertificates(node=B, issued=(old, new)))
        await asyncio.sleep(1)
        seen: list[tuple[str, ...]] = []

        def revoke(snapshot: Snapshot, node: NodeName) -> tuple[Put, ...]:
            revoked = revoked_without(snapshot, node, 5)
            seen.append(tuple(one.serial for one in revoked))
            return (Put(REVOCATIONS, encode(Revocations(revoked=revoked, list_pem="list"))),)

        requests = EvictionRequests(Commits(here.life, here.store), revoke)
        assert [item async for item in requests.handle("node.evict", {"node": "b"})]
        after = here.database.snapshot()
        assert seen == [("1", "2")]
        assert after.revocations is not None
        assert after.revocations.revision == here.database.database.listing("holdfast/events/").items[-1].mod_revision
        assert [one.addresses for one in after.revocations.value.revoked] == [("192.0.2.1", "198.51.100.1")] * 2
        assert B not in after.certificates


@pytest.mark.parametrize(("until_ms", "kept"), [(7, True), (5, False)])
def test_what_is_out_of_date_is_not_kept_as_revoked(until_ms: int, kept: bool) -> None:
    before = RevokedCertificate(node=C, serial="c", until_ms=until_ms, at_ms=1)
    snapshot = replace(cluster(up("b")), revocations=versioned(Revocations(revoked=(before,), list_pem="")))
    assert revoked_without(snapshot, B, 5) == ((before,) if kept else ())


def versioned(value: Revocations) -> Versioned[Revocations]:
    return Versioned(value=value, revision=Revision(1), created=Revision(1))
