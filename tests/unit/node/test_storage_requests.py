"""Requests about shared disks: over real helper sockets, on a simulated target and the database in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.contract.storage.helper_worlds import HelperServer, serving
from tests.unit.decide.made_up import incarnation, node_spec, role_spec, session, verdict
from tests.unit.node.one_machine import LoopClock
from tests.unit.node.small_database import SmallDatabase

from holdfast.fencing.simulated import SimulatedFenceDevice
from holdfast.fencing.simulated_guard import SimulatedGuard
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.replay import Sequences
from holdfast.membership.simulated_transport import SimulatedNetworks
from holdfast.model.disk_status import AddedDisk, CheckResult, DiskCheck, DiskStatus, RemovedDisk, SeenDisk
from holdfast.model.disks import DiskHealth, DiskState, reservation_key
from holdfast.model.errors import Conflict, InvalidInput, NotFound, Refused
from holdfast.model.ids import ClusterId, DiskName, Incarnation, NodeName, RoleName
from holdfast.model.nodes import Capacity, NodeReport
from holdfast.node.commits import Commits
from holdfast.node.life import Life
from holdfast.node.line_protocol import Result
from holdfast.node.ports import Ports
from holdfast.node.storage_requests import StorageRequests
from holdfast.storage.arbitration import Protected, look, protect
from holdfast.storage.outcome import Done
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated import SimulatedTarget
from holdfast.storage.simulated_disk import FORGETFUL, DiskTraits, SimulatedDisk
from holdfast.storage.ways import open_disk
from holdfast.store.memory import MemoryStore
from holdfast.store.port import Delete, Txn
from holdfast.store.records import report_key, spec_key, verdict_key

ME = NodeName("a")
DATA = DiskName("data")
OTHER_KEY = 0xC


class FixedIncarnation:
    """One start of the machine."""

    def load_or_create(self) -> Incarnation:
        return incarnation(ME)

    def replace(self) -> Incarnation:
        raise AssertionError("not here")


class Node:
    """A node that answers requests about disks; its disks are behind helper sockets in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = SmallDatabase()
        self.store = MemoryStore(self.database.database)
        spec = node_spec(ME)
        self.database.node(spec)
        self.database.up(session(ME))
        self.life = Life(
            cluster_id=ClusterId("id"),
            me=ME,
            peers={ME: spec},
            ports=Ports(
                store=self.store,
                hypervisor=SimulatedHypervisor(),
                guard=SimulatedGuard(alive=frozenset, kill=lambda _: None),
                transport=SimulatedNetworks().transport({}),
                codec=HeartbeatCodec(cluster_id=ClusterId("id"), cluster_key=bytes(32), networks=spec.addresses),
                sequences=Sequences(lambda: 1),
                incarnations=FixedIncarnation(),
                device_of=lambda _: SimulatedFenceDevice(cut=lambda: None, restore=lambda: None),
                open_lun=open_disk,
                clock=LoopClock(),
            ),
        )
        self.requests = StorageRequests(Commits(self.life, self.store))

    async def put(self, key: str, record: object) -> None:
        """Have another node write a record, and see it."""
        await self._seen(self.database.put(key, record))

    async def delete(self, key: str) -> None:
        """Have another node delete a record, and see it."""
        await self._seen(self.database.database.txn(Txn(then=(Delete(key),))).revision)

    async def _seen(self, revision: int) -> None:
        await self.life.mirror.wait_revision(revision)

    async def ask(self, method: str, **params: Any) -> Any:
        [answer] = [item async for item in self.requests.handle(f"storage.{method}", params)]
        assert isinstance(answer, Result)
        return answer.value

    async def add(self, name: str = DATA, disk: SimulatedDisk | None = None, **changes: Any) -> AddedDisk:
        params = {
            "disk": name,
            "designator": disk.name if disk is not None else "naa.wrong",
            "reservations": f"helper:{self.folder}/{{designator}}",
            "guest_source": f"nbd+unix:///{{designator}}?socket={self.folder}/{{designator}}.nbd",
        }
        added = await self.ask("add", **(params | changes))
        assert isinstance(added, AddedDisk)
        return added


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path)
    follow = asyncio.create_task(node.life.mirror.run(node.store))
    changed = node.life.mirror.subscribe()
    async with asyncio.timeout(5):
        await changed.wait()
    yield node
    follow.cancel()
    with suppress(asyncio.CancelledError):
        await follow


def report(state: DiskState) -> NodeReport:
    return NodeReport(
        node=ME,
        incarnation=incarnation(ME),
        capacity=Capacity(memory_bytes=1, vcpus=1),
        hears={},
        disks={DATA: DiskHealth(state=state, latency_ms=3)},
    )


class Disk:
    """A simulated disk: behind a helper for the node, and reached by others."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.target = SimulatedTarget([disk])
        self.helper = self.target.connect("iqn.2026-11.test:a", disk.name)

    def other(self) -> ScsiLun:
        return ScsiLun(self.target.connect("iqn.2026-11.test:b", self.disk.name))

    async def holders(self) -> tuple[tuple[int, ...], object]:
        seen = await look(self.other())
        assert isinstance(seen, Done)
        return seen.value.keys, seen.value.reservation


@pytest.fixture
async def disk(node: Node) -> AsyncIterator[Disk]:
    async with AsyncExitStack() as stack:
        yield await present(node, stack, SimulatedDisk(1, traits=DiskTraits()))


@pytest.fixture
async def forgetful(node: Node) -> AsyncIterator[Disk]:
    async with AsyncExitStack() as stack:
        yield await present(node, stack, SimulatedDisk(2, traits=FORGETFUL))


async def present(node: Node, stack: AsyncExitStack, disk: SimulatedDisk) -> Disk:
    made = Disk(disk)
    await stack.enter_async_context(serving(HelperServer(made.helper), node.folder / disk.name))
    return made


async def test_a_disk_is_added_as_it_was_measured_and_left_without_keys(node: Node, disk: Disk) -> None:
    added = await node.add(disk=disk.disk)
    record = node.database.snapshot().disks[DATA].value
    size = disk.disk.capacity
    assert (record.designator, record.size_bytes) == (disk.disk.name, size.blocks * size.block_bytes)
    assert not record.forgets_reservations
    assert record.reservations.endswith("/{designator}"), "every node fills it in for itself"
    assert added.disk.reservations == f"helper:{node.folder}/{disk.disk.name}"
    assert added.check.is_fit
    assert await disk.holders() == ((), None)


async def test_waiting_ends_when_every_node_that_is_up_is_done(node: Node, disk: Disk) -> None:
    adding = asyncio.create_task(node.add(disk=disk.disk, wait=True))
    changed = node.life.mirror.subscribe()
    async with asyncio.timeout(5):
        while DATA not in node.database.snapshot().disks:
            await changed.wait()
            changed.clear()
        await node.put(report_key(ME), report(DiskState.NOT_REGISTERED))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(adding), 0.2)
        await node.put(report_key(ME), report(DiskState.READY))
        added = await adding
    assert {name: found.state for name, found in added.disk.nodes.items()} == {ME: "ready"}


async def test_a_forgetful_disk_is_taken_only_when_a_person_accepts_it(node: Node, forgetful: Disk) -> None:
    with pytest.raises(Refused, match="forgets reservations") as refused:
        await node.add(disk=forgetful.disk)
    assert "--accept-forgetful" in refused.value.hint
    assert node.database.snapshot().disks == {}
    await node.add(disk=forgetful.disk, accept_forgetful=True)
    assert node.database.snapshot().disks[DATA].value.forgets_reservations


async def test_safe_1_a_disk_that_somebody_uses_is_refused_and_not_touched(node: Node, disk: Disk) -> None:
    assert isinstance(await protect(disk.other(), OTHER_KEY), Protected)
    before = await disk.holders()
    with pytest.raises(Refused, match="0xc") as refused:
        await node.add(disk=disk.disk)
    assert "--clear-keys" in refused.value.hint
    assert await disk.holders() == before
    await node.put(verdict_key(NodeName("b")), verdict("b"))
    left = reservation_key(ClusterId("id"), incarnation("b"))
    assert isinstance(await disk.other().register(key=left, existing=None, survives_power_loss=False), Done)
    with pytest.raises(Refused, match=r"registered: b \(lost\)"):
        await node.add(disk=disk.disk)
    await node.add(disk=disk.disk, clear_keys=True)
    assert await disk.holders() == ((), None)


async def test_safe_1_another_disk_than_the_named_one_is_refused_and_not_touched(node: Node, disk: Disk) -> None:
    assert isinstance(await protect(disk.other(), OTHER_KEY), Protected)
    before = await disk.holders()
    way = f"helper:{node.folder}/{disk.disk.name}"
    with pytest.raises(Refused, match="identity: another disk is here"):
        await node.add(designator="naa.6001", reservations=way, clear_keys=True)
    assert await disk.holders() == before


async def test_a_disk_is_added_once(node: Node, disk: Disk) -> None:
    await node.add(disk=disk.disk)
    with pytest.raises(Conflict, match="a disk 'data' already"):
        await node.add(disk=disk.disk)
    with pytest.raises(Conflict, match="is disk data already"):
        await node.add("logs", disk.disk)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reservations": "iscsi:/x"}, "no way to a disk's reservations"),
        ({"reservations": "sg:dev"}, "no way to a disk's reservations"),
        ({"guest_source": "x"}, "nothing that QEMU opens"),
        ({"guest_source": None}, "what QEMU opens for data does not follow"),
    ],
)
async def test_what_cannot_be_used_is_refused(changes: dict[str, Any], words: str, node: Node) -> None:
    with pytest.raises(InvalidInput, match=words):
        await node.add(**changes)


async def test_names_that_are_none_are_refused(node: Node) -> None:
    with pytest.raises(ValidationError):
        await node.add("sg:/dev/sdb")


async def test_safe_1_a_disk_of_the_cluster_is_only_read(node: Node, disk: Disk) -> None:
    await node.add(disk=disk.disk)
    check = await node.ask("validate", disk=DATA)
    assert isinstance(check, DiskCheck)
    assert not check.is_fit, "nobody is registered yet"
    assert check.steps[-1].result is CheckResult.SKIPPED
    with pytest.raises(Refused, match="is disk data of the cluster already") as refused:
        await node.ask("rehearse", way=f"helper:{node.folder}/{disk.disk.name}")
    assert "holdfast storage validate data" in refused.value.hint
    assert await disk.holders() == ((), None)


async def test_a_protected_disk_passes_and_names_who_is_registered(node: Node, disk: Disk) -> None:
    await node.add(disk=disk.disk)
    await node.put(verdict_key(NodeName("b")), verdict("b"))
    mine, lost = (reservation_key(ClusterId("id"), incarnation(name)) for name in ("a", "b"))
    assert isinstance(await protect(ScsiLun(disk.helper), mine), Protected)
    assert isinstance(await protect(disk.other(), lost), Protected)
    check = await node.ask("validate", disk=DATA)
    assert check.is_fit
    assert check.steps[-2].words.endswith("registered: a, b (lost)")


async def test_a_free_disk_is_rehearsed(node: Node, disk: Disk) -> None:
    check = await node.ask("rehearse", way=f"helper:{node.folder}/{disk.disk.name}")
    assert isinstance(check, DiskCheck)
    assert check.is_fit
    assert check.steps[-1].name == "tidy up"
    assert await disk.holders() == ((), None)


async def test_discover_tells_which_disks_are_in_the_cluster(node: Node, disk: Disk, forgetful: Disk) -> None:
    await node.add(disk=disk.disk)
    seen = await node.ask("discover", ways=[f"helper:{node.folder}/*"])
    assert all(isinstance(one, SeenDisk) for one in seen)
    assert [(one.designator, one.disk) for one in seen] == [(disk.disk.name, DATA), (forgetful.disk.name, None)]
    assert await node.ask("discover", ways=["sg:/nowhere/*"]) == ()


async def test_show_tells_how_nodes_stand_and_who_uses_it(node: Node, disk: Disk) -> None:
    await node.add(disk=disk.disk)
    await node.put(spec_key(RoleName("db")), role_spec("db", disks=(DATA,)))
    await node.put(report_key(ME), report(DiskState.READY))
    shown = await node.ask("show", disk=DATA)
    assert isinstance(shown, DiskStatus)
    assert shown.used_by == ("db",)
    assert (shown.nodes["a"].state, shown.nodes["a"].latency_ms) == ("ready", 3)
    assert await node.ask("list") == (shown,)


async def test_safe_1_a_disk_is_removed_only_when_no_role_uses_it(node: Node, disk: Disk) -> None:
    await node.add(disk=disk.disk)
    await node.put(spec_key(RoleName("db")), role_spec("db", disks=(DATA,)))
    with pytest.raises(Refused, match="used by db"):
        await node.ask("remove", disk=DATA)
    await node.delete(spec_key(RoleName("db")))
    assert await node.ask("remove", disk=DATA) == RemovedDisk(name=DATA)
    assert node.database.snapshot().disks == {}
    with pytest.raises(NotFound, match="no disk 'data'"):
        await node.ask("show", disk=DATA)


async def test_a_heartbeat_disk_is_added_for_no_guest(node: Node, disk: Disk) -> None:
    added = await node.add("beat", disk.disk, heartbeat=True, guest_source=None)
    record = node.database.snapshot().disks[DiskName("beat")].value
    assert (record.is_heartbeat, record.guest_source) == (True, "")
    assert added.disk.is_heartbeat
    assert "slots" in [step.name for step in added.check.steps]
    with pytest.raises(InvalidInput, match="no guest may open heartbeat disk"):
        await node.add("beat", disk.disk, heartbeat=True)


async def test_a_disk_that_holds_something_is_no_heartbeat_disk(node: Node, disk: Disk) -> None:
    disk.disk.medium[5] = b"x" * 512
    with pytest.raises(Refused, match="could not be read, or hold something"):
        await node.add("beat", disk.disk, heartbeat=True, guest_source=None)
    assert not node.database.snapshot().disks
