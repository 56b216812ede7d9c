"""Whether a guest could go on from its memory on this host: CPU, machine type, networks, files.

Rule of the file: blocking, run in a thread; reasons out, for people. What is not found here is found by libvirt itself
before the first byte is copied, so an empty answer is no promise. Source: https://libvirt.org/formatdomaincaps.html
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from holdfast.hypervisor.errors import HypervisorUnavailable
from holdfast.hypervisor.guest_paths import paths_in
from holdfast.hypervisor.libvirt_library import libvirt_module
from holdfast.hypervisor.libvirt_words import is_answer
from holdfast.hypervisor.xml_source import parse_xml, write_xml

_INTERFACES = Path("/sys/class/net")
_HOST_CPU_MODES = ("host-passthrough", "host-model", "maximum")
_KINDS = ("kvm", "qemu")


def cpu(handle: Any) -> str:
    """Return the model of the host's CPU as guests can have it, and a digest of all its features."""
    for kind in _KINDS:
        capabilities = _domain_capabilities(handle, None, None, None, kind)
        if isinstance(capabilities, str):
            continue
        model = capabilities.find("./cpu/mode[@name='host-model']")
        if model is not None:
            digest = hashlib.sha256(ElementTree.canonicalize(write_xml(model), strip_text=True).encode()).hexdigest()
            return f"{model.findtext('model') or 'unknown'}-{digest[:12]}"
    return ""


def reasons_against(handle: Any, domain_xml: str, *, source_cpu: str) -> tuple[str, ...]:
    """Return why the guest could not go on here, in the order of its definition. Raises InvalidInput."""
    root = parse_xml(domain_xml)
    return (*_machine(handle, root), *_cpu(handle, root, source_cpu), *_networks(handle, root), *_files(root))


def _machine(handle: Any, root: ElementTree.Element) -> tuple[str, ...]:
    emulator, arch, machine, kind = _platform(root)
    refusal = _domain_capabilities(handle, emulator, arch, machine, kind)
    return (f"machine type {machine or 'default'} for {kind}: {refusal}",) if isinstance(refusal, str) else ()


def _cpu(handle: Any, root: ElementTree.Element, source_cpu: str) -> tuple[str, ...]:
    libvirt = libvirt_module()
    wanted = root.find("cpu")
    mode = "custom" if wanted is None else wanted.get("mode", "custom")
    if mode in _HOST_CPU_MODES:
        here = cpu(handle) if source_cpu else ""
        return (f"its CPU is its host's ({source_cpu}); here it is {here}",) if here != source_cpu else ()
    if wanted is None or wanted.get("check") == "none" or wanted.findtext("model") is None:
        return ()
    emulator, arch, machine, kind = _platform(root)
    try:
        fit = handle.compareHypervisorCPU(emulator, arch, machine, kind, write_xml(wanted), 0)
    except libvirt.libvirtError as error:
        return (f"CPU {wanted.findtext('model')}: {_words(error)}",)
    if fit == libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        return (f"CPU {wanted.findtext('model')} needs features that this host lacks",)
    return ()


def _networks(handle: Any, root: ElementTree.Element) -> tuple[str, ...]:
    libvirt = libvirt_module()
    reasons: list[str] = []
    for source in root.findall("./devices/interface/source"):
        bridge, network = source.get("bridge"), source.get("network")
        if bridge is not None and not (_INTERFACES / bridge).exists():
            reasons.append(f"there is no bridge {bridge}")
        if network is not None:
            try:
                is_active = handle.networkLookupByName(network).isActive()
            except libvirt.libvirtError as error:
                reasons.append(f"network {network}: {_words(error)}")
            else:
                reasons += [] if is_active else [f"network {network} is not active"]
    return tuple(reasons)


def _files(root: ElementTree.Element) -> tuple[str, ...]:
    return tuple(f"{item.path} ({item.use}) is not there" for item in paths_in(root) if not Path(item.path).exists())


def _platform(root: ElementTree.Element) -> tuple[str | None, str | None, str | None, str]:
    kind = root.find("./os/type")
    arch, machine = (None, None) if kind is None else (kind.get("arch"), kind.get("machine"))
    return root.findtext("./devices/emulator"), arch, machine, root.get("type", "kvm")


def _domain_capabilities(
    handle: Any, emulator: str | None, arch: str | None, machine: str | None, kind: str
) -> ElementTree.Element | str:
    """Return what the host offers, or libvirt's words why it does not offer this."""
    libvirt = libvirt_module()
    try:
        return parse_xml(handle.getDomainCapabilities(emulator, arch, machine, kind))
    except libvirt.libvirtError as error:
        return _words(error)


def _words(error: Any) -> str:
    """Return libvirtd's own words. Raises HypervisorUnavailable when they are not its own."""
    if not is_answer(error):
        raise HypervisorUnavailable(f"libvirt answered with an error: {error}") from error
    return str(error)
