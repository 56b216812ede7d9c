"""A light node: one process in which a node lives its whole life, with guests that only write.

Rule of the file: composition only. Deciding and acting is `node.life.Life`, as in holdfastd; database, heartbeats and
disks are real; hypervisor and guard are the simulated ones, the guard with its real logic. The process can be stopped
and killed, which is what it is for. Its stdout tells what happened, a JSON object per line.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from holdfast.fencing.guard.logic import Victim
from holdfast.fencing.simulated_guard import SimulatedGuard
from holdfast.hypervisor.port import GuestEventKind, GuestState
from holdfast.hypervisor.simulated import SimulatedHypervisor
from holdfast.lab.errors import LabBroken
from holdfast.lab.soak.board import Board
from holdfast.lab.soak.breakages import breakage_named
from holdfast.lab.soak.guest import WritingGuest
from holdfast.lab.soak.nexus import Nexus
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.port import DatagramReceived, EventHandler, TransportEvent
from holdfast.membership.replay import Sequences
from holdfast.membership.udp_transport import UdpTransport
from holdfast.model.disks import DiskSpec
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName
from holdfast.model.nodes import FenceSpec, NodeSpec
from holdfast.node.clock import SystemClock
from holdfast.node.life import Life
from holdfast.node.ports import Ports
from holdfast.storage.iscsi.address import IscsiAddress
from holdfast.storage.port import Lun
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.store.etcd.client import EtcdConnections, EtcdStore
from holdfast.store.etcd.timing import Timing
from holdfast.store.etcd.tls import TlsFiles

NETWORK: Final = NetworkName("cluster-a")
SCSI_TIMEOUT_MS: Final = 1000
DATABASE: Final = Timing(call_s=1.5, write_attempt_s=0.7, probe_timeout_s=0.5, suspect_probe_s=0.3, watch_probe_s=0.5)
RIVAL_S: Final = 0.02
_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """What a light node is told at its start.

    ports       heartbeat port per node, on 127.0.0.1.
    database    where its way to the database begins; `portal` and `target` the same for its disks.
    luns        number of the LUN per designator.
    roles       the place of a role's guest on the board, per uuid of the guest; its disk is the LUN of that number.
    """

    me: str
    cluster_id: str
    cluster_key: str
    ports: dict[str, int]
    database: str
    tls: tuple[str, str, str]
    portal: str
    target: str
    luns: dict[str, int]
    roles: dict[str, int]
    board: str
    breakage: str = ""


class Voice:
    """What happened, told on stdout."""

    def say(self, what: str, **more: Any) -> None:
        """Tell it, with the time of the machine's monotonic clock."""
        print(json.dumps({"at": time.monotonic(), "what": what, **more}), flush=True)


class _Warnings(logging.Handler):
    def __init__(self, voice: Voice) -> None:
        super().__init__(logging.WARNING)
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        self._voice.say("log", text=record.getMessage())


class Cable:
    """Heartbeats over UDP, unless the cable is out."""

    def __init__(self, transport: UdpTransport, board: Board) -> None:
        self._transport = transport
        self._board = board

    async def open(self, handler: EventHandler) -> None:
        """See `HeartbeatTransport`."""

        def deliver(event: TransportEvent) -> None:
            if not isinstance(event, DatagramReceived) or not self._board.is_on("cluster-cut"):
                handler(event)

        await self._transport.open(deliver)

    def send(self, network: NetworkName, peers: Sequence[Endpoint], datagram: bytes) -> None:
        """See `HeartbeatTransport`."""
        if not self._board.is_on("cluster-cut"):
            self._transport.send(network, peers, datagram)

    def use(self, endpoints: Mapping[NetworkName, Endpoint]) -> None:
        """See `HeartbeatTransport`."""
        self._transport.use(endpoints)

    async def close(self) -> None:
        """See `HeartbeatTransport`."""
        await self._transport.close()


class WritersHost(SimulatedHypervisor):
    """A hypervisor whose guests write to the LUN of their role."""

    def __init__(self, plan: NodePlan, nexus: Nexus, board: Board, voice: Voice, tasks: asyncio.TaskGroup) -> None:
        super().__init__(start_ms=20, answer_ms=2)
        self._tasks = tasks
        self._plan = plan
        self._nexus = nexus
        self._board = board
        self._voice = voice
        self._guests: dict[str, WritingGuest] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}

    def victims(self) -> frozenset[Victim]:
        """Every guest's process, as the guard sees them."""
        return frozenset(
            Victim(pid=item.process.pid, start_time=item.process.start_ticks, uuid=uuid)
            for uuid, item in self._running.items()
        )

    def kill(self, victim: Victim) -> None:
        """SIGKILL by the guard, unless it is blunt."""
        if not self._board.is_on("blunt-guard") and victim in self.victims():
            self.crash(victim.uuid)

    def _change(self, uuid: str, state: GuestState, kind: GuestEventKind) -> None:
        super()._change(uuid, state, kind)
        if state is GuestState.RUNNING and uuid in self._plan.roles:
            self._begin(uuid)

    def _remove(self, uuid: str, kind: GuestEventKind) -> None:
        super()._remove(uuid, kind)
        if uuid in self._running:
            return
        guest = self._guests.pop(uuid, None)
        if guest is not None:
            self._writing.pop(uuid).cancel()
            self._voice.say("guest-ended", role=self._plan.roles[uuid], instance=guest.instance, how=kind.value)

    def _begin(self, uuid: str) -> None:
        role = self._plan.roles[uuid]
        if uuid not in self._guests:
            instance = uuid4().hex[:8]

            def acknowledged(*, instance: str, region: int, number: int) -> None:
                self._board.acknowledge(role, instance=instance, region=region, number=number)

            def stalled() -> None:
                self._voice.say("guest-stalled", role=role, instance=instance)
                self.pause_on_io_error(uuid)

            lun = ScsiLun(self._nexus.lun(role + 1), timeout_ms=SCSI_TIMEOUT_MS)
            self._guests[uuid] = WritingGuest(instance, lun, acknowledged=acknowledged, stalled=stalled)
            self._voice.say("guest-began", role=role, instance=instance)
        self._writing[uuid] = self._tasks.create_task(self._guests[uuid].run())


class IncarnationInMemory:
    """The incarnation of this start of the process."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._current = Incarnation("")
        self.replace()

    def load_or_create(self) -> Incarnation:
        """See `Incarnations`."""
        return self._current

    def replace(self) -> Incarnation:
        """See `Incarnations`."""
        self._current = Incarnation(str(uuid4()))
        self._voice.say("incarnation", incarnation=self._current)
        return self._current


def node_specs(ports: dict[str, int]) -> dict[NodeName, NodeSpec]:
    """The records of the nodes: all vote, and nothing but the disks can fence them."""
    return {
        NodeName(name): NodeSpec(
            name=NodeName(name),
            addresses={NETWORK: "127.0.0.1"},
            is_voter=True,
            etcd_client_port=port + 1,
            etcd_peer_port=port + 2,
            heartbeat_port=port,
            join_port=port + 3,
        )
        for name, port in ports.items()
    }


async def live(plan: NodePlan) -> None:
    """Live until killed. What goes wrong in a guest ends the node, with its words."""
    voice, board = Voice(), Board(Path(plan.board))
    logging.getLogger().addHandler(_Warnings(voice))
    nexus = Nexus(IscsiAddress(target=plan.target, portals=(plan.portal,), initiator=f"iqn.2026-11.soak:{plan.me}"))
    async with asyncio.TaskGroup() as tasks:
        life = _life(plan, nexus, WritersHost(plan, nexus, board, voice, tasks), board, voice)
        tasks.create_task(nexus.run())
        tasks.create_task(life.run())
        tasks.create_task(_rival(life, board))


def _life(plan: NodePlan, nexus: Nexus, hypervisor: WritersHost, board: Board, voice: Voice) -> Life:
    guard = SimulatedGuard(alive=hypervisor.victims, kill=hypervisor.kill)
    guard.start()
    authority, certificate, key = (Path(path) for path in plan.tls)
    tls = TlsFiles(authority=authority, certificate=certificate, key=key)

    def open_lun(disk: DiskSpec) -> Lun:
        return ScsiLun(nexus.lun(plan.luns[disk.designator]), timeout_ms=SCSI_TIMEOUT_MS)

    def no_device(spec: FenceSpec) -> Any:
        raise LabBroken(f"a light node has no fence device {spec.agent}")

    me = NodeName(plan.me)
    cluster_id = ClusterId(plan.cluster_id)
    udp = UdpTransport({NETWORK: Endpoint(address="127.0.0.1", port=plan.ports[plan.me])})
    return Life(
        cluster_id=cluster_id,
        me=me,
        peers=node_specs(plan.ports),
        ports=Ports(
            store=EtcdStore(EtcdConnections((plan.database,), tls, DATABASE)),
            hypervisor=hypervisor,
            guard=guard,
            transport=Cable(udp, board),
            codec=HeartbeatCodec(
                cluster_id=cluster_id, cluster_key=bytes.fromhex(plan.cluster_key), networks=(NETWORK,)
            ),
            sequences=Sequences(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000),
            incarnations=IncarnationInMemory(voice),
            device_of=no_device,
            open_lun=open_lun,
            clock=SystemClock(),
        ),
    )


async def _rival(life: Life, board: Board) -> None:
    """While the switch is on, expel whoever is lost at the same moment as the coordinator does."""
    while True:
        snapshot = life.mirror.snapshot
        if board.is_on("rival") and snapshot is not None:
            lost = [verdict.value.incarnation for verdict in snapshot.verdicts.values()]
            async with asyncio.TaskGroup() as tasks:
                for incarnation in lost:
                    if incarnation not in snapshot.proofs:
                        for disk in snapshot.disks.values():
                            tasks.create_task(life.disks.expel(disk.value, incarnation))
        await asyncio.sleep(RIVAL_S)


def main() -> None:
    """Run a node; it ends with the process that started it, also while it is stopped."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    plan = NodePlan(**json.loads(sys.argv[1]))
    if os.getppid() == 1:
        return
    with breakage_named(plan.breakage).applied(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(live(plan))


if __name__ == "__main__":
    main()
