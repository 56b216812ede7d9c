"""Setting the scene of a run: who leads the database, who coordinates, and where the guests are.

Rule of the file: a scene is looked at again just before it is used; what changed meanwhile is set again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum

from holdfast.client import requests
from holdfast.lab.construction import LabOptions
from holdfast.lab.database import LabDatabase
from holdfast.lab.errors import LabBroken
from holdfast.lab.guests import Guest
from holdfast.lab.journal import read_journal
from holdfast.lab.lab import Lab
from holdfast.lab.luns import StorageSpec
from holdfast.lab.machine import Power
from holdfast.lab.provision import add_guests, client_of, forming, services, wait_disks_ready, wait_nodes_up
from holdfast.lab.records import overlaps_on
from holdfast.model.errors import Unavailable
from holdfast.model.roles import Wanted
from holdfast.model.status import ClusterStatus, RoleState

NODES = 3
GUESTS = 8
SETTINGS = {"quarantine_losses": 1_000_000}
"""Defaults, but for one: a benchmark loses its nodes more often than quarantine allows."""
_SETTLE_LIMIT_S = 90.0
_LOOK_S = 0.2


class Part(StrEnum):
    """What the victim is to the cluster: never two of these at once."""

    PLAIN = "plain"
    LEADER = "leader"
    COORDINATOR = "coordinator"


class Scene:
    """A lab with a cluster and guests of its own, and the moves that set it."""

    def __init__(self, lab: Lab, progress: Callable[[str], None], *, has_disks: bool = False) -> None:
        """With disks there is one guest, on a shared disk, and nothing but its reservations fences a node."""
        self.lab = lab
        self.has_disks = has_disks
        self.guests: dict[str, Guest] = {}
        self._progress = progress

    async def build(self) -> None:
        """Make the lab anew, with all guests wanted offline."""
        await self.lab.down(progress=self._progress)
        has_more = not self.has_disks
        options = LabOptions(
            nodes=NODES,
            services=services(has_watchdog=has_more, watchdog_timeout_s=3.0),
            has_fence=has_more,
            has_watchdog=has_more,
            storage=StorageSpec(luns=1, has_heartbeat=True) if self.has_disks else None,
        )
        await self.lab.up(options, provision=forming(SETTINGS), progress=self._progress)
        asked, luns = await self.survivor(), self.lab.luns
        made = await add_guests(self.lab, len(luns) or GUESTS, asked=asked, wanted=Wanted.OFFLINE, luns=luns)
        self.guests = {guest.name: guest for guest in made}

    def double_runs(self) -> list[str]:
        """Return every proof on the guests' disks that one of them ran twice at once. Source: SAFE-1."""
        luns = {name: lun.path for name, lun in zip(self.guests, self.lab.luns, strict=False)}
        disks = {name: luns.get(name, guest.disk) for name, guest in self.guests.items()}
        found = [f"{name}: {proof}" for name, disk in disks.items() for proof in overlaps_on(disk)]
        return found + [f"{name}: {fault}" for name, path in luns.items() for fault in read_journal(path).faults]

    async def survivor(self, *, without: str = "") -> str:
        """Return a node to ask that has power. Raises: LabBroken when there is none."""
        status = await self.lab.status()
        for name in self.lab.spec.node_names:
            if status.node(name).power is Power.ON and name != without:
                return name
        raise LabBroken(
            "every node is off" + (f", or is {without}" if without else ""), hint="holdfast lab status says why"
        )

    async def status(self) -> ClusterStatus:
        """Return the cluster as a node with power sees it."""
        return await (await client_of(self.lab, await self.survivor())).call(requests.status())

    async def repair(self) -> None:
        """Power every node on and wait until all of them are up and vote. Raises: LabBroken."""
        asked = await self.survivor()
        for node in (await self.lab.status()).nodes:
            if node.power is Power.OFF:
                await self.lab.power_on(node.name)
        await wait_nodes_up(self.lab, asked)
        if self.has_disks:
            await wait_disks_ready(self.lab, asked)
        await self._wait(lambda status: status.voters_up == status.voters == NODES, "all voters are up")

    async def cast(self, part: Part) -> str:
        """Return the node that is this and nothing else, moving the database's leader if need be."""
        coordinator = (await self.status()).coordinator
        if coordinator is None:
            raise LabBroken("the cluster has no coordinator")
        others = [name for name in self.lab.spec.node_names if name != coordinator]
        database = await self._database()
        if part is Part.PLAIN:
            await database.lead(coordinator)
            return others[-1]
        await database.lead(others[0])
        return coordinator if part is Part.COORDINATOR else others[0]

    async def is_cast(self, part: Part, node: str) -> bool:
        """Whether a node still is what it was cast as."""
        coordinator, leader = (await self.status()).coordinator, await self.leader()
        match part:
            case Part.PLAIN:
                return node not in (coordinator, leader)
            case Part.LEADER:
                return node == leader != coordinator
            case Part.COORDINATOR:
                return node == coordinator != leader

    async def leader(self) -> str:
        """Return the node whose etcd leads."""
        return await (await self._database()).leader()

    async def _database(self) -> LabDatabase:
        return LabDatabase(lab=self.lab, asked=await self.survivor())

    async def place(self, owners: Mapping[str, str]) -> None:
        """Have exactly these roles online, each on its node, and their guests booted. Raises: LabBroken."""
        client = await client_of(self.lab, await self.survivor())
        before = (await self.status()).roles
        await self._stop([role.name for role in before if role.owner not in (None, owners.get(role.name))])
        for role, node in owners.items():
            await client.call(requests.set_role(role, preferred_owners=(node,)))
            await client.call(requests.start_vm(role, wait=False))
        await self._wait(
            lambda status: owners == {role.name: role.owner for role in status.roles if role.state is RoleState.ONLINE},
            f"{len(owners)} guests online in their places",
        )
        for role in owners:
            await self.guests[role].wait_answer(timeout_s=120.0)

    async def _stop(self, roles: Collection[str]) -> None:
        client = await client_of(self.lab, await self.survivor())
        for name in roles:
            await client.call(requests.stop_vm(name, wait=False))
        await self._wait(
            lambda status: all(role.state is RoleState.OFFLINE for role in status.roles if role.name in roles),
            f"{len(roles)} guests offline",
        )

    async def _wait(self, reached: Callable[[ClusterStatus], bool], what: str) -> None:
        try:
            async with asyncio.timeout(_SETTLE_LIMIT_S):
                while not await self._is_reached(reached):  # noqa: ASYNC110 - another process changes it
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as error:
            raise LabBroken(f"waited {_SETTLE_LIMIT_S:g} s in vain for: {what}") from error

    async def _is_reached(self, reached: Callable[[ClusterStatus], bool]) -> bool:
        try:
            return reached(await self.status())
        except Unavailable:
            return False
