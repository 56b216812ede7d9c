"""Machines that must not get into the cluster as they are: each is told why, and both sides are as before.

One node has founded a cluster; `node2` is the machine that tries to join.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, eventually, node_in
from tests.lab.conftest import ALONE, Labs

from holdfast import __version__
from holdfast.client import requests
from holdfast.client.answers import Presence
from holdfast.lab.database import ETCDCTL, LOCAL, LabDatabase
from holdfast.lab.lab import Finished
from holdfast.lab.layout import SHARED_MOUNT, Network, node_address
from holdfast.lab.namespaces import open_socket
from holdfast.membership.certificate_files import joining_context
from holdfast.membership.certificates import create_request
from holdfast.membership.identity import Ports
from holdfast.model.errors import Unavailable
from holdfast.model.ids import NodeName
from holdfast.model.status import ClusterStatus, NodeState
from holdfast.node.enrolment import JoinRequest

pytestmark = pytest.mark.timeout(600)

FOUNDER, JOINER = "node1", "node2"
STATE = "/var/lib/holdfast"


def addresses(number: int) -> dict[str, str]:
    """The addresses of a node on the cluster networks."""
    return {str(network): node_address(network, number) for network in (Network.CLUSTER_A, Network.CLUSTER_B)}


@dataclass(frozen=True, slots=True)
class Door:
    """The founder's cluster and the machine before it."""

    cluster: ClusterUnderTest

    async def token(self, *, ttl_s: int | None = None) -> str:
        """A new join token."""
        return (await self.cluster.ask(FOUNDER, requests.create_token(ttl_s=ttl_s))).token

    async def join(self, token: str, *more: str) -> Finished:
        """Join by the command line."""
        places = [word for network, ip in addresses(2).items() for word in ("--address", f"{network}={ip}")]
        return await self.cluster.cli(JOINER, "node", "join", token, "--node", JOINER, *places, *more)

    async def ask_join_port(self, *, token: str, version: str, off_ms: int) -> dict[str, dict[str, str]]:
        """Ask the founder's join port as another version, or with another clock, would."""
        authority = self.cluster.lab.path(FOUNDER, STATE) / "pki" / "ca.crt"
        request = JoinRequest(
            token=token,
            node=JOINER,
            addresses=addresses(2),
            ports=Ports(),
            version=version,
            wall_clock_ms=int(time.time() * 1000) + off_ms,
            request_pem=create_request(NodeName(JOINER)).request_pem.decode(),
        )
        return await self._converse(
            joining_context(authority.read_bytes()), {"method": "join", "params": request.model_dump(mode="json")}
        )

    async def _converse(self, context: ssl.SSLContext, message: dict[str, object]) -> dict[str, dict[str, str]]:
        loop = asyncio.get_running_loop()
        with open_socket(self.cluster.lab.layout.node(JOINER).namespace, socket.AF_INET, socket.SOCK_STREAM) as link:
            endpoint = (addresses(1)[Network.CLUSTER_A], Ports().join)
            await loop.sock_connect(link, endpoint)
            reader, writer = await asyncio.open_connection(sock=link, ssl=context, server_hostname=endpoint[0])
            try:
                writer.write(json.dumps(message).encode() + b"\n")
                async with asyncio.timeout(20):
                    answer: dict[str, dict[str, str]] = json.loads(await reader.readline())
                return answer
            finally:
                writer.close()
                await writer.wait_closed()

    async def presence(self) -> Presence:
        """What the machine before the door says it is."""
        return await self.cluster.ask(JOINER, requests.ping())

    async def standing(self) -> tuple[list[str], list[str], list[str]]:
        """The nodes, the database's members, and the files on the machine before the door."""
        status = await self.cluster.status(FOUNDER)
        members = await LabDatabase(lab=self.cluster.lab, asked=FOUNDER).members()
        files = await self.cluster.lab.execute(JOINER, "find", STATE, "-mindepth", "1")
        return [node.name for node in status.nodes], members, files.output.splitlines()


@pytest.fixture
async def door(labs: Labs) -> AsyncGenerator[Door, None]:
    """A cluster of one, and a machine that is in none."""
    cluster = ClusterUnderTest(await labs.get(ALONE))
    door = Door(cluster)
    if (await answered(cluster, FOUNDER)).cluster is None:
        create = requests.create_cluster(
            cluster="alone", node=FOUNDER, addresses=addresses(1), shared_directories=(str(SHARED_MOUNT),)
        )
        await cluster.ask(FOUNDER, create)
    await cluster.wait("the founder up", lambda seen: node_in(seen, FOUNDER).state is NodeState.UP, asked=FOUNDER)
    yield door
    if (await door.presence()).cluster is not None:
        await labs.close()


@pytest.fixture
async def closed_door(door: Door) -> AsyncGenerator[Door, None]:
    """The same; after the test the cluster and the machine are as before."""
    before = await door.standing()
    assert before == ([FOUNDER], [FOUNDER], [])
    yield door
    assert (await door.presence()).cluster is None
    assert await door.standing() == before


async def answered(cluster: ClusterUnderTest, node: str) -> Presence:
    """What a node's daemon says it is, once it has started."""

    async def ask() -> Presence | None:
        try:
            return await cluster.ask(node, requests.ping())
        except Unavailable:
            return None

    return await eventually(f"holdfastd of {node} answers", ask)


def assert_said(finished: Finished, *words: str) -> None:
    """The join failed, with these words and with what to do next."""
    print(finished.errors)
    assert finished.exit_code in (1, 2, 4), finished.errors
    assert "error: " in finished.errors
    assert "\nnext: " in finished.errors
    for word in words:
        assert word in finished.errors


async def test_a_token_with_a_wrong_letter(closed_door: Door) -> None:
    token = await closed_door.token()
    assert_said(await closed_door.join(token[:-1] + ("A" if token[-1] != "A" else "B")), "token")
    assert_said(await closed_door.join("hf1.kq3v"), "holdfast-join")


async def test_an_expired_token(closed_door: Door) -> None:
    token = await closed_door.token(ttl_s=1)
    await asyncio.sleep(1.5)
    assert_said(await closed_door.join(token), "expired at", "holdfast token create")


async def test_a_token_that_this_cluster_forgot(closed_door: Door) -> None:
    token = await closed_door.token()
    await closed_door.cluster.lab.execute(
        FOUNDER, *ETCDCTL, f"--endpoints={LOCAL}", "del", "--prefix", "holdfast/tokens/"
    )
    assert_said(await closed_door.join(token), "no join token", "holdfast token create")


async def test_an_address_of_another_machine(closed_door: Door) -> None:
    finished = await closed_door.join(await closed_door.token(), "--address", "storage=10.91.3.77")
    assert_said(finished, "10.91.3.77", "ip address")


async def test_a_network_that_the_cluster_does_not_have(closed_door: Door) -> None:
    own = node_address(Network.STORAGE, 2)
    finished = await closed_door.join(await closed_door.token(), "--address", f"storage={own}")
    assert_said(finished, "storage", "cluster-a, cluster-b")


async def test_a_version_more_than_one_release_apart(closed_door: Door) -> None:
    answer = await closed_door.ask_join_port(token=await closed_door.token(), version="7.0.1", off_ms=0)
    assert answer["error"]["code"] == "refused"
    assert "7.0.1" in answer["error"]["message"]
    assert __version__ in answer["error"]["message"]
    assert "same version" in answer["error"]["hint"]


async def test_a_clock_an_hour_off(closed_door: Door) -> None:
    answer = await closed_door.ask_join_port(token=await closed_door.token(), version=__version__, off_ms=3_600_000)
    assert answer["error"]["code"] == "refused"
    assert "+3600 s off" in answer["error"]["message"]
    assert "time synchronisation" in answer["error"]["hint"]


@pytest.mark.parametrize("size", ["8k", "100m"])
async def test_a_full_disk(closed_door: Door, size: str) -> None:
    """Too small for a key, and large enough for keys but not for the database."""
    lab = closed_door.cluster.lab
    await lab.execute(JOINER, "mount", "-t", "tmpfs", "-o", f"size={size}", "full", STATE)
    try:
        if size == "8k":
            await lab.execute(JOINER, "dd", "if=/dev/zero", f"of={STATE}/filler", "bs=4k", "count=2", check=False)
        finished = await closed_door.join(await closed_door.token())
        assert_said(finished, STATE)
        assert not (await lab.execute(JOINER, "ls", f"{STATE}/pki", check=False)).output
    finally:
        await lab.execute(JOINER, "umount", STATE)


async def test_a_shared_directory_that_is_missing(closed_door: Door) -> None:
    """This is known only after the cluster let the machine in: it takes its seat back."""
    cluster = closed_door.cluster
    both = f'["{SHARED_MOUNT}", "/run/elsewhere"]'
    await cluster.lab.execute(FOUNDER, "mkdir", "-p", "/run/elsewhere")
    await cluster.ask(FOUNDER, requests.set_cluster("shared_directories", both))
    try:
        assert_said(await closed_door.join(await closed_door.token()), "/run/elsewhere", "mount the shared storage")
    finally:
        await cluster.ask(FOUNDER, requests.set_cluster("shared_directories", f'["{SHARED_MOUNT}"]'))


async def test_a_port_of_the_database_that_is_taken(closed_door: Door) -> None:
    lab = closed_door.cluster.lab
    taker = await asyncio.create_subprocess_exec(
        *await lab.joining_command(
            JOINER, "perl", "-MSocket", "-e",
            "socket(S, PF_INET, SOCK_STREAM, 6) && bind(S, sockaddr_in(2380, INADDR_ANY)) && listen(S, 1) or die $!;"
            "syswrite STDOUT, qq($$\n); sleep 100",
        ),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert taker.stdout is not None
    pid = (await taker.stdout.readline()).decode().strip()
    try:
        assert_said(await closed_door.join(await closed_door.token()), ":2380", "ss -ltnp")
    finally:
        await lab.execute(JOINER, "kill", pid)
        await taker.wait()


async def test_the_machine_joins_once_nothing_is_wrong(door: Door) -> None:
    """All the attempts before were in nobody's way. Its token lets nobody else in; a wrong cluster key shows."""
    cluster = door.cluster
    token = await door.token()
    finished = await door.join(token)
    assert finished.exit_code == 0, finished.errors
    await cluster.wait("node2 up", lambda seen: node_in(seen, JOINER).state is NodeState.UP, asked=FOUNDER)
    assert (await door.presence()).node == JOINER
    answer = await door.ask_join_port(token=token, version=__version__, off_ms=0)
    assert f"was used by node {JOINER}" in answer["error"]["message"]
    assert "holdfast token create" in answer["error"]["hint"]
    await a_wrong_cluster_key_shows(door)


async def a_wrong_cluster_key_shows(door: Door) -> None:
    """Its heartbeats are refused and a condition names its address, until the key is right again."""
    cluster = door.cluster
    key = cluster.lab.path(JOINER, STATE) / "cluster.key"
    right = key.read_bytes()
    await cluster.lab.service_stop(JOINER, "holdfastd")
    key.write_bytes(bytes(byte ^ 1 if byte in b"01234567" else byte for byte in right))
    await cluster.lab.service_start(JOINER, "holdfastd")

    def is_named(status: ClusterStatus) -> bool:
        about = [one for one in status.conditions if one.code.startswith("heartbeat-")]
        return any(one.subject == addresses(2)[Network.CLUSTER_A] and "key" in one.text for one in about)

    status = await cluster.wait("a condition that names the sender", is_named, asked=FOUNDER)
    print([one.text for one in status.conditions])
    assert node_in(status, JOINER).state in (NodeState.SUSPECT, NodeState.UP)
    await cluster.lab.service_stop(JOINER, "holdfastd")
    key.write_bytes(right)
    await cluster.lab.service_start(JOINER, "holdfastd")
    await cluster.wait("node2 heard again", lambda seen: node_in(seen, JOINER).state is NodeState.UP, asked=FOUNDER)
