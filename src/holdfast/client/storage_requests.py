"""What can be asked of holdfastd about shared disks and a node's sessions with storage targets.

Rule of the file: as in ``requests.py``: one function per method of the local API, and no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from holdfast.client.requests import CHANGE_S, Params, Request, change
from holdfast.model.disk_status import AddedDisk, DiskCheck, DiskStatus, RemovedDisk, SeenDisk
from holdfast.model.kernel_sessions import LoginReport, LogoutReport, SessionList


def discover_disks(
    *,
    ways: tuple[str, ...] = (),
    portal: str | None = None,
    chap: Mapping[str, str] | None = None,
    initiator: str | None = None,
) -> Request[tuple[SeenDisk, ...]]:
    """Ask which disks a node sees, by its ways or at an iSCSI portal. `chap`: `user` and `password`."""
    given: Params = {"portal": portal, "chap": chap, "initiator": initiator, "ways": list(ways) or None}
    params = {name: value for name, value in given.items() if value is not None}
    return Request(method="storage.discover", answer=tuple[SeenDisk, ...], params=params, silence_s=CHANGE_S)


def list_disks() -> Request[tuple[DiskStatus, ...]]:
    """Ask for the disks of the cluster."""
    return Request(method="storage.list", answer=tuple[DiskStatus, ...])


def show_disk(disk: str) -> Request[DiskStatus]:
    """Ask for one disk of the cluster."""
    return Request(method="storage.show", answer=DiskStatus, params={"disk": disk})


def validate_disk(disk: str) -> Request[DiskCheck]:
    """Check a disk of the cluster from the answering node, by reading only."""
    return Request(method="storage.validate", answer=DiskCheck, params={"disk": disk}, silence_s=CHANGE_S)


def rehearse_disk(way: str) -> Request[DiskCheck]:
    """Check a disk that is not in the cluster, with a throw-away key if nobody uses it."""
    return change("storage.rehearse", DiskCheck, {"way": way})


def add_disk(
    disk: str,
    *,
    designator: str,
    reservations: str,
    guest_source: str | None = None,
    heartbeat: bool = False,
    accept_forgetful: bool = False,
    clear_keys: bool = False,
    protection: Literal["node", "role"] = "node",
    wait: bool = False,
) -> Request[AddedDisk]:
    """Check a disk and make it one of the cluster. Without `guest_source`, QEMU opens the device of `reservations`.

    One for `heartbeat` is stamped by the nodes, and no guest may use it. With `wait` the answer comes when every node
    that is up has said how it stands with the disk, or after a while.
    """
    params = {
        "disk": disk,
        "designator": designator,
        "reservations": reservations,
        "guest_source": guest_source,
        "heartbeat": heartbeat,
        "accept_forgetful": accept_forgetful,
        "clear_keys": clear_keys,
        "protection": protection,
        "wait": wait,
    }
    return change("storage.add", AddedDisk, params)


def remove_disk(disk: str) -> Request[RemovedDisk]:
    """Take a disk out of the cluster; what it holds stays."""
    return change("storage.remove", RemovedDisk, {"disk": disk})


def list_sessions() -> Request[SessionList]:
    """Ask for the iSCSI sessions of a node's kernel."""
    return Request(method="storage.sessions", answer=SessionList, silence_s=CHANGE_S)


def log_in(
    portal: str,
    *,
    target: str | None = None,
    chap: Mapping[str, str] | None = None,
    replacement_timeout_s: int | None = None,
) -> Request[LoginReport]:
    """Have a node's kernel log in to a target, or to all that a portal offers. `chap`: `user` and `password`."""
    params = {"portal": portal, "target": target, "chap": chap, "replacement_timeout_s": replacement_timeout_s}
    return change("storage.login", LoginReport, params)


def log_out(target: str, *, portal: str | None = None) -> Request[LogoutReport]:
    """End the sessions of a node's kernel with a target, through one portal or all."""
    return change("storage.logout", LogoutReport, {"target": target, "portal": portal})


def rescan() -> Request[SessionList]:
    """Have a node's kernel look for new LUNs."""
    return change("storage.rescan", SessionList, {})
