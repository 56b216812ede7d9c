"""Real sockets on real interfaces that come and go, in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.port import (
    DatagramReceived,
    LinkChanged,
    LinkState,
    PeerUnreachable,
    SendFailed,
    TransportEvent,
    Unreachable,
)
from holdfast.membership.udp_transport import UdpTransport
from holdfast.model.ids import NetworkName

NET = NetworkName("cluster-a")
HERE = Endpoint(address="10.77.0.1", port=7405)
NOBODY = Endpoint(address="10.77.0.9", port=7405)
CLONE_NEWNET = 0x40000000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a network namespace")


def in_namespace(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the scenario in a thread that has its own network namespace; it vanishes with the thread."""

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        ip("link set lo up")
        ip("link add c0 type veth peer name c1")
        ip(f"addr add {HERE.address}/24 dev c0")
        ip("link set c0 up")
        ip("link set c1 up")
        asyncio.run(scenario())

    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(run).result()


def ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)


class Watcher:
    """An open transport with what it delivered."""

    def __init__(self, endpoint: Endpoint = HERE) -> None:
        self.transport = UdpTransport({NET: endpoint})
        self.events: list[TransportEvent] = []
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Watcher:
        await self.transport.open(self._handle)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()

    def _handle(self, event: TransportEvent) -> None:
        self.events.append(event)
        self._arrived.set()

    async def wait(self, condition: Callable[[TransportEvent], bool], *, after: int = 0) -> TransportEvent:
        """The first event from this position on that fulfils the condition."""
        async with asyncio.timeout(10):
            while not (found := [event for event in self.events[after:] if condition(event)]):
                self._arrived.clear()
                await self._arrived.wait()
        return found[0]

    async def wait_for(self, kind: type[TransportEvent]) -> TransportEvent:
        return await self.wait(lambda event: isinstance(event, kind))

    async def wait_state(self, state: LinkState) -> None:
        """The newest state of the link is this one."""

        def is_newest(event: TransportEvent) -> bool:
            states = [other for other in self.events if isinstance(other, LinkChanged)]
            return event is states[-1] and states[-1].state is state

        await self.wait(is_newest)

    async def wait_heard(self) -> None:
        """A datagram from this machine itself arrives."""
        before = len(self.events)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", (HERE.address, HERE.port))
        await self.wait(lambda event: isinstance(event, DatagramReceived), after=before)


def test_a_carrier_that_goes_and_comes_is_told_with_the_interface() -> None:
    async def scenario() -> None:
        async with Watcher() as watcher:
            ip("addr add 10.78.0.1/24 dev c1")
            await asyncio.sleep(0.05)  # a change that is not about this network is not told
            ip("link set c1 down")
            await watcher.wait_state(LinkState.NO_CARRIER)
            ip("link set c1 up")
            await watcher.wait_state(LinkState.UP)
            assert watcher.events == [
                LinkChanged(network=NET, state=state, interface="c0")
                for state in (LinkState.UP, LinkState.NO_CARRIER, LinkState.UP)
            ]

    in_namespace(scenario)


def test_an_address_that_is_removed_and_put_back_is_bound_again() -> None:
    async def scenario() -> None:
        async with Watcher() as watcher:
            await watcher.wait_heard()
            ip(f"addr del {HERE.address}/24 dev c0")
            await watcher.wait_state(LinkState.ADDRESS_MISSING)
            watcher.transport.send(NET, [NOBODY], b"into the void")
            ip(f"addr add {HERE.address}/24 dev c0")
            await watcher.wait_state(LinkState.UP)
            await watcher.wait_heard()

    in_namespace(scenario)


def test_an_interface_that_is_made_anew_is_used_again() -> None:
    async def scenario() -> None:
        async with Watcher() as watcher:
            ip("link del c0")
            await watcher.wait_state(LinkState.ADDRESS_MISSING)
            ip("link add c5 type veth peer name c6")
            ip(f"addr add {HERE.address}/24 dev c5")
            ip("link set c6 up")
            ip("link set c5 up")
            await watcher.wait_state(LinkState.UP)
            assert watcher.events[-1] == LinkChanged(network=NET, state=LinkState.UP, interface="c5")
            await watcher.wait_heard()

    in_namespace(scenario)


def test_a_network_whose_address_is_not_there_yet_begins_when_it_comes() -> None:
    async def scenario() -> None:
        ip(f"addr del {HERE.address}/24 dev c0")
        async with Watcher() as watcher:
            assert watcher.events == [LinkChanged(network=NET, state=LinkState.ADDRESS_MISSING, interface=None)]
            ip(f"addr add {HERE.address}/24 dev c0")
            await watcher.wait_state(LinkState.UP)
            await watcher.wait_heard()

    in_namespace(scenario)


def test_a_port_that_was_taken_meanwhile_is_told_and_tried_again() -> None:
    async def scenario() -> None:
        async with Watcher() as watcher:
            ip(f"addr del {HERE.address}/24 dev c0")
            await watcher.wait_state(LinkState.ADDRESS_MISSING)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
                thief.bind(("0.0.0.0", HERE.port))
                ip(f"addr add {HERE.address}/24 dev c0")
                await watcher.wait_state(LinkState.PORT_TAKEN)
                watcher.transport.send(NET, [NOBODY], b"no socket")
            watcher.transport.send(NET, [NOBODY], b"tries again")
            assert watcher.events[-1] == LinkChanged(network=NET, state=LinkState.UP, interface="c0")
            await watcher.wait_heard()

    in_namespace(scenario)


def test_a_send_without_route_is_a_failure_of_this_node() -> None:
    async def scenario() -> None:
        far = Endpoint(address="192.0.2.1", port=7405)
        async with Watcher() as watcher:
            watcher.transport.send(NET, [far], b"no way there")
            failed = await watcher.wait_for(SendFailed)
            assert failed == SendFailed(network=NET, peer=far, error="Network is unreachable")

    in_namespace(scenario)


def test_a_neighbour_that_does_not_answer_is_host_unreachable_by_this_nodes_own_word() -> None:
    async def scenario() -> None:
        async with Watcher() as watcher:
            watcher.transport.send(NET, [NOBODY], b"anybody?")
            event = await watcher.wait_for(PeerUnreachable)
            assert event == PeerUnreachable(network=NET, peer=NOBODY, answer=Unreachable.HOST, reported_by=HERE.address)

    in_namespace(scenario)


def test_ipv6_works_too() -> None:
    async def scenario() -> None:
        ip("addr add fd00:77::1/64 dev c0 nodad")
        async with Watcher(Endpoint(address="fd00:77::1", port=7405)) as watcher:
            closed = Endpoint(address="fd00:77::1", port=7499)
            watcher.transport.send(NET, [Endpoint(address="fd00:77::1", port=7405)], b"to myself")
            received = await watcher.wait_for(DatagramReceived)
            assert isinstance(received, DatagramReceived)
            assert received.source == Endpoint(address="fd00:77::1", port=7405)
            watcher.transport.send(NET, [closed], b"knock")
            event = await watcher.wait_for(PeerUnreachable)
            assert event == PeerUnreachable(network=NET, peer=closed, answer=Unreachable.PORT, reported_by="fd00:77::1")

    in_namespace(scenario)


def test_the_near_end_of_a_point_to_point_address_is_ours() -> None:
    async def scenario() -> None:
        ip("addr add 10.80.0.1 peer 10.80.0.2/32 dev c0")
        async with Watcher(Endpoint(address="10.80.0.1", port=7405)) as watcher:
            assert watcher.events == [LinkChanged(network=NET, state=LinkState.UP, interface="c0")]

    in_namespace(scenario)


def test_watching_links_and_an_icmp_answer_cost_no_time_afterwards() -> None:
    async def scenario() -> None:
        async with Watcher() as watcher:
            watcher.transport.send(NET, [Endpoint(address=HERE.address, port=7499)], b"knock")
            await watcher.wait_for(PeerUnreachable)
            before = os.times()
            await asyncio.sleep(0.5)
            after = os.times()
            assert (after.user + after.system) - (before.user + before.system) < 0.2

    in_namespace(scenario)
