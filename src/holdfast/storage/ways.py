"""The ways by which a node sends commands to its disks, as they are written in a disk's record.

Rule of the file: ``KIND:PATH``, and opening one sends nothing. Source: `holdfast.model.disks.DiskSpec`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

from holdfast.model.disks import DiskSpec
from holdfast.model.errors import InvalidInput
from holdfast.storage.multipath import MultipathTransport
from holdfast.storage.reservation_helper import HelperTransport
from holdfast.storage.scsi_lun import TIMEOUT_MS, ScsiLun
from holdfast.storage.sg_io import SgIoTransport
from holdfast.storage.transport import Transport

USUAL_PATTERNS: Final = ("multipath:/dev/disk/by-id/dm-uuid-mpath-*", "sg:/dev/disk/by-id/wwn-*")
"""Where the kernel's SCSI disks are, by names that say which disk it is."""
_PARTITION: Final = re.compile(r"-part[0-9]+$")
_FORMS: Final = "sg:/dev/…, multipath:/dev/mapper/… or helper:/run/….reservations"


class WayKind(StrEnum):
    """How commands get to the disk.

    SG          the kernel's SCSI device.
    MULTIPATH   the kernel's multipath device; reservations go over all paths.
    HELPER      a process that holds the nexus, over a unix socket.
    """

    SG = "sg"
    MULTIPATH = "multipath"
    HELPER = "helper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to one disk."""

    kind: WayKind
    path: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}"


@lru_cache
def parse_way(text: str) -> Way:
    """Read a way. Raises InvalidInput."""
    kind, _, path = text.partition(":")
    if kind not in set(WayKind) or not path.startswith("/"):
        raise InvalidInput(f"{text!r} is no way to a disk's reservations", hint=f"write {_FORMS}")
    return Way(kind=WayKind(kind), path=path)


def open_lun(way: Way, *, timeout_ms: int = TIMEOUT_MS) -> ScsiLun:
    """Return the logical unit at the end of a way. Nothing is sent yet; `timeout_ms` bounds every request to it."""
    transport: Transport
    match way.kind:
        case WayKind.SG:
            transport = SgIoTransport(way.path)
        case WayKind.MULTIPATH:
            transport = MultipathTransport(way.path)
        case WayKind.HELPER:
            transport = HelperTransport(Path(way.path))
    return ScsiLun(transport, timeout_ms=timeout_ms)


def open_disk(spec: DiskSpec, *, timeout_ms: int = TIMEOUT_MS) -> ScsiLun:
    """Return a disk of the cluster as this node reaches it, as `open_lun` does. Raises InvalidInput."""
    return open_lun(parse_way(spec.filled(spec.reservations)), timeout_ms=timeout_ms)


def find_ways(pattern: str) -> tuple[Way, ...]:
    """Return the ways that a way with wildcards (``*``) stands for on this node, partitions left out. Blocks."""
    wanted = parse_way(pattern)
    found = sorted(str(path) for path in Path("/").glob(wanted.path.lstrip("/")))
    return tuple(Way(kind=wanted.kind, path=path) for path in found if not _PARTITION.search(path))
