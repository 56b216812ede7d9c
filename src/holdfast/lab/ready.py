"""Waiting until what a machine is for is there.

Rule of the file: a node is asked from inside, by a command that succeeds once the thing is there.
"""

from __future__ import annotations

import asyncio

from holdfast.lab.boot import programs_path
from holdfast.lab.errors import LabBroken
from holdfast.lab.freezer import Freezer
from holdfast.lab.layout import STORAGE_NODE, Layout
from holdfast.lab.luns import StorageSpec, luns_of
from holdfast.lab.processes import joining
from holdfast.lab.status import read_status
from holdfast.lab.target import ALL_SET
from holdfast.lab.tools import run_tool
from holdfast.lab.wire import ask

_TIMEOUT_S = 60.0
_POLL_S = 0.1


async def wait_libvirt(layout: Layout, node: str) -> None:
    """Return when a node's libvirt answers and knows QEMU's capabilities. Raises: LabBroken after a minute.

    Knowing them takes libvirt a second after its first start, which no failover should have to pay.
    """
    question = ("virsh", "-q", "-c", "qemu:///system", "domcapabilities")
    await _wait_success(layout, node, *question, what="libvirt does not answer")


async def wait_target(layout: Layout) -> None:
    """Return when the target takes logins. Raises: LabBroken after a minute."""
    await _wait_success(layout, STORAGE_NODE, "test", "-e", ALL_SET, what="the target is not set up")


async def wait_adapters(layout: Layout, storage: StorageSpec, node: str) -> None:
    """Return when a node's adapters present every LUN. Raises: LabBroken after a minute."""
    question = ("sh", "-c", 'for socket; do [ -S "$socket" ] || exit 1; done', "sh")
    sockets = [str(lun.nbd_socket) for lun in luns_of(layout, storage)]
    await _wait_success(layout, node, *question, *sockets, what="LUNs are missing")


async def _wait_success(layout: Layout, name: str, *question: str, what: str) -> None:
    members = Freezer.named(layout.node(name).namespace).members
    last = LabBroken("it was not asked")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            while True:
                answer = await ask(layout.control_socket, {"do": "status"})
                pid = read_status(answer).node(name).init_pid
                try:
                    await run_tool(*joining(pid, members, programs_path(), list(question)))
                    return
                except LabBroken as error:
                    last = error
                    await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise LabBroken(f"{name}: {what}: {last.message}") from error
