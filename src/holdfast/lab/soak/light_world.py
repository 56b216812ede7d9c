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
from holdfast.lab.soak.blocks import REGIONS, faults_of, read_regions
from holdfast.lab.soak.chronicle import Chronicle
from holdfast.lab.soak.light_cluster import NODES, ROLES, TIMINGS, records_of, role_of, uuid_of
from holdfast.lab.soak.light_database import LightDatabase, free_port, light_database
from holdfast.lab.soak.light_machine import LightMachine
from holdfast.lab.soak.light_node import NodePlan
from holdfast.lab.soak.relay import Way
from holdfast.lab.soak.schedule import TRAPS, Act, Schedule, Who
from holdfast.model.ids import ClusterId, NodeName
from holdfast.model.nodes import ProofKind
from holdfast.model.roles import Phase, Wanted
from holdfast.model.snapshot import Snapshot
from holdfast.node.mirror import Mirror
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.outcome import Done
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.store.port import Put, Txn
from holdfast.store.records import encode, spec_key

MEMORY: Final = Path("/dev/shm")
PROGRESS_S: Final = 90.0
GONE_WITHIN_S: Final = 1.0 + 1.5
"""The promise, and what a busy machine adds to it."""
LATE_S: Final = 2.5
"""So long a late reply or request is held: longer than a node waits for it."""
_POLL_S: Final = 0.05


class LightWorld:
    """One cluster. Made by `light_world`."""

    unit_s = TIMINGS.patience_ms / 1000

    def __init__(self, folder: Path, target: OwnTarget, database: LightDatabase, *, breakage: str = "") -> None:
        self.chronicle = Chronicle()
        self.machines: dict[str, LightMachine] = {}
        self._folder = folder
        self._target = target
        self._database = database
        self._breakage = breakage
        self._mirror = Mirror()
        self._proven_at: dict[str, float] = {}
        self._trap: tuple[Act, float] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
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
                target=(portal[0], int(portal[2])),
                database=("127.0.0.1", self._database.port),
                chronicle=self.chronicle,
                preempting=self._preempting,
                preempted=self._preempted,
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
        for task in tuple(self._tasks):
            task.cancel()
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
                self._trap = act, LATE_S
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
        self._trap = None
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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

    # Traps

    def _preempting(self, machine: LightMachine) -> None:
        if self._trap is None:
            return
        act, late_s = self._trap
        if act is Act.DIES_BEFORE:
            self._spring(act, machine)
            machine.die()
            machine.storage.gates[Way.OUT].shut()
            self._later(self._bury(machine))
        elif act is Act.REQUEST_LATE:
            self._spring(act, machine)
            machine.storage.gates[Way.OUT].shut()
            machine.note_ability()
            self._later(self._open_after(machine, late_s))

    def _preempted(self, machine: LightMachine) -> None:
        if self._trap is None:
            return
        act, late_s = self._trap
        self._spring(act, machine)
        match act:
            case Act.DIES_AFTER:
                machine.die()
                self._later(self._bury(machine))
            case Act.FREEZES_AFTER:
                machine.freeze()
                self._later(self._thaw_after(machine, 2 * late_s))
            case Act.REPLY_LOST:
                machine.storage.gates[Way.BACK].shut()
                machine.note_ability()
                self._later(self._open_after(machine, late_s))

    def _spring(self, act: Act, machine: LightMachine) -> None:
        self._trap = None
        self._note(f"{act}: {machine.name}")

    def _later(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, machine: LightMachine) -> None:
        await machine.power_off()

    async def _open_after(self, machine: LightMachine, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        machine.storage.open()
        machine.note_ability()

    async def _thaw_after(self, machine: LightMachine, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        machine.thaw()

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
            found += [f"{ROLES[number]}: {fault}" for fault in faults_of(regions)]
            for machine in self.machines.values():
                instance, region, count = machine.board.acknowledged(number)
                is_there = region < len(regions) and regions[region].owner.instance == instance
                if instance and is_there and regions[region].count < count:
                    found.append(f"{ROLES[number]}: record {count} of {instance} was acknowledged and is not there")
        for machine in self.machines.values():
            found += self._outlived(machine)
        return found

    def _outlived(self, machine: LightMachine) -> list[str]:
        found = []
        for instance, ended_at in machine.guests.items():
            proven_at = self._proven_at.get(machine.born_of[instance])
            due_at = None if proven_at is None else _due_at(machine.able, proven_at)
            now = asyncio.get_running_loop().time()
            if due_at is not None and (ended_at or now) > due_at:
                late_s = (ended_at or now) - due_at + GONE_WITHIN_S
                found.append(f"guest {instance} outlived by {late_s:.1f} s that {machine.name} was expelled")
        return found

    async def _settled(self) -> str | None:
        """Wait until all nodes are up, all disks ready and all guests write."""
        missing = "nothing was looked at"
        before = self._counts()
        try:
            async with asyncio.timeout(PROGRESS_S):
                while missing:
                    await asyncio.sleep(_POLL_S)
                    missing = self._missing()
                while any(a <= b for a, b in zip(self._counts(), before, strict=True)):
                    missing = f"guests write no more: {before}"
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return f"no progress within {PROGRESS_S:g} s after all was healed: {missing}"
        return None

    def _missing(self) -> str:
        snapshot = self.snapshot
        for name, machine in self.machines.items():
            session = snapshot.sessions.get(NodeName(name))
            report = snapshot.reports.get(NodeName(name))
            if session is None or report is None or session.value.incarnation != (machine.incarnations or [""])[-1]:
                return f"{name} is not up"
            for disk in snapshot.disks:
                health = report.value.disks.get(disk)
                if health is None or not health.is_ready:
                    return f"{name}: {disk}: {health}"
        for role in ROLES:
            ownership = snapshot.ownerships.get(role)
            if ownership is None or ownership.value.phase is not Phase.ONLINE:
                return f"{role} is not online"
            living = [
                name
                for name, machine in self.machines.items()
                for instance, ended_at in machine.guests.items()
                if ended_at is None and machine.board.acknowledged(ROLES.index(role))[0] == instance
            ]
            if living != [str(ownership.value.owner)]:
                return f"{role} of {ownership.value.owner} runs on {living}"
        return ""

    def _counts(self) -> list[tuple[int, int]]:
        """Per role the newest region and its acknowledged records."""
        found = []
        for number in range(len(ROLES)):
            told = [machine.board.acknowledged(number) for machine in self.machines.values()]
            found.append(max((region, count) for _, region, count in told))
        return found

    # Records

    async def _want(self, wanted: Wanted) -> None:
        self._generation += 1
        specs = [replace(role_of(number), wanted=wanted, generation=self._generation) for number in range(len(ROLES))]
        await self._database.store.txn(Txn(then=tuple(Put(spec_key(spec.name), encode(spec)) for spec in specs)))

    async def _protect_again(self) -> str | None:
        """Stop the roles, so that the nodes may register again; start them."""
        await self._want(Wanted.OFFLINE)
        problem = await self._until(self._disks_ready, "the disks are not protected again")
        await self._want(Wanted.ONLINE)
        return problem

    async def _wipe(self) -> str | None:
        """Empty the LUNs while nobody writes."""
        await self._want(Wanted.OFFLINE)
        problem = await self._until(self._all_vacant, "the roles do not stop")
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

    async def _until(self, is_so: Callable[[], bool], otherwise: str) -> str | None:
        try:
            async with asyncio.timeout(PROGRESS_S):
                while not is_so():  # noqa: ASYNC110 - a mirror and several machines are asked
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return otherwise
        return None

    def _disks_ready(self) -> bool:
        reports = self.snapshot.reports
        return all(
            (report := reports.get(NodeName(name))) is not None
            and report.value.incarnation == (machine.incarnations or [""])[-1]
            and len(report.value.disks) == len(ROLES)
            and all(health.is_ready for health in report.value.disks.values())
            for name, machine in self.machines.items()
        )

    def _all_vacant(self) -> bool:
        owned = self.snapshot.ownerships
        return all((found := owned.get(role)) is None or found.value.phase is Phase.VACANT for role in ROLES)

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
        world = LightWorld(folder, target, database, breakage=breakage)
        stack.push_async_callback(world.close)
        await world.build()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(world.watch())
            try:
                yield world
            finally:
                watching.cancel()


def _due_at(able: list[tuple[float, bool]], proven_at: float) -> float | None:
    """When a node that was expelled must have ended its guests; None when it has not had the time yet."""
    for (since, can), (until, _) in zip(able, [*able[1:], (float("inf"), False)], strict=True):
        begin = max(since, proven_at)
        if can and until - begin > GONE_WITHIN_S:
            return begin + GONE_WITHIN_S
    return None
