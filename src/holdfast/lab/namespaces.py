"""Stepping into a network namespace, for one moment and one thread.

Rule of the file: a socket keeps the namespace it was made in, so nothing needs to *stay* inside; code steps in, opens
its socket, and steps out. Source: setns(2).
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.lab.errors import LabNotRunning

CLONE_NEWNET = 0x40000000
NETNS_FOLDER = Path("/run/netns")
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the body with the calling thread in a named network namespace.

    Invariant: the body does not await, or other tasks of the thread would run in the wrong network.
    Raises: LabNotRunning when there is no such namespace.
    """
    try:
        target = os.open(NETNS_FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise LabNotRunning(f"there is no network namespace {namespace}", hint="is the lab up?") from error
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)
        os.close(target)


def open_socket(namespace: str, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    """Return a non-blocking socket that lives in the namespace. Raises: LabNotRunning."""
    with inside(namespace):
        made = socket.socket(family, kind)
    made.setblocking(False)
    return made
