"""Shared disks of the cluster in a domain XML: ``<disk type='volume'><source pool='holdfast' volume='NAME'/>``.

Rule of the file: pure. The database keeps the name; what QEMU opens is put in its place when a node starts the guest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from holdfast.hypervisor.xml_source import parse_xml, write_xml
from holdfast.model.errors import InvalidInput, NotFound
from holdfast.model.ids import DiskName

POOL: Final = "holdfast"
_EXAMPLE: Final = f"<disk type='volume'><source pool='{POOL}' volume='NAME'/>…</disk>"
_CACHES: Final = ("none", "directsync")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSource:
    """A block device, the same path on every node."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NbdSource:
    """An NBD export on a unix socket, the same names on every node."""

    export: str
    socket: str


Source: TypeAlias = BlockSource | NbdSource


def parse_source(text: str) -> Source:
    """Read what QEMU opens: an absolute path, or ``nbd+unix:///EXPORT?socket=/PATH``. Raises InvalidInput."""
    if text.startswith("/") and not _CONTROL.search(text):
        return BlockSource(device=text)
    url = urlsplit(text)
    export, socket = unquote(url.path.removeprefix("/")), parse_qs(url.query).get("socket", [""])[0]
    if url.scheme == "nbd+unix" and not url.netloc and export and socket.startswith("/") and not _CONTROL.search(text):
        return NbdSource(export=export, socket=socket)
    raise InvalidInput(
        f"{text!r} is nothing that QEMU opens on every node",
        hint="write /dev/disk/by-id/… or nbd+unix:///EXPORT?socket=/run/…",
    )


def is_cluster_disk(disk: ElementTree.Element) -> bool:
    """Whether a disk of a domain is a shared disk of the cluster."""
    source = disk.find("source")
    return disk.get("type") == "volume" and source is not None and source.get("pool") == POOL


def disks_in(root: ElementTree.Element) -> tuple[DiskName, ...]:
    """Return the shared disks that a domain uses, in its order.

    Raises InvalidInput: no name, one disk twice, a disk whose reservations the guest could change by itself, or one
    whose writes the host may keep back.
    """
    found: list[DiskName] = []
    for disk in filter(is_cluster_disk, root.findall("./devices/disk")):
        name = _name(disk)
        if name in found:
            raise InvalidInput(f"The disk {name!r} is named twice.", hint="Give each disk of a guest a LUN of its own.")
        if disk.get("device", "disk") == "lun":
            raise InvalidInput(
                f"The disk {name!r} is passed through as a SCSI device, so the guest could change its reservations.",
                hint="Write <disk type='volume' device='disk'>, or leave device away.",
            )
        _refuse_page_cache(disk, name)
        found.append(name)
    return tuple(found)


def _refuse_page_cache(disk: ElementTree.Element, name: DiskName) -> None:
    """What the host writes back late would land after another node took the disk over. Source: SAFE-1."""
    driver = disk.find("driver")
    cache = "none" if driver is None else driver.get("cache", "none")
    if cache not in _CACHES:
        raise InvalidInput(
            f"The disk {name!r} has cache='{cache}': the host could write its pages back when the disk is another's.",
            hint="Write cache='none' or cache='directsync', or leave cache away.",
        )


def with_sources(domain_xml: str, sources: Mapping[DiskName, str]) -> str:
    """Return the domain with what QEMU opens in the place of each shared disk.

    `sources`: what `parse_source` reads, per disk. The host's page cache is passed by: the next owner reads the LUN.
    Raises NotFound for a disk without source, InvalidInput for a source that is none.
    """
    root = parse_xml(domain_xml)
    for disk in filter(is_cluster_disk, root.findall("./devices/disk")):
        name = _name(disk)
        if name not in sources:
            raise NotFound(f"there is no disk {name!r} in the cluster", hint="holdfast storage list shows them")
        _replace(disk, parse_source(sources[name]))
    return write_xml(root)


def _name(disk: ElementTree.Element) -> DiskName:
    source = disk.find("source")
    name = "" if source is None else source.get("volume", "")
    if not name:
        raise InvalidInput(f"A disk from the pool {POOL!r} names no volume.", hint=f"Write {_EXAMPLE}")
    return DiskName(name)


def _replace(disk: ElementTree.Element, wanted: Source) -> None:
    source = disk.find("source")
    assert source is not None, "a cluster disk has a source"
    source.clear()
    match wanted:
        case BlockSource():
            disk.set("type", "block")
            source.set("dev", wanted.device)
        case NbdSource():
            disk.set("type", "network")
            source.set("protocol", "nbd")
            source.set("name", wanted.export)
            ElementTree.SubElement(source, "host", {"transport": "unix", "socket": wanted.socket})
    driver = disk.find("driver")
    if driver is None:
        driver = ElementTree.Element("driver")
        disk.insert(0, driver)
    for attribute, value in (("name", "qemu"), ("type", "raw"), ("cache", "none")):
        if attribute not in driver.attrib:
            driver.set(attribute, value)
