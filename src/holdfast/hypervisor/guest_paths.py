"""The host paths that a domain XML names, and whether every node can reach them.

Rule of the file: a guest can run on another node only if all it needs lies below a shared directory. Output that a
guest leaves behind on a host (serial logs and the like) may stay local.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree

from holdfast.hypervisor.disk_sources import is_cluster_disk
from holdfast.model.errors import InvalidInput


class PathUse(StrEnum):
    """What a guest needs a path for."""

    DISK = "disk"
    KERNEL = "kernel"
    INITRD = "initrd"
    DEVICE_TREE = "device tree"
    FIRMWARE_VARIABLES = "nvram"
    FILESYSTEM = "filesystem"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPath:
    """One path that must be reachable wherever the guest is to run."""

    use: PathUse
    path: str


_BOOT_FILES = {
    "./os/kernel": PathUse.KERNEL,
    "./os/initrd": PathUse.INITRD,
    "./os/dtb": PathUse.DEVICE_TREE,
    "./os/nvram": PathUse.FIRMWARE_VARIABLES,
}
_SOURCE_ATTRIBUTE = {"file": "file", "block": "dev"}
_SOURCELESS_DEVICES = ("cdrom", "floppy")


def paths_in(root: ElementTree.Element) -> tuple[GuestPath, ...]:
    """Return what the domain needs from the host's file system, each path once, disks first.

    Shared disks of the cluster have no path of their own; see `disk_sources`.

    Raises InvalidInput: a disk without source, a type of disk that is not supported, a path that is not absolute.
    """
    found: list[GuestPath] = []
    for disk in root.findall("./devices/disk"):
        if not is_cluster_disk(disk):
            found += _disk_paths(disk)
    for xpath, use in _BOOT_FILES.items():
        for element in root.findall(xpath):
            path = (element.text or "").strip() or _source(element, "file")
            if path:
                found.append(_checked(use, path))
    for filesystem in root.findall("./devices/filesystem"):
        path = _source(filesystem, "dir")
        if path:
            found.append(_checked(PathUse.FILESYSTEM, path))
    return tuple(dict.fromkeys(found))


def paths_outside(paths: Iterable[GuestPath], shared_directories: Sequence[str]) -> tuple[GuestPath, ...]:
    """Return the paths that are not below any shared directory, judged by their text alone."""
    return tuple(item for item in paths if not _is_below(_normal(item.path), map(_normal, shared_directories)))


def paths_leaving(paths: Iterable[GuestPath], shared_directories: Sequence[str]) -> tuple[GuestPath, ...]:
    """Return the paths that symbolic links on this node lead out of the shared directories. Reads the file system."""
    real_directories = [os.path.realpath(directory) for directory in shared_directories]
    return tuple(item for item in paths if not _is_below(os.path.realpath(item.path), real_directories))


def is_surely_shared(root: ElementTree.Element, shared_directories: Sequence[str]) -> bool:
    """Whether two hosts see the same bytes of every disk: none lies elsewhere, no host keeps written pages to itself.

    Source: libvirt, qemuMigrationSrcIsSafe, which asks the same of a file system that it knows.
    """
    for disk in root.findall("./devices/disk"):
        path, kind = _source(disk, "file"), disk.get("type", "file")
        if kind == "network" or (kind == "file" and not path):
            continue
        if kind == "file" and not _is_below(_normal(path), map(_normal, shared_directories)):
            return False
        driver = disk.find("driver")
        cache = "" if driver is None else driver.get("cache", "")
        if disk.find("readonly") is None and cache not in ("none", "directsync"):
            return False
    return True


def check_shared(paths: Iterable[GuestPath], shared_directories: Sequence[str]) -> None:
    """Refuse a guest that could not run on every node; by text alone. Raises InvalidInput naming each path."""
    _refuse(paths_outside(paths, shared_directories), shared_directories, "not below a shared directory")


def check_links(paths: Iterable[GuestPath], shared_directories: Sequence[str]) -> None:
    """Refuse a guest whose paths lead elsewhere through links on this node. Raises InvalidInput naming each path."""
    _refuse(paths_leaving(paths, shared_directories), shared_directories, "led out of the shared directories by a link")


def _refuse(outside: Sequence[GuestPath], shared_directories: Sequence[str], why: str) -> None:
    if outside:
        named = ", ".join(f"{item.path} ({item.use})" for item in outside)
        directories = ", ".join(shared_directories) or "none is configured"
        raise InvalidInput(
            f"Not reachable from every node: {named}; {why}.",
            hint=f"Move the files below a shared directory and change the XML. Shared directories: {directories}.",
        )


def _disk_paths(disk: ElementTree.Element) -> list[GuestPath]:
    target = disk.find("target")
    named = f"Disk {target.get('dev', '?')!r}" if target is not None else "A disk without target"
    kind = disk.get("type", "file")
    attribute = _SOURCE_ATTRIBUTE.get(kind)
    if attribute is None:
        raise InvalidInput(
            f"{named} has the type {kind!r}; 'file', 'block' or a 'volume' of the pool 'holdfast' is wanted.",
            hint="Put the disk's image below a shared directory: <disk type='file'><source file='/…'/>; or use a disk "
            "of the cluster (holdfast storage list): <disk type='volume'><source pool='holdfast' volume='NAME'/>.",
        )
    path = _source(disk, attribute)
    if not path:
        if disk.get("device") in _SOURCELESS_DEVICES:
            return []
        raise InvalidInput(
            f"{named} has no source.", hint=f"Add <source {attribute}='/absolute/path'/> to it, or remove the disk."
        )
    found = [_checked(PathUse.DISK, path)]
    for backing in disk.iter("backingStore"):
        backing_path = _source(backing, _SOURCE_ATTRIBUTE.get(backing.get("type", "file"), "file"))
        if backing_path:
            found.append(_checked(PathUse.DISK, backing_path))
    return found


def _checked(use: PathUse, path: str) -> GuestPath:
    if not path.startswith("/"):
        raise InvalidInput(
            f"The path {path!r} ({use}) is not absolute.", hint="Write it from the root: every node reads it the same."
        )
    return GuestPath(use=use, path=path)


def _source(element: ElementTree.Element, attribute: str) -> str:
    source = element.find("source")
    return "" if source is None else source.get(attribute, "")


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def _is_below(path: str, directories: Iterable[str]) -> bool:
    return any(path.startswith(directory.rstrip("/") + "/") for directory in directories)
