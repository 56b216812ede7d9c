"""Which LUN a disk of the kernel is, and which multipath device lies over it.

Rule of the file: a multipath device is known by its uuid, which holds the LUN's WWID, and never by its name, which may
differ between nodes. Blocks. Source: Linux, Documentation/ABI/testing/sysfs-block-dm.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from holdfast.model.kernel_sessions import SessionDisk

SYSFS: Final = Path("/sys")
_MULTIPATH: Final = "mpath-"
_NAA: Final = "naa."


def identified(disk: SessionDisk, sysfs: Path = SYSFS) -> SessionDisk:
    """Return a disk with its WWID, its multipath device and the way to it, as far as the kernel tells."""
    folder = sysfs / "block" / Path(disk.device).name
    wwid = _words(folder / "device/wwid")
    for holder in sorted((folder / "holders").glob("dm-*")):
        uuid = _words(sysfs / "block" / holder.name / "dm/uuid")
        if uuid.startswith(_MULTIPATH):
            way = f"multipath:/dev/disk/by-id/dm-uuid-{uuid}"
            return replace(disk, wwid=wwid, multipath=f"/dev/{holder.name}", way=way)
    way = f"sg:/dev/disk/by-id/wwn-0x{wwid.removeprefix(_NAA)}" if wwid.startswith(_NAA) else ""
    return replace(disk, wwid=wwid, way=way)


def _words(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
