"""The runs of the failover benchmark: a plug pulled, QEMU killed, or nothing at all.

Rule of the file: a run begins from a scene that was set and looked at, and adds its values only when it ended well.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from enum import StrEnum

from holdfast.client import requests
from holdfast.lab.bench.host import wait_quiet
from holdfast.lab.bench.idle import BESIDE, COUNTED, Cost, idle_cost, total
from holdfast.lab.bench.report import Report
from holdfast.lab.bench.scene import GUESTS, Part, Scene
from holdfast.lab.errors import LabBroken
from holdfast.lab.failover import Failover, Stage, pull_plug
from holdfast.lab.provision import client_of
from holdfast.lab.qemu import QemuWatch, all_running

RUN_LIMIT_S = 400.0
QUIET_PERCENT = 60.0
QUIET_LIMIT_S = 15.0
IDLE_SAMPLE_S = 40.0
IDLE_GUESTS = 4
CRASH_LIMIT_S = 30.0
RESTART_LIMIT = 100
"""The most that can be set: the bench crashes a guest more often than a real one should be restarted in place."""
_LOOK_S = 0.02


class Kind(StrEnum):
    """The kinds of runs."""

    PLAIN = "plain"
    LEADER = "leader"
    COORDINATOR = "coordinator"
    EIGHT = "eight"
    CRASH = "crash"
    IDLE = "idle"


class Trials:
    """Carries out runs on a scene and adds what they measured to the report."""

    def __init__(self, scene: Scene, report: Report, progress: Callable[[str], None]) -> None:
        self._scene = scene
        self._report = report
        self._progress = progress
        self.idle_programs: dict[str, Cost] = {}
        """Median over the nodes, per program; libvirtd is shown beside what counts."""

    async def run(self, kind: Kind) -> str:
        """Do one run; returns its outcome in words. Raises: HoldfastError, TimeoutError."""
        kinds: dict[Kind, Callable[[], Awaitable[str]]] = {
            Kind.PLAIN: lambda: self._one_guest(Part.PLAIN),
            Kind.LEADER: lambda: self._one_guest(Part.LEADER),
            Kind.COORDINATOR: lambda: self._one_guest(Part.COORDINATOR),
            Kind.EIGHT: self._eight_guests,
            Kind.CRASH: self._crash,
            Kind.IDLE: self._idle,
        }
        async with asyncio.timeout(RUN_LIMIT_S):
            return await kinds[kind]()

    async def _one_guest(self, part: Part) -> str:
        seen = await self._failover(part, guests=1)
        suffix = ("" if part is Part.PLAIN else f".{part}") + (".reservation" if self._scene.has_disks else "")
        for stage in Stage:
            self._report.add(measure_of(stage, suffix), 1000 * seen.times(stage)[0])
        return f"{seen.victim}: " + ", ".join(f"{stage} {seen.times(stage)[0]:.2f} s" for stage in Stage)

    async def _eight_guests(self) -> str:
        seen = await self._failover(Part.PLAIN, guests=GUESTS)
        for stage in Stage:
            times = seen.times(stage)
            self._report.add(measure_of(stage, ".eight_first"), 1000 * times[0])
            self._report.add(measure_of(stage, ".eight_last"), 1000 * times[-1])
        return f"{seen.victim}: " + ", ".join(f"{stage} … {seen.times(stage)[-1]:.2f} s" for stage in Stage)

    async def _failover(self, part: Part, *, guests: int) -> Failover:
        scene = self._scene
        roles = list(scene.guests)[:guests]
        for _ in range(3):
            victim = await scene.cast(part)
            await scene.place(dict.fromkeys(roles, victim))
            await self._quiet()
            if await scene.is_cast(part, victim):
                break
        else:
            raise LabBroken(f"leader and coordinator change too often to find a node that is {part} and stays so")
        seen = await pull_plug(scene.lab, victim, scene.guests, asked=await scene.survivor(without=victim))
        await scene.repair()
        return seen

    async def _crash(self) -> str:
        scene = self._scene
        victim = await scene.cast(Part.PLAIN)
        role = next(iter(scene.guests))
        await scene.place({role: victim})
        client = await client_of(scene.lab, victim)
        await client.call(requests.set_role(role, restart_limit=RESTART_LIMIT))
        uuid = next(one.uuid for one in (await scene.status()).roles if one.name == role)
        await self._quiet()
        watch, old = QemuWatch(), all_running()[uuid].process
        killed_at = asyncio.get_running_loop().time()
        old.kill()
        try:
            async with asyncio.timeout(CRASH_LIMIT_S):
                while uuid not in (born := watch.born()):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as error:
            raise LabBroken(f"QEMU was killed on {victim}, and after {CRASH_LIMIT_S:g} s none runs again") from error
        took_ms = 1000 * (born[uuid].started_at - killed_at)
        self._report.add("qemu_crash_to_qemu_ms", took_ms)
        await scene.guests[role].wait_answer(timeout_s=60.0)
        return f"{victim}: QEMU runs again after {took_ms:.0f} ms"

    async def _idle(self) -> str:
        scene = self._scene
        names = scene.lab.spec.node_names
        roles = list(scene.guests)[:IDLE_GUESTS]
        await scene.place({role: names[number % len(names)] for number, role in enumerate(roles)})
        await self._quiet()
        nodes = (await scene.lab.status()).nodes
        async with asyncio.TaskGroup() as tasks:
            samples = [tasks.create_task(idle_cost(node.init_pid, IDLE_SAMPLE_S)) for node in nodes]
        costs = [sample.result() for sample in samples]
        for cost in map(total, costs):
            self._report.add("idle_cpu_percent", cost.cpu_percent)
            self._report.add("idle_pss_mib", cost.pss_mib)
        for name in (*COUNTED, *BESIDE):
            self.idle_programs[name] = Cost(
                cpu_percent=statistics.median(cost[name].cpu_percent for cost in costs),
                pss_mib=statistics.median(cost[name].pss_mib for cost in costs),
            )
        return f"{len(nodes)} nodes with {IDLE_GUESTS} guests watched for {IDLE_SAMPLE_S:g} s"

    async def _quiet(self) -> None:
        busy = await wait_quiet(limit_percent=QUIET_PERCENT, limit_s=QUIET_LIMIT_S, progress=self._progress)
        self._report.add("machine_busy_percent", busy)


def measure_of(stage: Stage, suffix: str) -> str:
    """Return the name of a stage's measure; the suffix says of which kind of run."""
    return f"power_cut_to_{stage}_ms{suffix}"
