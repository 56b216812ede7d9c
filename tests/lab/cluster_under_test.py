"""A cluster in a lab as the end-to-end tests use it: ask, wait, break it, prove what happened, put it right again.

Rule of the file: what is waited for is polled from one node's answers and bounded in time; what is proven comes from
the guests' own disks and from the processes themselves, never from what the cluster says of itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

from tests.lab.instances import Instance, Instances

from holdfast.client import requests
from holdfast.client.local import LocalClient
from holdfast.client.requests import Request
from holdfast.lab import records
from holdfast.lab.database import LabDatabase
from holdfast.lab.fence_device import FenceFault
from holdfast.lab.guests import Guest
from holdfast.lab.journal import read_journal
from holdfast.lab.lab import Finished, Lab
from holdfast.lab.luns import LUN_BYTES, Lun
from holdfast.lab.machine import Power
from holdfast.lab.provision import client_of, wait_disks_ready, wait_nodes_up
from holdfast.model.errors import HoldfastError, NotFound, Refused, Unavailable
from holdfast.model.events import EventCode
from holdfast.model.status import ClusterStatus, EventLine, NodeStatus, RoleExplanation, RoleState, RoleStatus

POLL_S = 0.05
PATIENCE_S = 90.0
"""A limit and no expectation: that a machine stands still for a while is no fault of what is tested on it."""
SHUT_OUT_S = 20.0
"""After so long no voter answers a machine that was taken out. Source: docs/security.md."""
BOOT_S = 120.0
MEND_S = 180.0
EVENTS_READ = 400
PRINTED_READ = 8
A = TypeVar("A")
_indices = count(1)


def last_words(guest: Guest) -> list[str]:
    """What a guest printed last: a line for each of its beats, so whether it still executes."""
    printed = guest.serial_log.read_text(errors="replace") if guest.serial_log.exists() else ""
    return printed.splitlines()[-PRINTED_READ:]


class RuleBroken(AssertionError):
    """A guest ran twice, wrote when it was not to, or lost its memory."""


def hold(is_held: bool, otherwise: str) -> None:
    """Fail as nothing that disturbs a machine excuses. Raises: RuleBroken."""
    if not is_held:
        raise RuleBroken(otherwise)


class ClusterUnderTest:
    """One test's hands and eyes on a cluster that outlives it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes = lab.spec.node_names
        self.instances = Instances(lab)
        self.began_at = time.monotonic()
        self.guests: list[Guest] = []
        self._luns: dict[str, Lun] = {}

    # Asking

    async def client(self, node: str) -> LocalClient:
        """A client of a node's daemon."""
        return await client_of(self.lab, node)

    async def ask(self, node: str, request: Request[A]) -> A:
        """Ask a node's daemon once."""
        return await (await self.client(node)).call(request)

    async def status(self, asked: str) -> ClusterStatus:
        """The cluster as a node shows it."""
        return await self.ask(asked, requests.status())

    async def role(self, guest: Guest, asked: str) -> RoleStatus:
        """A guest's role as a node shows it."""
        return role_in(await self.status(asked), guest)

    async def explain(self, guest: Guest, asked: str) -> RoleExplanation:
        """Why a guest's role is where it is."""
        return await self.ask(asked, requests.explain(guest.name))

    async def events(self, asked: str) -> list[EventLine]:
        """What happened since the test began, oldest first. All nodes of a lab share the machine's monotonic clock."""
        lines = await self.ask(asked, requests.events(limit=EVENTS_READ))
        return [line for line in lines if line.event.monotonic_ms >= self.began_at * 1000]

    async def cli(self, node: str, *arguments: str, stdin: str = "", timeout_s: float = PATIENCE_S) -> Finished:
        """Run the command line inside a node, whatever it ends with."""
        return await self.lab.execute(node, "holdfast", *arguments, stdin=stdin, timeout_s=timeout_s, check=False)

    # Waiting

    async def wait(
        self, what: str, is_so: Callable[[ClusterStatus], bool], *, asked: str, timeout_s: float = PATIENCE_S
    ) -> ClusterStatus:
        """Wait until a node's status fulfils a condition, and return that status."""
        seen: ClusterStatus | HoldfastError | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        seen = await self.status(asked)
                        if is_so(seen):
                            return seen
                    except HoldfastError as error:
                        seen = error
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s:g} s: {what}\n{await self._last_words(asked, seen)}") from None

    async def wait_online(
        self, guest: Guest, *, asked: str, on: str | None = None, timeout_s: float = PATIENCE_S
    ) -> str:
        """Wait until a guest's role is online (on one node, if named); returns its owner."""

        def is_online(status: ClusterStatus) -> bool:
            role = role_in(status, guest)
            return role.state is RoleState.ONLINE and (on is None or role.owner == on)

        status = await self.wait(f"{guest.name} online", is_online, asked=asked, timeout_s=timeout_s)
        owner = role_in(status, guest).owner
        assert owner is not None
        return owner

    async def wait_blocked(
        self, guest: Guest, *, asked: str, because: str, timeout_s: float = PATIENCE_S
    ) -> RoleStatus:
        """Wait until a guest's role is blocked and its reasons contain these words."""

        def is_blocked(status: ClusterStatus) -> bool:
            role = role_in(status, guest)
            return role.state is RoleState.BLOCKED and because in " ".join(role.reasons)

        what = f"{guest.name} blocked because of {because!r}"
        return role_in(await self.wait(what, is_blocked, asked=asked, timeout_s=timeout_s), guest)

    async def wait_instance(
        self, guest: Guest, *, other_than: Sequence[Instance] = (), timeout_s: float = PATIENCE_S
    ) -> Instance:
        """Wait until a QEMU process of a guest lives that is none of these."""
        known = {(one.pid, one.started_at) for one in other_than}
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for one in self.instances.living(guest.name):
                        if (one.pid, one.started_at) not in known:
                            return one
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"no new QEMU of {guest.name} within {timeout_s:g} s") from None

    async def wait_votes(self, count: int, *, asked: str | None = None) -> None:
        """Wait until so many vote, and are up."""
        await self.wait(
            f"{count} voters",
            lambda seen: (seen.voters, seen.voters_up) == (count, count),
            asked=asked or self.nodes[0],
        )

    async def wait_event(
        self, code: EventCode, *, asked: str, subject: str = "", timeout_s: float = PATIENCE_S
    ) -> EventLine:
        """Wait until an event of this test is recorded whose subject contains these words."""

        async def found() -> EventLine | None:
            lines = await self.events(asked)
            return next((one for one in lines if one.event.code is code and subject in one.event.subject), None)

        return await eventually(f"event {code} {subject}", found, timeout_s=timeout_s)

    async def account(self) -> str:
        """What a failed test leaves to be read: machines, the guests' processes, boots and last words, events."""
        lines = [
            f"{one.name} {one.power} {one.off_reason} {' '.join(one.cut)}" for one in (await self.lab.status()).nodes
        ]
        for guest in self.guests:
            for one in self.instances.of(guest.name):
                lived = f"{one.started_at - self.began_at:.1f} to {one.seen_until - self.began_at:.1f} s"
                lines.append(f"{guest.name} ran on {one.node} as process {one.pid} from {lived}")
            lines += [f"  {boot}" for boot in records.parse(self.blocks_of(guest))]
            lines += [f"  printed {line}" for line in last_words(guest)]
        for node in self.nodes:
            try:
                lines += [_in_short(await self.status(node)), *(line.text for line in await self.events(node))]
            except HoldfastError as error:
                lines.append(f"{node} does not answer: {error}")
            else:
                break
        return "\n".join(lines)

    async def _last_words(self, asked: str, seen: object) -> str:
        lines = [str(seen) if not isinstance(seen, ClusterStatus) else _in_short(seen)]
        try:
            lines += [line.text for line in (await self.events(asked))[-25:]]
        except HoldfastError as error:
            lines.append(f"no events: {error}")
        return "\n  ".join(lines)

    # Guests

    def new_guest(self) -> Guest:
        """A guest with an empty disk that is no role yet."""
        index = next(_indices)
        guest = self.lab.guest(f"guest{index}", index)
        guest.make_disk()
        guest.serial_log.unlink(missing_ok=True)
        self.guests.append(guest)
        return guest

    async def start_guest(self, on: str, *, is_booted: bool = True, lun: Lun | None = None) -> Guest:
        """Make a new guest a role that prefers a node, and wait until it runs there (and answers, if `is_booted`).

        It has no lock on its disk, which may be a shared one: nothing but the cluster prevents a second instance.
        """
        guest = self.new_guest()
        if lun is not None:
            self._luns[guest.name] = lun
            os.truncate(lun.path, 0)
            os.truncate(lun.path, LUN_BYTES)
        xml = self.lab.guest_xml(guest, has_disk_lock=False, disk=lun.disk if lun is not None else None)
        await self.ask(on, requests.add_vm(xml, preferred_owners=(on,), shutdown_timeout_ms=0))
        await self.wait_online(guest, asked=on, on=on)
        if is_booted:
            await guest.wait_answer(timeout_s=BOOT_S)
        return guest

    def processes(self, *guests: Guest) -> list[list[int]]:
        """The processes of each guest that live now: as long as none has stopped, the same ones."""
        return [[one.pid for one in self.instances.living(guest.name)] for guest in guests]

    def blocks_of(self, guest: Guest) -> Path:
        """Where the blocks of a guest's disk lie, on this machine."""
        lun = self._luns.get(guest.name)
        return lun.path if lun is not None else guest.disk

    async def wait_boots(self, guest: Guest, count: int) -> None:
        """Wait until so many instances of a guest have told its disk that they run."""

        async def told() -> bool | None:
            boots = records.parse(self.blocks_of(guest))
            return True if len(boots) >= count and boots[-1].beats > 1 else None

        await eventually(f"boot {count} of {guest.name}", told, timeout_s=BOOT_S)

    def assert_ran_once_at_a_time(self, guest: Guest, *, boots: int | None = None) -> None:
        """Fail when two instances of a guest ever ran at once; optionally also unless it booted so often.

        Of one on a shared disk: when two ever wrote at once. A process that is kept from writing may live on for long.
        """
        found = records.parse(self.blocks_of(guest))
        hold(not records.overlaps(found), f"{guest.name} ran twice at once: {records.overlaps(found)}")
        if guest.name in self._luns:
            faults = read_journal(self.blocks_of(guest)).faults
            hold(not faults, f"{guest.name} wrote too late: {faults}")
        else:
            overlapping = self.instances.overlapping(guest.name)
            hold(not overlapping, f"{guest.name} had two QEMU processes at once: {overlapping}")
        if boots is not None:
            assert len(found) == boots, f"{guest.name} booted {len(found)} times, wanted {boots}: {found}"

    async def boot_ids(self, guests: Sequence[Guest]) -> list[str]:
        """The boot id that each guest answers with."""
        return [(await guest.wait_answer(timeout_s=BOOT_S)).boot_id for guest in guests]

    # Who leads

    async def coordinator(self) -> str:
        """The node that coordinates."""
        status = await self.wait("a coordinator", lambda seen: seen.coordinator is not None, asked=self.nodes[0])
        assert status.coordinator is not None
        return status.coordinator

    async def move_database_leader(self, to: str) -> None:
        """Have the database be led by a node's member."""
        await LabDatabase(lab=self.lab, asked=self.nodes[0]).lead(to)

    def others(self, *nodes: str) -> list[str]:
        """The nodes besides these."""
        return [node for node in self.nodes if node not in nodes]

    # Changing

    @asynccontextmanager
    async def without_fence_device(self, node: str) -> AsyncGenerator[None, None]:
        """Take a node's fence device away for a while: only its watchdog can prove then that it is off."""
        await self.ask(self.nodes[0], requests.set_node(node, {"fence": None}))
        try:
            yield
        finally:
            device = {"agent": "fence_holdfast_lab", "options": {"plug": node}}
            await self.ask(self.nodes[0], requests.set_node(node, {"fence": device}))

    @asynccontextmanager
    async def setting(self, name: str, value: object) -> AsyncGenerator[None, None]:
        """Change a setting of the cluster for a while."""
        before = (await self.status(self.nodes[0])).settings[name]
        await self.ask(self.nodes[0], requests.set_cluster(name, value))
        try:
            yield
        finally:
            await self.ask(self.nodes[0], requests.set_cluster(name, before))

    # Before and after

    @asynccontextmanager
    async def in_order(self) -> AsyncGenerator[ClusterUnderTest, None]:
        """Put everything right, let the test do its worst, and then prove that no guest ever ran twice at once."""
        await self.mend()
        self.began_at = time.monotonic()
        async with self.instances.watching():
            yield self
            for guest in self.guests:
                self.assert_ran_once_at_a_time(guest)

    async def mend(self) -> None:
        """Power, cables, fence devices and services on; no roles; every node up. Raises: LabBroken when that fails."""
        async with asyncio.timeout(MEND_S):
            await self._mend_machines()
            asked = self.nodes[0]
            await wait_nodes_up(self.lab, asked)
            await self._mend_orders(asked)
            await self.remove_roles()
            if self.lab.luns:
                await wait_disks_ready(self.lab, asked)
            await self.wait("everything in order", is_in_order, asked=asked)

    async def remove_roles(self) -> None:
        """Remove all roles and end their guests."""
        asked = self.nodes[0]
        for role in (await self.status(asked)).roles:
            await self._remove(role.name, asked)
            self.lab.guest(role.name, 1).disk.unlink(missing_ok=True)

    async def _remove(self, role: str, asked: str) -> None:
        """Remove a role. It is refused while its owner has no session, as for a moment after the test before."""

        async def removed() -> bool | None:
            try:
                await self.ask(asked, requests.remove_vm(role, force=True))
            except NotFound:
                return True
            except (Refused, Unavailable):
                return None
            return True

        await eventually(f"{role} is removed", removed, timeout_s=MEND_S)

    async def _mend_orders(self, asked: str) -> None:
        """End what a person ordered: drains, and a freeze."""
        status = await self.status(asked)
        for node in status.nodes:
            if node.is_paused:
                await self.ask(asked, requests.resume_node(node.name, failback="never"))
        if status.is_frozen:
            await self.ask(asked, requests.unfreeze_cluster())

    async def _mend_machines(self) -> None:
        for node in (await self.lab.status()).nodes:
            if node.fence_fault not in (None, FenceFault.NONE):
                await self.lab.fence_fault(node.name, FenceFault.NONE)
            if node.cut:
                await self.lab.heal(node.name)
            if node.power is Power.FROZEN:
                await self.lab.thaw(node.name)
            if node.power is Power.OFF:
                await self.lab.power_on(node.name)
            for service in node.services or ():
                if service.state == "stopped":
                    await self.lab.service_start(node.name, service.name)


TOLERATED = {"fence-device-silent", "cannot-be-fenced"}
"""A warning about a fence device outlasts its cause by up to a minute; that there is none is how some labs are."""


def is_in_order(status: ClusterStatus) -> bool:
    """Whether a cluster warns of nothing that a test or its repair could have caused."""
    return status.database_answers and {condition.code for condition in status.conditions} <= TOLERATED


async def eventually(what: str, find: Callable[[], Awaitable[A | None]], *, timeout_s: float = PATIENCE_S) -> A:
    """Return what `find` finds, as soon as it finds it."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                if (found := await find()) is not None:
                    return found
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


def role_in(status: ClusterStatus, guest: Guest) -> RoleStatus:
    """The role of a guest."""
    return next(role for role in status.roles if role.name == guest.name)


def node_in(status: ClusterStatus, name: str) -> NodeStatus:
    """The node of this name."""
    return next(node for node in status.nodes if node.name == name)


def codes(lines: Sequence[EventLine], subject: str) -> list[EventCode]:
    """What happened to one subject, in order."""
    return [line.event.code for line in lines if line.event.subject == subject]


def since_last_suspicion(happened: Sequence[EventCode]) -> list[EventCode]:
    """What happened from the last time that a node became suspect; on a busy machine it may have been so before."""
    if EventCode.NODE_SUSPECT not in happened:
        return list(happened)
    return list(happened[len(happened) - 1 - happened[::-1].index(EventCode.NODE_SUSPECT) :])


def _in_short(status: ClusterStatus) -> str:
    nodes = ", ".join(f"{node.name} {node.state} {'; '.join(node.reasons)}" for node in status.nodes)
    roles = ", ".join(f"{role.name} {role.state} on {role.owner} {'; '.join(role.reasons)}" for role in status.roles)
    warnings = ", ".join(condition.text for condition in status.conditions)
    return f"coordinator {status.coordinator}; {nodes}; {roles or 'no roles'}; {warnings or 'no conditions'}"
