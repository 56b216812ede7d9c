"""A token lets in one machine, for a while; an address that is refused too often has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.decide.made_up import node_spec
from tests.unit.node.simulated_members import SimulatedMembers
from tests.unit.node.small_database import SmallDatabase

from holdfast import __version__
from holdfast.membership.attempts import REFUSED_AT_MOST, SOURCES_KEPT, WITHIN_MS, Attempts
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import create_authority, create_request, sign_request
from holdfast.membership.errors import TokenExpired, TokenUsed
from holdfast.membership.identity import NodeIdentity, Ports
from holdfast.model.errors import Conflict, HoldfastError, Refused
from holdfast.model.ids import ClusterId, NodeName
from holdfast.node.enrolment import Admission, Enrolment, JoinRequest
from holdfast.node.event_log import EventLog
from holdfast.node.line_protocol import Result
from holdfast.node.mirror import Mirror
from holdfast.node.voters import peer_urls
from holdfast.store.memory import Faults, MemoryStore

ID = "6d5c9d3e-2f2e-4d5b-9a55-0c9f4a6d1f11"
SOURCE = "203.0.113.9"
HOUR_MS = 3_600_000


class Clock:
    """One hand for both clocks."""

    def __init__(self) -> None:
        self.now_ms = int(datetime.now(UTC).timestamp() * 1000)

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms


class Port:
    """The join port of node a."""

    def __init__(self, folder: Path, database: SmallDatabase) -> None:
        self.clock, self.database, self.mirror = Clock(), database, Mirror()
        now = datetime.now(UTC)
        authority, request = create_authority(cluster_name="test", now=now), create_request(NodeName("a"))
        files = CertificateFiles(folder)
        pem = sign_request(authority, request.request_pem, node=NodeName("a"), addresses=("192.0.2.1",), now=now)
        files.write_authority(authority)
        files.write_node(key_pem=request.key_pem, certificate_pem=pem, authority_pem=authority.certificate_pem)
        self.members = SimulatedMembers()
        self.store = MemoryStore(self.database.database, Faults(delay_s=0.01))
        self.enrolment = Enrolment(
            identity=NodeIdentity(
                cluster_id=ClusterId(ID),
                cluster_name="test",
                node=NodeName("a"),
                node_id=ID,
                addresses=dict(node_spec("a").addresses),
                is_voter=True,
            ),
            files=files,
            cluster_key=lambda: bytes(32),
            store=self.store,
            mirror=self.mirror,
            clock=self.clock,
            events=EventLog(NodeName("a"), self.clock),
            members=self.members,
        )

    async def join(self, token: str, name: str, last: int, source: str = SOURCE, address: str = "") -> Admission:
        """A machine asks to be let in, `address` being that on cluster-a."""
        request = JoinRequest(
            token=token,
            node=name,
            addresses={"cluster-a": address or f"192.0.2.{last}", "cluster-b": f"198.51.100.{last}"},
            ports=Ports(),
            version=__version__,
            wall_clock_ms=self.clock.wall_ms(),
            request_pem=create_request(NodeName(name)).request_pem.decode(),
        )
        items = self.enrolment.handle("join", request.model_dump(mode="json"), source=source)
        *_, result = [item async for item in items]
        assert isinstance(result, Result)
        assert isinstance(result.value, Admission)
        return result.value


@asynccontextmanager
async def join_port(folder: Path, database: SmallDatabase | None = None) -> AsyncIterator[Port]:
    """A join port whose mirror runs; of a cluster that is node a, if no other is given."""
    if database is None:
        database = SmallDatabase()
        database.node(node_spec("a"))
    made = Port(folder, database)
    following = asyncio.create_task(made.mirror.run(made.store))
    await made.mirror.subscribe().wait()
    try:
        yield made
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    """The join port of a cluster of one node."""
    async with join_port(tmp_path) as made:
        yield made


async def test_a_token_lets_in_one_also_of_two_at_once(port: Port) -> None:
    token, _ = await port.enrolment.create_token(HOUR_MS)
    both = await asyncio.gather(port.join(token, "b", 2), port.join(token, "c", 3), return_exceptions=True)
    refused = [one for one in both if not isinstance(one, Admission)]
    assert len(refused) == 1
    assert isinstance(refused[0], TokenUsed)
    assert len(port.database.snapshot().nodes) == 2
    assert len(port.database.snapshot().certificates) == 1
    with pytest.raises(TokenUsed):
        await port.join(token, "d", 4)


async def test_a_token_is_good_until_its_end_and_no_longer(port: Port) -> None:
    token, until_ms = await port.enrolment.create_token(HOUR_MS)
    port.clock.now_ms = until_ms + 1
    with pytest.raises(TokenExpired):
        await port.join(token, "b", 2)
    port.clock.now_ms = until_ms
    assert (await port.join(token, "b", 2)).revocations_pem


async def test_who_is_refused_too_often_waits_and_others_do_not(port: Port) -> None:
    token, _ = await port.enrolment.create_token(HOUR_MS)
    for _ in range(REFUSED_AT_MOST):
        with pytest.raises(HoldfastError):
            await port.join("holdfast-join-1.nonsense", "x", 9)
    with pytest.raises(Refused, match=r"203\.0\.113\.9 was refused 10 times within 60 s"):
        await port.join(token, "b", 2)
    assert (await port.join(token, "b", 2, source="203.0.113.10")).cluster_name == "test"
    port.clock.now_ms += WITHIN_MS
    again, _ = await port.enrolment.create_token(HOUR_MS)
    assert (await port.join(again, "c", 3)).cluster_name == "test"


def test_only_so_many_addresses_are_remembered() -> None:
    attempts = Attempts()
    for number in range(SOURCES_KEPT + 1):
        for _ in range(REFUSED_AT_MOST):
            attempts.refused(str(number), number)
    assert attempts.wait_ms("0", SOURCES_KEPT) == 0
    assert attempts.wait_ms("1", SOURCES_KEPT) > 0


async def test_safe_4_nobody_joins_where_the_member_of_another_node_is_still_called(port: Port) -> None:
    own = peer_urls(port.database.snapshot().nodes[NodeName("a")].value)
    port.members.found((*own, "https://192.0.2.4:2380"))
    token, _ = await port.enrolment.create_token(HOUR_MS)
    with pytest.raises(Conflict, match=r"https://192\.0\.2\.4:2380 is where the cluster database still calls"):
        await port.join(token, "d", 4)
    await port.join(token, "e", 5)


async def test_safe_4_two_that_join_at_once_do_not_get_one_address(port: Port) -> None:
    tokens = [(await port.enrolment.create_token(HOUR_MS))[0] for _ in range(2)]
    joining = (port.join(token, name, 7) for token, name in zip(tokens, "bc", strict=True))
    _, refused = sorted(
        await asyncio.gather(*joining, return_exceptions=True), key=lambda one: isinstance(one, Conflict)
    )
    assert isinstance(refused, Conflict)
    assert refused.message == "address 192.0.2.7 belongs to node b"
    assert list(port.database.snapshot().nodes) == ["a", "b"]


async def test_two_that_join_at_once_with_addresses_of_their_own_are_both_let_in(port: Port) -> None:
    tokens = [(await port.enrolment.create_token(HOUR_MS))[0] for _ in range(2)]
    await asyncio.gather(*(port.join(token, name, ord(name)) for token, name in zip(tokens, "bc", strict=True)))
    assert sorted(port.database.snapshot().nodes) == ["a", "b", "c"]
