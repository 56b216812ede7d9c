"""Two nodes' hypervisors without a cluster, as holdfastd on them would see them, over the TLS of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.lab.bare_lab import wait_until

from holdfast.hypervisor.libvirt_host import LibvirtHost
from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget
from holdfast.hypervisor.port import ConnectionEvent, ConnectionState, Guest, GuestState
from holdfast.hypervisor.qemu_process import QemuProcesses
from holdfast.hypervisor.timeouts import HypervisorTimeouts
from holdfast.lab.guests import Guest as LabGuest
from holdfast.lab.lab import Lab
from holdfast.lab.layout import SHARED_MOUNT, Network, node_address, node_number
from holdfast.lab.libvirt_files import listen_for_tls
from holdfast.lab.ready import wait_libvirt
from holdfast.membership.certificates import create_authority, create_request, sign_request
from holdfast.model.ids import NodeName
from holdfast.node.libvirt_certificates import install

TIMEOUTS = HypervisorTimeouts(start_ms=30_000, destroy_ms=20_000)
NODES = ("node1", "node2")


async def give_certificates(lab: Lab, folder: Path) -> None:
    """Let the nodes' libvirts trust each other, as in a cluster."""
    now = datetime.now(UTC)
    authority = create_authority(cluster_name="lab", now=now)
    for node in NODES:
        own = folder / node
        own.mkdir()
        request = create_request(NodeName(node))
        addresses = [address(node)]
        certificate = sign_request(authority, request.request_pem, node=NodeName(node), addresses=addresses, now=now)
        (own / "ca.crt").write_bytes(authority.certificate_pem)
        (own / "node.crt").write_bytes(certificate)
        (own / "node.key").write_bytes(request.key_pem)
        install(own, lab.path(node, "/etc/pki"))
        listen_for_tls(lab.path(node, "/etc/libvirt"))
        await lab.service_kill(node, "libvirtd")
        await wait_libvirt(lab.layout, node)


def address(node: str) -> str:
    return node_address(Network.CLUSTER_A, node_number(node))


def target(node: str) -> MigrationTarget:
    return MigrationTarget(uri=f"qemu+tls://{address(node)}/system", data_uri=f"tcp://{address(node)}")


def options(*, bandwidth_bytes_per_s: int | None = None) -> MigrateOptions:
    return MigrateOptions(
        shared_directories=(str(SHARED_MOUNT),), timeout_ms=120_000, bandwidth_bytes_per_s=bandwidth_bytes_per_s
    )


@dataclass(frozen=True)
class Host:
    """One node's hypervisor."""

    lab: Lab
    node: str
    libvirt: LibvirtHost

    async def guest(self, uuid: str) -> Guest | None:
        return next((guest for guest in await self.libvirt.guests() if guest.uuid == uuid), None)

    async def state(self, uuid: str) -> GuestState | None:
        guest = await self.guest(uuid)
        return None if guest is None else guest.state

    async def wait_state(self, uuid: str, wanted: GuestState | None, *, timeout_s: float = 20.0) -> None:
        async def is_so() -> bool:
            return await self.state(uuid) is wanted

        await wait_until(is_so, timeout_s=timeout_s)

    async def kill_daemon(self) -> None:
        """Kill libvirtd; returns when its successor has looked around."""
        events = self.libvirt.events()
        await self.lab.service_kill(self.node, "libvirtd")
        for wanted in (ConnectionState.LOST, ConnectionState.CONNECTED):
            async with asyncio.timeout(30):
                async for event in events:
                    if isinstance(event, ConnectionEvent) and event.state is wanted:
                        break

    async def start(self, guest: LabGuest) -> str:
        """Boot a guest with a new disk; returns its uuid when it answers."""
        guest.make_disk()
        xml = self.lab.guest_xml(guest)
        await self.libvirt.prepare(xml)
        (uuid,) = [seen.uuid for seen in await self.libvirt.guests() if seen.name == guest.name]
        await self.libvirt.resume(uuid)
        await guest.wait_answer()
        return uuid


@asynccontextmanager
async def host_of(lab: Lab, node: str) -> AsyncIterator[Host]:
    """A node's hypervisor, with its connection up."""
    init = (await lab.status()).node(node).init_pid
    libvirt = LibvirtHost(
        uri=f"qemu+unix:///system?socket=/proc/{init}/root/run/libvirt/libvirt-sock",
        timeouts=TIMEOUTS,
        processes=QemuProcesses(pid_namespace=str(Path(f"/proc/{init}/ns/pid").readlink())),
        logs=lab.path(node, "/var/log/libvirt") / "qemu",
    )
    events = libvirt.events()
    keeping = asyncio.create_task(libvirt.run())
    try:
        async with asyncio.timeout(20):
            async for event in events:
                if isinstance(event, ConnectionEvent) and event.state is ConnectionState.CONNECTED:
                    break
        yield Host(lab, node, libvirt)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
