"""The LUNs that a lab's storage node serves, and where each node finds them.

Rule of the file: all names follow from the lab's name and the LUN's number, so a LUN keeps its designator over every
restart of target, storage node and lab process, and no two labs share one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from holdfast.lab.errors import BadLabName
from holdfast.lab.layout import STORAGE_NODE, Layout, Network, node_address, node_number

MAX_LUNS = 16
LUN_BYTES = 64 << 20
LUNS_FOLDER = Path("/srv/holdfast/luns")
ADAPTER_FOLDER = Path("/run/holdfast-hba")
CHAP_USER = "holdfast"
CHAP_SECRET = "lab-chap-secret"  # noqa: S105 - known to everybody who reads this, as the lab is
ISCSI_PORT = 3260
_NAMES = "iqn.2026-01.org.holdfast.lab"
_SMALLEST_LUN_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSpec:
    """What a storage node serves."""

    luns: int = 2
    lun_bytes: int = LUN_BYTES
    has_heartbeat: bool = False
    """Whether there is a small LUN more, for the storage heartbeats of the nodes."""
    has_chap: bool = False
    """Whether the target demands ``CHAP_USER`` with ``CHAP_SECRET``."""

    def __post_init__(self) -> None:
        if not 1 <= self.luns <= MAX_LUNS:
            raise BadLabName(f"a storage node of {self.luns} LUNs cannot be built", hint=f"choose 1 to {MAX_LUNS}")
        if self.lun_bytes < _SMALLEST_LUN_BYTES or self.lun_bytes % 4096:
            raise BadLabName(f"a LUN of {self.lun_bytes} bytes cannot be built", hint="choose 8 MiB or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lun:
    """One LUN of a lab."""

    layout: Layout
    number: int
    """Its logical unit number at the target, from 1."""
    is_heartbeat: bool = False
    """Whether it is the nodes' own, for their storage heartbeats."""

    @property
    def disk(self) -> str:
        """What the lab's cluster calls it."""
        return "heartbeat" if self.is_heartbeat else f"lun{self.number}"

    @property
    def serial(self) -> str:
        """Its serial number, 31 hexadecimal digits: what tgtd makes its registered (NAA 6) designator of."""
        return hashlib.sha256(self.layout.name.encode()).hexdigest()[:28] + f"{self.number:03x}"

    @property
    def designator(self) -> str:
        """The name by which nodes know it, from VPD page 83h."""
        return f"naa.6{self.serial}"

    @property
    def path(self) -> Path:
        """Its blocks: the backing file on the storage node's disk, as seen from the machine."""
        return self.layout.node(STORAGE_NODE).on_disk(str(LUNS_FOLDER)) / f"lun{self.number}"

    @property
    def nbd_socket(self) -> Path:
        """Where a node's adapter presents it to QEMU; the export is named after the designator."""
        return ADAPTER_FOLDER / f"{self.designator}.sock"

    @property
    def guest_source(self) -> str:
        """What QEMU opens for it on every node, as a disk of the cluster says it."""
        return f"nbd+unix:///{self.designator}?socket={self.nbd_socket}"

    @property
    def reservations_socket(self) -> Path:
        """Where a node's adapter takes persistent reservation commands for it."""
        return ADAPTER_FOLDER / f"{self.designator}.reservations"


def luns_of(layout: Layout, storage: StorageSpec | None) -> list[Lun]:
    """Return the LUNs of a lab, in the order of their numbers; none without a storage node."""
    if storage is None:
        return []
    for_guests = [Lun(layout=layout, number=number) for number in range(1, storage.luns + 1)]
    heartbeat = Lun(layout=layout, number=storage.luns + 1, is_heartbeat=True)
    return [*for_guests, heartbeat] if storage.has_heartbeat else for_guests


def make_luns(layout: Layout, storage: StorageSpec) -> None:
    """Make the backing files that are missing, sparse; what a LUN holds already stays."""
    for lun in luns_of(layout, storage):
        lun.path.parent.mkdir(parents=True, exist_ok=True)
        if not lun.path.exists():
            with lun.path.open("wb") as file:
                file.truncate(_SMALLEST_LUN_BYTES if lun.is_heartbeat else storage.lun_bytes)


def portal() -> str:
    """Return where the target listens."""
    return f"{node_address(Network.STORAGE, node_number(STORAGE_NODE))}:{ISCSI_PORT}"


def target_name(layout: Layout) -> str:
    """Return the iSCSI name of the lab's only target."""
    return f"{_NAMES}:{layout.name}.{STORAGE_NODE}"


def initiator_name(layout: Layout, node: str) -> str:
    """Return the iSCSI name of a node's adapter."""
    return f"{_NAMES}:{layout.name}.{node}"
