"""The calls to libvirt that move memory: blocking for as long as the memory takes, run in a thread.

Rule of the file: as in `libvirt_calls`; besides, each move has a connection of its own, because libvirtd serves only a
few requests of one connection at a time and a move is one long request. Source: max_client_requests in libvirtd.conf.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from holdfast.hypervisor.errors import (
    GuestNotFound,
    GuestOutcomeUnknown,
    GuestRequestFailed,
    GuestStartFailed,
    HypervisorUnavailable,
)
from holdfast.hypervisor.guest_paths import is_surely_shared
from holdfast.hypervisor.libvirt_calls import making_process, request
from holdfast.hypervisor.libvirt_library import libvirt_module
from holdfast.hypervisor.libvirt_words import is_absence
from holdfast.hypervisor.memory import MigrateOptions, MigrationTarget, MoveProgress, SaveOptions
from holdfast.hypervisor.memory_mark import with_memory_id
from holdfast.hypervisor.qemu_process import QemuProcesses
from holdfast.hypervisor.saved_files import read_saved, write_through
from holdfast.hypervisor.xml_source import parse_xml

_MIB = 2**20
_GONE_S = 5.0
_POLL_S = 0.005
_IMAGE_FORMAT, _PARALLEL_CHANNELS, _SPARSE = "image_format", "parallel.channels", "sparse"
"""Since libvirt 11.2; the binding of an older one lacks the names. Source: libvirt-domain.h."""
_SAVE_PARAMETERS_SINCE = 11_002_000


def save(uri: str, uuid: str, path: Path, memory_id: str, options: SaveOptions, *, processes: QemuProcesses) -> None:
    """Save, and return when the process is gone and the file is whole and on the storage."""
    libvirt = libvirt_module()
    with _own_connection(uri) as handle:
        domain = _domain(handle, uuid)
        parameters: dict[str, object] = {
            libvirt.VIR_DOMAIN_SAVE_PARAM_FILE: str(path),
            libvirt.VIR_DOMAIN_SAVE_PARAM_DXML: _marked(domain, memory_id),
        }
        if handle.getLibVersion() >= _SAVE_PARAMETERS_SINCE:
            parameters |= how_to_write(options)
        _move(handle, uuid, "be saved", lambda: domain.saveParams(parameters, 0))
    _wait_gone(processes, uuid)
    try:
        write_through(path)
        found = read_saved(path)
    except OSError as error:
        raise GuestOutcomeUnknown(f"Guest {uuid} was saved, and {path} cannot be read: {error}") from error
    if not found.is_usable(uuid=uuid, memory_id=memory_id):
        raise GuestOutcomeUnknown(f"Guest {uuid} was saved, and {path} is {found.kind}.")


def restore(uri: str, uuid: str, path: Path, memory_id: str, *, processes: QemuProcesses) -> None:
    """Make a process from a whole file of the right memory, with its CPUs stopped."""
    try:
        found = read_saved(path)
    except OSError as error:
        raise GuestStartFailed(f"Guest {uuid} could not be restored: {path} cannot be read: {error}") from error
    if not found.is_usable(uuid=uuid, memory_id=memory_id):
        raise GuestStartFailed(
            f"Guest {uuid} could not be restored: {path} is {found.kind}, of guest {found.uuid or '?'} and memory "
            f"{found.memory_id or '?'}; memory {memory_id} is wanted."
        )
    with _own_connection(uri) as handle, making_process(handle, uuid, processes, "restore"):
        handle.restoreFlags(str(path), None, libvirt_module().VIR_DOMAIN_SAVE_PAUSED)


def migrate(
    uri: str, uuid: str, target: MigrationTarget, memory_id: str, options: MigrateOptions, *, processes: QemuProcesses
) -> None:
    """Copy, and return when the copy is whole and the process here is gone."""
    libvirt = libvirt_module()
    flags = (
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_TLS
        | libvirt.VIR_MIGRATE_PAUSED  # whatever is lost on the way, the copy executes only when its owner says so
    )
    parameters: dict[str, object] = {}
    if options.has_auto_converge:
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    if options.channels > 1:
        flags |= libvirt.VIR_MIGRATE_PARALLEL
        parameters[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = options.channels
    if options.bandwidth_bytes_per_s is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = max(1, options.bandwidth_bytes_per_s // _MIB)
    if target.data_uri:
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = target.data_uri
        parameters[libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS] = urlsplit(target.data_uri).hostname or ""
    with _own_connection(uri) as handle:
        domain = _domain(handle, uuid)
        xml = parameters[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = _marked(domain, memory_id)
        if is_surely_shared(parse_xml(xml), options.shared_directories):
            flags |= libvirt.VIR_MIGRATE_UNSAFE  # libvirt's own check knows only some types of file system
        _move(
            handle,
            uuid,
            f"be copied to {target.uri}",
            lambda: domain.migrateToURI3(target.uri, parameters, flags),
        )
    _wait_gone(processes, uuid)


def cancel(handle: Any, uuid: str) -> None:
    """Abort the job of a domain, if there is one."""
    none = libvirt_module().VIR_DOMAIN_JOB_NONE
    try:
        request(handle, uuid, "give its move up", lambda domain: domain.jobInfo()[0] == none or domain.abortJob())
    except GuestNotFound:
        return  # so there is nothing to give up


def progress(handle: Any, uuid: str) -> MoveProgress | None:
    """Ask how far the job of a domain is."""
    libvirt = libvirt_module()
    try:
        stats = handle.lookupByUUIDString(uuid).jobStats()
    except libvirt.libvirtError as error:
        if is_absence(error):
            return None
        raise HypervisorUnavailable(f"libvirt answered with an error: {error}") from error
    if stats.get("type", 0) == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    return progress_of(stats)


def progress_of(stats: dict[str, int]) -> MoveProgress:
    """Read the statistics of a job. Source: virDomainGetJobStats, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE (pages per s)."""
    remaining = stats.get("memory_remaining", stats.get("data_remaining", 0))
    rate, pages = stats.get("memory_bps"), stats.get("memory_dirty_rate")
    dirty = None if pages is None else pages * stats.get("memory_page_size", 4096)
    gain = (rate or 0) - (dirty or 0)
    return MoveProgress(
        bytes_total=stats.get("memory_total", stats.get("data_total", 0)),
        bytes_processed=stats.get("memory_processed", stats.get("data_processed", 0)),
        bytes_remaining=remaining,
        bytes_per_s=rate,
        dirty_bytes_per_s=dirty,
        time_left_ms=remaining * 1000 // gain if gain > 0 else None,
    )


def how_to_write(options: SaveOptions) -> dict[str, object]:
    """Return the parameters of a save that say how the file is written. Source: libvirt-domain.h, since 11.2."""
    if options.channels > 1:
        return {_IMAGE_FORMAT: _SPARSE, _PARALLEL_CHANNELS: options.channels}
    return {_IMAGE_FORMAT: options.compression.value} if options.compression else {}


def _marked(domain: Any, memory_id: str) -> str:
    libvirt = libvirt_module()
    try:
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)
    except libvirt.libvirtError as error:
        raise HypervisorUnavailable(f"libvirt answered with an error: {error}") from error
    return with_memory_id(xml, memory_id)


def _domain(handle: Any, uuid: str) -> Any:
    libvirt = libvirt_module()
    try:
        return handle.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if is_absence(error):
            raise GuestNotFound(f"No guest {uuid} runs on this node.") from error
        raise HypervisorUnavailable(f"libvirt answered with an error: {error}") from error


def _move(handle: Any, uuid: str, what: str, act: Callable[[], object]) -> None:
    """Do it; after an error the guest must be here as it was, or nothing is certain.

    An error of libvirtd's connection to the target looks like one of our own, so its kind tells nothing.
    """
    libvirt = libvirt_module()
    try:
        act()
    except libvirt.libvirtError as error:
        if not _is_as_it_was(handle, uuid):
            raise GuestOutcomeUnknown(f"It is not known how far guest {uuid} could {what}: {error}") from error
        raise GuestRequestFailed(f"Guest {uuid} could not {what}: {error}") from error


def _is_as_it_was(handle: Any, uuid: str) -> bool:
    """Return whether the guest executes, or is paused for a reason that is not libvirt's own."""
    libvirt = libvirt_module()
    own = (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_SAVE, libvirt.VIR_DOMAIN_PAUSED_UNKNOWN)
    try:
        state, reason = handle.lookupByUUIDString(uuid).state()
    except libvirt.libvirtError:
        return False
    return state == libvirt.VIR_DOMAIN_RUNNING or (state == libvirt.VIR_DOMAIN_PAUSED and reason not in own)


def _wait_gone(processes: QemuProcesses, uuid: str) -> None:
    deadline = time.monotonic() + _GONE_S
    while processes.find(uuid) is not None:
        if time.monotonic() > deadline:
            raise GuestOutcomeUnknown(f"Guest {uuid} was moved, and its QEMU process does not end.")
        time.sleep(_POLL_S)


@contextmanager
def _own_connection(uri: str) -> Iterator[Any]:
    libvirt = libvirt_module()
    try:
        handle = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise HypervisorUnavailable(f"No connection to libvirt at {uri}: {error}") from error
    try:
        yield handle
    finally:
        _close(handle)


def _close(handle: Any) -> None:
    libvirt = libvirt_module()
    try:
        handle.close()
    except libvirt.libvirtError:
        return  # it was broken already
