"""A user's libvirt domain XML, checked and made fit for a cluster.

Rule of the file: pure; text in, ``GuestDefinition`` or InvalidInput out, and normalising twice changes nothing more.
What is changed, and why, is listed in docs/guests.md; everything else reaches libvirt as it was written.
"""

from __future__ import annotations

import re
import uuid as uuid_module
from dataclasses import dataclass
from xml.etree import ElementTree

from holdfast.hypervisor.disk_sources import disks_in
from holdfast.hypervisor.guest_paths import GuestPath, PathUse, paths_in
from holdfast.hypervisor.memory_mark import remove_mark
from holdfast.hypervisor.xml_source import parse_xml, write_xml
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import DiskName

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_UNSIGNED = re.compile(r"[0-9]{1,15}", re.ASCII)
_MAX_VCPUS = 4096
_MAX_MEMORY_BYTES = 2**50
_GUEST_TYPES = ("kvm", "qemu")

_UNITS = {
    "b": 1,
    "bytes": 1,
    "kb": 1000,
    "k": 1024,
    "kib": 1024,
    "mb": 1000**2,
    "m": 1024**2,
    "mib": 1024**2,
    "gb": 1000**3,
    "g": 1024**3,
    "gib": 1024**3,
    "tb": 1000**4,
    "t": 1024**4,
    "tib": 1024**4,
}
"""Source: https://libvirt.org/formatdomain.html#memory-allocation (without a unit: KiB; upper and lower case alike)."""

_LIFECYCLE = {"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDefinition:
    """A guest that any node of the cluster can start."""

    name: str
    uuid: str
    memory_bytes: int
    vcpus: int
    paths: tuple[GuestPath, ...]
    """Every file or device on the host that the guest needs, in the order of the XML."""
    disks: tuple[DiskName, ...]
    """Shared disks of the cluster that it uses, in the order of the XML."""
    domain_xml: str
    """Normalised: what libvirt is given, once the sources of its shared disks are put in."""

    @property
    def disk_paths(self) -> tuple[str, ...]:
        """Paths of its disks, and of the backing files that the XML names."""
        return tuple(item.path for item in self.paths if item.use is PathUse.DISK)


def parse_guest(text: str, *, uuid_if_missing: str) -> GuestDefinition:
    """Check and normalise a domain XML.

    ``uuid_if_missing`` is used when the XML has none, so that the caller decides where randomness comes from.
    Raises InvalidInput naming the offending value and what to write instead.
    """
    root = parse_xml(text)
    if root.tag != "domain":
        raise InvalidInput(
            f"The root element is <{root.tag}>; <domain> is wanted.",
            hint="`virsh dumpxml GUEST` prints a domain to start from.",
        )
    _check_type(root)
    name = _name(root)
    uuid = _uuid(root, uuid_if_missing)
    memory_bytes = _memory_bytes(root)
    vcpus = _vcpus(root)
    paths, disks = paths_in(root), disks_in(root)
    root.attrib.pop("id", None)
    remove_mark(root)
    _set_first(root, "uuid", uuid)
    for tag, action in _LIFECYCLE.items():
        _set_first(root, tag, action)
    for disk in root.findall("./devices/disk"):
        _stop_on_io_error(disk)
    return GuestDefinition(
        name=name,
        uuid=uuid,
        memory_bytes=memory_bytes,
        vcpus=vcpus,
        paths=paths,
        disks=disks,
        domain_xml=write_xml(root),
    )


def uuid_of(domain_xml: str) -> str:
    """Return the uuid in a normalised domain XML. Raises InvalidInput when there is none."""
    return _uuid(parse_xml(domain_xml), "")


def _check_type(root: ElementTree.Element) -> None:
    seen = root.get("type")
    if seen not in _GUEST_TYPES:
        wanted = " or ".join(repr(name) for name in _GUEST_TYPES)
        raise InvalidInput(
            f"The domain's type is {seen!r}; {wanted} is wanted."
            if seen
            else f"The domain has no type; {wanted} is wanted.",
            hint="Write <domain type='kvm'>, or type='qemu' on hosts without hardware virtualisation.",
        )


def _name(root: ElementTree.Element) -> str:
    name = _text(root, "name")
    if not name:
        raise InvalidInput("The domain has no name.", hint="Add <name>NAME</name> below <domain>.")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"The domain's name {name!r} is not usable: 1 to 63 letters, digits, '.', '_' or '-' are wanted, "
            "beginning with a letter or digit.",
            hint="Change <name>; it becomes the name of the role.",
        )
    return name


def _uuid(root: ElementTree.Element, if_missing: str) -> str:
    seen = _text(root, "uuid") or if_missing
    try:
        return str(uuid_module.UUID(hex=seen))
    except ValueError as error:
        raise InvalidInput(
            f"The domain's uuid {seen!r} is not one.",
            hint="Remove <uuid> to be given one, or write one as `uuidgen` prints it.",
        ) from error


def _memory_bytes(root: ElementTree.Element) -> int:
    seen = _text(root, "memory")
    if not seen:
        raise InvalidInput("The domain has no memory.", hint="Add, for example, <memory unit='MiB'>1024</memory>.")
    unit = root.find("memory").get("unit", "KiB")  # type: ignore[union-attr]  # found just above
    factor = _UNITS.get(unit.lower())
    if factor is None:
        raise InvalidInput(
            f"The memory's unit {unit!r} is not known; KiB, MiB, GiB or TiB is wanted.",
            hint="Write, for example, <memory unit='MiB'>1024</memory>.",
        )
    memory_bytes = int(seen) * factor if _UNSIGNED.fullmatch(seen) else 0
    if not 0 < memory_bytes <= _MAX_MEMORY_BYTES:
        raise InvalidInput(
            f"The memory is {seen!r} {unit}; a whole number above 0 and below 1 PiB is wanted.",
            hint="Write, for example, <memory unit='MiB'>1024</memory>.",
        )
    return memory_bytes


def _vcpus(root: ElementTree.Element) -> int:
    seen = _text(root, "vcpu")
    if not seen:
        raise InvalidInput("The domain has no vcpu.", hint="Add, for example, <vcpu>2</vcpu>.")
    vcpus = int(seen) if _UNSIGNED.fullmatch(seen) else 0
    if not 0 < vcpus <= _MAX_VCPUS:
        raise InvalidInput(
            f"The domain has {seen!r} vcpus; a whole number from 1 to {_MAX_VCPUS} is wanted.",
            hint="Write, for example, <vcpu>2</vcpu>.",
        )
    return vcpus


def _stop_on_io_error(disk: ElementTree.Element) -> None:
    """Have the guest pause, not see errors, when its storage goes: it resumes unharmed when storage returns."""
    is_removable = disk.get("device", "disk") in ("cdrom", "floppy")
    if is_removable or disk.find("readonly") is not None:
        return
    driver = disk.find("driver")
    if driver is None:
        driver = ElementTree.Element("driver", {"name": "qemu"})
        disk.insert(0, driver)
    for attribute in ("error_policy", "rerror_policy"):
        if attribute not in driver.attrib:
            driver.set(attribute, "stop")


def _set_first(root: ElementTree.Element, tag: str, text: str) -> None:
    found = root.findall(tag)
    for surplus in found[1:]:
        root.remove(surplus)
    element = found[0] if found else ElementTree.SubElement(root, tag)
    for child in list(element):
        element.remove(child)
    element.text = text


def _text(root: ElementTree.Element, tag: str) -> str:
    return (root.findtext(tag) or "").strip()
