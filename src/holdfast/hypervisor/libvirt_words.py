"""libvirt's numbers in Holdfast's words, and what its errors make certain.

Rule of the file: tables. Source: libvirt-domain.h, virterror.h; https://libvirt.org/html/libvirt-libvirt-domain.html
"""

from __future__ import annotations

from typing import Any

from holdfast.hypervisor.libvirt_library import libvirt_module
from holdfast.hypervisor.port import GuestEventKind, GuestState

_STATES = {
    0: GuestState.RUNNING,  # NOSTATE: known to exist, nothing more; treat as there
    1: GuestState.RUNNING,
    2: GuestState.RUNNING,  # BLOCKED on a resource, used by Xen
    3: GuestState.PAUSED,
    4: GuestState.SHUTTING_DOWN,
    5: GuestState.STOPPED,
    6: GuestState.CRASHED,
    7: GuestState.PAUSED,  # PMSUSPENDED: the guest put itself to sleep
}

_PAUSED_BY_IO_ERROR = (3, 5)

_REASONS = {
    1: ("", "booted", "migrated", "restored", "from snapshot", "unpaused", "migration cancelled", "save cancelled",
        "woken up", "crashed", "post-copy migration", "post-copy migration failed"),
    3: ("", "by a person", "migration", "save", "dump", "I/O error", "watchdog", "from snapshot", "shutting down",
        "snapshot", "crashed", "starting up", "post-copy migration", "post-copy migration failed"),
    5: ("", "shut down", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon"),
}  # fmt: skip

_STARTED, _SUSPENDED, _RESUMED, _STOPPED, _PMSUSPENDED, _CRASHED = 2, 3, 4, 5, 7, 8

_EVENTS: dict[tuple[int, int], tuple[GuestEventKind, str]] = {
    (_SUSPENDED, 2): (GuestEventKind.PAUSED_IO_ERROR, "I/O error"),
    (_SUSPENDED, 3): (GuestEventKind.PAUSED, "watchdog"),
    (_STOPPED, 0): (GuestEventKind.SHUT_DOWN, ""),
    (_STOPPED, 1): (GuestEventKind.STOPPED, "destroyed"),
    (_STOPPED, 2): (GuestEventKind.CRASHED, "the guest crashed"),
    (_STOPPED, 3): (GuestEventKind.STOPPED, "migrated"),
    (_STOPPED, 4): (GuestEventKind.STOPPED, "saved"),
    (_STOPPED, 5): (GuestEventKind.CRASHED, "QEMU ended unexpectedly"),
    (_CRASHED, 0): (GuestEventKind.CRASHED, "the guest's kernel panicked"),
}
_EVENTS_OF_ANY_DETAIL = {
    _STARTED: GuestEventKind.STARTED,
    _SUSPENDED: GuestEventKind.PAUSED,
    _RESUMED: GuestEventKind.RESUMED,
    _STOPPED: GuestEventKind.STOPPED,
    _PMSUSPENDED: GuestEventKind.PAUSED,
    _CRASHED: GuestEventKind.CRASHED,
}


def guest_state(state: int, reason: int) -> tuple[GuestState, str]:
    """Translate virDomainState and its reason; one that we do not know counts as running, the careful choice."""
    words = _REASONS.get(state, ())
    word = words[reason] if 0 <= reason < len(words) else ""
    if (state, reason) == _PAUSED_BY_IO_ERROR:
        return GuestState.PAUSED_IO_ERROR, word
    return _STATES.get(state, GuestState.RUNNING), word


def guest_event(event: int, detail: int) -> tuple[GuestEventKind, str] | None:
    """Translate a lifecycle event; None for those that say nothing about a running guest (defined, undefined, …)."""
    if (event, detail) in _EVENTS:
        return _EVENTS[event, detail]
    kind = _EVENTS_OF_ANY_DETAIL.get(event)
    return None if kind is None else (kind, "")


def is_answer(error: Any) -> bool:
    """Return whether a libvirtError is libvirtd's own answer; otherwise the connection broke and nothing is known."""
    libvirt = libvirt_module()
    broken_domains = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE, libvirt.VIR_FROM_NONE)
    broken_codes = (libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_NO_CONNECT, None)
    return error.get_error_domain() not in broken_domains and error.get_error_code() not in broken_codes


def is_absence(error: Any) -> bool:
    """Return whether a libvirtError says that there is no such domain."""
    return bool(error.get_error_code() == libvirt_module().VIR_ERR_NO_DOMAIN)


def version_text(number: int) -> str:
    """Return libvirt's version number as people write it: 9000000 is 9.0.0."""
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"
