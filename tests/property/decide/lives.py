"""What becomes of a snapshot when everybody does what the plan and the lifecycle say, until nobody has anything to do.

Rule of the file: time stands still; owners that are up act at once; guests start and end as told, and memory is saved,
copied and restored, but for broken nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.decide.made_up import NOW_MS

from holdfast.decide.coordination import Change, Plan, plan
from holdfast.decide.freedom import freedom_of, has_living_owner
from holdfast.decide.lifecycle import after_failed_start, next_step
from holdfast.decide.memory_steps import (
    Present,
    after_failed_move,
    after_failed_restore,
    after_lost_copy,
    after_save,
    handed_over,
    is_to_receive,
    not_received,
    received,
)
from holdfast.decide.saved_memory import attempt_of
from holdfast.decide.steps import Act, Situation
from holdfast.model.ids import Incarnation, NodeName, Revision, RoleName
from holdfast.model.nodes import GuestObservation
from holdfast.model.roles import Ownership, Phase, Receiver
from holdfast.model.snapshot import Snapshot, Versioned

RUNS = (Phase.ONLINE, Phase.STOPPING, Phase.SAVING, Phase.MIGRATING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A guest's process on the owner of its role."""

    memory_id: str = ""
    executes: bool = False


@dataclass(slots=True)
class Life:
    """A cluster that goes on until it rests. `broken`: nodes where no guest starts, and no memory comes or goes."""

    snapshot: Snapshot
    broken: Collection[NodeName] = ()
    now_ms: int = NOW_MS
    changes: list[Change] = field(default_factory=list)
    assigned: Counter[RoleName] = field(default_factory=Counter)
    guests: dict[RoleName, Process] = field(default_factory=dict)
    last: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        for role, one in self.snapshot.ownerships.items():
            if one.value.phase in RUNS:
                self.guests[role] = Process(executes=one.value.phase is not Phase.SAVING)

    def live(self, rounds: int = 80) -> Snapshot:
        """Go on until nothing happens any more; an assertion fails when that never comes."""
        for _ in range(rounds):
            self.last = plan(self.snapshot, self.now_ms)
            for change in self.last.changes:
                self._put(change.after)
                self.changes.append(change)
                self.assigned[change.role] += change.after.phase is Phase.ASSIGNED
            stepped = [self._step(role) for role in sorted(self.snapshot.ownerships)]
            if not self.last.changes and not any(stepped):
                return self.snapshot
        raise AssertionError(f"never rests: {self.last.changes}")

    def _step(self, role: RoleName) -> bool:
        ownership = self.snapshot.ownerships[role].value
        if role not in self.snapshot.specs:
            return False
        if self._take_in(ownership):
            return True
        owner = ownership.owner
        if owner is None or self.snapshot.session_of(owner, ownership.incarnation) is None:
            return False
        now = self._situation(role)
        step = next_step(
            ownership,
            now.spec,
            self._seen(role),
            self.now_ms,
            is_frozen=now.is_frozen,
            memory_id=now.memory_id,
            attempt=now.attempt,
        )
        if step.record is not None:
            self._put(step.record)
        if step.act is not Act.NOTHING:
            self._act(step.act, self._situation(role))
        return step.record is not None or step.act is not Act.NOTHING

    def _situation(self, role: RoleName) -> Situation:
        record = self.snapshot.ownerships[role]
        process = self.guests.get(role)
        return Situation(
            ownership=record.value,
            spec=self.snapshot.specs[role].value,
            now_ms=self.now_ms,
            is_frozen=self.snapshot.is_frozen,
            memory_id=process.memory_id if process is not None else "",
            attempt=attempt_of(Incarnation("attempts"), record.revision, self.snapshot),
        )

    def _seen(self, role: RoleName) -> GuestObservation:
        process = self.guests.get(role)
        if process is None:
            return GuestObservation.ABSENT
        return GuestObservation.RUNNING if process.executes else GuestObservation.PAUSED

    def _take_in(self, ownership: Ownership) -> bool:
        """Let the target of a live move say that it takes the copy in, or that it does not."""
        session = self.snapshot.sessions.get(ownership.target) if ownership.target is not None else None
        if session is None or not is_to_receive(ownership, session.value.node, session.value.incarnation):
            return False
        now, node = self._situation(ownership.role), session.value.node
        receiver = Receiver(node=node, incarnation=session.value.incarnation)
        is_broken = node in self.broken
        self._put(not_received(now, "broken") if is_broken else received(ownership, receiver, now.attempt))
        return True

    def _act(self, act: Act, now: Situation) -> None:
        """Do what the owner does, on which everything fails if it is broken."""
        role, is_broken, memory = now.spec.name, now.ownership.owner in self.broken, now.ownership.memory
        match act:
            case Act.BRING_ONLINE if is_broken:
                self._put(after_failed_start(now.ownership, now.spec, "broken", self.now_ms, is_frozen=now.is_frozen))
            case Act.BRING_ONLINE:
                self.guests[role] = Process(executes=True)
            case Act.TAKE_OFFLINE | Act.DESTROY:
                self.guests.pop(role, None)
            case Act.RESTORE if is_broken:
                self._put(after_failed_restore(now, "broken"))
            case Act.RESTORE:
                assert memory is not None
                self.guests[role] = Process(memory_id=memory.id)
            case Act.RESUME:
                self.guests[role] = replace(self.guests[role], executes=True)
            case Act.SAVE | Act.SETTLE_SAVE | Act.MIGRATE | Act.SETTLE_MIGRATION:
                self._move_memory(act, now, is_broken=is_broken)

    def _move_memory(self, act: Act, now: Situation, *, is_broken: bool) -> None:
        role, making, receiver = now.spec.name, now.ownership.making, now.ownership.receiving
        process = self.guests.get(role)
        if act is Act.SETTLE_SAVE or (act is Act.SAVE and not is_broken):
            self.guests.pop(role, None)
            self._put(after_save(now, None if is_broken else 1))
        elif process is None:
            self._put(after_lost_copy(now, "it ended"))
        elif act is Act.MIGRATE and not is_broken and self._can_receive(receiver):
            assert making is not None
            assert receiver is not None
            self._put(handed_over(now, making, receiver))
            self.guests[role] = Process(memory_id=making.id)
        else:
            self.guests[role] = replace(process, executes=act is not Act.SAVE)
            present = Present(executes=self.guests[role].executes, memory_id=process.memory_id)
            self._put(after_failed_move(now, present, "broken"))

    def _can_receive(self, receiver: Receiver | None) -> bool:
        return (
            receiver is not None
            and receiver.node not in self.broken
            and self.snapshot.session_of(receiver.node, receiver.incarnation) is not None
        )

    def _put(self, after: Ownership) -> None:
        before = self.snapshot.ownerships.get(after.role)
        if before is not None and before.value.incarnation != after.incarnation:
            self.guests.pop(after.role, None)
        self.snapshot = put(self.snapshot, after)


def put(snapshot: Snapshot, after: Ownership) -> Snapshot:
    """The snapshot with one record changed."""
    revision = Revision(snapshot.revision + 1)
    record = Versioned(value=after, revision=revision, created=revision)
    changes: dict[str, Any] = {"ownerships": {**snapshot.ownerships, after.role: record}, "revision": revision}
    return replace(snapshot, **changes)


def holds(snapshot: Snapshot, ownership: Ownership) -> bool:
    """Whether its record keeps its place: that of a role that is free and that nobody can take does not."""
    return has_living_owner(ownership, snapshot) or bool(freedom_of(ownership, snapshot, NOW_MS).blocked)
