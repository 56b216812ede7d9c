"""The process that is the datacenter: ``python -m holdfast.lab.datacenter NAME``, one per lab, started by ``lab up``.

Rule of the file: it owns power, networks and watchdogs; everybody else asks it over a unix socket. It is the mains:
when it dies, every node dies with it (PR_SET_PDEATHSIG), so that nothing of a lab can outlive it unseen.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from holdfast.lab.errors import LabNameTaken, NodeSilent, NoSuchNode
from holdfast.lab.fence_device import FenceFault, PowerSwitch
from holdfast.lab.layout import Layout, Network
from holdfast.lab.machine import Machine, Power
from holdfast.lab.processes import ProcessId
from holdfast.lab.spec import LabSpec
from holdfast.lab.switch import Switch
from holdfast.lab.wire import LINE_LIMIT, encode_error
from holdfast.model.errors import HoldfastError

_NICE = -10
_STATUS_TIMEOUT_S = 1.0


def claim_name(layout: Layout) -> socket.socket:
    """Take the lab's name on this machine, until the socket is closed or the process ends. Raises: LabNameTaken."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0holdfast-lab/{layout.name}")
    except OSError as error:
        claim.close()
        raise LabNameTaken(
            f"a lab called {layout.name!r} runs on this machine already",
            hint="choose another --name, or take that lab down first",
        ) from error
    return claim


class Datacenter:
    """All machines of one lab, and the orders they take."""

    def __init__(self, layout: Layout, spec: LabSpec) -> None:
        self._layout, self._spec = layout, spec
        self._switch = Switch(layout)
        self._machines = {
            name: Machine(layout, spec, layout.node(name), self._switch) for name in spec.machine_names
        }  # fmt: skip
        self._power_switch = PowerSwitch({name: self._machines[name] for name in spec.node_names})
        self._stop = asyncio.Event()
        self._orders: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "power-on": self._power_on,
            "power-off": self._power_off,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "cut": self._cut,
            "heal": self._heal,
            "service": self._service,
            "fence-fault": self._fence_fault,
            "shutdown": self._shutdown,
        }

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until a shutdown is ordered, then take everything away; ``ready`` is called when orders are taken."""
        await self._switch.create()
        power = await asyncio.start_unix_server(self._power_switch.serve, str(self._layout.power_socket))
        control = await asyncio.start_unix_server(self._serve, str(self._layout.control_socket), limit=LINE_LIMIT)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with power, control:
            ready()
            await self._stop.wait()
            async with asyncio.TaskGroup() as group:
                for machine in self._machines.values():
                    group.create_task(machine.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # whoever asked has gone, or does not speak JSON
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"ok": True, **await self._orders[request["do"]](request)}
        except HoldfastError as error:
            return encode_error(error)
        except (KeyError, OSError, ValueError) as error:
            return {"ok": False, "code": "lab-broken", "message": f"{type(error).__name__}: {error}", "hint": ""}

    def _machine(self, request: dict[str, Any]) -> Machine:
        name = request["node"]
        if name not in self._machines:
            raise NoSuchNode(
                f"lab {self._layout.name} has no node {name!r}", hint=f"it has {', '.join(self._machines)}"
            )
        return self._machines[name]

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        nodes = await asyncio.gather(*(self._describe(machine) for machine in self._machines.values()))
        return {"name": self._layout.name, "pid": os.getpid(), "nodes": nodes}

    async def _describe(self, machine: Machine) -> dict[str, Any]:
        services: list[dict[str, Any]] | None = None
        if machine.power is Power.ON:
            try:
                services = (await machine.order({"do": "services"}, timeout_s=_STATUS_TIMEOUT_S))["services"]
            except (NodeSilent, HoldfastError):
                services = None
        process = ProcessId.of(machine.init_pid) if machine.init_pid else None
        watchdog = machine.watchdog
        return {
            "name": machine.node.name,
            "power": machine.power,
            "off_reason": machine.off_reason,
            "init_pid": machine.init_pid,
            "init_started": process.started if process else 0,
            "services": services,
            "cut": self._switch.cuts(machine.node),
            "fence_fault": self._power_switch.faults.get(machine.node.name) if self._spec.has_fence else None,
            "watchdog": {"is_armed": watchdog.is_armed, "remaining_s": watchdog.remaining_s} if watchdog else None,
        }

    async def _power_on(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"changed": await self._machine(request).power_on()}

    async def _power_off(self, request: dict[str, Any]) -> dict[str, Any]:
        plugged_at = await self._machine(request).power_off("its plug was pulled")
        return {"plugged_at": plugged_at, "dead_at": asyncio.get_running_loop().time()}

    async def _freeze(self, request: dict[str, Any]) -> dict[str, Any]:
        await self._machine(request).freeze()
        return {"at": asyncio.get_running_loop().time()}

    async def _thaw(self, request: dict[str, Any]) -> dict[str, Any]:
        self._machine(request).thaw()
        return {"at": asyncio.get_running_loop().time()}

    async def _cut(self, request: dict[str, Any]) -> dict[str, Any]:
        at = asyncio.get_running_loop().time()
        self._switch.cut(self._machine(request).node, _networks(request))
        return {"at": at}

    async def _heal(self, request: dict[str, Any]) -> dict[str, Any]:
        self._switch.heal(self._machine(request).node, _networks(request))
        return {"at": asyncio.get_running_loop().time()}

    async def _service(self, request: dict[str, Any]) -> dict[str, Any]:
        order = {"do": request["order"], "service": request["service"], "signal": request.get("signal", 9)}
        return {"service": (await self._machine(request).order(order))["service"]}

    async def _fence_fault(self, request: dict[str, Any]) -> dict[str, Any]:
        node = self._machine(request).node
        if not node.is_host:
            raise NoSuchNode(f"{node.name} has no fence device")
        self._power_switch.faults[node.name] = FenceFault(request["fault"])
        return {}

    async def _shutdown(self, request: dict[str, Any]) -> dict[str, Any]:
        self._stop.set()
        return {}


def _networks(request: dict[str, Any]) -> list[Network]:
    return [Network(name) for name in request["networks"]]


async def _run(layout: Layout, ready: Callable[[], None]) -> None:
    with claim_name(layout):
        layout.pid_file.write_text(str(ProcessId.of(os.getpid())))
        await Datacenter(layout, LabSpec.read(layout.spec_file)).run(ready)


def _detach(log: Path) -> int:
    """Go on in a child of its own session that prints to the log; the parent ends when the child is ready, or failed.

    Returns the descriptor on which the child says that it is ready.
    """
    hear, say = os.pipe()
    if os.fork():
        os.close(say)
        os._exit(0 if os.read(hear, 1) else 1)
    os.close(hear)
    os.setsid()
    os.chdir("/")
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)), (1, output), (2, output)):
        os.dup2(source, descriptor)
    return say


def main() -> None:
    """Start the datacenter of the lab named on the command line; returns when it takes orders."""
    layout = Layout.of(sys.argv[1])
    say = _detach(layout.log_file)

    def ready() -> None:
        os.write(say, b"1")
        os.close(say)

    os.nice(_NICE)
    asyncio.run(_run(layout, ready))


if __name__ == "__main__":
    main()
