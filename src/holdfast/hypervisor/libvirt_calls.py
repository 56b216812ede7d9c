"""The calls to libvirt themselves: blocking, run in a thread, values in and out.

Rule of the file: no libvirt object leaves it (dropping the last reference may block), and every libvirtError is
translated here into what it makes certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from holdfast.hypervisor.blocking_calls import CallUnanswered
from holdfast.hypervisor.errors import (
    GuestAlreadyRunning,
    GuestNotFound,
    GuestOutcomeUnknown,
    GuestRequestFailed,
    GuestStartFailed,
    HypervisorUnavailable,
)
from holdfast.hypervisor.libvirt_library import libvirt_module
from holdfast.hypervisor.libvirt_words import guest_state, is_absence, is_answer, version_text
from holdfast.hypervisor.memory_mark import NAMESPACE, memory_id_of
from holdfast.hypervisor.port import Guest, GuestState, HypervisorVersion
from holdfast.hypervisor.qemu_process import QemuProcesses, is_alive
from holdfast.model.nodes import Capacity

Marks: TypeAlias = dict[tuple[str, int], str]
"""The id of the memory that a domain was made from, by its uuid and its number of this run, for one connection."""


def prepare(handle: Any, domain_xml: str, uuid: str, processes: QemuProcesses) -> None:
    """Create a transient domain with its CPUs stopped, unless its guest is there already in whatever form."""
    with making_process(handle, uuid, processes, "start"):
        handle.createXML(domain_xml, libvirt_module().VIR_DOMAIN_START_PAUSED)


@contextmanager
def making_process(handle: Any, uuid: str, processes: QemuProcesses, what: str) -> Iterator[None]:
    """Say what a start means that failed: its process certainly is not there, is there already, or nobody knows.

    what   is done to make it: "start" or "restore".
    """
    if processes.find(uuid) is not None:
        refuse_present(handle, uuid)
    try:
        yield
    except libvirt_module().libvirtError as error:
        if not is_answer(error):
            raise GuestOutcomeUnknown(
                f"The connection to libvirt broke on the way to {what} guest {uuid}: {error}"
            ) from error
        if is_active(handle, uuid) or processes.find(uuid) is not None:
            refuse_present(handle, uuid)
        raise GuestStartFailed(
            f"libvirt could not {what} guest {uuid}: {error}",
            hint="QEMU's own words are in /var/log/libvirt/qemu/ on this node.",
        ) from error


def shutdown(handle: Any, uuid: str) -> None:
    """Send the ACPI power button, not a guest agent request: no guest needs an agent."""
    button = libvirt_module().VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
    request(handle, uuid, "be shut down", lambda domain: domain.shutdownFlags(button))


def resume(handle: Any, uuid: str) -> None:
    """Continue a paused domain; one that runs is left alone, where libvirt would complain."""
    running = libvirt_module().VIR_DOMAIN_RUNNING
    request(handle, uuid, "be resumed", lambda domain: domain.state()[0] == running or domain.resume())


def destroy(handle: Any, uuid: str) -> None:
    """Return when libvirt knows no active domain of this uuid. Raises CallUnanswered when it did not say so."""
    libvirt = libvirt_module()
    try:
        handle.lookupByUUIDString(uuid).destroy()
    except libvirt.libvirtError as error:
        if is_absence(error):
            return
        if is_answer(error) and not is_active(handle, uuid):
            return
        raise CallUnanswered(f"libvirt could not destroy it: {error}") from error


def suspend(handle: Any, uuid: str) -> None:
    """Stop a domain's CPUs; one that is paused is left alone. libvirt never resumes what it did not pause."""
    paused = libvirt_module().VIR_DOMAIN_PAUSED
    request(handle, uuid, "be suspended", lambda domain: domain.state()[0] == paused or domain.suspend())


def guests(handle: Any, processes: QemuProcesses, marks: Marks) -> tuple[Guest, ...]:
    """List domains in one request, and QEMU processes that libvirt does not know although they outlived the listing.

    What memory a process was made from is asked once for each and kept in ``marks``.
    """
    libvirt = libvirt_module()
    before = processes.find_all()
    with _questions():
        found = handle.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
        listed = [_guest(domain, stats, marks) for domain, stats in found]
        for ended in set(marks) - {(domain.UUIDString(), domain.ID()) for domain, _ in found}:
            marks.pop(ended, None)
    known = {guest.uuid for guest in listed if guest.is_present}
    orphans = [
        Guest(uuid=uuid, name=uuid, state=GuestState.ORPHANED, reason=f"QEMU process {process.pid}, unknown to libvirt")
        for uuid, process in before.items()
        if uuid not in known and is_alive(process)
    ]
    return tuple(sorted(listed + orphans, key=lambda guest: (guest.name, guest.uuid)))


def capacity(handle: Any) -> Capacity:
    """Ask for the node's memory and CPUs."""
    with _questions():
        _model, memory_mib, cpus, *_rest = handle.getInfo()
    return Capacity(memory_bytes=memory_mib * 1024**2, vcpus=cpus)


def warm(handle: Any) -> None:
    """Ask for domain capabilities, which makes libvirtd probe QEMU and keep what it found."""
    libvirt = libvirt_module()
    for kind in ("qemu", "kvm"):
        try:
            with _questions():
                handle.getDomainCapabilities(None, None, None, kind)
        except HypervisorUnavailable as error:
            cause = error.__cause__
            if not (isinstance(cause, libvirt.libvirtError) and is_answer(cause)):
                raise  # otherwise this kind (KVM, for one) is not usable on this node, and needs no warming


def version(handle: Any) -> HypervisorVersion:
    """Ask for the versions of libvirtd and QEMU."""
    with _questions():
        return HypervisorVersion(libvirt=version_text(handle.getLibVersion()), qemu=version_text(handle.getVersion()))


def _guest(domain: Any, stats: dict[str, int], marks: Marks) -> Guest:
    state, reason = guest_state(stats.get("state.state", 0), stats.get("state.reason", 0))
    uuid, run = domain.UUIDString(), domain.ID()
    if run >= 0 and (uuid, run) not in marks:
        marks[uuid, run] = _memory_id(domain)
    return Guest(uuid=uuid, name=domain.name(), state=state, reason=reason, memory_id=marks.get((uuid, run), ""))


def _memory_id(domain: Any) -> str:
    libvirt = libvirt_module()
    try:
        mark = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
            return ""
        raise
    return memory_id_of(mark)


def refuse_present(handle: Any, uuid: str) -> None:
    """Raise what a start meets that finds the guest there already."""
    if is_active(handle, uuid):
        raise GuestAlreadyRunning(f"Guest {uuid} runs on this node already.")
    raise GuestOutcomeUnknown(
        f"A QEMU process of guest {uuid} runs on this node, and libvirt does not know it.",
        hint="Stop the role: that ends the process. Then start it again.",
    )


def is_active(handle: Any, uuid: str) -> bool:
    """Return whether libvirt knows an active domain; raise GuestOutcomeUnknown when it cannot be asked."""
    libvirt = libvirt_module()
    try:
        return bool(handle.lookupByUUIDString(uuid).isActive())
    except libvirt.libvirtError as error:
        if is_absence(error):
            return False
        raise GuestOutcomeUnknown(f"libvirt cannot tell whether guest {uuid} runs: {error}") from error


def request(handle: Any, uuid: str, what: str, act: Callable[[Any], object]) -> None:
    """Do something to a guest. Raises GuestNotFound, GuestRequestFailed, GuestOutcomeUnknown."""
    libvirt = libvirt_module()
    try:
        act(handle.lookupByUUIDString(uuid))
    except libvirt.libvirtError as error:
        if is_absence(error):
            raise GuestNotFound(f"No guest {uuid} runs on this node.") from error
        if is_answer(error):
            raise GuestRequestFailed(f"Guest {uuid} could not {what}: {error}") from error
        raise GuestOutcomeUnknown(
            f"The connection to libvirt broke before guest {uuid} could {what}: {error}"
        ) from error


@contextmanager
def _questions() -> Iterator[None]:
    libvirt = libvirt_module()
    try:
        yield
    except libvirt.libvirtError as error:
        raise HypervisorUnavailable(f"libvirt answered with an error: {error}") from error
