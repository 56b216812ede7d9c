"""What a machine keeps of the cluster that it is in, and how it forgets it.

Rule of the file: `identity.json` is written last and removed first. Without it a machine is in no cluster, and whatever
an attempt left behind is cleared before the next one: nothing is ever half done. Source: DESIGN section 6.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

from holdfast.membership.identity import NodeIdentity, Ports
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import ClusterId, NetworkName, NodeName
from holdfast.model.nodes import NodeSpec
from holdfast.node.config import DaemonConfig
from holdfast.node.database import database_member
from holdfast.store.etcd.member_config import InitialState, MemberConfig
from holdfast.store.etcd.supervisor import EtcdSupervisor

MACHINE_ID: Final = Path("/etc/machine-id")
PRODUCT_UUID: Final = Path("/sys/class/dmi/id/product_uuid")
SYSTEM_VENDOR: Final = Path("/sys/class/dmi/id/sys_vendor")
CPU_INFO: Final = Path("/proc/cpuinfo")


def stranger(node: str, addresses: Mapping[str, str], ports: Ports) -> NodeIdentity:
    """A machine before any cluster has let it in."""
    return NodeIdentity(
        cluster_id=ClusterId(str(uuid4())),
        cluster_name="none",
        node=NodeName(node),
        node_id=str(uuid4()),
        addresses={NetworkName(name): ip for name, ip in addresses.items()},
        ports=ports,
        is_voter=False,
    )


def node_spec(identity: NodeIdentity, *, is_voter: bool, joined_at_ms: int) -> NodeSpec:
    """The database's record of a node as it describes itself."""
    machine_id, product_uuid = machine_ids()
    return NodeSpec(
        name=identity.node,
        addresses=dict(identity.addresses),
        is_voter=is_voter,
        etcd_client_port=identity.ports.etcd_client,
        etcd_peer_port=identity.ports.etcd_peer,
        heartbeat_port=identity.ports.heartbeat,
        join_port=identity.ports.join,
        joined_at_ms=joined_at_ms,
        machine_id=machine_id,
        product_uuid=product_uuid,
    )


def known_nodes(identity: NodeIdentity) -> dict[NodeName, NodeSpec]:
    """Every node as this one last knew it, itself included."""
    known = {
        peer.node: NodeSpec(
            name=peer.node,
            addresses=dict(peer.addresses),
            is_voter=peer.is_voter,
            etcd_client_port=peer.ports.etcd_client,
            etcd_peer_port=peer.ports.etcd_peer,
            heartbeat_port=peer.ports.heartbeat,
            join_port=peer.ports.join,
        )
        for peer in identity.peers
    }
    return {**known, identity.node: node_spec(identity, is_voter=identity.is_voter, joined_at_ms=0)}


def machine_ids() -> tuple[str, str]:
    """The ids of this operating system and of the machine below it, which for a guest is its uuid; empty: unknown.

    Source: machine-id(5), SMBIOS 7.2 (system UUID).
    """
    return _text(MACHINE_ID), _text(PRODUCT_UUID).lower()


def is_virtual_machine(*, cpu_info: Path = CPU_INFO, system_vendor: Path = SYSTEM_VENDOR) -> bool:
    """Whether this machine is seen to be a guest of some hypervisor; False also where nothing tells.

    Source: AMD64 APM volume 3, CPUID Fn0000_0001_ECX bit 31 ("hypervisor" in /proc/cpuinfo), which no processor sets by
    itself; elsewhere the SMBIOS 7.2 manufacturer, which is QEMU for its guests.
    """
    flags = {line.partition(":")[2] for line in _text(cpu_info).splitlines() if line.startswith("flags")}
    return any("hypervisor" in found.split() for found in flags) or _text(system_vendor) == "QEMU"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


async def end_member(config: DaemonConfig) -> None:
    """End this machine's member of the database, whoever started it; its data stays."""
    await EtcdSupervisor(_nobodys_member(config)).stop()


def _nobodys_member(config: DaemonConfig) -> MemberConfig:
    return database_member(config, stranger("none", {"none": "127.0.0.1"}, Ports()), InitialState.NEW, ())


async def forget_cluster(config: DaemonConfig) -> None:
    """End this machine's member of the database and remove all that it keeps of the cluster. Can be repeated.

    Its incarnation too: what was proven of the node that was taken out must never be true of the one that joins again
    before the machine has restarted. Source: SAFE-2.
    """
    config.identity.unlink(missing_ok=True)
    await end_member(config)
    for folder in (config.database, config.keys):
        if folder.exists():
            shutil.rmtree(folder)
    stored = _nobodys_member(config).stored_file
    for file in (stored, config.cluster_key, config.seat, config.run_directory / "incarnation"):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def checked_directories(directories: tuple[str, ...]) -> tuple[str, ...]:
    """The shared directories as they are kept. Raises: InvalidInput for one that is not here."""
    for directory in directories:
        path = Path(directory)
        if not path.is_absolute() or not path.is_dir():
            raise InvalidInput(
                f"shared directory {directory!r} is not an absolute path of a directory on this machine",
                hint="mount the shared storage at the same path on every node first",
            )
    return tuple(str(Path(directory)) for directory in directories)


def require_own_addresses(addresses: Mapping[str, str]) -> None:
    """Raises: InvalidInput for an address that no interface of this machine has."""
    for network, address in addresses.items():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError as error:
                raise InvalidInput(
                    f"address {address} of network {network} is not on this machine ({error.strerror})",
                    hint="see `ip address` for this machine's addresses",
                ) from error
