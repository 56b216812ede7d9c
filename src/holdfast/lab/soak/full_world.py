"""The full world: a lab of three nodes and a storage node, with a guest on the first of its disks.

Rule of the file: as for every world. The lab is built once and lives on from schedule to schedule; everything in it is
what `holdfast lab up --storage-luns 2 --no-fence --no-watchdog` builds. The guest's journal on the LUN is the judge.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from holdfast.client import requests
from holdfast.client.requests import Request
from holdfast.lab.construction import LabOptions
from holdfast.lab.errors import LabBroken
from holdfast.lab.exclusive import exclusively
from holdfast.lab.guests import Guest
from holdfast.lab.journal import read_journal
from holdfast.lab.lab import Lab
from holdfast.lab.layout import STORAGE_NODE, Network
from holdfast.lab.luns import StorageSpec
from holdfast.lab.machine import Power
from holdfast.lab.provision import add_guests, client_of, forming, services, wait_disks_ready, wait_nodes_up
from holdfast.lab.records import overlaps_on
from holdfast.lab.soak.chronicle import Chronicle
from holdfast.lab.soak.schedule import Act, Schedule, Who
from holdfast.model.errors import HoldfastError
from holdfast.model.status import ClusterStatus, RoleState

NODES: Final = 3
LUNS: Final = 2
PATIENCE_MS: Final = 2500
SETTINGS: Final = {
    "timings.patience_ms": PATIENCE_MS,
    "timings.guard_deadline_ms": 1500,
    "timings.session_ttl_s": 5,
    "timings.claim_after_ms": 5000,
    "quarantine_losses": 10_000,
}
PROGRESS_S: Final = 120.0
ASK_S: Final = 2.0
RECORDS: Final = 3
"""So many more on the disk, and the guest counts as running."""
_POLL_S: Final = 0.1
_CLUSTER: Final = (Network.CLUSTER_A, Network.CLUSTER_B)
_CUTS: Final = {
    Act.CUT_CLUSTER: _CLUSTER,
    Act.CUT_STORAGE: (Network.STORAGE,),
    Act.CUT_ALL: tuple(Network),
}
_ETCDCTL: Final = (
    "env", "ETCDCTL_API=3", "etcdctl", "--endpoints=https://127.0.0.1:2379", "--cacert=/var/lib/holdfast/pki/ca.crt",
    "--cert=/var/lib/holdfast/pki/node.crt", "--key=/var/lib/holdfast/pki/node.key", "-w", "json",
)  # fmt: skip

A = TypeVar("A")


class FullWorld:
    """A lab that is up. Made by `full_world`."""

    def __init__(self, lab: Lab, guest: Guest, *, patience_ms: int) -> None:
        self.unit_s = patience_ms / 1000
        self.chronicle = Chronicle()
        self._lab = lab
        self.guest = guest
        self._blocks = lab.luns[0].path
        self._names = lab.spec.node_names
        self._status: ClusterStatus | None = None
        self._leader: str | None = None
        self._has_forgotten = False

    async def begin(self, schedule: Schedule) -> str | None:
        """Have everything in order; returns what is not."""
        problem = await self._settled()
        self._leader = await self._database_leader() if problem is None else None
        self.chronicle.begin(asyncio.get_running_loop().time())
        return problem

    def who(self, who: Who) -> str | None:
        """The node that this was when last looked."""
        assert self._status is not None
        owner = next(role.owner for role in self._status.roles if role.name == self.guest.name)
        match who:
            case Who.OWNER:
                return owner
            case Who.COORDINATOR:
                return self._status.coordinator
            case Who.LEADER:
                return self._leader
            case Who.BYSTANDER:
                others = (name for name in self._names if name != owner)
                return min(others, key=lambda name: (name == self._leader, name))
            case Who.NOBODY:
                return None

    async def do(self, act: Act, node: str | None) -> None:
        """Let it happen."""
        self._note(f"{act} {node or ''}")
        match act:
            case Act.RESTART_TARGET:
                self._has_forgotten = True
                await self._lab.restart_target()
            case Act.HANG_TARGET:
                await self._lab.freeze(STORAGE_NODE)
            case Act.POWER_OFF if node is not None:
                await self._lab.power_off(node)
            case Act.FREEZE if node is not None:
                await self._unless_off(node, self._lab.freeze)
            case _ if act in _CUTS and node is not None:
                await self._lab.cut(node, _CUTS[act])
            case _:
                raise LabBroken(f"{act} cannot be done in a lab")

    async def undo(self, act: Act, node: str | None) -> None:
        """End it."""
        self._note(f"{act} {node or ''} is over")
        match act:
            case Act.HANG_TARGET:
                await self._lab.thaw(STORAGE_NODE)
            case Act.POWER_OFF if node is not None:
                await self._lab.power_on(node)
            case Act.FREEZE if node is not None:
                await self._unless_off(node, self._lab.thaw)
            case _ if act in _CUTS and node is not None:
                await self._lab.heal(node, _CUTS[act])

    async def heal(self) -> None:
        """End everything that still goes on."""
        self._note("all is healed")
        for node in (await self._lab.status()).nodes:
            if node.cut:
                await self._lab.heal(node.name)
            if node.power is Power.FROZEN:
                await self._lab.thaw(node.name)
            if node.power is Power.OFF:
                await self._lab.power_on(node.name)

    async def settle(self) -> str | None:
        """Wait until everything works again by itself; returns what does not."""
        if self._has_forgotten:
            await self._insist(requests.stop_vm(self.guest.name, wait=False))
            await wait_disks_ready(self._lab, self._names[0], timeout_s=PROGRESS_S)
            await self._insist(requests.start_vm(self.guest.name, wait=False))
            self._has_forgotten = False
        return await self._settled()

    def faults(self) -> list[str]:
        """What may not be, by the blocks of the LUN."""
        return [*read_journal(self._blocks).faults, *(str(one) for one in overlaps_on(self._blocks))]

    async def _settled(self) -> str | None:
        try:
            await wait_nodes_up(self._lab, self._names[0], timeout_s=PROGRESS_S)
            await wait_disks_ready(self._lab, self._names[0], timeout_s=PROGRESS_S)
        except LabBroken as error:
            return f"no progress: {error.message}"
        finally:
            await self._hear_events()
        if not await self._comes(self._is_online):
            return f"no progress within {PROGRESS_S:g} s: {self.guest.name} is not online"
        before = len(read_journal(self._blocks).records)
        if not await self._comes(lambda: self._has_written(before + RECORDS)):
            return f"no progress within {PROGRESS_S:g} s: {self.guest.name} does not write"
        return None

    async def _is_online(self) -> bool:
        self._status = await self._ask(requests.status())
        return any(role.state is RoleState.ONLINE for role in self._status.roles)

    async def _has_written(self, count: int) -> bool:
        return len(read_journal(self._blocks).records) >= count

    async def _comes(self, is_so: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(PROGRESS_S):
                while not await self._silently(is_so):  # noqa: ASYNC110 - what happens in a lab tells nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return False
        return True

    async def _silently(self, is_so: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await is_so()
        except HoldfastError:
            return False

    async def _ask(self, request: Request[A]) -> A:
        async with asyncio.timeout(ASK_S):
            return await (await client_of(self._lab, self._names[0])).call(request)

    async def _insist(self, request: Request[A]) -> None:
        """Ask until it is done; raises LabBroken when it is not in time."""

        async def done() -> bool:
            await self._ask(request)
            return True

        if not await self._comes(done):
            raise LabBroken(f"{request} is not done within {PROGRESS_S:g} s")

    async def _hear_events(self) -> None:
        try:
            for line in await self._ask(requests.events(limit=200)):
                at = line.event.monotonic_ms / 1000
                if at >= self.chronicle.began_at:
                    self.chronicle.note(at, "cluster", line.text)
        except (HoldfastError, TimeoutError):
            return

    async def _unless_off(self, node: str, act: Callable[[str], Awaitable[float]]) -> None:
        if (await self._lab.status()).node(node).power is not Power.OFF:
            await act(node)

    async def _database_leader(self) -> str | None:
        told = await self._lab.execute(self._names[0], *_ETCDCTL, "member", "list")
        names = {int(member["ID"]): str(member["name"]) for member in json.loads(told.output)["members"]}
        told = await self._lab.execute(self._names[0], *_ETCDCTL, "endpoint", "status")
        return names.get(int(json.loads(told.output)[0]["Status"]["leader"]))

    def _note(self, text: str) -> None:
        self.chronicle.note(asyncio.get_running_loop().time(), "rig", text)


@asynccontextmanager
async def full_world(name: str) -> AsyncIterator[FullWorld]:
    """A lab of this name, built anew, while the context lasts. Raises LabBroken, LabNameTaken."""
    lab = Lab(name)
    with exclusively(lab):
        await lab.down()
        try:
            options = LabOptions(
                nodes=NODES,
                services=services(has_watchdog=False, watchdog_timeout_s=3.0),
                has_fence=False,
                has_watchdog=False,
                storage=StorageSpec(luns=LUNS),
            )
            await lab.up(options, provision=forming(SETTINGS))
            yield await inhabited(lab, patience_ms=PATIENCE_MS)
        finally:
            await lab.down()


async def inhabited(lab: Lab, *, patience_ms: int) -> FullWorld:
    """The world of a lab whose cluster is formed, with a guest on its first disk."""
    asked = lab.spec.node_names[0]
    [guest] = await add_guests(lab, 1, asked=asked, luns=lab.luns[:1])
    client = await client_of(lab, asked)
    await client.call(requests.set_role(guest.name, restart_limit=100, failover_limit=100))
    return FullWorld(lab, guest, patience_ms=patience_ms)
