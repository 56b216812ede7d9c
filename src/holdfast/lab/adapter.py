"""A node's host bus adapter: one qemu-storage-daemon per LUN, with the node's own iSCSI session.

Rule of the file: the session that writes for the guests is the one over which its persistent reservation commands go,
and nothing registers by itself. The kernel of the machine needs no SCSI for this. See ``preload/reservations.c``.
Source: qemu-storage-daemon(1), QEMU docs/interop/pr-helper.rst.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from holdfast.lab.layout import IMAGE_CACHE, Layout
from holdfast.lab.luns import (
    ADAPTER_FOLDER,
    CHAP_SECRET,
    CHAP_USER,
    Lun,
    StorageSpec,
    initiator_name,
    luns_of,
    portal,
    target_name,
)
from holdfast.lab.spec import Service
from holdfast.lab.tools import run_tool

QEMU_STORAGE_DAEMON = "/usr/bin/qemu-storage-daemon"
_SOURCE = Path(__file__).parent / "preload" / "reservations.c"


def adapter_service_name(lun: Lun) -> str:
    """Return the name of the service that presents a LUN on each node."""
    return f"hba-lun{lun.number}"


def adapter_services(layout: Layout, storage: StorageSpec | None, node: str) -> tuple[Service, ...]:
    """Return a node's services, one per LUN; each logs in anew when it is restarted."""
    return tuple(
        Service(
            name=adapter_service_name(lun),
            command=("/bin/sh", "-c", f'mkdir -p {ADAPTER_FOLDER} && exec "$@"', "sh", *_command(lun, storage, node)),
        )
        for lun in luns_of(layout, storage)
        if storage is not None
    )


def _command(lun: Lun, storage: StorageSpec, node: str) -> list[str]:
    login = (
        f"driver=iscsi,node-name=lun,transport=tcp,portal={portal()},target={target_name(lun.layout)},lun={lun.number},"
        f"initiator-name={initiator_name(lun.layout, node)},cache.direct=on"
    )
    secret = []
    if storage.has_chap:
        secret = ["--object", f"secret,id=chap,data={CHAP_SECRET}"]
        login += f",user={CHAP_USER},password-secret=chap"
    return [
        "/usr/bin/env", f"LD_PRELOAD={adapter_library()}", f"HOLDFAST_ADAPTER_SOCKET={lun.reservations_socket}",
        QEMU_STORAGE_DAEMON, *secret, "--blockdev", login,
        "--nbd-server", f"addr.type=unix,addr.path={lun.nbd_socket},max-connections=0",
        "--export", f"type=nbd,id=lun,node-name=lun,name={lun.designator},writable=on",
    ]  # fmt: skip


def adapter_library() -> Path:
    """Return what the adapters preload, for this version of its source."""
    return IMAGE_CACHE / f"reservations-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so"


async def build_adapter_library() -> None:
    """Compile what the adapters preload, unless this version was compiled before. Raises: LabBroken."""
    library = adapter_library()
    if library.exists():
        return
    IMAGE_CACHE.mkdir(parents=True, exist_ok=True)
    partial = library.with_suffix(f".{os.getpid()}")
    await run_tool("gcc", "-O2", "-shared", "-fPIC", "-o", str(partial), str(_SOURCE), "-liscsi")
    partial.rename(library)
