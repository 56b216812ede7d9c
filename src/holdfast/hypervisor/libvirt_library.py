"""libvirt's Python binding, imported late and made to run its own event loop.

Rule of the file: the rest of Holdfast works where the binding is missing; asking for it says which package to install.
libvirt allows one event loop per process: it runs in a daemon thread from the first use on.
"""

from __future__ import annotations

import functools
import threading
from types import ModuleType

from holdfast.hypervisor.errors import HypervisorUnavailable


def libvirt_module() -> ModuleType:
    """Return the binding with its event loop running. Raises HypervisorUnavailable when it is not installed."""
    try:
        import libvirt
    except ImportError as error:
        raise HypervisorUnavailable(
            f"libvirt's Python binding cannot be imported ({error}).",
            hint="Install it with `apt-get install python3-libvirt` and run Holdfast with Debian's /usr/bin/python3.",
        ) from error
    _start_event_loop(libvirt)
    return libvirt  # type: ignore[no-any-return]  # the binding has no types


@functools.cache
def _start_event_loop(libvirt: ModuleType) -> None:
    libvirt.registerErrorHandler(_quiet, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_event_loop, args=(libvirt,), name="libvirt-events", daemon=True).start()


def _run_event_loop(libvirt: ModuleType) -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _quiet(_context: object, _error: object) -> None:
    """Keep libvirt from printing errors on standard error: they all reach us as exceptions."""
