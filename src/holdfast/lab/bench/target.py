"""An iSCSI target of our own for a benchmark or a test: tgtd with disks in files, on a loopback port.

Rule of the file: it ends with its user, touches no other tgtd of the machine, and keeps nothing. Restarting it loses
every registration, as tgtd does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from holdfast.lab.errors import LabBroken
from holdfast.lab.tools import run_tool
from holdfast.storage.iscsi.address import Chap, IscsiAddress

TARGET_NAME: Final = "iqn.2026-11.net.holdfast:own"
DISK_BYTES: Final = 4 * 2**20
_READY_S: Final = 10.0


class OwnTarget:
    """tgtd with `disks` LUNs, numbered from 1. `chap` is demanded from everyone who logs in."""

    def __init__(self, folder: Path, *, disks: int, chap: Chap | None = None) -> None:
        self._folder = folder
        self._disks = disks
        self._chap = chap
        self._port = _free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def portal(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    def blocks_of(self, number: int) -> Path:
        """Return the file that holds the blocks of a disk."""
        return self._folder / f"disk{number}"

    def address(self, initiator: str) -> IscsiAddress:
        """Return how an initiator reaches it; the name is completed to an iSCSI name."""
        name = f"iqn.2026-11.net.holdfast:{initiator}"
        return IscsiAddress(target=TARGET_NAME, portals=(self.portal,), initiator=name, chap=self._chap)

    async def start(self) -> None:
        """Start it and give it its disks. Raises LabBroken."""
        log = (self._folder / "tgtd.log").open("ab")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL"),  # it ends with its user, however that ends
                *("tgtd", "--foreground", "--control-port", "0", "--nr_iothreads", "4"),
                *("--iscsi", f"portal={self.portal}"),
                env=os.environ | {"TGT_IPC_SOCKET": self._socket},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        await self._wait_ready()
        await self._administer("--op", "new", "--mode", "target", "--targetname", TARGET_NAME)
        for number in range(1, self._disks + 1):
            await self._add_disk(number)
        if self._chap is not None:
            await self._demand(self._chap)
        await self._administer("--op", "bind", "--mode", "target", "--initiator-address", "ALL")

    async def stop(self) -> None:
        """Kill it, as a power loss does."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def freeze(self) -> None:
        """Let it answer nobody, while its connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _add_disk(self, number: int) -> None:
        path = self.blocks_of(number)
        if not path.exists():
            with path.open("wb") as disk:
                disk.truncate(DISK_BYTES)
        lun = ("--lun", str(number))
        await self._administer("--op", "new", "--mode", "logicalunit", *lun, "--backing-store", str(path))
        named = f"vendor_id=HOLDFAST,product_id=DISK,scsi_id={self._port}-{number},scsi_sn={self._port}-{number}"
        await self._administer("--op", "update", "--mode", "logicalunit", *lun, "--params", named)

    async def _demand(self, chap: Chap) -> None:
        await self._add_account(chap.user, chap.password)
        if chap.target_user:
            await self._add_account(chap.target_user, chap.target_password, "--outgoing")

    async def _add_account(self, user: str, password: str, *bound: str) -> None:
        await self._tgtadm("--op", "new", "--mode", "account", "--user", user, "--password", password)
        await self._administer("--op", "bind", "--mode", "account", "--user", user, *bound)

    async def _wait_ready(self) -> None:
        """Wait until it takes orders. Raises LabBroken."""
        deadline = asyncio.get_running_loop().time() + _READY_S
        while self._process is not None and self._process.returncode is None:
            try:
                await self._tgtadm("--op", "show", "--mode", "target")
            except LabBroken:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.05)
            else:
                return
        raise LabBroken(f"tgtd at {self.portal} ended: {(self._folder / 'tgtd.log').read_text()}")

    async def _administer(self, *arguments: str) -> None:
        await self._tgtadm(*arguments, "--tid", "1")

    async def _tgtadm(self, *arguments: str) -> None:
        command = ("tgtadm", "--control-port", "0", "--lld", "iscsi", *arguments)
        await run_tool("env", f"TGT_IPC_SOCKET={self._socket}", *command)

    @property
    def _socket(self) -> str:
        return str(self._folder / "socket")


@asynccontextmanager
async def own_target(*, disks: int, chap: Chap | None = None, folder: Path | None = None) -> AsyncIterator[OwnTarget]:
    """Run a target while the context lasts, its disks below `folder` or where temporary files are. Raises LabBroken."""
    with TemporaryDirectory(prefix="holdfast-target-", dir=folder) as place:
        target = OwnTarget(Path(place), disks=disks, chap=chap)
        try:
            await target.start()
            yield target
        finally:
            await target.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
