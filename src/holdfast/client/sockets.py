"""Where the daemon listens, and what it means when it cannot be reached there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from holdfast.client.errors import DaemonNotRunning, SocketForbidden, SocketPathInvalid
from holdfast.model.errors import HoldfastError

DEFAULT_SOCKET: Final = Path("/run/holdfast/holdfastd.sock")
ENVIRONMENT_VARIABLE: Final = "HOLDFAST_SOCKET"


def default_socket() -> Path:
    """Return the socket that the environment names, else the usual one."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_SOCKET)


def not_connected(socket: Path, error: OSError) -> HoldfastError:
    """Return what a failed connection means to a person. Nothing was asked yet."""
    if isinstance(error, PermissionError):
        return SocketForbidden(f"this user may not open {socket}", hint="run the command as root, for example by sudo")
    if "too long" in str(error):
        return SocketPathInvalid(f"{socket} is too long for a socket ({len(os.fsencode(socket))} bytes, at most 107)")
    return DaemonNotRunning(
        f"holdfastd does not listen at {socket} ({error.strerror or error})",
        hint="systemctl start holdfastd; if it ends at once: journalctl -u holdfastd",
    )
