"""The lab as a Python object: what the command line, the end-to-end tests, the demo and the benchmarks use.

Rule of the file: every method asks the datacenter or joins a node; the object itself keeps no state, so any number of
processes may use the same lab at once.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.lab.boot import programs_path
from holdfast.lab.construction import LabOptions, Progress, Provision, build, demolish
from holdfast.lab.errors import LabBroken, NodeIsOff
from holdfast.lab.fence_device import FenceFault
from holdfast.lab.freezer import Freezer
from holdfast.lab.guests import Guest, guest_domain_xml
from holdfast.lab.layout import STORAGE_NODE, Layout, Network
from holdfast.lab.luns import Lun, luns_of
from holdfast.lab.machine import Power
from holdfast.lab.processes import joining
from holdfast.lab.ready import wait_target
from holdfast.lab.spec import LabSpec
from holdfast.lab.status import LabStatus, ServiceStatus, read_status
from holdfast.lab.target import ALL_SET, TARGET_SERVICE
from holdfast.lab.tools import kill_group
from holdfast.lab.wire import ask

ALL_NETWORKS = tuple(Network)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A command that ended inside a node."""

    exit_code: int
    output: str
    errors: str


class Lab:
    """One datacenter on this machine. All times are seconds of CLOCK_MONOTONIC, comparable with ``loop.time()``."""

    def __init__(self, name: str = "lab") -> None:
        """Name the lab; nothing happens yet. Raises: BadLabName."""
        self.layout = Layout.of(name)

    async def up(
        self,
        options: LabOptions | None = None,
        *,
        provision: Provision | None = None,
        progress: Progress = lambda line: None,
    ) -> LabStatus:
        """Bring the lab up, or complete one that is there; ``provision`` then forms the cluster and must be repeatable.

        Raises: LabNameTaken, LabBroken.
        """
        await build(self.layout, options or LabOptions(), progress)
        if provision is not None:
            await provision(self, progress)
        return await self.status()

    async def down(self, *, progress: Progress = lambda line: None) -> bool:
        """Remove the lab and everything it made, also after a crash; returns False when there was nothing."""
        return await demolish(self.layout, progress)

    @property
    def spec(self) -> LabSpec:
        """What the lab was built as. Raises: LabNotRunning."""
        return LabSpec.read(self.layout.spec_file)

    async def status(self) -> LabStatus:
        """Return what the datacenter sees. Raises: LabNotRunning."""
        return read_status(await self._ask("status"))

    async def power_off(self, node: str) -> float:
        """Pull a node's plug; returns the instant of the pull, once nothing of the node lives any more."""
        return float((await self._ask("power-off", node=node))["plugged_at"])

    async def power_on(self, node: str) -> bool:
        """Boot a node; returns False when it runs already. Its services are on their way then."""
        return bool((await self._ask("power-on", node=node))["changed"])

    async def freeze(self, node: str) -> float:
        """Hang a node; returns the time when everything in it stood still."""
        return float((await self._ask("freeze", node=node))["at"])

    async def thaw(self, node: str) -> float:
        """Let a hung node go on; returns the time."""
        return float((await self._ask("thaw", node=node))["at"])

    async def cut(self, node: str, networks: Iterable[Network] = ALL_NETWORKS) -> float:
        """Cut a node's cables to these networks; returns the time just before. They stay cut over a reboot."""
        return float((await self._ask("cut", node=node, networks=list(networks)))["at"])

    async def heal(self, node: str, networks: Iterable[Network] = ALL_NETWORKS) -> float:
        """Mend a node's cables; returns the time just after."""
        return float((await self._ask("heal", node=node, networks=list(networks)))["at"])

    async def fence_fault(self, node: str, fault: FenceFault) -> None:
        """Make a node's fence device misbehave, or behave again with ``FenceFault.NONE``."""
        await self._ask("fence-fault", node=node, fault=fault)

    async def service_start(self, node: str, service: str) -> ServiceStatus:
        """Start a service that was stopped."""
        return await self._service(node, service, "start")

    async def service_stop(self, node: str, service: str) -> ServiceStatus:
        """Stop a service (not its children) until it is started again or the node boots; returns when it has ended."""
        return await self._service(node, service, "stop")

    async def service_kill(self, node: str, service: str, number: int = signal.SIGKILL) -> ServiceStatus:
        """Send a signal to a service's process; the node's init restarts it when it dies of it."""
        return await self._service(node, service, "kill", signal=int(number))

    async def restart_target(self) -> None:
        """Kill the storage node's target, which forgets registrations and reservations; returns when it runs again."""
        await self.execute(STORAGE_NODE, "rm", "-f", ALL_SET)
        await self.service_kill(STORAGE_NODE, TARGET_SERVICE)
        await wait_target(self.layout)

    async def execute(
        self, node: str, *command: str, stdin: str = "", timeout_s: float = 60.0, check: bool = True
    ) -> Finished:
        """Run a command inside a node.

        Raises: NodeIsOff; LabBroken when it lasts too long, or with ``check`` when it fails.
        """
        process = await asyncio.create_subprocess_exec(
            *await self.joining_command(node, *command),
            stdin=PIPE if stdin else DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            process_group=0,
        )
        try:
            async with asyncio.timeout(timeout_s):
                output, errors = await process.communicate(stdin.encode() if stdin else None)
        except TimeoutError as error:
            raise LabBroken(f"`{' '.join(command)}` on {node} did not end within {timeout_s:g} s") from error
        finally:
            await kill_group(process)
        code = process.returncode if process.returncode is not None else -1
        if check and code != 0:
            raise LabBroken(f"`{' '.join(command)}` on {node} ended with {code}: {errors.decode().strip()}")
        return Finished(exit_code=code, output=output.decode(), errors=errors.decode())

    async def joining_command(self, node: str, *command: str) -> list[str]:
        """Return the command line that runs a command inside a node, on this process's terminal. Raises: NodeIsOff."""
        status = (await self.status()).node(self.layout.node(node).name)
        if status.power is Power.OFF:
            raise NodeIsOff(f"{node} is off ({status.off_reason})", hint=f"holdfast lab power-on {node}")
        members = Freezer.named(self.layout.node(node).namespace).members
        return joining(status.init_pid, members, programs_path(), list(command))

    def path(self, node: str, inside: str) -> Path:
        """Return this machine's path of a folder that is private to a node (``/etc/holdfast``, …); it may be off."""
        return self.layout.node(node).on_disk(inside)

    @property
    def luns(self) -> list[Lun]:
        """The LUNs of the storage node, none without one. Raises: LabNotRunning."""
        return [lun for lun in luns_of(self.layout, self.spec.storage) if not lun.is_heartbeat]

    @property
    def heartbeat_luns(self) -> list[Lun]:
        """The LUNs for the nodes' storage heartbeats. Raises: LabNotRunning."""
        return [lun for lun in luns_of(self.layout, self.spec.storage) if lun.is_heartbeat]

    def guest(self, name: str, index: int) -> Guest:
        """Return a guest of the lab by its name and index (1..150)."""
        return Guest(layout=self.layout, name=name, index=index)

    def guest_xml(
        self,
        guest: Guest,
        *,
        memory_mib: int = 128,
        vcpus: int = 1,
        has_disk_lock: bool = True,
        lun: Lun | None = None,
        disk: str | None = None,
    ) -> str:
        """Return a guest's libvirt domain XML, with a LUN or a disk of the cluster if one is given.

        Raises: LabNotRunning.
        """
        return guest_domain_xml(
            self.layout,
            name=guest.name,
            index=guest.index,
            has_kvm=self.spec.has_kvm,
            memory_mib=memory_mib,
            vcpus=vcpus,
            has_disk_lock=has_disk_lock,
            lun=lun,
            disk=disk,
        )

    async def _service(self, node: str, service: str, order: str, **more: int) -> ServiceStatus:
        return ServiceStatus(**(await self._ask("service", node=node, service=service, order=order, **more))["service"])

    async def _ask(self, what: str, **details: Any) -> dict[str, Any]:
        return await ask(self.layout.control_socket, {"do": what, **details})
