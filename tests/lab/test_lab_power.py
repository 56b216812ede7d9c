"""A node's plug, its freezer, its cables and its watchdog."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from tests.lab.bare_lab import bare_lab, wait_until

from holdfast.lab.construction import LabOptions
from holdfast.lab.errors import NodeIsOff, NodeSilent, NoSuchNode
from holdfast.lab.lab import Lab
from holdfast.lab.layout import Network, node_address
from holdfast.lab.machine import Power
from holdfast.lab.namespaces import inside
from holdfast.lab.spec import LIBVIRTD, Service

ECHO = (
    "import socket,threading\n"
    "u=socket.socket(type=socket.SOCK_DGRAM);u.bind(('',7007))\n"
    "t=socket.create_server(('',7007))\n"
    "keep=[]\n"
    "threading.Thread(target=lambda:[keep.append(t.accept()[0]) for _ in iter(int,1)],daemon=True).start()\n"
    "while True:\n data,peer=u.recvfrom(512);u.sendto(data,peer)\n"
)
SERVICES = (
    LIBVIRTD,
    Service(name="echo", command=("/usr/bin/python3", "-ISc", ECHO)),
    Service(name="parent", command=("/bin/sh", "-c", "sleep 1000 & sleep 1001")),
    Service(name="absent", command=("/nowhere/absent",)),
)


@pytest.fixture(scope="module")
def module_lab() -> Iterator[Lab]:
    with bare_lab("power", LabOptions(nodes=2, services=SERVICES, watchdog_timeout_s=1.0)) as lab:
        yield lab


@pytest.fixture
async def lab(module_lab: Lab) -> AsyncIterator[Lab]:
    """Two nodes, powered on, joined and idle, before and after each test."""
    yield module_lab
    for node in module_lab.spec.node_names:
        await module_lab.power_off(node)
        await module_lab.heal(node)
        await module_lab.power_on(node)


def node_socket(lab: Lab, node: str, kind: socket.SocketKind) -> socket.socket:
    """Return a socket of this process that lives in a node's network."""
    with inside(lab.layout.node(node).namespace):
        made = socket.socket(socket.AF_INET, kind)
    made.settimeout(0.5)
    return made


def echoes(link: socket.socket, network: Network = Network.CLUSTER_A) -> bool:
    """Return whether node1 echoes a datagram on a network."""
    link.sendto(b"ping", (node_address(network, 1), 7007))
    try:
        return link.recv(64) == b"ping"
    except TimeoutError:
        return False


async def wait_echo(link: socket.socket) -> None:
    async def has_echo() -> bool:
        with suppress(ConnectionRefusedError):
            return echoes(link)
        return False

    await wait_until(has_echo)


async def test_a_node_is_a_machine_of_its_own(lab: Lab) -> None:
    told = await lab.execute("node2", "sh", "-c", "hostname; cat /proc/1/comm; ls /run; getent hosts node1")
    assert told.output.split()[:2] == ["node2", "python3.11"] or told.output.startswith("node2\npython3")
    assert "10.91.1.1" in told.output
    first, second = [
        (await lab.execute(node, "cat", "/proc/sys/kernel/random/boot_id")).output for node in ("node1", "node2")
    ]
    assert first != second


async def test_a_power_cut_is_silent(lab: Lab) -> None:
    with (
        node_socket(lab, "node2", socket.SOCK_DGRAM) as datagrams,
        node_socket(lab, "node2", socket.SOCK_STREAM) as stream,
    ):
        datagrams.connect((node_address(Network.CLUSTER_A, 1), 7007))
        await wait_echo(datagrams)
        stream.connect((node_address(Network.CLUSTER_A, 1), 7007))
        before = time.monotonic()
        plugged_at = await lab.power_off("node1")
        assert before <= plugged_at <= time.monotonic()
        for _ in range(5):
            assert not echoes(datagrams)  # a connected socket raises ConnectionRefusedError after an ICMP error
        with pytest.raises(TimeoutError):
            stream.recv(1)  # a FIN would return b"", a RST raise ConnectionResetError
    status = (await lab.status()).node("node1")
    assert status.power is Power.OFF
    assert status.off_reason == "its plug was pulled"
    with pytest.raises(NodeIsOff):
        await lab.execute("node1", "true")


async def test_power_on_loses_ram_and_keeps_the_disk(lab: Lab) -> None:
    await lab.execute(
        "node1", "sh", "-c", "for d in /run /dev/shm /etc/holdfast /var/lib/holdfast; do echo x > $d/m; done"
    )
    old = (await lab.execute("node1", "cat", "/proc/sys/kernel/random/boot_id")).output
    await lab.power_off("node1")
    assert await lab.power_on("node1")
    assert not await lab.power_on("node1")
    told = await lab.execute(
        "node1", "sh", "-c", "ls /run/m /dev/shm/m /etc/holdfast/m /var/lib/holdfast/m", check=False
    )
    assert told.output.split() == ["/etc/holdfast/m", "/var/lib/holdfast/m"]
    assert (await lab.execute("node1", "cat", "/proc/sys/kernel/random/boot_id")).output != old
    assert (lab.path("node1", "/etc/holdfast") / "m").read_text() == "x\n"


async def test_a_frozen_node_does_nothing_and_goes_on_later(lab: Lab) -> None:
    with node_socket(lab, "node2", socket.SOCK_DGRAM) as link:
        await wait_echo(link)
        await lab.freeze("node1")
        assert not echoes(link)
        with pytest.raises(NodeSilent):
            await lab.service_stop("node1", "echo")
        await lab.thaw("node1")
        assert link.recv(64) == b"ping"


async def test_a_frozen_node_that_loses_power_never_runs_again(lab: Lab) -> None:
    marker = lab.layout.shared / "ran-on"
    script = f"while :; do read -r up _ < /proc/uptime; echo $up > /srv/holdfast/shared/{marker.name}; done"
    await lab.execute("node1", "sh", "-c", f"setsid sh -c '{script}' >/dev/null 2>&1 &")

    async def has_written() -> bool:
        return marker.exists()

    await wait_until(has_written)
    await lab.freeze("node1")
    written = marker.stat().st_mtime_ns
    await lab.power_off("node1")
    assert marker.stat().st_mtime_ns == written


async def test_a_cut_cable_stays_cut_over_a_reboot_until_it_is_healed(lab: Lab) -> None:
    with node_socket(lab, "node2", socket.SOCK_DGRAM) as link:
        await wait_echo(link)
        await lab.cut("node1", [Network.CLUSTER_A])
        assert not echoes(link)
        assert echoes(link, Network.CLUSTER_B)
        await lab.power_off("node1")
        await lab.power_on("node1")
        assert not echoes(link)
        assert (await lab.status()).node("node1").cut == (Network.CLUSTER_A,)
        await lab.heal("node1", [Network.CLUSTER_A])
        await wait_echo(link)


async def test_services_are_restarted_and_only_the_process_itself(lab: Lab) -> None:
    async def sleepers() -> int:
        told = await lab.execute("node1", "pgrep", "-cf", "^sleep 1000", check=False)
        return int(told.output)

    async def has_one_sleeper() -> bool:
        return await sleepers() == 1

    async def is_restarted() -> bool:
        parent = (await lab.status()).node("node1").service("parent")
        return parent is not None and parent.starts == 2 and parent.state == "running" and parent.last_exit == -9

    absent = (await lab.status()).node("node1").service("absent")
    assert absent is not None
    assert absent.state == "missing"
    await wait_until(has_one_sleeper)
    await lab.service_kill("node1", "parent")
    await wait_until(is_restarted)
    assert await sleepers() >= 1, "the child of the killed process was to live on"
    stopped = await lab.service_stop("node1", "parent")
    assert (stopped.state, stopped.pid) == ("stopped", 0)
    assert (await lab.service_start("node1", "parent")).state == "running"


async def test_the_watchdog_pulls_the_plug_of_a_node_that_stops_petting(lab: Lab) -> None:
    await lab.execute(
        "node1",
        "sh",
        "-c",
        "setsid sh -c 'exec 3>/dev/watchdog; while :; do echo >&3; sleep 0.3; done' >/dev/null 2>&1 &",
    )
    await asyncio.sleep(2.0)
    assert (await lab.status()).node("node1").watchdog_is_armed
    await lab.freeze("node1")

    async def is_off() -> bool:
        return (await lab.status()).node("node1").power is Power.OFF

    await wait_until(is_off)
    assert (await lab.status()).node("node1").off_reason == "its watchdog fired"


async def test_the_magic_character_disarms_the_watchdog_and_a_plain_close_does_not(lab: Lab) -> None:
    await lab.execute("node1", "sh", "-c", "printf xV > /dev/watchdog")
    await lab.execute("node2", "sh", "-c", "printf x > /dev/watchdog")
    await asyncio.sleep(2.0)
    status = await lab.status()
    assert [status.node(name).power for name in ("node1", "node2")] == [Power.ON, Power.OFF]


async def test_an_unknown_node_is_named_with_those_that_exist(lab: Lab) -> None:
    with pytest.raises(NoSuchNode) as caught:
        await lab.power_off("node9")
    assert "node1, node2" in caught.value.hint
