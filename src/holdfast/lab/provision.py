"""Forms a cluster on the nodes of a lab and gives it its disks, by the same requests that a person's commands send.

Rule of the file: repeatable: what is done already is left alone, so that an interrupted `lab up` can be run again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from holdfast.client import requests, storage_requests
from holdfast.client.local import LocalClient
from holdfast.client.requests import Request
from holdfast.lab.errors import LabBroken
from holdfast.lab.guests import Guest
from holdfast.lab.lab import Finished, Lab
from holdfast.lab.layout import CLUSTER_NETWORKS, SHARED_MOUNT, WITNESS, node_address, node_number
from holdfast.lab.libvirt_files import listen_for_tls
from holdfast.lab.luns import Lun
from holdfast.lab.machine import Power
from holdfast.lab.ready import wait_libvirt
from holdfast.lab.spec import LIBVIRTD, Service
from holdfast.model.disks import DiskState
from holdfast.model.errors import HoldfastError, Unavailable
from holdfast.model.roles import Wanted
from holdfast.model.status import NodeState

SOCKET = "run/holdfast/holdfastd.sock"
SAVED = "saved"
"""Below the shared directory, where the memory of guests lies while they move."""
ANSWER_WAIT_S = 30.0
JOIN_WAIT_S = 60.0
DISKS_WAIT_S = 60.0
VOTES_WAIT_S = 60.0
MEMORY_PER_NODE = 4 * 1024**3

A = TypeVar("A")
Progress = Callable[[str], None]


def services(*, has_watchdog: bool, watchdog_timeout_s: float) -> tuple[Service, ...]:
    """What runs on a node: libvirtd, the guard with the node's watchdog, and holdfastd."""
    programs = Path(sys.executable).parent
    watchdog = ("--watchdog", "/dev/watchdog", "--watchdog-timeout-s", str(int(watchdog_timeout_s)))
    guard = (str(programs / "holdfast-guard"), *(watchdog if has_watchdog else ()))
    return (
        LIBVIRTD,
        Service(name="holdfast-guard", command=guard, nice=-15),
        Service(name="holdfastd", command=(str(programs / "holdfastd"),), nice=-10),
    )


async def client_of(lab: Lab, node: str) -> LocalClient:
    """A client of a node's daemon, reached through the node's own view of its files."""
    status = (await lab.status()).node(node)
    return LocalClient(Path(f"/proc/{status.init_pid}/root") / SOCKET)


def forming(
    settings: Mapping[str, object] | None = None, *, fence: bool = True, witness: bool = True
) -> Callable[[Lab, Progress], Awaitable[None]]:
    """Return what `Lab.up` takes to form the cluster, with these settings and with or without fence devices.

    witness   whether the lab's witness joins, if it has one.
    """

    async def provision(lab: Lab, progress: Progress) -> None:
        nodes = lab.spec.node_names
        first = nodes[0]
        if await _presence(lab, first) is None:
            progress(f"{first}: founding the cluster")
            await found(lab, first, settings)
        for node in nodes[1:]:
            if await _presence(lab, node) is None:
                progress(f"{node}: joining the cluster")
                await join(lab, node, asked=first)
        if witness and lab.spec.has_witness and not await _has_witness(lab):
            progress(f"{WITNESS}: becoming the witness of the cluster")
            await join_witness(lab, asked=first)
        for node in nodes:
            await _ask(lab, first, requests.set_node(node, _properties(node, fence=fence and lab.spec.has_fence)))
        await asyncio.gather(*(_let_memory_in(lab, node) for node in nodes))
        progress("waiting until every node is up and those vote that should")
        await wait_nodes_up(lab, first)
        await wait_votes(lab, first)
        if lab.luns:
            await _add_disks(lab, first, progress)

    return provision


async def found(lab: Lab, node: str, settings: Mapping[str, object] | None = None) -> None:
    """Have a node found the lab's cluster."""
    (lab.layout.shared / SAVED).mkdir(exist_ok=True)
    create = requests.create_cluster(
        cluster=lab.layout.name,
        node=node,
        addresses=_addresses(node),
        shared_directories=(str(SHARED_MOUNT),),
        settings={"saved_state_directory": str(SHARED_MOUNT / SAVED)} | dict(settings or {}),
    )
    await _ask(lab, node, create)


async def join(lab: Lab, node: str, *, asked: str) -> None:
    """Have a node join with a token of another's."""
    token = await _ask(lab, asked, requests.create_token())
    await _ask(lab, node, requests.join_node(token=token.token, node=node, addresses=_addresses(node)))


async def join_witness(lab: Lab, *options: str, asked: str, name: str = WITNESS) -> Finished:
    """Have the lab's witness join with a token of a node's, as docs/quorum.md tells a person. Raises: LabBroken."""
    token = await _ask(lab, asked, requests.create_token())
    command = ("holdfast", "witness", "join", "-", "--name", name, *options)
    return await lab.execute(WITNESS, *command, stdin=f"{token.token}\n")


async def wait_disks_ready(lab: Lab, asked: str, *, timeout_s: float = DISKS_WAIT_S) -> None:
    """Wait until every node that is powered on may write to every disk, or will as soon as its role is there.

    Raises: LabBroken after the time.
    """
    fit = {DiskState.READY, DiskState.STANDBY}
    on = {node.name for node in (await lab.status()).nodes if node.power is Power.ON} & set(lab.spec.node_names)
    seen: dict[str, dict[str, str]] = {}
    try:
        async with asyncio.timeout(timeout_s):
            client = await client_of(lab, asked)
            while not seen or not {state for disk in seen.values() for state in disk.values()} <= fit:
                await asyncio.sleep(0.1)
                disks = await client.call(storage_requests.list_disks())
                seen = {d.name: {node: d.nodes[node].state if node in d.nodes else "?" for node in on} for d in disks}
    except TimeoutError as error:
        raise LabBroken(
            f"after {timeout_s:g} s the disks are {seen}", hint="`holdfast storage show` says why"
        ) from error


async def _add_disks(lab: Lab, asked: str, progress: Progress) -> None:
    """Make each LUN a disk of the cluster. The lab's target forgets reservations, which is accepted here."""
    client = await client_of(lab, asked)
    known = {disk.name for disk in await client.call(storage_requests.list_disks())}
    for lun in (*lab.luns, *lab.heartbeat_luns):
        if lun.disk not in known:
            progress(f"adding disk {lun.disk}")
            add = storage_requests.add_disk(
                lun.disk,
                designator=lun.designator,
                guest_source=None if lun.is_heartbeat else lun.guest_source,
                reservations=f"helper:{lun.reservations_socket}",
                accept_forgetful=True,
                heartbeat=lun.is_heartbeat,
            )
            await client.call(add)
    await wait_disks_ready(lab, asked)


async def wait_nodes_up(lab: Lab, asked: str, *, timeout_s: float = JOIN_WAIT_S) -> None:
    """Wait until `asked` sees every node that is powered on as up. Raises: LabBroken after the time."""
    on = {node.name for node in (await lab.status()).nodes if node.power is not Power.OFF}
    seen: dict[str, NodeState] = {}
    try:
        async with asyncio.timeout(timeout_s):
            client = await client_of(lab, asked)
            while True:
                try:
                    status = await client.call(requests.status())
                    seen = {node.name: node.state for node in status.nodes if node.name in on}
                    ready = all(n.memory_bytes is not None for n in status.nodes if n.name in on)
                    if set(seen.values()) == {NodeState.UP} and ready and status.coordinator is not None:
                        return
                except HoldfastError as error:
                    if not error.retryable:
                        raise
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise LabBroken(f"after {timeout_s:g} s the nodes are {seen}", hint=f"look into the logs of {asked}") from error


async def wait_votes(lab: Lab, asked: str, *, timeout_s: float = VOTES_WAIT_S) -> None:
    """Wait until as many nodes vote as should, by the settings as they are from the start. Raises: LabBroken."""
    seen = (0, 0)
    try:
        async with asyncio.timeout(timeout_s):
            client = await client_of(lab, asked)
            while True:
                status = await client.call(requests.status())
                seen = (status.voters, len(status.nodes))
                most = min(len(status.nodes), int(str(status.settings["voters_at_most"])))
                if status.voters == most - 1 + most % 2:
                    return
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise LabBroken(
            f"after {timeout_s:g} s {seen[0]} of {seen[1]} nodes vote", hint=f"look into the logs of {asked}"
        ) from error


async def add_guests(
    lab: Lab,
    count: int,
    *,
    asked: str,
    owners: Mapping[int, str] | None = None,
    wanted: Wanted = Wanted.ONLINE,
    luns: Sequence[Lun] = (),
) -> list[Guest]:
    """Make roles of new guests 1..count, each with a preferred owner where `owners` names one by index.

    The first ones get a LUN each for their disk, as far as there are any; they are disks of the cluster.
    """
    client = await client_of(lab, asked)
    known = {role.name for role in (await client.call(requests.status())).roles}
    guests = [lab.guest(f"guest{index}", index) for index in range(1, count + 1)]
    for guest in guests:
        if guest.name in known:
            continue
        guest.make_disk()
        preferred = (owners or {}).get(guest.index)
        disk = luns[guest.index - 1].disk if guest.index <= len(luns) else None
        add = requests.add_vm(
            lab.guest_xml(guest, disk=disk),
            wanted=wanted,
            preferred_owners=(preferred,) if preferred is not None else (),
        )
        await client.call(add)
    return guests


async def _let_memory_in(lab: Lab, node: str) -> None:
    """Have a node's libvirt take guests in from other nodes, as docs/guests.md says."""
    own = lab.path(node, "/var/lib/holdfast") / "pki/node.crt"
    shown = lab.path(node, "/etc/pki") / "libvirt/servercert.pem"
    is_new = listen_for_tls(lab.path(node, "/etc/libvirt"))
    if is_new or not shown.exists() or shown.read_bytes() != own.read_bytes():
        await lab.execute(node, "holdfastd", "--install-libvirt-certificates")
        await lab.service_kill(node, LIBVIRTD.name)
        await wait_libvirt(lab.layout, node)


def _addresses(node: str) -> dict[str, str]:
    return {str(network): node_address(network, node_number(node)) for network in CLUSTER_NETWORKS}


def _properties(node: str, *, fence: bool) -> dict[str, object]:
    device = {"agent": "fence_holdfast_lab", "options": {"plug": node}} if fence else None
    return {"fence": device, "memory_bytes": MEMORY_PER_NODE, "vcpus": 4}


async def _has_witness(lab: Lab) -> bool:
    """Whether the lab's witness is one already."""
    return bool(json.loads((await lab.execute(WITNESS, "holdfast", "witness", "list", "--json")).output))


async def _presence(lab: Lab, node: str) -> str | None:
    """Name of the node's cluster, or None; waits for its daemon to answer."""
    return (await _ask(lab, node, requests.ping())).cluster


async def _ask(lab: Lab, node: str, request: Request[A]) -> A:
    """Ask a node's daemon, waiting for it while it starts."""
    until = asyncio.get_running_loop().time() + ANSWER_WAIT_S
    while True:
        client = await client_of(lab, node)
        try:
            return await client.call(request)
        except Unavailable:
            if asyncio.get_running_loop().time() > until:
                raise
        await asyncio.sleep(0.1)
