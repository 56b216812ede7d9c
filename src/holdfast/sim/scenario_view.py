"""What can be seen of a simulated cluster at this moment: what really runs, and what `holdfast status` would answer.

Rule of the file: it only looks.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.decide.explain import explain_role
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.reasons import Reason
from holdfast.model.snapshot import Coordinator, Snapshot
from holdfast.model.status import ClusterStatus, NodeState, RoleState
from holdfast.node.documents import View, cluster_status, fencing, node_state, role_state
from holdfast.sim.machine import Machine
from holdfast.sim.truth import GuestRun
from holdfast.sim.world import World
from holdfast.store.records import COORDINATOR, decode


class Sight:
    """Looks at a world, from inside of its loop.

    began_s    when the time line began, in virtual seconds.
    is_stuck   time stands still: only what really runs can be seen, and from outside too.
    """

    def __init__(self, world: World, uuids: dict[str, str], began_s: float, *, is_stuck: bool = False) -> None:
        self.world = world
        self._is_stuck = is_stuck
        self.began_s = began_s
        self._uuids = uuids

    @property
    def now_s(self) -> float:
        """Seconds since the time line began."""
        return self.world.loop.time() - self.began_s

    def at_s(self, moment: float) -> float:
        """A moment of the world in seconds of the time line, to the microsecond."""
        return round(moment - self.began_s, 6)

    def roles(self) -> tuple[str, ...]:
        """The names of all roles that there are or were."""
        return tuple(self._uuids)

    def where(self, role: str) -> tuple[str, ...]:
        """The nodes on which the guest of a role exists."""
        return tuple(run.node for run in self.world.truth.living() if run.uuid == self._uuids[role])

    def executes(self, role: str) -> bool:
        """Whether the guest exists on exactly one node that is not frozen. Only disks with reservations allow more."""
        where = [name for name in self.where(role) if self.world.machines[NodeName(name)].executes]
        return len(where) == 1

    def runs(self, role: str) -> list[GuestRun]:
        """All runs of a role's guest."""
        return [run for run in self.world.truth.runs if run.uuid == self._uuids[role]]

    def starts(self, role: str, since_s: float) -> int:
        """How often the guest was started since then."""
        return sum(1 for run in self.runs(role) if self.at_s(run.began) >= since_s)

    def has_power(self, node: str) -> bool:
        """Whether a node has power."""
        return self.world.machines[NodeName(node)].is_on

    def answer(self, about: str = "") -> tuple[Snapshot, View] | None:
        """What the coordinator knows, or else another node; None: no holdfastd knows anything.

        about   a node that is asked about itself only when there is no other.
        """
        machines = () if self._is_stuck else self.world.machines.values()
        able = [machine for machine in machines if _snapshot(machine) is not None]
        machine = min(able, key=lambda one: (one.name == about, *self._preference(one)), default=None)
        if machine is None or machine.life is None:
            return None
        snapshot, life = _snapshot(machine), machine.life
        assert snapshot is not None
        view = View(
            me=life.me,
            standing=dict(life.detector.standing),
            heard_on=life.heard_on(snapshot),
            database_answers=not machine.store.faults.is_cut,
            now_ms=life.clock.wall_ms(),
            obstacle=life.obstacle,
        )
        return snapshot, view

    def status(self) -> ClusterStatus | None:
        """The document behind `holdfast status`."""
        answer = self.answer()
        return None if answer is None else cluster_status(*answer)

    def role_state(self, role: str) -> RoleState | None:
        """A role in one word; None: it is not known."""
        answer = self.answer()
        if answer is None or RoleName(role) not in answer[0].specs:
            return None
        return role_state(RoleName(role), *answer)

    def node_state(self, node: str) -> NodeState | None:
        """A node in one word, as another one sees it; None: it is not known, or no node of the cluster."""
        answer = self.answer(about=node)
        return None if answer is None or NodeName(node) not in answer[0].nodes else node_state(NodeName(node), *answer)

    def reasons(self, role: str) -> tuple[Reason, ...]:
        """Everything that `holdfast explain` says about a role."""
        answer = self.answer()
        if answer is None or RoleName(role) not in answer[0].specs:
            return ()
        snapshot, view = answer
        found = explain_role(snapshot, RoleName(role), view.now_ms, fencing(snapshot))
        elsewhere = (reason for reasons in found.elsewhere.values() for reason in reasons)
        return tuple(_once((*found.not_running, *found.here, *elsewhere)))

    def _preference(self, machine: Machine) -> tuple[bool, bool]:
        item = self.world.database.get(COORDINATOR)
        coordinator = decode(Coordinator, item.key, item.value).node if item is not None else None
        return machine.store.faults.is_cut, machine.name != coordinator


def _once(reasons: Iterable[Reason]) -> list[Reason]:
    found: list[Reason] = []
    for reason in reasons:
        if reason not in found:
            found.append(reason)
    return found


def _snapshot(machine: Machine) -> Snapshot | None:
    if machine.life is None or not machine.executes:
        return None
    snapshot = machine.life.mirror.snapshot
    return snapshot if snapshot is not None and snapshot.cluster is not None else None
