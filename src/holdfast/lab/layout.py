"""Names, addresses and paths of a lab, all derived from its name.

Rule of the file: whatever a lab makes on the machine carries the lab's name, and the name alone is enough to find it
again; that is what lets ``down`` remove everything after a crash and nothing of a neighbour.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from holdfast.lab.errors import BadLabName

MAX_NODES = 16
GUEST_ADDRESS_BASE = 100
MAX_GUESTS = 150
SWITCH_HOST = 254
STORAGE_NODE = "storage1"
_STORAGE_NUMBER = 101
WITNESS = "witness1"
_WITNESS_NUMBER = 102
SHARED_MOUNT = Path("/srv/holdfast/shared")
IMAGE_CACHE = Path("/var/cache/holdfast-lab")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")


class Network(StrEnum):
    """The networks that join the nodes; also the name of each node's interface to it."""

    CLUSTER_A = "cluster-a"
    CLUSTER_B = "cluster-b"
    STORAGE = "storage"
    VM = "vm"

    @property
    def prefix(self) -> str:
        """The first three numbers of the network's /24."""
        return f"10.91.{list(Network).index(self) + 1}"


CLUSTER_NETWORKS = (Network.CLUSTER_A, Network.CLUSTER_B)
"""For heartbeats and the cluster database; a witness has no other."""


def node_name(number: int) -> str:
    """Return the name of the node with this number (1..16)."""
    return f"node{number}"


def node_number(name: str) -> int:
    """Return the number inside a node's name, which its addresses carry. Raises: BadLabName."""
    if name == STORAGE_NODE:
        return _STORAGE_NUMBER
    if name == WITNESS:
        return _WITNESS_NUMBER
    if not re.fullmatch(r"node([1-9]|1[0-6])", name):
        raise BadLabName(f"{name!r} is no lab node", hint="nodes are called node1, node2, … up to node16")
    return int(name.removeprefix("node"))


def node_address(network: Network, number: int) -> str:
    """Return the address of a node on a network."""
    return f"{network.prefix}.{number}"


def node_mac(network: Network, number: int) -> str:
    """Return the hardware address of a node's interface; it outlives a reboot, as a real card's does."""
    return f"52:54:00:91:0{list(Network).index(network) + 1}:{number:02x}"


def guest_address(index: int) -> str:
    """Return the address of the guest with this index (1..150) on the vm network."""
    if not 1 <= index <= MAX_GUESTS:
        raise BadLabName(f"guest index {index} is outside 1..{MAX_GUESTS}")
    return f"{Network.VM.prefix}.{GUEST_ADDRESS_BASE + index}"


def guest_mac(index: int) -> str:
    """Return the fixed hardware address of the guest with this index."""
    return f"52:54:00:91:04:{GUEST_ADDRESS_BASE + index:02x}"


def hosts_file(nodes: list[str]) -> str:
    """Return an /etc/hosts that names every node on every network; the bare name is its cluster-a address.

    The storage node, which the lab may have, has only one address; the witness has two.
    """
    lines = ["127.0.0.1 localhost", f"{node_address(Network.STORAGE, _STORAGE_NUMBER)} {STORAGE_NODE}"]
    for network in Network:
        for name in (*nodes, WITNESS) if network in CLUSTER_NETWORKS else nodes:
            alias = f" {name}" if network is Network.CLUSTER_A else ""
            lines.append(f"{node_address(network, node_number(name))}{alias} {name}.{network}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLayout:
    """Where one node lives on the machine."""

    lab: Layout
    name: str

    @property
    def number(self) -> int:
        """The node's number, from its name."""
        return node_number(self.name)

    @property
    def is_storage(self) -> bool:
        """Whether it is the storage node, which serves LUNs and is no part of the cluster."""
        return self.name == STORAGE_NODE

    @property
    def is_witness(self) -> bool:
        """Whether it is the witness, which votes in the cluster and runs no guests."""
        return self.name == WITNESS

    @property
    def is_host(self) -> bool:
        """Whether it can run guests, and has what that takes: a fence device, a watchdog, libvirt."""
        return not (self.is_storage or self.is_witness)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks that it has a cable to."""
        if self.is_storage:
            return (Network.STORAGE,)
        return CLUSTER_NETWORKS if self.is_witness else tuple(Network)

    @property
    def namespace(self) -> str:
        """The network namespace's name."""
        return f"hf-{self.lab.name}-{self.name}"

    @property
    def root(self) -> Path:
        """The node's folder; what is below ``disk`` outlives a power cut."""
        return self.lab.root / "nodes" / self.name

    @property
    def disk(self) -> Path:
        """Disk-like state, one folder per bind mount, named after its target with dashes for slashes."""
        return self.root / "disk"

    @property
    def watchdog(self) -> Path:
        """The FIFO that is /dev/watchdog inside the node."""
        return self.root / "watchdog"

    @property
    def log(self) -> Path:
        """What the node's init and services print (also /var/log/holdfast inside)."""
        return self.on_disk("/var/log/holdfast")

    def on_disk(self, path: str) -> Path:
        """Return the host's path of a folder that is private to the node, such as ``/etc/holdfast``."""
        return self.disk / path.strip("/").replace("/", "-")

    def port(self, network: Network) -> str:
        """Return the name of the switch-side end of the node's cable to a network (at most 15 characters)."""
        return f"{self.number}-{network}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where one lab lives on the machine."""

    name: str
    base: Path

    @classmethod
    def of(cls, name: str = "lab") -> Layout:
        """Return the layout of the lab with this name. Raises: BadLabName."""
        if not _NAME.fullmatch(name):
            raise BadLabName(
                f"{name!r} cannot be a lab's name",
                hint="use at most 16 of a-z, 0-9 and -, beginning with a letter",
            )
        return cls(name=name, base=Path(os.environ.get("HOLDFAST_LAB_ROOT", "/var/lib/holdfast-lab")))

    @property
    def root(self) -> Path:
        """The folder that holds everything of this lab."""
        return self.base / self.name

    @property
    def lock(self) -> Path:
        """Held while the lab is built or removed; beside the root, which ``down`` removes."""
        return self.base / f"{self.name}.lock"

    @property
    def control_socket(self) -> Path:
        """Where the datacenter takes orders."""
        return self.root / "datacenter.sock"

    @property
    def power_socket(self) -> Path:
        """Where the datacenter answers fence agents; bound into every node."""
        return self.root / "power.sock"

    @property
    def pid_file(self) -> Path:
        """Pid and start time of the datacenter's process."""
        return self.root / "datacenter.pid"

    @property
    def spec_file(self) -> Path:
        """The lab's specification, as it was brought up."""
        return self.root / "lab.json"

    @property
    def log_file(self) -> Path:
        """What the datacenter prints."""
        return self.root / "datacenter.log"

    @property
    def shared(self) -> Path:
        """The shared storage: ``/srv/holdfast/shared`` inside every node."""
        return self.root / "shared"

    @property
    def switch_namespace(self) -> str:
        """The network namespace that holds the bridges."""
        return f"hf-{self.name}-switch"

    @property
    def owned_namespace(self) -> re.Pattern[str]:
        """Matches exactly the namespaces and freezer groups that this lab makes."""
        return re.compile(rf"hf-{re.escape(self.name)}-(switch|{STORAGE_NODE}|{WITNESS}|node\d{{1,2}})")

    def node(self, name: str) -> NodeLayout:
        """Return where a node of this lab lives. Raises: BadLabName."""
        node_number(name)
        return NodeLayout(lab=self, name=name)
