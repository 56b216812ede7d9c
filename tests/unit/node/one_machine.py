"""One node's machine on the twins: database, hypervisor and guard in memory, holdfastd's own loops as they are.

Rule of the file: nothing is patched. A daemon is started and killed; the machine (guests, guard) goes on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.unit.decide.made_up import NOW_MS, incarnation, node_spec, role_spec, session
from tests.unit.node.small_database import SmallDatabase

from holdfast.fencing.guard.logic import Victim
from holdfast.fencing.simulated_guard import SimulatedGuard, SimulatedWatchdog
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.hypervisor.simulated_guest import Neighbourhood
from holdfast.hypervisor.timeouts import HypervisorTimeouts
from holdfast.model.ids import ClusterId, NodeName, RoleName
from holdfast.model.roles import Ownership, Phase, RoleSpec
from holdfast.node.disks import DiskKeeper
from holdfast.node.event_log import EventLog
from holdfast.node.executor import Executor
from holdfast.node.mirror import Mirror
from holdfast.node.session import SessionKeeper
from holdfast.sim.shared_disks import Port
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import SimulatedPath, SimulatedTarget
from holdfast.storage.simulated_disk import SimulatedDisk
from holdfast.store.memory import MemoryStore

UUID = "5b5f1b8c-0f5e-4a55-9c0e-3f2d7a1e9b11"
XML = f"<domain type='kvm'><name>web</name><uuid>{UUID}</uuid><memory>1024</memory><vcpu>1</vcpu></domain>"
WEB = RoleName("web")
QUICK = HypervisorTimeouts(ask_ms=500, start_ms=1000, destroy_ms=1000)


class LoopClock:
    """Both clocks from the event loop."""

    def monotonic_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def wall_ms(self) -> int:
        return NOW_MS + self.monotonic_ms()


class Machine:
    """A node's machine. Needs a running event loop."""

    def __init__(
        self,
        database: SmallDatabase,
        name: str = "a",
        *,
        watchdog_s: float | None = None,
        neighbourhood: Neighbourhood | None = None,
    ) -> None:
        self.name = NodeName(name)
        self.database = database
        self.store = MemoryStore(database.database)
        self.clock = LoopClock()
        self.hypervisor = SimulatedHypervisor(timeouts=QUICK, neighbourhood=neighbourhood, uri=f"sim://{name}")
        self.resets = 0
        watchdog = SimulatedWatchdog(timeout_s=watchdog_s, reset=self._reset) if watchdog_s is not None else None
        self.guard = SimulatedGuard(alive=self._processes, kill=self._kill, watchdog=watchdog)
        self.guard.start()
        self._daemon: list[asyncio.Task[Any]] = []
        self.executor: Executor | None = None
        self.keeper: SessionKeeper | None = None
        self.mirror = Mirror()
        self.events = EventLog(self.name, self.clock)
        self.target = SimulatedTarget([SimulatedDisk(1), SimulatedDisk(2)])
        self.paths: dict[str, SimulatedPath] = {}
        self.disks = self._make_disks()
        database.node(node_spec(name))

    def _make_disks(self) -> DiskKeeper:
        return DiskKeeper(
            cluster_id=ClusterId("id"),
            me=self.name,
            mirror=self.mirror,
            hypervisor=self.hypervisor,
            open_lun=lambda disk: ScsiLun(Port(lambda: self.path(disk.designator))),
        )

    def path(self, designator: str) -> SimulatedPath:
        """The machine's nexus to a disk, the one that its guests write through."""
        if designator not in self.paths:
            self.paths[designator] = self.target.connect(self.name, designator)
        return self.paths[designator]

    def _processes(self) -> frozenset[Victim]:
        running = self.hypervisor._running.values()
        return frozenset(Victim(r.process.pid, r.process.start_ticks, r.guest.uuid) for r in running)

    def _kill(self, victim: Victim) -> None:
        self.hypervisor.crash(victim.uuid)

    def _reset(self) -> None:
        self.resets += 1
        self.hypervisor._running.clear()

    async def start_daemon(self, number: int = 1) -> None:
        """Start holdfastd: it registers, or registers again, and executes."""
        self.mirror = Mirror()
        self.disks = self._make_disks()
        self.events = EventLog(self.name, self.clock)
        self._daemon = [
            asyncio.create_task(self.mirror.run(self.store)),
            asyncio.create_task(self.events.run(self.store)),
        ]
        self.keeper = SessionKeeper(self.store, self.mirror, self.clock, self.events, session(self.name, number))
        assert await self.keeper.register() is None
        assert self.keeper.me is not None
        self.executor = Executor(
            store=self.store,
            mirror=self.mirror,
            clock=self.clock,
            events=self.events,
            hypervisor=self.hypervisor,
            guard=self.guard,
            disks=self.disks,
            incarnation=incarnation(self.name, number),
        )
        me = self.keeper.me
        self._daemon += [asyncio.create_task(self.keeper.keep()), asyncio.create_task(self.executor.run(me))]
        disks = self.disks.run(incarnation(self.name, number), self.keeper.touch)
        self._daemon.append(asyncio.create_task(disks))

    async def kill_daemon(self) -> None:
        """End holdfastd as SIGKILL does."""
        for task in self._daemon:
            task.cancel()
        done = await asyncio.gather(*self._daemon, return_exceptions=True)
        self._daemon = []
        failures = [error for error in done if isinstance(error, Exception)]
        assert failures == []

    async def entitle(self, time_s: float = 200) -> None:
        """Move the guard's deadline."""
        await self.guard.extend(asyncio.get_running_loop().time() + time_s)

    async def runs(self, uuid: str = UUID) -> bool:
        """Whether a process of the guest exists."""
        return await self.hypervisor.process_of(uuid) is not None

    def ownership(self) -> Ownership:
        """Who owns the role web, as the database says."""
        return self.database.snapshot().ownerships[WEB].value

    def record(self, ownership: Ownership) -> None:
        """Write who owns the role web, as another node would."""
        self.database.put(f"holdfast/ownerships/{WEB}", ownership)

    def web(self, **changes: Any) -> RoleSpec:
        """The role web."""
        return role_spec("web", uuid=UUID, domain_xml=XML, shutdown_timeout_ms=2000, **changes)

    async def wait_phase(self, phase: Phase, time_s: float = 30) -> Ownership:
        """Wait until the database says so."""
        async with asyncio.timeout(time_s):
            while self.ownership().phase is not phase:
                await self.database.database.changes_within(1.0)
        return self.ownership()


@asynccontextmanager
async def machine(**given: Any) -> AsyncIterator[Machine]:
    """A machine whose daemon is killed in the end."""
    made = Machine(SmallDatabase(), **given)
    try:
        yield made
    finally:
        await made.kill_daemon()
        made.guard.crash()
