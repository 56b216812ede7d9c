"""What the cluster says of roles that do not run, looked at again and again while things go wrong.

Rule of the file: whether a role runs is told by the truth; how long a node with a majority may say what about one that
does not is told here. Source: SAFE-5.
"""

from __future__ import annotations

from contextvars import Context
from dataclasses import dataclass, field
from typing import Final

from holdfast.model.ids import NodeName, RoleName
from holdfast.model.roles import Priority, RoleSpec, Wanted
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import RoleState, RoleStatus
from holdfast.node.documents import View, role_status
from holdfast.node.life import Life
from holdfast.sim.machine import Machine
from holdfast.sim.world import World

LOOK_EVERY_S: Final = 1.0
LONGEST_S: Final = {
    RoleState.ONLINE: 10.0,
    RoleState.OFFLINE: 10.0,
    RoleState.STARTING: 45.0,
    RoleState.STOPPING: 45.0,
    RoleState.SAVING: 120.0,
    RoleState.MIGRATING: 240.0,
    RoleState.BLOCKED: float("inf"),
    RoleState.UNKNOWN: float("inf"),
}
"""So long a role that somebody wants and that does not run may be said to be that. Blocked needs a reason instead."""


@dataclass(slots=True)
class StatusWatch:
    """Asks a node that answers with a majority, once a second, and writes down what may not be said."""

    world: World
    found: list[str] = field(default_factory=list)
    _since: dict[tuple[RoleName, RoleState], float] = field(default_factory=dict)

    def start(self) -> None:
        """Look from now on."""
        self._look()
        self.world.loop.call_later(LOOK_EVERY_S, self.start, context=Context())

    def _look(self) -> None:
        said: set[tuple[RoleName, RoleState]] = set()
        missing = self._missing()
        answering = self._answering() if missing else None
        if answering is not None:
            life, snapshot = answering
            for role in missing:
                if role.name in snapshot.specs:
                    status = role_status(role.name, snapshot, _view(life, snapshot))
                    said.add((role.name, status.state))
                    self._judge(role, status)
        for gone in self._since.keys() - said:
            del self._since[gone]

    def _missing(self) -> list[RoleSpec]:
        """The roles that somebody wants online and that run nowhere; one that never starts by itself may stay so."""
        living = {run.uuid for run in self.world.truth.living()}
        if len(living) == len(self.world.truth.names):
            return []
        wanted = [role for role in self.world.roles() if role.wanted is Wanted.ONLINE and role.uuid not in living]
        return [role for role in wanted if role.priority is not Priority.NO_AUTOSTART]

    def _answering(self) -> tuple[Life, Snapshot] | None:
        for machine in self.world.machines.values():
            life = machine.life
            if life is None or not _is_well(machine) or life.obstacle is not None:
                continue
            snapshot = life.mirror.snapshot
            if snapshot is not None and machine.name in snapshot.sessions:
                return life, snapshot
        return None

    def _judge(self, role: RoleSpec, status: RoleStatus) -> None:
        now = self.world.loop.time()
        if status.state is RoleState.BLOCKED and not status.reasons:
            self.found.append(f"SAFE-5: at {now:.3f} s {role.name} is said to be blocked, without a reason")
        if status.state is RoleState.ONLINE and not self._can_tell(status):
            self._since.pop((role.name, status.state), None)
            return
        since = self._since.setdefault((role.name, status.state), now)
        if now - since > LONGEST_S[status.state]:
            self._since[role.name, status.state] = float("inf")
            self.found.append(
                f"SAFE-5: at {now:.3f} s {role.name} has been said to be {status.state} for {now - since:.0f} s "
                f"and runs nowhere: {'; '.join(status.reasons)}"
            )

    def _can_tell(self, status: RoleStatus) -> bool:
        """Whether the others can know: the owner is gone, or it can see its guests and tell."""
        if status.owner is None:
            return False
        machine = self.world.machines[NodeName(status.owner)]
        is_gone = not machine.executes or machine.daemon is None or not machine.daemon.runs
        return is_gone or _is_well(machine)


def _is_well(machine: Machine) -> bool:
    """Whether its daemon runs, sees its guests and reaches a majority without trouble."""
    faults = machine.store.faults
    has_trouble = faults.is_cut or machine.store.watch_delay_s > 0 or machine.store.late_writes > 0
    has_daemon = machine.executes and machine.daemon is not None and machine.daemon.runs
    return has_daemon and not has_trouble and not machine.is_libvirt_hung and not machine.is_libvirt_down


def _view(life: Life, snapshot: Snapshot) -> View:
    return View(
        me=life.me,
        standing=dict(life.detector.standing),
        heard_on=life.heard_on(snapshot),
        database_answers=True,
        now_ms=life.clock.wall_ms(),
        obstacle=life.obstacle,
    )
