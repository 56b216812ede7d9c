"""Building a lab and taking it down, whatever a former attempt left behind.

Rule of the file: one lock per lab name; building starts by sweeping what a dead lab left, and both end with either a
running lab or a clear error, so that ``up`` and ``down`` work after Ctrl-C or ``kill -9`` at any line.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.lab.acceleration import probe_kvm
from holdfast.lab.adapter import build_adapter_library
from holdfast.lab.datacenter import claim_name
from holdfast.lab.errors import LabBroken, LabNotRunning
from holdfast.lab.freezer import Freezer, freezer_root
from holdfast.lab.guests import place_image
from holdfast.lab.image import guest_image
from holdfast.lab.layout import STORAGE_NODE, WITNESS, Layout, Network
from holdfast.lab.luns import StorageSpec, make_luns, portal
from holdfast.lab.machine import Power
from holdfast.lab.namespaces import NETNS_FOLDER
from holdfast.lab.processes import ProcessId
from holdfast.lab.ready import wait_adapters, wait_libvirt, wait_target
from holdfast.lab.spec import LIBVIRTD, LabSpec, Service
from holdfast.lab.status import NodeStatus, read_status
from holdfast.lab.tools import run_tool
from holdfast.lab.wire import ask

if TYPE_CHECKING:
    from holdfast.lab.lab import Lab

Progress = Callable[[str], None]
Provision = Callable[["Lab", Progress], Awaitable[None]]
_START_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 20.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LabOptions:
    """What to build."""

    nodes: int = 3
    has_fence: bool = True
    has_watchdog: bool = True
    watchdog_timeout_s: float = 3.0
    services: tuple[Service, ...] = (LIBVIRTD,)
    """A cluster adds its own (``provision.services``). Nodes without libvirtd are light, and run no guests."""
    storage: StorageSpec | None = None
    """What the storage node serves; None for a lab without one."""
    has_witness: bool = False


async def build(layout: Layout, options: LabOptions, progress: Progress) -> None:
    """Bring the lab up with all its nodes and their libvirt. Raises: LabNameTaken, LabBroken."""
    if os.geteuid() != 0:
        raise LabBroken("the lab makes namespaces and needs root", hint="run it as root")
    layout.base.mkdir(parents=True, exist_ok=True)
    with _locked(layout):
        if await is_running(layout):
            progress(f"lab {layout.name} is up already; completing it")
        else:
            await _start_datacenter(layout, options, progress)
        status = read_status(await ask(layout.control_socket, {"do": "status"}))
        spec = LabSpec.read(layout.spec_file)
        storage = spec.storage
        if storage is not None and not await _bring_storage_up(layout, storage, status.node(STORAGE_NODE), progress):
            storage = None
        try:
            async with asyncio.TaskGroup() as group:
                for node in status.nodes:
                    if node.name == WITNESS or (node.name != STORAGE_NODE and LIBVIRTD not in spec.services):
                        group.create_task(_bring_up(layout, node, progress))
                    elif node.name != STORAGE_NODE:
                        group.create_task(_bring_node_up(layout, node, storage, progress))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several


async def demolish(layout: Layout, progress: Progress) -> bool:
    """Take the lab down and remove all it made; returns False when there was nothing. Raises: LabBroken."""
    if not layout.base.exists():
        return False
    with _locked(layout):
        was_there = layout.root.exists()
        if await is_running(layout):
            progress(f"taking lab {layout.name} down")
            await ask(layout.control_socket, {"do": "shutdown"})
        await _end_datacenter(layout)
        was_there |= await _sweep(layout)
        if layout.root.exists():
            shutil.rmtree(layout.root)
        layout.lock.unlink()
    return was_there


async def is_running(layout: Layout) -> bool:
    """Return whether the lab's datacenter answers."""
    try:
        await ask(layout.control_socket, {"do": "status"}, timeout_s=10)
    except (LabNotRunning, LabBroken):
        return False
    return True


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    with layout.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabBroken(
                f"lab {layout.name} is being built or taken down by another process", hint="wait for it to end"
            ) from error
        yield


async def _start_datacenter(layout: Layout, options: LabOptions, progress: Progress) -> None:
    image = await guest_image(progress)
    has_kvm = await probe_kvm(image, progress)
    await _end_datacenter(layout)
    claim_name(layout).close()
    await _sweep(layout)
    layout.shared.mkdir(parents=True, exist_ok=True)
    place_image(layout, image)
    spec = LabSpec(
        nodes=options.nodes,
        services=options.services,
        has_fence=options.has_fence,
        has_watchdog=options.has_watchdog,
        watchdog_timeout_s=options.watchdog_timeout_s,
        has_kvm=has_kvm,
        storage=options.storage,
        has_witness=options.has_witness,
    )
    if spec.storage is not None:
        await build_adapter_library()
        make_luns(layout, spec.storage)
    layout.spec_file.write_text(spec.to_json())
    for service in spec.services:
        if not os.access(service.command[0], os.X_OK):
            progress(f"service {service.name} is missing: there is no program {service.command[0]}")
    witness = " and a witness" if spec.has_witness else ""
    progress(
        f"starting lab {layout.name}: {spec.nodes} nodes{witness}, guests under {'KVM' if has_kvm else 'TCG (no KVM)'}"
    )
    try:
        await run_tool(sys.executable, "-m", "holdfast.lab.datacenter", layout.name, timeout_s=_START_TIMEOUT_S)
    except LabBroken as error:
        last = next(reversed(layout.log_file.read_text().strip().splitlines()), "it printed nothing")
        raise LabBroken(f"the datacenter did not start: {last}", hint=f"see {layout.log_file}") from error


async def _bring_up(layout: Layout, node: NodeStatus, progress: Progress) -> bool:
    """Switch a machine on; returns whether it runs now."""
    if node.power is Power.FROZEN:
        progress(f"{node.name} is frozen; `holdfast lab thaw {node.name}` lets it go on")
        return False
    if node.power is Power.OFF:
        await ask(layout.control_socket, {"do": "power-on", "node": node.name})
    return True


async def _bring_storage_up(layout: Layout, storage: StorageSpec, node: NodeStatus, progress: Progress) -> bool:
    """Switch the storage node on; returns whether nodes can reach its LUNs now."""
    began = asyncio.get_running_loop().time()
    if not await _bring_up(layout, node, progress):
        return False
    await wait_target(layout)
    took_s = asyncio.get_running_loop().time() - began
    progress(f"{node.name} is up, {storage.luns} LUNs can be reached at {portal()} ({took_s:.1f} s)")
    return Network.STORAGE not in node.cut


async def _bring_node_up(layout: Layout, node: NodeStatus, storage: StorageSpec | None, progress: Progress) -> None:
    began = asyncio.get_running_loop().time()
    if not await _bring_up(layout, node, progress):
        return
    await wait_libvirt(layout, node.name)
    if storage is not None and Network.STORAGE not in node.cut:
        await wait_adapters(layout, storage, node.name)
    progress(f"{node.name} is up, libvirt answers ({asyncio.get_running_loop().time() - began:.1f} s)")


async def _end_datacenter(layout: Layout) -> None:
    """Return when the datacenter of this lab is gone, waiting first and killing it then."""
    process = ProcessId.parse(layout.pid_file.read_text()) if layout.pid_file.exists() else None
    if process is None:
        return
    grace_s = _END_TIMEOUT_S if await is_running(layout) else 0.5
    for patience_s in (grace_s, _END_TIMEOUT_S):
        try:
            async with asyncio.timeout(patience_s):
                while process.is_alive:  # noqa: ASYNC110 - it is no child of this process, so there is nothing to await
                    await asyncio.sleep(_POLL_S)
            return
        except TimeoutError:
            process.kill()
    raise LabBroken(f"the datacenter (pid {process.pid}) does not die")


async def _sweep(layout: Layout) -> bool:
    """Remove the freezer groups with all that lives in them, and the namespaces; returns whether there were any."""
    groups = [path for path in freezer_root().iterdir() if layout.owned_namespace.fullmatch(path.name)]
    for path in groups:
        group = Freezer(path)
        group.kill()
        await group.remove()
    found = bool(groups)
    if NETNS_FOLDER.exists():
        for path in NETNS_FOLDER.iterdir():
            if layout.owned_namespace.fullmatch(path.name):
                await run_tool("ip", "netns", "del", path.name)
                found = True
    for socket_path in (layout.control_socket, layout.power_socket, layout.pid_file):
        socket_path.unlink(missing_ok=True)
    return found
