"""The light world: a cluster of three light nodes, real tgtd, real etcd, two roles on two LUNs.

Rule of the file: it does what a schedule says, and judges by the blocks. It decides nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

from holdfast.lab.bench.target import DISK_BYTES, TARGET_NAME, OwnTarget, own_target
from holdfast.lab.errors import LabBroken
from holdfast.lab.soak.blocks import REGIONS, read_regions
from holdfast.lab.soak.chronicle import Chronicle
from holdfast.lab.soak.light_cluster import NODES, ROLES, TIMINGS, records_of, role_of, uuid_of
from holdfast.lab.soak.light_database import LightDatabase, free_port, light_database
from holdfast.lab.soak.light_judge import counts, disks_missing, faults_on_disk, missing, outlived, roles_running
from holdfast.lab.soak.light_machine import LightMachine
from holdfast.lab.soak.light_node import NodePlan
from holdfast.lab.soak.schedule import TRAPS, Act, Schedule, Who
from holdfast.lab.soak.traps import Traps
from holdfast.model.ids import ClusterId
from holdfast.model.nodes import ProofKind
from holdfast.model.roles import Wanted
from holdfast.model.snapshot import Snapshot
from holdfast.node.mirror import Mirror
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.outcome import Done
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.store.port import Put, Txn
from holdfast.store.records import encode, spec_key

MEMORY: Final = Path("/dev/shm")
PROGRESS_S: Final = 90.0
_POLL_S: Final = 0.05


class LightWorld:
    """One cluster. Made by `light_world`."""

    unit_s = TIMINGS.patience_ms / 1000

    def __init__(
        self,
        folder: Path,
        target: OwnTarget,
        database: LightDatabase,
        tasks: asyncio.TaskGroup,
        *,
        breakage: str = "",
    ) -> None:
        self.chronicle = Chronicle()
        self.machines: dict[str, LightMachine] = {}
        self._folder = folder
        self._target = target
        self._database = database
        self._breakage = breakage
        self._mirror = Mirror()
        self._proven_at: dict[str, float] = {}
        self._tasks = tasks
        self._traps = Traps(tasks, self._note)
        self._generation = 1
        self._has_forgotten = False
        self._regions_seen = 0

    # Building

    async def build(self) -> None:
        """Write the records and start the nodes. Raises LabBroken when it does not become healthy."""
        cluster_id = ClusterId(str(uuid4()))
        ports = {name: free_port() for name in NODES}
        designators = await self._designators()
        await self._database.store.txn(Txn(then=tuple(records_of(cluster_id, ports, designators))))
        portal = self._target.portal.rpartition(":")
        for name in NODES:
            plan = NodePlan(
                me=name,
                cluster_id=cluster_id,
                cluster_key=bytes(range(32)).hex(),
                ports=ports,
                database="",
                tls=tuple(str(path) for path in self._tls_paths()),  # type: ignore[arg-type]
                portal="",
                target=TARGET_NAME,
                luns={designator: number for number, designator in enumerate(designators, start=1)},
                roles={uuid_of(number): number for number in range(len(ROLES))},
                board=str(self._folder / f"{name}.board"),
                breakage=self._breakage,
            )
            self.machines[name] = LightMachine(
                plan,
                self._tasks,
                target=(portal[0], int(portal[2])),
                database=("127.0.0.1", self._database.port),
                chronicle=self.chronicle,
                preempting=self._traps.preempting,
                preempted=self._traps.preempted,
            )
        for machine in self.machines.values():
            await machine.start()

    async def watch(self) -> None:
        """Follow what is committed, until cancelled."""
        changed = self._mirror.subscribe()
        self._mirror.on_event(lambda _key, event: self._note(f"event {event.code} {event.subject}", "cluster"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._mirror.run(self._database.store))
            while True:
                await changed.wait()
                changed.clear()
                for incarnation, proof in self.snapshot.proofs.items():
                    if incarnation not in self._proven_at and proof.value.kind is ProofKind.STORAGE_RESERVATION:
                        self._proven_at[incarnation] = asyncio.get_running_loop().time()
                        self._note(f"proof for {proof.value.node}: {', '.join(proof.value.disks)}", "cluster")

    async def close(self) -> None:
        """End everything."""
        await self._traps.release()
        for machine in self.machines.values():
            await machine.stop()

    @property
    def snapshot(self) -> Snapshot:
        """What is committed, as far as it was heard."""
        return self._mirror.snapshot or Snapshot()

    # Doing

    async def begin(self, schedule: Schedule) -> str | None:
        """Have everything in order; returns what is not."""
        problem = await self._settled()
        if problem is None and self._regions_seen > REGIONS // 2:
            problem = await self._wipe()
        self.chronicle.begin(asyncio.get_running_loop().time())
        for machine in self.machines.values():
            machine.board.turn("blunt-guard", on=schedule.is_guard_blunt)
        return problem

    def who(self, who: Who) -> str | None:
        """The node that this is now; None when there is none."""
        owner = self._owner()
        coordinator = self.snapshot.coordinator
        leader = None if coordinator is None else str(coordinator.value.node)
        match who:
            case Who.OWNER:
                return owner
            case Who.COORDINATOR | Who.LEADER:
                return leader
            case Who.BYSTANDER:
                return min((name for name in NODES if name != owner), key=lambda name: (name == leader, name))
            case Who.NOBODY:
                return None

    async def do(self, act: Act, node: str | None) -> None:
        """Let it happen."""
        machine = self.machines.get(node or "")
        self._note(f"{act} {node or ''}")
        match act:
            case Act.RESTART_TARGET:
                self._has_forgotten = True
                self._target_up(False)
                await self._target.stop()
                await self._target.start()
                self._target_up(True)
            case Act.HANG_TARGET:
                self._target.freeze()
                self._target_up(False)
            case Act.HANG_DATABASE:
                self._database.hang()
            case Act.RIVALS:
                for each in self.machines.values():
                    each.board.turn("rival", on=True)
            case _ if act in TRAPS:
                self._traps.lay(act)
            case _ if machine is not None:
                await self._befall(act, machine)

    async def _befall(self, act: Act, machine: LightMachine) -> None:
        match act:
            case Act.POWER_OFF:
                await machine.power_off()
            case Act.FREEZE:
                machine.freeze()
            case Act.CUT_CLUSTER:
                machine.cut(cluster=True)
            case Act.CUT_STORAGE:
                machine.cut(storage=True)
            case Act.CUT_ALL:
                machine.cut(cluster=True, storage=True)
            case _:
                raise LabBroken(f"{act} befalls no node")

    async def undo(self, act: Act, node: str | None) -> None:
        """End it."""
        machine = self.machines.get(node or "")
        self._note(f"{act} {node or ''} is over")
        match act:
            case Act.HANG_TARGET:
                self._target.thaw()
                self._target_up(True)
            case Act.HANG_DATABASE:
                self._database.go_on()
            case _ if machine is None:
                return
            case Act.POWER_OFF:
                await machine.power_on()
            case Act.FREEZE:
                machine.thaw()
            case Act.CUT_CLUSTER | Act.CUT_STORAGE | Act.CUT_ALL:
                machine.mend()

    async def heal(self) -> None:
        """End everything that still goes on."""
        self._note("all is healed")
        await self._traps.release()
        self._target.thaw()
        self._target_up(True)
        self._database.go_on()
        for machine in self.machines.values():
            machine.board.turn("rival", on=False)
            machine.mend()
            machine.thaw()
            await machine.power_on()

    def _target_up(self, is_up: bool) -> None:
        for machine in self.machines.values():
            machine.is_target_up = is_up
            machine.note_ability()

    # Judging

    async def settle(self) -> str | None:
        """Wait until everything works again by itself; returns what does not."""
        problem = None
        if self._has_forgotten:
            problem = await self._protect_again()
            self._has_forgotten = problem is not None
        problem = problem or await self._settled()
        for machine in self.machines.values():
            machine.storage.forget_dead()
            machine.database.forget_dead()
        return problem

    def faults(self) -> list[str]:
        """What may not be: by the blocks, by what was acknowledged, and of guests that outlived their expulsion."""
        found: list[str] = []
        for number in range(len(ROLES)):
            regions = read_regions(self._blocks(number).read_bytes())
            self._regions_seen = max(self._regions_seen, len(regions))
            found += faults_on_disk(number, regions, self.machines)
        now = asyncio.get_running_loop().time()
        for machine in self.machines.values():
            found += outlived(machine, self._proven_at, now)
        return found

    async def _settled(self) -> str | None:
        """Wait until all nodes are up, all disks ready and all guests write."""
        before = counts(self.machines)
        problem = await self._until_none(lambda: missing(self.snapshot, self.machines))
        return problem or await self._until_none(lambda: self._silent(before))

    def _silent(self, before: list[tuple[int, int]]) -> str:
        now = counts(self.machines)
        return "" if all(a > b for a, b in zip(now, before, strict=True)) else f"guests write no more: {before}, {now}"

    async def _until_none(self, problem: Callable[[], str]) -> str | None:
        """Wait until nothing is wrong; returns what still is."""
        wrong = problem()
        try:
            async with asyncio.timeout(PROGRESS_S):
                while wrong:
                    await asyncio.sleep(_POLL_S)  # a mirror and several machines are asked
                    wrong = problem()
        except TimeoutError:
            return f"no progress within {PROGRESS_S:g} s: {wrong}"
        return None

    # Records

    async def _want(self, wanted: Wanted) -> None:
        self._generation += 1
        specs = [replace(role_of(number), wanted=wanted, generation=self._generation) for number in range(len(ROLES))]
        await self._database.store.txn(Txn(then=tuple(Put(spec_key(spec.name), encode(spec)) for spec in specs)))

    async def _protect_again(self) -> str | None:
        """Stop the roles, so that the nodes may register again; start them."""
        await self._want(Wanted.OFFLINE)
        problem = await self._until_none(lambda: disks_missing(self.snapshot, self.machines))
        await self._want(Wanted.ONLINE)
        return problem

    async def _wipe(self) -> str | None:
        """Empty the LUNs while nobody writes."""
        await self._want(Wanted.OFFLINE)
        problem = await self._until_none(lambda: roles_running(self.snapshot))
        if problem is None:
            for number in range(len(ROLES)):
                os.truncate(self._blocks(number), 0)
                os.truncate(self._blocks(number), DISK_BYTES)
            for machine in self.machines.values():
                machine.guests.clear()
                for number in range(len(ROLES)):
                    machine.board.acknowledge(number, instance="", region=0, number=0)
            self._regions_seen = 0
        await self._want(Wanted.ONLINE)
        return problem or await self._settled()

    def _owner(self) -> str | None:
        ownership = self.snapshot.ownerships.get(ROLES[0])
        return None if ownership is None or ownership.value.owner is None else str(ownership.value.owner)

    def _blocks(self, number: int) -> Path:
        return self._target.blocks_of(number + 1)

    def _note(self, text: str, who: str = "rig") -> None:
        self.chronicle.note(asyncio.get_running_loop().time(), who, text)

    def _tls_paths(self) -> tuple[Path, Path, Path]:
        tls = self._database.tls
        return tls.authority, tls.certificate, tls.key

    async def _designators(self) -> list[str]:
        session = await IscsiSession.connect(self._target.address("soak"))
        try:
            told = [await ScsiLun(session.lun(number)).identity() for number in range(1, len(ROLES) + 1)]
        finally:
            await session.close()
        return [outcome.value.designator for outcome in told if isinstance(outcome, Done)]


@asynccontextmanager
async def light_world(*, breakage: str = "") -> AsyncIterator[LightWorld]:
    """A healthy light world while the context lasts. Raises LabBroken."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="holdfast-soak-", dir=MEMORY)))
        target = await stack.enter_async_context(own_target(disks=len(ROLES), folder=folder))
        database = await stack.enter_async_context(light_database(folder))
        async with asyncio.TaskGroup() as tasks:
            world = LightWorld(folder, target, database, tasks, breakage=breakage)
            watching = tasks.create_task(world.watch())
            try:
                await world.build()
                yield world
            finally:
                watching.cancel()
                await world.close()
