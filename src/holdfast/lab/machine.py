"""One node as the datacenter sees it: its plug, its freezer, its cables and its init.

Rule of the file: "off" is reported only when the last process of the node is gone, which is what makes the report a
proof; and a power cut silences the cables before it kills. Source: SAFE-2, Linux netdevice(7).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from asyncio.subprocess import Process
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

import holdfast
from holdfast.lab.boot import boot_plan
from holdfast.lab.errors import LabBroken, NodeIsOff, NodeSilent
from holdfast.lab.freezer import Freezer
from holdfast.lab.layout import Layout, NodeLayout
from holdfast.lab.processes import child_of
from holdfast.lab.rig import BootPlan
from holdfast.lab.spec import LabSpec
from holdfast.lab.switch import Switch
from holdfast.lab.watchdog import Watchdog

_BOOT_TIMEOUT_S = 30.0
_ORDER_TIMEOUT_S = 10.0


class Power(StrEnum):
    """Whether a node runs."""

    OFF = "off"
    ON = "on"
    FROZEN = "frozen"


class Machine:
    """A node's hardware."""

    def __init__(self, layout: Layout, spec: LabSpec, node: NodeLayout, switch: Switch) -> None:
        self._layout, self._spec, self._switch = layout, spec, switch
        self.node = node
        self.power = Power.OFF
        self.off_reason = "never switched on"
        self.init_pid = 0
        self.watchdog: Watchdog | None = None
        self._freezer = Freezer.named(node.namespace)
        self._lock = asyncio.Lock()
        self._dead = asyncio.Event()
        self._dead.set()
        self._is_clear = True
        self._control: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._order_lock = asyncio.Lock()
        self._order_number = 0
        self._watcher: asyncio.Task[None] | None = None

    async def power_on(self) -> bool:
        """Boot the node; returns False when it runs already. Raises: LabBroken."""
        async with self._lock:
            if self.power is not Power.OFF:
                return False
            await self._clear()
            self._is_clear = False
            await self._switch.connect(self.node)
            self._freezer.create()
            plan = self._plan()
            boot_file = self.node.root / "boot.json"
            boot_file.write_text(json.dumps(plan))
            process = await self._start_init(boot_file)
            self._dead.clear()
            self._watcher = asyncio.create_task(self._watch(process), name=f"watch {self.node.name}")
            try:
                async with asyncio.timeout(_BOOT_TIMEOUT_S):
                    await self._receive()
            except (TimeoutError, LabBroken) as error:
                self._freezer.kill()
                await self._dead.wait()
                log = (self.node.root / "init.log").read_text().strip().splitlines()[-1:]
                raise LabBroken(f"{self.node.name} did not boot: {' '.join(log) or error}") from error
            self.init_pid = child_of(process.pid)
            self.power = Power.ON
            return True

    async def power_off(self, reason: str) -> float:
        """Pull the plug; returns the monotonic time of that instant, once nothing of the node lives any more."""
        if self.power is Power.OFF:
            async with self._lock:  # let a boot or the clearing up after the last one come to its end
                pass
        plugged_at = self.pull_plug(reason)
        await self._dead.wait()
        return plugged_at

    def pull_plug(self, reason: str) -> float:
        """Silence and kill the node without waiting for its end; returns the monotonic time of the instant."""
        now = asyncio.get_running_loop().time()
        if self.power is Power.OFF:
            return now
        self.off_reason = reason
        self._switch.silence(self.node)
        if self.power is Power.FROZEN:
            self._freezer.kill()
        else:
            with suppress(ProcessLookupError):
                os.kill(self.init_pid, signal.SIGKILL)
        return now

    async def freeze(self) -> None:
        """Hang the node: every process stands still. Raises: NodeIsOff."""
        self._require_power()
        await self._freezer.freeze()
        self.power = Power.FROZEN

    def thaw(self) -> None:
        """Let a hung node go on as if nothing had happened. Raises: NodeIsOff."""
        self._require_power()
        self._freezer.thaw()
        self.power = Power.ON

    async def order(self, request: dict[str, Any], *, timeout_s: float = _ORDER_TIMEOUT_S) -> dict[str, Any]:
        """Have the node's init do something. Raises: NodeIsOff, NodeSilent, LabBroken."""
        self._require_power()
        if self.power is Power.FROZEN:
            raise NodeSilent(f"{self.node.name} is frozen", hint=f"holdfast lab thaw {self.node.name}")
        async with self._order_lock:
            self._order_number += 1
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._converse({"id": self._order_number, **request})
            except TimeoutError as error:
                raise NodeSilent(f"{self.node.name} did not answer within {timeout_s:g} s") from error

    async def close(self) -> None:
        """Take the node away altogether."""
        await self.power_off("the lab is taken down")
        async with self._lock:
            await self._clear()

    def _require_power(self) -> None:
        if self.power is Power.OFF:
            raise NodeIsOff(
                f"{self.node.name} is off ({self.off_reason})", hint=f"holdfast lab power-on {self.node.name}"
            )

    async def _converse(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._control is not None
        self._control[1].write(json.dumps(request).encode() + b"\n")
        while (answer := await self._receive()).get("id") != request["id"]:
            continue  # the late answer to an order that was given up
        if not answer["ok"]:
            raise LabBroken(f"{self.node.name}: {answer['message']}")
        return answer

    async def _receive(self) -> dict[str, Any]:
        assert self._control is not None
        line = await self._control[0].readline()
        if not line:
            raise LabBroken(f"the init of {self.node.name} is gone")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _start_init(self, boot_file: Path) -> Process:
        ours, theirs = socket.socketpair()
        self._control = await asyncio.open_unix_connection(sock=ours)
        with theirs, (self.node.root / "init.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                "sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._freezer.members),
                "setpriv", "--pdeathsig", "KILL",
                "nsenter", f"--net=/run/netns/{self.node.namespace}",
                "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc",
                os.path.realpath(sys.executable), "-S", "-E", "-B", "-m", "holdfast.lab.init",
                str(boot_file), str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=Path(holdfast.__file__).parents[1], start_new_session=True,
            )  # fmt: skip

    async def _watch(self, process: Process) -> None:
        await process.wait()
        if self.watchdog is not None:
            self.watchdog.close()
            self.watchdog = None
        self._switch.silence(self.node)
        if self.power is not Power.OFF and self.off_reason == "":
            self.off_reason = "its init died"
        self.power = Power.OFF
        self.init_pid = 0
        if self._control is not None:
            self._control[1].close()
        self._dead.set()
        async with self._lock:
            await self._clear()

    async def _clear(self) -> None:
        if self._is_clear or not self._dead.is_set():
            return
        await self._switch.disconnect(self.node)
        await self._freezer.remove()
        self._is_clear = True

    def _plan(self) -> BootPlan:
        plan = boot_plan(self._layout, self._spec, self.node, str(uuid.uuid4()))
        if self._spec.has_watchdog and self.node.is_host:
            self.watchdog = Watchdog(self.node.watchdog, self._spec.watchdog_timeout_s, self._bite)
        self.off_reason = ""
        return plan

    def _bite(self) -> None:
        self.pull_plug("its watchdog fired")
