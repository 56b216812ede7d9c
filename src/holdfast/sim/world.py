"""The simulated world: machines, networks, one cluster database, and the truth about all of them.

Rule of the file: it puts the parts together and keeps what follows from their state: who is together with a majority,
who leads the database, how packets fare. What goes wrong is decided by faults.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from holdfast.hypervisor.simulated_guest import Neighbourhood
from holdfast.membership.endpoint import Endpoint
from holdfast.model.events import Event
from holdfast.model.ids import NetworkName, NodeName, RoleName
from holdfast.model.roles import RoleSpec, Wanted
from holdfast.model.snapshot import ClusterRecord
from holdfast.node.voters import peer_urls
from holdfast.sim.breakage import UNBROKEN, Breakage
from holdfast.sim.chance import below, chance
from holdfast.sim.database import NodeStore, WorldDatabase
from holdfast.sim.disks import Storage
from holdfast.sim.layout import Layout, Make, layout_of
from holdfast.sim.loop import VirtualLoop
from holdfast.sim.machine import Machine, Surroundings
from holdfast.sim.members import Members
from holdfast.sim.overlaps import Overlaps
from holdfast.sim.people import People
from holdfast.sim.quorum import FixedVoters, Quorum
from holdfast.sim.shared_disks import CLUSTER_ID, SharedDisks
from holdfast.sim.truth import Truth
from holdfast.sim.twins import EPOCH_MS, Air, memory_uri
from holdfast.store.port import MemberId, Operation, Put, Txn
from holdfast.store.records import CLUSTER, SPECS, decode, disk_key, encode, node_key, spec_key

ELECTION_S: Final = (0.3, 1.5)


@dataclass(slots=True, kw_only=True)
class Sky:
    """How packets fare now: the share that is lost or comes twice, and the longest delay."""

    loss: float = 0.0
    twice: float = 0.0
    delay_ms: int = 1


class World:
    """One cluster. Make it, then let `loop` run."""

    def __init__(self, make: Make, *, seed: int, breakage: Breakage = UNBROKEN, layout: Layout | None = None) -> None:
        self.make = make
        layout = layout_of(make) if layout is None else layout
        self.loop = VirtualLoop()  # type: ignore[abstract]  # asyncio asks a loop for no more than this one has
        self.truth = Truth(self.loop.world_time)
        self.truth.names |= {role.uuid: str(role.name) for role in layout.roles}
        self.sky = Sky()
        self.overlaps = Overlaps()
        self.links: dict[tuple[NetworkName, str, str], Sky] = {}
        """Links whose packets fare otherwise, by network and addresses of the sender and the hearer."""
        self.cut_off: set[NodeName] = set()
        """Nodes whose way to the database is cut by a fault of its own."""
        self._chance = chance(seed, "packets")
        self._elections = chance(seed, "elections")
        self.air = Air(self._fare)
        self.database = WorldDatabase(self.truth, self._on_event)
        self._errands: deque[Callable[[], object]] = deque()
        self._together: frozenset[NodeName] = frozenset()
        specs = {node.name: node for node in layout.nodes}
        self.members = self._members(layout, chance(seed, "members")) if make.votes or make.witness else None
        self.shared_disks = SharedDisks(
            self.loop,
            layout.disks,
            layout.roles,
            executes=self._executes,
            hold=self._hold,
            random=chance(seed, "target"),
            traits=make.target,
            paths=make.paths,
        )
        self._around = Surroundings(
            loop=self.loop,
            truth=self.truth,
            air=self.air,
            peers=specs,
            random=chance(seed, "incarnations"),
            breakage=breakage,
            are_guests_deaf=make.are_guests_deaf,
            clocks=chance(seed, "clocks"),
            clock_error=make.clock_error,
            shared_disks=self.shared_disks,
            neighbourhood=Neighbourhood(reaches=self._memory_passes, on_removed=self.truth.memory_removed),
            keeps_memory=bool(layout.settings.saved_state_directory),
            members=self.members,
        )
        self.machines = self._around.machines
        self._quorum: Quorum = self.members if self.members is not None else self._fixed(layout)
        self.database.txn(Txn(then=tuple(_records(layout))))
        for name, spec in specs.items():
            store = NodeStore(name, self.database, self.truth)
            self.machines[name] = Machine(
                spec,
                store,
                self._around,
                watchdog_s=layout.watchdog_s.get(name),
                clock_drift=layout.clock_drift.get(name),
            )
        self._connect()
        self.storage = self._storage(seed)
        self._write_to_shared_disks()
        self.people = People(loop=self.loop, truth=self.truth, machines=self.machines, is_sure=breakage.is_person_sure)
        self._elect()

    def _connect(self) -> None:
        """Let the parts tell each other what changes."""
        self.truth.revision = lambda: self.database.revision
        self.truth.incarnation_of = lambda node: self.machines[NodeName(node)].incarnation
        self.database.is_with_majority = lambda node: node in self._together
        self._around.changed = self.settle
        if self.members is not None:
            self.members.changed = self.settle
            self.database.committed = self.members.store

    def _fixed(self, layout: Layout) -> FixedVoters:
        voters = frozenset(node.name for node in layout.nodes if node.is_voter)
        return FixedVoters(voters, self.machines, self.reach)

    def _members(self, layout: Layout, random: Random) -> Members:
        members = Members(
            loop=self.loop,
            truth=self.truth,
            reaches=self.reach,
            holder_of=self._holder,
            nodes=lambda: ((name, machine.executes) for name, machine in self.machines.items()),
            homes={url: node.name for node in layout.nodes for url in peer_urls(node)},
            random=random,
        )
        for node in layout.nodes:
            if node.seat is not None:
                members.found(node.name, peer_urls(node), node.seat)
        return members

    def _holder(self, node: NodeName) -> MemberId | None:
        member = self.machines[node].member if node in self.machines else None
        return None if member is None else member.running

    @property
    def leader(self) -> NodeName | None:
        """The node whose member leads the database."""
        return self._quorum.leader

    def _storage(self, seed: int) -> Storage:
        storage = Storage(
            loop=self.loop,
            truth=self.truth,
            chance=chance(seed, "storage"),
            can_write=self._executes,
            hold=self._hold,
        )
        storage.start()
        return storage

    def _write_to_shared_disks(self) -> None:
        """Have roles on shared disks write there, and all others as they did."""
        elsewhere = self.truth.on_began, self.truth.on_ended
        shared = self.shared_disks.began, self.shared_disks.ended
        is_shared = self.shared_disks.roles.__contains__
        self.truth.on_began = lambda run: (shared if is_shared(run.uuid) else elsewhere)[0](run)
        self.truth.on_ended = lambda run: (shared if is_shared(run.uuid) else elsewhere)[1](run)
        self.shared_disks.start()

    @property
    def neighbourhood(self) -> Neighbourhood:
        """Where saved memory lies, and how copies get from machine to machine."""
        return self._around.neighbourhood

    def _memory_passes(self, source: str, target: str) -> bool:
        """Whether memory gets from one machine to another, by their URIs: that takes a network that both are on."""
        names = {memory_uri(name): name for name in self.machines}
        return (
            self._executes(names[source]) and self._executes(names[target]) and self.reach(names[source], names[target])
        )

    def _executes(self, node: str) -> bool:
        return NodeName(node) in self.machines and self.machines[NodeName(node)].executes

    def _hold(self, node: str, uuid: str, is_held: bool, has_helper: bool = False) -> None:
        self.machines[NodeName(node)].hold_guest(uuid, is_held=is_held, has_helper=has_helper)

    def settle(self) -> None:
        """Draw the consequences of a change of power, freezing or networks."""
        self.shared_disks.flush()
        self._together = together = self._quorum.together()
        if self.leader is not None and self.leader not in together:
            self.truth.note(
                "world", f"the database lost its leader {self.leader}", code="leader-lost", subject=self.leader
            )
            self.depose()
        elif self.leader is None and together:
            self.depose()
        for name, machine in self.machines.items():
            is_apart = name not in together or self.leader is None
            machine.store.faults.is_cut = is_apart or name in self.cut_off
        self.database.wake()

    def depose(self) -> None:
        """The database has no leader until it has elected one."""
        self._quorum.depose()
        self.database.has_leader = False
        self.loop.call_later(self._elections.uniform(*ELECTION_S), self._elect, context=Context())

    def roles(self) -> tuple[RoleSpec, ...]:
        """What is wanted of every role, from the database."""
        return tuple(decode(RoleSpec, item.key, item.value) for item in self.database.listing(SPECS).items)

    def stop_role(self, name: RoleName) -> None:
        """A person wants a role offline."""
        self._want(name, Wanted.OFFLINE)

    def start_role(self, name: RoleName) -> None:
        """A person wants a role online, which also forgives its failures."""
        self._want(name, Wanted.ONLINE)

    def _want(self, name: RoleName, wanted: Wanted) -> None:
        self.truth.note("world", f"a person wants {name} {wanted}")

        def write() -> None:
            role = next(role for role in self.roles() if role.name == name)
            changed = replace(role, wanted=wanted, generation=role.generation + 1)
            self.database.txn(Txn(then=(Put(spec_key(name), encode(changed)),)))

        self.for_a_person(write)

    def for_a_person(self, write: Callable[[], object]) -> None:
        """Have a person write, who waits until a majority of voters answers; one thing after the other."""
        self._errands.append(write)
        self._run_errands()

    def write(self, txn: Txn) -> None:
        """Have a person write this."""
        self.for_a_person(lambda: self.database.txn(txn))

    def _run_errands(self) -> None:
        while self.leader is not None and self._errands:
            self._errands.popleft()()

    def close(self) -> None:
        """End everything that still runs in it."""
        for machine in self.machines.values():
            machine.kill_daemon()
        self.loop.bury(*(process for machine in self.machines.values() for process in machine.processes))

    def reach(self, one: NodeName, other: NodeName) -> bool:
        """Whether two machines have a connection: a network that carries packets both ways."""
        return any(
            self.air.reaches(address, self.machines[other].spec.addresses[network], (network,))
            for network, address in self.machines[one].spec.addresses.items()
        )

    def _elect(self) -> None:
        candidates = self._quorum.candidates()
        if self.leader is not None or not candidates:
            return
        leader = self._elections.choice(candidates)
        self._quorum.elect(leader)
        self.database.has_leader = True
        self.database.begin_leases_anew()
        self.truth.note("world", f"the database elected {leader}", code="leader-elected", subject=leader)
        self.settle()
        self._run_errands()

    def _fare(self, network: NetworkName, source: Endpoint, target: Endpoint, _datagram: bytes) -> Sequence[int]:
        sky = self.sky
        if self.links:
            sky = self.links.get((network, source.address, target.address), sky)
        if sky.loss and self._chance.random() < sky.loss:
            return ()
        copies = 2 if sky.twice and self._chance.random() < sky.twice else 1
        return [below(self._chance, sky.delay_ms + 1) for _ in range(copies)]

    def _on_event(self, event: Event) -> None:
        owner = f" -> {event.target}" if event.target is not None else ""
        why = "; ".join(map(str, event.reasons))
        epoch = f" epoch {event.epoch}" if event.epoch is not None else ""
        text = f"{event.code} {event.subject}{owner}{epoch} (by {event.node}) {why}".rstrip()
        self.truth.note("cluster", text, code=event.code, subject=event.subject)


def _records(layout: Layout) -> Iterator[Operation]:
    cluster = ClusterRecord(id=CLUSTER_ID, name="sim", created_at_ms=EPOCH_MS, settings=layout.settings)
    yield Put(CLUSTER, encode(cluster))
    for node in layout.nodes:
        yield Put(node_key(node.name), encode(node))
    for disk in layout.disks:
        yield Put(disk_key(disk.name), encode(disk))
    for role in layout.roles:
        yield Put(spec_key(role.name), encode(role))
