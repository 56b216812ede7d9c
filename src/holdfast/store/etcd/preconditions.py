"""What must be true before a member can start, checked beforehand so that the person hears of it in plain words."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

from holdfast.store.errors import AddressAbsent, AddressTaken, DataLost, DataUnwritable, DiskFull
from holdfast.store.etcd.connection import split_address
from holdfast.store.etcd.member_config import MemberConfig
from holdfast.store.etcd.stored import StoredNote, is_older, read_log


def check(config: MemberConfig) -> None:
    """Raises: DataUnwritable, DiskFull, AddressTaken, AddressAbsent."""
    _check_writable(config.data_dir, mode=0o700)
    _check_writable(config.log_file.parent, mode=0o755)
    _check_writable(config.process_file.parent, mode=0o755)
    if (shortage := lacking_room(config)) is not None:
        raise shortage
    for address in (*config.client_addresses, *config.peer_addresses):
        _check_free(address)


def check_restart(config: MemberConfig, arguments: tuple[str, ...]) -> None:
    """Raises: DiskFull; AddressTaken, AddressAbsent for where the member, started with these arguments, is not yet."""
    if (shortage := lacking_room(config)) is not None:
        raise shortage
    began = [urls.split(",") for option, _, urls in (one.partition("=") for one in arguments) if "listen-" in option]
    listening = {url.removeprefix("https://") for urls in began for url in urls}
    for address in (*config.client_addresses, *config.peer_addresses):
        if address not in listening:
            _check_free(address)


def lacking_room(config: MemberConfig) -> DiskFull | None:
    """What a member lacks in room to start, or None; one that runs goes on until there is none at all."""
    free_bytes = shutil.disk_usage(config.data_dir).free
    if free_bytes >= config.min_free_bytes:
        return None
    return DiskFull(
        f"the file system of {config.data_dir} has {free_bytes} bytes free; "
        f"the cluster database wants {config.min_free_bytes}",
        hint=f"make room, or move the directory: df -h {config.data_dir}",
    )


def has_data(data_dir: Path) -> bool:
    """Whether a member has begun to store there."""
    return any((data_dir / "member" / "wal").glob("*.wal"))


def require_data(config: MemberConfig) -> None:
    """Refuse the start of a member that has begun and whose data is gone: it could vote twice. Raises: DataLost."""
    if not has_data(config.data_dir):
        raise DataLost(
            f"the data of this node's member of the cluster database is gone from {config.data_dir}",
            hint="look at the disk; the cluster gives this node a new member by itself",
        )


def refuse_older(config: MemberConfig) -> None:
    """Refuse the start of a member on an older copy of its data: it could vote twice.

    Raises: DataLost, DataUnwritable where it cannot be read.
    """
    try:
        noted = StoredNote(config.stored_file).read()
        found = None if noted is None else read_log(config.data_dir)
    except OSError as error:
        raise DataUnwritable(
            f"what is stored in {config.data_dir} cannot be read: {error}", hint="look at the disk; it is tried again"
        ) from error
    if noted is not None and is_older(found, noted):
        raise DataLost(
            f"the data of this node's member of the cluster database in {config.data_dir} is an older copy: "
            f"it had stored all up to index {noted.index}",
            hint="the cluster gives this node a new member by itself; to restore a cluster: holdfast backup restore",
        )


def _check_writable(directory: Path, *, mode: int) -> None:
    probe = directory / ".holdfast-write-test"
    try:
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(
                f"the file system of {directory} is full", hint=f"make room: df -h {directory}; df -i {directory}"
            ) from error
        raise DataUnwritable(
            f"{directory} cannot be written: {os.strerror(error.errno or 0)}",
            hint=f"check owner, mode and mount: ls -ld {directory}; findmnt -T {directory}",
        ) from error


def _check_free(address: str) -> None:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as etcd does: an old connection is no obstacle
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressTaken(
                    f"another process listens at {address}, where the cluster database should",
                    hint=f"see who it is: ss -ltnp 'sport = :{port}'",
                ) from error
            raise AddressAbsent(
                f"the cluster database cannot listen at {address}: {error.strerror}",
                hint="check that an interface of this machine has the address: ip -brief address",
            ) from error
