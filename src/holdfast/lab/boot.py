"""What a machine of the lab finds when it boots: its folders, its devices' files, its services.

Rule of the file: what is bound from the machine's own folder is its disk and outlives a power cut.
"""

from __future__ import annotations

import shutil
import sys
import uuid
from pathlib import Path

from holdfast.lab import fence_agent
from holdfast.lab.adapter import adapter_services
from holdfast.lab.layout import SHARED_MOUNT, Layout, NodeLayout, hosts_file
from holdfast.lab.libvirt_files import write_libvirt_files
from holdfast.lab.luns import LUNS_FOLDER
from holdfast.lab.rig import BootPlan
from holdfast.lab.spec import LabSpec, Service
from holdfast.lab.target import target_service
from holdfast.lab.witness import WITNESS_FOLDER, witness_service

_DEVICES = "/run/lab"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NODE_FOLDERS = (
    "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt",
    "/etc/holdfast", "/var/lib/holdfast", "/var/log/holdfast", "/etc/pki",
)  # fmt: skip
_STORAGE_FOLDERS = ("/var/log/holdfast", str(LUNS_FOLDER))
_WITNESS_FOLDERS = (WITNESS_FOLDER, "/etc/holdfast", "/var/lib/holdfast", "/var/log/holdfast")
_MACHINE_ID = "/etc/machine-id"


def programs_path() -> str:
    """Return the PATH inside a node: what belongs to its devices, the environment that runs this code, the system."""
    return f"{_DEVICES}:{Path(sys.executable).parent}:{_SYSTEM_PATH}"


def boot_plan(layout: Layout, spec: LabSpec, node: NodeLayout, boot_id: str) -> BootPlan:
    """Return what the init of a machine is to do, and make the files that it will find."""
    binds = {folder: str(node.on_disk(folder)) for folder in _folders(node)}
    for source in binds.values():
        Path(source).mkdir(parents=True, exist_ok=True)
    hosts = node.root / "hosts"
    hosts.write_text(hosts_file(spec.node_names))
    binds["/etc/hosts"] = str(hosts)
    if Path(_MACHINE_ID).exists():
        binds[_MACHINE_ID] = str(_machine_id(layout, node))
    if node.is_host:
        write_libvirt_files(node)
        binds[str(SHARED_MOUNT)] = str(layout.shared)
        binds |= _devices(layout, spec, node)
    return BootPlan(
        hostname=node.name,
        boot_id=boot_id,
        path=programs_path(),
        binds=binds,
        has_kvm=spec.has_kvm,
        services=[
            {"name": one.name, "command": list(one.command), "nice": one.nice,
             "restart_delay_ms": one.restart_delay_ms}
            for one in _services(layout, spec, node)
        ],
    )  # fmt: skip


def _folders(node: NodeLayout) -> tuple[str, ...]:
    if node.is_storage:
        return _STORAGE_FOLDERS
    return _WITNESS_FOLDERS if node.is_witness else _NODE_FOLDERS


def _machine_id(layout: Layout, node: NodeLayout) -> Path:
    """Make the file that tells a machine from the others of its lab, and of other labs. Source: machine-id(5)."""
    file = node.root / "machine-id"
    file.write_text(uuid.uuid5(uuid.NAMESPACE_DNS, f"{node.name}.{layout.name}.lab.holdfast").hex + "\n")
    return file


def _devices(layout: Layout, spec: LabSpec, node: NodeLayout) -> dict[str, str]:
    binds = {}
    if spec.has_fence:
        agent = node.root / "fence_holdfast_lab"
        shutil.copy(fence_agent.__file__, agent)
        agent.chmod(0o755)
        binds[f"{_DEVICES}/{agent.name}"] = str(agent)
        binds[fence_agent.DEFAULT_PATH] = str(layout.power_socket)
    if spec.has_watchdog:
        binds["/dev/watchdog"] = str(node.watchdog)
    return binds


def _services(layout: Layout, spec: LabSpec, node: NodeLayout) -> tuple[Service, ...]:
    if node.is_witness:
        return (witness_service(),)
    if node.is_host:
        return (*spec.services, *adapter_services(layout, spec.storage, node.name))
    assert spec.storage is not None, "a lab has a storage node only when its specification says what it serves"
    return (target_service(layout, spec.storage),)
